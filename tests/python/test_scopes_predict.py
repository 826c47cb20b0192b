"""watch_predict(): the predictions of one object are scopes; its class, copies and pickles stay as they were."""

import json
from pathlib import Path

import pytest
from programs import Program, printed, program
from running import Facts
from test_scopes import ON, by_name

__all__ = ["program"]
pytestmark = pytest.mark.core

MODELS = (
    ON
    + """\
import copy, pickle

class Model:
    def __init__(self, n): self.n = n
    def predict(self, times):
        "Predicts."
        return one * (self.n * times)
    def transform(self, times): return one * (2 * self.n * times)
    def __call__(self, times): return self.predict(times)
    def other(self): return one * 5000000

class Slotted:
    __slots__ = ("n",)
    def predict(self, times): return one * (100000 * times)

class Conditional:
    "As scikit-learn's: an attribute that is there or not, by its value."
    def __init__(self, there): self.there = there
    @property
    def predict(self):
        if not self.there: raise AttributeError("not fitted with one")
        return lambda times: one * (100000 * times)

class Async:
    async def predict(self, times):
        await asyncio.sleep(0)
        return one * (100000 * times)
    def transform(self, times):
        for _ in range(times): yield one * 100000
kept = []
"""
)


def test_calls_are_entries(program: Program, facts: Facts, tmp_path: Path) -> None:
    done = program(
        MODELS + "model, other = Model(100000), Model(100000)\n"
        "watched = bursar.watch_predict(model)\n"
        "assert bursar.watch_predict(model) is watched is model\n"
        "kept += [model.predict(1), model.predict(times=2), model.transform(3), model(4)]\n"
        "kept += [other.predict(9), model.other()]\n"
        "print(json.dumps([isinstance(model, Model), type(model).__name__, type(model).__module__, model.n,\n"
        "                  model.predict.__name__, model.predict.__doc__]))\n"
        "assert bursar.unwatch_predict(model) is model and type(model) is Model\n"
        "assert bursar.unwatch_predict(model) is model\n"
        "kept += [model.predict(9), model(9)]\n"
    )
    assert printed(done) == [True, "Model", "__main__", 100000, "predict", "Predicts."]
    read = by_name(facts(tmp_path / "test.bursar"))
    got = {name: (scope["calls"], scope["live_bytes"] // 100000) for name, scope in read.items()}
    assert got == {"Model.predict": (3, 7), "Model.transform": (1, 6), "Model.__call__": (1, 4)}


def test_copies_and_pickles_are_of_the_model_itself(program: Program) -> None:
    done = program(
        MODELS + "for model in (Model(7), Slotted()):\n"
        "    model.n = 7\n"
        "    bursar.watch_predict(model)\n"
        "    assert b'bursar' not in pickle.dumps(model)\n"  # it can be read where there is no bursar
        "    assert bursar.watch_predict(model) is model\n"  # still
        "    for twin in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):\n"
        "        assert type(twin) in (Model, Slotted) and twin.n == 7 and twin is not model\n"
        "        twin.n = 8; assert model.n == 7\n"
        "        assert len(twin.predict(1)) in (8, 100000)\n"
        "    proxy = bursar.watch_predict(len)\n"
        "    assert pickle.loads(pickle.dumps(proxy)) is len\n"
        "print('fine')\n"
    )
    assert done.stdout == "fine\n"


def test_conditional_methods(program: Program, facts: Facts, tmp_path: Path) -> None:
    done = program(
        MODELS + "model = bursar.watch_predict(Conditional(True))\n"
        "kept.append(model.predict(2))\n"
        "model.there = False\n"
        "print(hasattr(model, 'predict'), hasattr(Conditional(True), 'predict'))\n"
    )
    assert done.stdout == "False True\n"
    read = by_name(facts(tmp_path / "test.bursar"))
    assert (read["Conditional.predict"]["calls"], read["Conditional.predict"]["live_bytes"] // 100000) == (1, 2)


def test_asynchronous_models_and_generators(program: Program, facts: Facts, tmp_path: Path) -> None:
    program(
        MODELS + "model = bursar.watch_predict(Async())\n"
        "async def main(): return await asyncio.gather(*(model.predict(2) for _ in range(20)))\n"
        "kept = asyncio.run(main()), list(model.transform(3))\n"
    )
    read = by_name(facts(tmp_path / "test.bursar"))
    got = {name: (scope["calls"], scope["live_bytes"] // 100000) for name, scope in read.items()}
    assert got == {"Async.predict": (20, 40), "Async.transform": (1, 3)}


def test_what_cannot_be_changed_gets_a_proxy(program: Program, facts: Facts, tmp_path: Path) -> None:
    done = program(
        MODELS + "class Sealed(type):\n"
        "    def __new__(meta, name, bases, body):\n"
        "        if bases: raise TypeError('final')\n"
        "        return super().__new__(meta, name, bases, body)\n"
        "class Final(metaclass=Sealed):\n"
        "    n = 3\n"
        "    def predict(self, times): return one * (100000 * times)\n"
        "    def __repr__(self): return '<final>'\n"
        "own = Model(1); own.predict = lambda times: one * (300000 * times)\n"
        "def score(times): return one * (100000 * times)\n"
        "final = Final()\n"
        "watched = bursar.watch_predict(final)\n"
        "kept += [watched.predict(2), bursar.watch_predict(own).predict(1), bursar.watch_predict(score)(5),\n"
        "         bursar.watch_predict(''.join, name='join')(['x' * 400000, 'y'])]\n"
        "watched.n = 4; watched.m = 5; del watched.m\n"
        "assert bursar.watch_predict(watched) is watched\n"
        "print(isinstance(watched, Final), watched.n, final.n, hasattr(final, 'm'), watched,\n"
        "      'predict' in dir(watched))\n"
        "assert bursar.unwatch_predict(watched) is final\n"
        "try: bursar.watch_predict(3)\n"
        "except TypeError as error: print(error)\n"
        "try: watched()\n"
        "except TypeError as error: print(error)\n"
    )
    assert done.stdout.splitlines() == [
        "True 4 4 False <final> True",
        "'int' object has no predict(), transform() or __call__() to watch",
        "'Final' object is not callable",
    ]
    read = by_name(facts(tmp_path / "test.bursar"))
    got = {name: (scope["calls"], scope["live_bytes"] // 100000) for name, scope in read.items()}
    assert got == {"Final.predict": (1, 2), "Model.predict": (1, 3), "score": (1, 5), "join": (1, 4)}


def test_names_and_threads(program: Program, facts: Facts, tmp_path: Path) -> None:
    done = program(
        MODELS + "from concurrent.futures import ThreadPoolExecutor\n"
        "model = bursar.watch_predict(Model(100000), name='ranker')\n"
        "with ThreadPoolExecutor(4) as pool: kept += pool.map(model.predict, [1, 2, 3, 4] * 5)\n"
        "print(json.dumps(len(kept)))\n"
    )
    assert json.loads(done.stdout) == 20
    read = by_name(facts(tmp_path / "test.bursar"))
    assert (read["ranker.predict"]["calls"], read["ranker.predict"]["live_bytes"] // 100000) == (20, 50)
