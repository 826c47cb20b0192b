"""Which parts of a model are wanted: by name, and what a model needs to predict."""

from __future__ import annotations

import fnmatch
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

KIND = "$"
PARTS = ("_modules", "_parameters", "_buffers")  # of torch's modules: names go without them, as in a state dict

# What estimators keep of their training and do not need to predict or transform, by class; of its subclasses too.
_TRAINING: Mapping[str, tuple[str, ...]] = {
    "sklearn.neural_network._multilayer_perceptron.BaseMultilayerPerceptron": (
        "_optimizer", "_random_state", "loss_curve_", "validation_scores_",
    ),
    "sklearn.ensemble._forest.BaseForest": ("oob_decision_function_", "oob_prediction_"),
    "sklearn.ensemble._gb.BaseGradientBoosting": ("_rng", "train_score_", "oob_improvement_", "oob_scores_"),
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.BaseHistGradientBoosting": (
        "train_score_", "validation_score_", "_feature_subsample_rng",
    ),
    "sklearn.ensemble._bagging.BaseBagging": ("oob_decision_function_", "oob_prediction_"),
    "sklearn.ensemble._weight_boosting.BaseWeightBoosting": ("estimator_errors_",),
    "sklearn.model_selection._search.BaseSearchCV": ("cv_results_",),
    "sklearn.cluster._kmeans._BaseKMeans": ("labels_",),
    "sklearn.cluster._mean_shift.MeanShift": ("labels_",),
    "sklearn.cluster._affinity_propagation.AffinityPropagation": ("affinity_matrix_", "labels_"),
    "sklearn.cluster._birch.Birch": ("root_", "dummy_leaf_", "labels_"),
    "sklearn.linear_model._ridge._BaseRidgeCV": ("cv_values_", "cv_results_"),
    "sklearn.linear_model._coordinate_descent.LinearModelCV": ("mse_path_", "alphas_"),
    "sklearn.linear_model._logistic.LogisticRegressionCV": ("scores_", "coefs_paths_"),
    "sklearn.linear_model._least_angle.Lars": ("coef_path_", "alphas_", "mse_path_", "cv_alphas_"),
    "sklearn.linear_model._stochastic_gradient.BaseSGD": (
        "_standard_coef", "_standard_intercept", "_average_coef", "_average_intercept",
    ),
    "sklearn.linear_model._huber.HuberRegressor": ("outliers_",),
    "sklearn.linear_model._ransac.RANSACRegressor": ("inlier_mask_",),
    "sklearn.semi_supervised._label_propagation.BaseLabelPropagation": ("transduction_",),
    "sklearn.decomposition._dict_learning.DictionaryLearning": ("error_",),
    "sklearn.decomposition._sparse_pca._BaseSparsePCA": ("error_",),
    "sklearn.gaussian_process._gpr.GaussianProcessRegressor": ("y_train_",),
    "sklearn.feature_extraction.text.CountVectorizer": ("stop_words_",),
    "sklearn.covariance._robust_covariance.MinCovDet": ("dist_", "support_", "raw_support_"),
}  # fmt: skip
_CHECKPOINT = {"optimizer_states", "lr_schedulers", "loops", "callbacks"}  # of Lightning's files


class LeftOut(NamedTuple):
    """What was left out: where it was, and the bytes that its arrays have."""

    name: str
    bytes: int


@functools.cache
def training_attributes(made_of: type) -> frozenset[str]:
    """Attributes of a class's objects that serve training alone, or are kept to save time."""
    names = {f"{one.__module__}.{one.__qualname__}" for one in made_of.__mro__}
    found = {attribute for name in names for attribute in _TRAINING.get(name, ())}
    cached = (name for name in dir(made_of) if _is_cached(inspect.getattr_static(made_of, name, None)))
    return frozenset(found.union(cached))


def _is_cached(what: Any) -> bool:
    return isinstance(what, functools.cached_property)


