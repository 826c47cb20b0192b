"""A run that does not end: the ledger, bursar's own memory and the figures stay what they are in a short one.

BURSAR_SOAK_S says for how many seconds; half an hour unless it is set.
"""

import json
import os
from pathlib import Path

import pytest
from books import Capped, assert_balanced, capped
from running import LIMIT, Facts, Run

__all__ = ["capped"]

SECONDS = float(os.environ.get("BURSAR_SOAK_S", "1800"))
CAP = 64 << 20
BLOCK = 1000  # bytes; RING of them are held at any time
RING = 20_000

# Stacks without end (f calls itself over forty lines), code that is made and dies, threads, rests, blocks of all sizes.
PROGRAM = f"""\
import json, random, sys, threading, time
SECONDS, end = {SECONDS}, time.monotonic() + {SECONDS}
one = b"x"
exec('def f(n, i):\\n    if not n: return one * {BLOCK - 33}\\n' + ''.join(
    f'    if i % 40 == {{k}}: return f(n - 1, i // 40)\\n' for k in range(40)))
f = globals()['f']
ring = [f(0, 0) for _ in range({RING})]
random = random.Random(1)

def beside():
    while time.monotonic() < end:
        json.loads(json.dumps([{{'a': n, 'b': str(n)}} for n in range(random.randrange(2000))]))

def resident():
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * 4096

threads = [threading.Thread(target=beside) for _ in range(2)]
for thread in threads:
    thread.start()
count, early = 0, 0
while time.monotonic() < end:
    for _ in range(1000):
        ring[count % {RING}] = f(4, count)
        count += 1
    exec('def g():\\n' + '    x = [bytes(n) for n in range(0, 70000, 997)]\\n' * random.randrange(1, 9) + 'g()', {{}})
    if random.randrange(100) == 0:
        time.sleep(0.02)
    if not early and time.monotonic() > end - SECONDS * 0.75:
        early = resident()
for thread in threads:
    thread.join()
print(json.dumps([count, early, resident()]))
"""


@pytest.mark.soak
def test_a_long_run(capped: Capped, bursar: Run, facts: Facts, ledger: Path) -> None:
    with capped(ledger, CAP, PROGRAM) as process:
        output, errors = process.communicate(timeout=SECONDS * 2 + LIMIT)
    assert process.returncode == 0, errors
    count, early, late = json.loads(output)
    assert ledger.stat().st_size <= CAP
    assert late - early < 16 << 20, (early, late)
    read = facts(ledger)
    assert read["complete"] is True and read["run_s"] >= SECONDS
    assert read["allocations"] > count and read["folded_sites"] > 0
    assert_balanced(read)
    assert BLOCK * RING < read["live_bytes"] < BLOCK * RING + (16 << 20)
    instants = set()
    for part in range(1, 20):
        done = bursar("report", ledger, "--at", f"{SECONDS * part / 20:.3f}", "--format", "json")
        then = json.loads(done.stdout)
        instants.add(then["live_time_s"])  # the last one of which the sites are known
        if then["live_time_s"] > 5:
            assert BLOCK * RING < then["live_bytes"] < BLOCK * RING + (16 << 20), then["live_time_s"]
    assert len(instants) > 3
