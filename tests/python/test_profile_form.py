"""profile prints what memory_profiler 0.61 prints, but for the figures: the same programs, run with both."""

import re

import pytest
from conftest import Run
from programs import Program, program

__all__ = ["program"]

HEAD = """\
import asyncio, io, sys
if sys.argv[1] == "bursar":
    from bursar import profile
else:
    from memory_profiler import profile
"""

PROGRAMS = {
    "plain": """
@profile
def work(n):
    a = [0] * n

    # A comment.
    if n > 5:
        b = 1
    else:
        b = 2
    for i in range(10):
        b += i
        if i == 7:
            break
    while b:
        b = 0
    with io.StringIO() as c:
        c.write('text')
    try:
        d = 1
    finally:
        e = 2
    return a
work(10)
work(3)
""",
    "precision": """
@profile(precision=4)
def work():
    return [0] * 1000
work()
""",
    "stream": """
@profile(stream=sys.stdout, precision=0)
def work():
    print('work')
    return [0] * 1000
work()
""",
    "a call over several lines": """
@profile
def work(
    a,
    b=2,
):
    '''What it does.'''
    c = dict(
        a=a,
        b=b,
    )
    return (
        c
    )
work(1)
""",
    "a method": """
class Model:
    @profile
    def fit(self, data):
        self.data = list(data)
        return self
Model().fit('abc')
""",
    "a nested function": """
@profile
def work():
    def inner(n):
        return n + 1
    a = inner(1)
    b = inner(a)
    return b
work()
""",
    "one calls the other": """
@profile
def inner(n):
    a = [n]
    return a
@profile
def outer():
    b = inner(1)
    c = inner(2)
    return b, c
outer()
""",
    "recursion": """
@profile
def down(n):
    if n:
        down(n - 1)
    return n
down(2)
""",
    "a function that is wrapped by hand": """
def work():
    return 1
print(profile(work)())
print(profile(work, stream=sys.stdout)())
""",
    "a lambda": """
work = profile(lambda n: n + 1)
print(work(1))
""",
    "no newline at the end": """
def work(): return 1
profile(work)(); work = profile; end = work""",
}


@pytest.fixture(autouse=True)
def memory_profiler(execute: Run, python: str) -> None:
    """The peer that is compared with."""
    if execute(python, "-c", "import memory_profiler").returncode != 0:
        pytest.skip("memory_profiler is not installed")


def masked(text: str) -> str:
    """Figures are one's own; how many digits they have, and where they stand, is not."""
    return re.sub(r" *-?\d+(\.\d*)? MiB", lambda found: "#" * len(found[1] or "") + " MiB", text)


@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
def test_the_same_text(program: Program, text: str) -> None:
    ours, theirs = (program(HEAD + text, whose) for whose in ("bursar", "memory_profiler"))
    assert "MiB" in theirs.stdout
    assert masked(ours.stdout) == masked(theirs.stdout)
    widths = [[len(line) for line in done.stdout.splitlines()] for done in (ours, theirs)]
    assert widths[0] == widths[1]  # a column is as wide as theirs