def is_training(key: Any, keys: Iterable[Any]) -> bool:
    """An entry of a checkpoint, by its name and the names in it: an optimizer's state."""
    return key in _CHECKPOINT or {"state", "param_groups"} <= set(keys)


def join(path: str, part: Any) -> str:
    """The name of a part of what has a name."""
    text = part if isinstance(part, str) else str(part) if isinstance(part, int) else ""
    if text in PARTS:
        return path
    return f"{path}.{text}" if path and text else path or text


class Choice:
    """include, exclude: patterns as of a shell; a name stands for all that is below it."""

    def __init__(self, include: Iterable[str] | str | None, exclude: Iterable[str] | str) -> None:
        self.include = None if include is None else _patterns(include)
        self.exclude = _patterns(exclude)

    def __bool__(self) -> bool:
        return self.include is not None or bool(self.exclude)

    def wants(self, name: str) -> bool:
        return (self.include is None or _matches(name, self.include)) and not _matches(name, self.exclude)


def _patterns(given: Iterable[str] | str) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, one) or fnmatch.fnmatchcase(name, f"{one}.*") for one in patterns)


def weigh(what: Any, seen: set[int] | None = None) -> int:
    """The bytes of the arrays in something, each once."""
    seen = set() if seen is None else seen
    if id(what) in seen or isinstance(what, (str, bytes, int, float, type, type(None))):
        return 0
    seen.add(id(what))
    if hasattr(what, "nbytes") and hasattr(what, "dtype"):
        return int(what.nbytes)
    if isinstance(what, Mapping):
        return sum(weigh(one, seen) for one in what.values())
    if isinstance(what, (list, tuple, set, frozenset)):
        return sum(weigh(one, seen) for one in what)
    return sum(weigh(one, seen) for one in getattr(what, "__dict__", {}).values())


# --- a description without what is not wanted -------------------------------------------------------------------------

Bytes = Callable[[str], int]  # of the array of that name


class _Pruner:
    """Takes entries of dicts and attributes of objects out of a tree; what others refer to goes to where they are."""

    def __init__(self, tree: Any, choice: Choice, training: Callable[[str], frozenset[str]] | None) -> None:
        self.choice = choice
        self.training = training
        self.ids = {node["id"]: node for _, node in _walk("", tree) if "id" in node and node[KIND] != "again"}
        self.gone: dict[int, Any] = {}  # nodes that were taken out, by their ids
        self.left: list[tuple[str, list[str]]] = []

    def wants(self, path: str, node: Any) -> bool:
        """Is an entry wanted? An array, and a list, for its arrays; the rest, unless its name is excluded."""
        inside = isinstance(node, dict) and node.get(KIND) in ("dict", "object")
        names = [] if inside else list(self.arrays(path, node))
        if not names:
            return not _matches(path, self.choice.exclude)
        return any(self.choice.wants(name) for name in names)

    def arrays(self, path: str, node: Any) -> Iterator[str]:
        """The names of all arrays in it, by where they are."""
        for name, one in _walk(path, node):
            if one[KIND] == "again":
                one = self.ids.get(one["id"], one)
            if one[KIND] in ("array", "tensor"):
                yield one["name"] if name is None else name

    def prune(self, node: Any, path: str = "") -> Any:
        if not isinstance(node, dict):
            return node
        kind = node.get(KIND)
        if kind == "again" and node["id"] in self.gone:
            return self.prune(self.gone.pop(node["id"]), path)
        if kind == "dict":
            node["items"] = self.entries(node["items"], path)
        elif kind in ("list", "tuple", "set", "frozenset", "objects"):
            for i, one in enumerate(node["items"]):
                self.check(one, join(path, i))
                node["items"][i] = self.prune(one, join(path, i))
        elif kind == "object":
            self.prune_object(node, path)
        elif kind == "frame" and self.choice:
            self.prune_frame(node, path)
        return node

    def check(self, node: Any, path: str) -> None:
        if isinstance(node, dict) and not self.wants(path, node):
            raise ValueError(f"{path}: an element is kept or left out with all of its list")

    def prune_object(self, node: dict[str, Any], path: str) -> None:
        state = node.get("state")
        names = self.training(node["of"]) if self.training else frozenset()
        if isinstance(state, dict) and state.get(KIND) == "dict":
            gone = [one for one in state["items"] if isinstance(one[0], str) and one[0] in names]
            for key, value in gone:
                self.drop(join(path, key), value)
            state["items"] = [one for one in state["items"] if one not in gone]
        for part in ("arguments", "items"):
            node[part] = [self.prune(one, path) for one in node.get(part, ())]
        node["pairs"] = self.entries(node.get("pairs", ()), path)
        if state is not None:
            node["state"] = self.prune(state, path)

    def prune_frame(self, node: dict[str, Any], path: str) -> None:
        """Of a frame, columns: their labels go when it is built."""
        labels, kept = _labels(node["columns"]), []
        for i, one in enumerate(node["data"]):
            label = join(path, labels[i] if labels and isinstance(labels[i], str) else f"column {i}")
            names = list(self.arrays(label, {KIND: "column", "data": one})) or [label]
            if any(self.choice.wants(name) for name in names):
                kept.append(i)
            else:
                self.drop(label, one)
        node["kept"] = kept
        node["data"] = [node["data"][i] for i in kept]

    def entries(self, pairs: Iterable[Any], path: str) -> list[Any]:
        kept = []
        for key, value in pairs:
            name = join(path, key)
            if self.training and is_training(key, _keys(value)) or self.choice and not self.wants(name, value):
                self.drop(name, value)
            else:
                kept.append([key, self.prune(value, name)])
        return kept

    def drop(self, name: str, value: Any) -> None:
        found = []
        for _, one in _walk(name, value):
            if "id" in one and one[KIND] != "again":
                self.gone[one["id"]] = one
            if one[KIND] in ("array", "tensor"):
                found.append(one["name"])
        self.left.append((name, found))


