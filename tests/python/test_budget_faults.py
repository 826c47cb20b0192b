"""Each block that can be refused is, one after the other: never a crash, and the next request is right."""

from pathlib import Path

import pytest
from programs import Program, printed, program

__all__ = ["program"]

REQUESTS = {
    "classes": """
def request():
    class A:
        x = 1
        def f(self): return self.x
    B = type("B", (A,), {f"m{i}": (lambda self, i=i: i) for i in range(60)})
    return B().f(), B().m3()
""",
    "compile": """
import ast
ONE = "def f{0}(a, b=2, *c, **d):\\n    return [x + a for x in range(b)] + [{{'k{0}': a}}]\\n"
TEXT = "".join(map(ONE.format, range(6)))
def request():
    space = {}
    exec(compile(TEXT, "<t>", "exec"), space)
    return space["f3"](1), len(ast.dump(ast.parse(TEXT)))
""",
    "exceptions": """
import json, re
def request():
    out = []
    for _ in range(3):
        try: json.loads("{" + "x" * 1000)
        except ValueError as error: out.append(str(error))
        try: {}["k" * 2000]
        except KeyError as error: out.append(len(str(error)))
    out.append(re.sub("a+", "b", "a" * 3000 + "c"))
    out.append(json.dumps({str(i): [i] * 50 for i in range(50)}))
    return out
""",
    "numpy": """
import numpy as np
def request():
    a = np.arange(3000.0).reshape(30, 100)
    parts = (a @ a.T).sum(), np.linalg.svd(a, compute_uv=False)[0], np.sort(a.ravel())[-1], np.fft.rfft(a).real.sum()
    return list(map(float, parts)), str(np.unique(a.astype("i4") % 7))
""",
    "pandas": """
import pandas as pd
def request():
    d = pd.DataFrame({"k": ["a", "b", "c"] * 100, "v": range(300)})
    table = d.pivot_table(index="k", values="v", aggfunc="mean")
    return d.groupby("k").v.sum().to_dict(), d.merge(d.drop_duplicates("k"), on="k").shape, table.values.tolist()
""",
    "sklearn": """
import warnings
warnings.simplefilter("ignore")
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
X = np.random.RandomState(0).rand(200, 5)
y = (X[:, 0] > .5).astype(int)
def request():
    tree = DecisionTreeClassifier(max_depth=4, random_state=0).fit(X, y)
    line = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    return line.score(X, y), tree.predict_proba(X)[:3].tolist()
""",
    "torch": """
import torch
def request():
    torch.manual_seed(0)
    m = torch.nn.Sequential(torch.nn.Linear(100, 50), torch.nn.ReLU(), torch.nn.Linear(50, 2))
    x = torch.arange(1000.0).reshape(10, 100)
    loss = m(x).softmax(1)[:, 0].sum()
    loss.backward()
    return round(loss.item(), 4), tuple(m[0].weight.grad.shape), torch.cat([x, x]).sort(1)[0].sum().item()
""",
}
IN_TURN = """
import json, sys
import bursar
from bursar import _bursar
bursar.start(MODE, output=LEDGER, domains="all")
expected = request()
assert request() == expected
number, refused, handled = FIRST, 0, 0
while True:
    got = None
    _bursar._plant_refusal(number)
    try:
        with bursar.scope("request", hard=1 << 40): got = request()
    except bursar.BudgetExceeded: refused += 1
    finally: left = _bursar._plant_refusal(0)
    if left: break  # there are fewer
    if got is not None:
        assert got == expected, number
        handled += 1
    assert request() == expected, number
    number += STEP
print(json.dumps([refused, handled]))
"""


def in_turn(program: Program, name: str, mode: str, ledger: Path, step: int = 1) -> None:
    if name not in ("classes", "compile", "exceptions"):
        pytest.importorskip(name)
    settings = f"MODE, LEDGER, STEP, FIRST = {mode!r}, {str(ledger)!r}, {step}, {(step + 1) // 2}\n"
    refused, _ = printed(program(settings + REQUESTS[name] + IN_TURN))
    assert refused >= 2


@pytest.mark.core
@pytest.mark.parametrize("mode", ["exact", "sample", "count"])
@pytest.mark.parametrize("name", ["classes", "compile", "exceptions"])
def test_the_interpreter(program: Program, name: str, mode: str, ledger: Path) -> None:
    in_turn(program, name, mode, ledger)


@pytest.mark.parametrize("mode", ["exact", "sample", "count"])
@pytest.mark.parametrize("name", ["numpy", "pandas", "torch"])
def test_libraries(program: Program, name: str, mode: str, ledger: Path) -> None:
    in_turn(program, name, mode, ledger)


def test_training(program: Program, ledger: Path) -> None:
    """Each seventh here; all of them in make check."""
    in_turn(program, "sklearn", "sample", ledger, step=7)


@pytest.mark.check
@pytest.mark.parametrize("mode", ["exact", "sample", "count"])
def test_training_all(program: Program, mode: str, ledger: Path) -> None:
    in_turn(program, "sklearn", mode, ledger)
