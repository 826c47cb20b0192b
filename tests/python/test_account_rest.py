"""What was held while a program rested: steps, a rest after each, and the books asked in the middle of each rest.

The program writes down when each rest began; its last step is the peak, whose time the books tell: so the two
clocks are one, to a few milliseconds, and rests are long beside that.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from books import ONE, Keep, keep
from running import Run

__all__ = ["keep"]

PROGRAM = (
    ONE
    + """
import sys, time
kept = []
rests = []

def rest(expected):
    rests.append((time.monotonic(), expected))
    time.sleep(0.15)

def held(count):
    return sum(STEPS[:count])

for count, size in enumerate(STEPS, 1):
    STEP
    rest(held(count))
for count in range(len(STEPS) - 1, 0, -1):
    kept.pop()
    rest(held(count))
kept.append(ONE * (2 * held(len(STEPS))))
top = time.monotonic()
print([(when - top, expected) for when, expected in rests])
"""
)
LARGE = "kept.append(ONE * size)"
SMALL = "kept.append([ONE * 100 for _ in range(size // 141)])  # with 8 bytes in the list, of 133 each"


@pytest.mark.core
@pytest.mark.parametrize(
    ("step", "sizes"),
    [
        pytest.param(LARGE, [1_000_000, 2_000_000, 500_000, 3_000_000, 100_000], id="large"),
        pytest.param(SMALL, [1_000_000, 2_000_000, 500_000, 3_000_000, 800_000], id="small"),
    ],
)
def test_a_rest_shows_what_was_held_in_it(
    keep: Keep, bursar: Run, ledger: Path, step: str, sizes: list[int]
) -> None:
    books = keep(PROGRAM.replace("STEPS", str(sizes)).replace("STEP", step))
    shift = books.facts["peak_time_s"]
    rests = json.loads(books.done.stdout.replace("(", "[").replace(")", "]"))
    assert len(rests) == 2 * len(sizes) - 1
    wrong = []
    for when, expected in rests:
        at = f"{shift + when + 0.075:.6f}"
        done = bursar("report", ledger, "--at", at, "--format", "json")
        read: dict[str, Any] = json.loads(done.stdout)
        found = sum(
            site["live_bytes"] for site in read["sites"]
            if any(frame["file"] == str(books.path) for frame in site["stack"])
            and site["domain"] != "python.raw"  # a new arena may bring 128 KiB of pymalloc's own map
        )  # fmt: skip
        # The steps' own small blocks and the lists' spare places; where steps are of small blocks a few of them.
        if not expected - 40_000 < found < expected + expected // 20 + 40_000:
            wrong.append((at, expected, found))
    assert not wrong
