"""watch_predict(): a model's predictions as scopes, without a change to its code."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any, TypeVar

from ._scopes import wrap

Model = TypeVar("Model")

_METHODS = ("predict", "transform", "__call__")


def watch_predict(model: Model, name: str | None = None) -> Model:
    """Make each call of a model's predict(), transform() and __call__() an entry of a scope.

    model: anything that has one of them.
    name: what the scopes are named after in place of the class: ``"ranker"`` makes ``ranker.predict``.

    Returns the model to go on with: the same object, whose class is then one derived from its own, with the same name;
    or, where its class cannot be derived from or set (a function, a type made in C), a proxy that stands for it.
    Copies and pickles are of the model itself, not watched.  A second call changes nothing.  unwatch_predict() undoes
    it.

    TypeError: it has none of the methods.
    """
    if is_watched(model):
        return model
    methods = [method for method in _METHODS if _has(model, method)]
    if not methods:
        raise TypeError(f"{type(model).__name__!r} object has no predict(), transform() or __call__() to watch")
    if not any(method in getattr(model, "__dict__", {}) for method in methods):
        try:
            object.__setattr__(model, "__class__", _derive(type(model), methods, name))
            return model
        except Exception:  # a metaclass, a layout or a registry of subclasses that will not have it
            pass
    return _Proxy(model, methods, name)  # type: ignore[return-value]


def unwatch_predict(model: Model) -> Model:
    """Undo watch_predict(): returns the model, as it was.  One that is not watched is returned as it is."""
    if type(model) is _Proxy:
        stood_for: Model = object.__getattribute__(model, "_bursar_model")
        return stood_for
    if is_watched(model):
        object.__setattr__(model, "__class__", type(model).__bases__[0])
    return model


def is_watched(model: object) -> bool:
    """Whether calls of the model are entries of scopes."""
    return type(model) is _Proxy or "_bursar_watched" in type(model).__dict__


def _has(model: object, method: str) -> bool:
    """Special methods are looked for where the interpreter does."""
    return callable(model) if method == "__call__" else hasattr(model, method)


def _scope_name(model: object, method: str, name: str | None) -> str:
    if isinstance(model, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
        return name or model.__name__
    kind = model if isinstance(model, type) else type(model)
    return f"{name or kind.__name__}.{method}"


# --- in place ---------------------------------------------------------------------------------------------------------


class _Method:
    """A method that is no plain function: a descriptor, which may refuse (scikit-learn's have conditions)."""

    def __init__(self, original: Any, name: str) -> None:
        self._original = original
        self._name = name

    def __get__(self, model: Any, owner: Any = None) -> Any:
        found = self._original
        if hasattr(type(found), "__get__"):
            found = found.__get__(model, owner)
        return wrap(found, self._name)


def _derive(kind: type, methods: list[str], name: str | None) -> type:
    """A class like it, whose methods are in scopes."""

    def reduce(model: Any, protocol: Any) -> Any:
        watched = type(model)
        object.__setattr__(model, "__class__", kind)
        try:
            reduced = model.__reduce_ex__(protocol)
        finally:
            object.__setattr__(model, "__class__", watched)
        if isinstance(reduced, tuple) and getattr(reduced[0], "__name__", "") in ("__newobj__", "__newobj_ex__"):
            # By its name pickle knows the function, and would insist on the class that the model has now.
            reduced = (functools.partial(reduced[0]), *reduced[1:])
        return reduced

    body: dict[str, Any] = {
        "__slots__": (),
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__reduce_ex__": reduce,
        "_bursar_watched": True,
    }
    for method in methods:
        original = next(vars(base)[method] for base in kind.__mro__ if method in vars(base))
        scope = f"{name or kind.__name__}.{method}"
        body[method] = wrap(original, scope) if isinstance(original, types.FunctionType) else _Method(original, scope)
    return type(kind)(kind.__name__, (kind,), body)


# --- a proxy ----------------------------------------------------------------------------------------------------------


def _same(model: Any) -> Any:
    return model


class _Proxy:
    """Stands for a model: its attributes are the model's, but for the watched methods."""

    __slots__ = ("_bursar_model", "_bursar_methods", "__weakref__")

    def __init__(self, model: Any, methods: list[str], name: str | None) -> None:
        wrapped: dict[str, Callable[..., Any]] = {}
        for method in methods:
            called = model if method == "__call__" else getattr(model, method)
            wrapped[method] = wrap(called, _scope_name(model, method, name))
        object.__setattr__(self, "_bursar_model", model)
        object.__setattr__(self, "_bursar_methods", wrapped)

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__
        if name in ("__call__", "__reduce_ex__", "__reduce__"):
            return own(self, name)
        wrapped = own(self, "_bursar_methods").get(name)
        return getattr(own(self, "_bursar_model"), name) if wrapped is None else wrapped

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "_bursar_model"), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(object.__getattribute__(self, "_bursar_model"), name)

    def __dir__(self) -> list[str]:
        return dir(object.__getattribute__(self, "_bursar_model"))

    def __repr__(self) -> str:
        return repr(object.__getattribute__(self, "_bursar_model"))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        wrapped = object.__getattribute__(self, "_bursar_methods").get("__call__")
        return (wrapped or object.__getattribute__(self, "_bursar_model"))(*args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _same, (object.__getattribute__(self, "_bursar_model"),)
