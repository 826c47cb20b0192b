"""More stacks than the ledger has room for: it stays below its cap, forgets no byte, and says what it folded."""

import json
from pathlib import Path
from typing import Any

import pytest
from books import Capped, capped
from running import LIMIT, Facts

__all__ = ["capped"]

# f calls itself over forty lines: `depth` digits of base forty are as many stacks.
STACKS = """\
import json, sys
from bursar import _bursar
count, every = int(COUNT), 0
one, kept = b'x', []
exec('def f(n, i):\\n    if not n: return one * 100\\n' + ''.join(
    f'    if i % 40 == {k}: return f(n - 1, i // 40)\\n' for k in range(40)))
made = [None] * 1000
for i in range(count):
    made[i % 1000] = f(4, i)
del made
live, peak, allocations, frees, allocated = _bursar.counters()
print(json.dumps([allocations, allocated]))
"""


def run(capped: Capped, facts: Facts, ledger: Path, cap: int, count: int) -> dict[str, Any]:
    with capped(ledger, cap, STACKS.replace("COUNT", str(count))) as process:
        output, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
    allocations, allocated = json.loads(output)
    read = facts(ledger)
    assert read["complete"] is True and read["state"] == "ended"
    assert ledger.stat().st_size <= cap
    assert allocations <= read["allocations"] <= allocations + 3000
    assert allocated <= read["allocated_bytes"] <= allocated + 1_000_000
    for name in "live_bytes", "peak_bytes", "allocations", "allocated_bytes", "temporary_allocations":
        error = read["live_error_bytes"] if name == "live_bytes" else 0
        assert abs(read[name] - sum(site[name] for site in read["sites"])) <= error < 100_000, name
    blocks = [site for site in read["sites"] if site["stack"] and site["stack"][0]["function"] == "f"]
    assert sum(site["allocations"] for site in blocks) <= read["allocations"]
    return read


@pytest.mark.core
@pytest.mark.parametrize("cap", [4 << 20, 8 << 20])
def test_a_ledger_that_is_full(capped: Capped, facts: Facts, ledger: Path, cap: int) -> None:
    read = run(capped, facts, ledger, cap, 60_000)
    assert read["folded_sites"] > 1000


def test_a_ledger_with_room_folds_nothing(capped: Capped, facts: Facts, ledger: Path) -> None:
    """Room is for 24,000 sites: these stacks have about two each."""
    read = run(capped, facts, ledger, 64 << 20, 10_000)
    assert read["folded_sites"] == 0
    blocks = [site for site in read["sites"] if site["stack"] and len(site["stack"]) == 6
              and {frame["function"] for frame in site["stack"][:5]} == {"f"} and site["allocated_bytes"] % 133 == 0
              and site["domain"] == "python.obj"]  # fmt: skip
    assert len(blocks) == 10_000


@pytest.mark.check
@pytest.mark.parametrize("cap", [4 << 20, 16 << 20, 64 << 20])
def test_four_hundred_thousand_stacks(capped: Capped, facts: Facts, ledger: Path, cap: int) -> None:
    read = run(capped, facts, ledger, cap, 400_000)
    assert read["folded_sites"] > 1000 or cap == 64 << 20