def _labels(columns: dict[str, Any]) -> list[Any] | None:
    """Those of an index, where they are texts."""
    data = columns.get("data")
    found = data.get("texts", data.get("items")) if isinstance(data, dict) else None
    return found if isinstance(found, list) else None


def _keys(node: Any) -> list[Any]:
    if not isinstance(node, dict) or node.get(KIND) != "dict":
        return []
    return [key for key, _ in node["items"] if isinstance(key, str)]


def _walk(path: str | None, node: Any) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """All nodes of a tree, with where they are; None: inside of what has names of its own."""
    if isinstance(node, list):
        for one in node:
            yield from _walk(path, one)
    if not isinstance(node, dict):
        return
    kind = node.get(KIND)
    if kind is not None:
        yield path, node
    if kind in ("dict", "object"):
        for part in ("arguments", "state"):
            yield from _walk(path, node.get(part))
        for key, value in node.get("pairs", ()) if kind == "object" else node["items"]:
            yield from _walk(path, key)
            yield from _walk(None if path is None else join(path, key), value)
        yield from _walk(path, node.get("items") if kind == "object" else None)
    elif kind in ("list", "tuple", "set", "frozenset", "objects"):
        for i, one in enumerate(node["items"]):
            yield from _walk(None if path is None else join(path, i), one)
    else:
        for value in node.values():
            yield from _walk(None if kind is not None else path, value)


def array_names(tree: Any) -> set[str]:
    """Those that a description needs."""
    return {node["name"] for _, node in _walk("", tree) if node[KIND] in ("array", "tensor")}


def prune(
    tree: Any, choice: Choice, training: Callable[[str], frozenset[str]] | None, size: Bytes
) -> tuple[Any, list[LeftOut]]:
    """The tree without what is not wanted, and what that was. training: attributes of a class, by its name, that only
    training needs; None: they stay."""
    pruner = _Pruner(tree, choice, training)
    tree = pruner.prune(tree)
    needed = array_names(tree)
    left = [LeftOut(name, sum(size(one) for one in arrays if one not in needed)) for name, arrays in pruner.left]
    return tree, left
