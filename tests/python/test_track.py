"""track(): figures that are known beforehand, to the byte."""

import pytest
from programs import Program, printed, program

__all__ = ["program"]
pytestmark = pytest.mark.core

# Each statement's figures are those of the second of two runs, so that free lists and caches are warm.
HEAD = """\
import bursar, gc, json, sys, threading
gc.disable()
SIZE = bytearray().__sizeof__()  # of the object; its n bytes are n + 1, for a final zero

def figures(t):
    return [t.peak_bytes, t.live_bytes, t.allocations, t.frees, t.allocated_bytes]
"""
OFF_AND_ON = pytest.mark.parametrize("start", ["", "bursar.start('exact')\n"], ids=["off", "on"])


@OFF_AND_ON
def test_an_empty_block_has_zeros(program: Program, start: str) -> None:
    done = program(
        HEAD + start + "blocks = []\n"
        "for _ in range(3):\n"
        "    t = bursar.track()\n"
        "    with t: pass\n"
        "    blocks.append(t)\n"
        "print(json.dumps([figures(t) for t in blocks]))\n"
    )
    assert printed(done) == [[0] * 5] * 3


@OFF_AND_ON
def test_known_blocks(program: Program, start: str) -> None:
    done = program(
        HEAD + start + "def block(t):\n"
        "    with t:\n"
        "        early = bytearray(7000000)\n"
        "        del early\n"
        "        kept = bytearray(1000000)\n"
        "    return kept\n"
        "def free(t, box):\n"
        "    with t: box[0] = None\n"
        "block(bursar.track())\n"
        "t = bursar.track(); kept = block(t); made = figures(t)\n"
        "bursar.start('exact')\n"
        "box = [bytearray(1000000)]\n"
        "t = bursar.track(); free(t, box)\n"
        "print(json.dumps([SIZE, made, figures(t)]))\n"
    )
    size, made, freed = printed(done)
    early, kept = 7000001 + size, 1000001 + size
    assert made == [early, kept, 4, 2, early + kept]
    assert freed[:2] == [0, -kept]


def test_figures_while_the_block_runs(program: Program) -> None:
    done = program(
        HEAD + "def block(t):\n"
        "    with t:\n"
        "        early = bytearray(5000000)\n"
        "        first = figures(t)\n"
        "        del early\n"
        "        second = figures(t)\n"
        "    return first, second, figures(t)\n"
        "block(bursar.track())\n"
        "print(json.dumps([SIZE, *block(bursar.track())]))\n"
    )
    size, first, second, last = printed(done)
    early = 5000001 + size
    # The list of the first figures, and its integers, are the block's own.
    assert first[:2] == [early, early]
    assert early <= second[0] < early + 500
    assert 0 <= second[1] < 500
    assert early <= last[0] < early + 1000


def test_the_peak_is_the_blocks_own(program: Program) -> None:
    done = program(
        HEAD + "bursar.start('exact')\n"
        "big = bytearray(20000000); del big\n"
        "base = bytearray(3000000)\n"
        "outer, inner, after = bursar.track(), bursar.track(), bursar.track()\n"
        "def work():\n"
        "    with outer:\n"
        "        a = bytearray(1000000)\n"
        "        with inner:\n"
        "            b = bytearray(2000000)\n"
        "            del b\n"
        "        del a\n"
        "        c = bytearray(1500000); del c\n"
        "    with after: pass\n"
        "work()\n"
        "print(json.dumps([SIZE, outer.peak_bytes, inner.peak_bytes, after.peak_bytes, outer.live_bytes]))\n"
    )
    size, outer, inner, after, live = printed(done)
    assert inner == 2000001 + size
    assert 3000002 + 2 * size <= outer < 3000002 + 2 * size + 2000  # entering a block allocates, too
    assert after == 0
    assert live < 2000


def test_threads_and_nesting(program: Program) -> None:
    """Blocks of threads that run in turn know their own memory; a block around them knows all of it."""
    done = program(
        HEAD + "bursar.start('exact')\n"
        "kept, inner = [], []\n"
        "def work(n):\n"
        "    with bursar.track() as t:\n"
        "        kept.append(bytearray(n * 1000000))\n"
        "    inner.append(t.live_bytes)\n"
        "work(1)\n"
        "with bursar.track() as outer:\n"
        "    for n in (2, 3):\n"
        "        thread = threading.Thread(target=work, args=(n,)); thread.start(); thread.join()\n"
        "print(json.dumps([inner, outer.live_bytes]))\n"
    )
    inner, outer = printed(done)
    assert [round(live / 1e6, 3) for live in inner] == [1, 2, 3]
    assert round(outer / 1e6, 1) == 5


def test_another_threads_memory_counts(program: Program) -> None:
    done = program(
        HEAD + "go, done = threading.Event(), threading.Event()\n"
        "kept = []\n"
        "def work():\n"
        "    go.wait(); kept.append(bytearray(4000000)); done.set()\n"
        "thread = threading.Thread(target=work); thread.start()\n"
        "with bursar.track() as t:\n"
        "    go.set(); done.wait()\n"
        "thread.join()\n"
        "print(t.live_bytes)\n"
    )
    assert 4000000 <= int(done.stdout) < 4010000


def test_books_that_close_in_the_block(program: Program) -> None:
    done = program(
        HEAD + "bursar.start('exact')\n"
        "with bursar.track() as t:\n"
        "    a = bytearray(1000000)\n"
        "    bursar.stop()\n"
        "    b = bytearray(9000000)\n"
        "    inside = figures(t)\n"
        "print(json.dumps([inside, figures(t)]))\n"
    )
    inside, after = printed(done)
    assert inside == after
    assert 1000000 < after[1] < 1010000


def test_own_books_close_with_the_last_block(program: Program) -> None:
    done = program(
        HEAD + "from bursar._bursar import live_bytes\n"
        "said = [live_bytes() >= 0]\n"
        "with bursar.track():\n"
        "    with bursar.track(): said.append(live_bytes() >= 0)\n"
        "    said.append(live_bytes() >= 0)\n"
        "said.append(live_bytes() >= 0)\n"
        "bursar.start('exact')\n"
        "with bursar.track(): pass\n"
        "said.append(live_bytes() >= 0)\n"
        "print(json.dumps(said))\n"
    )
    assert printed(done) == [False, True, True, False, True]


def test_start_in_a_block_keeps_its_books(program: Program) -> None:
    done = program(
        HEAD + "from bursar._bursar import live_bytes\n"
        "with bursar.track():\n"
        "    bursar.start('exact')\n"
        "    try: bursar.start('exact', output='other.bursar')\n"
        "    except RuntimeError as error: print('refused')\n"
        "print(live_bytes() >= 0)\n"
    )
    assert done.stdout == "refused\nTrue\n"


def test_an_exception_passes_and_the_figures_stay(program: Program) -> None:
    done = program(
        HEAD + "t = bursar.track()\n"
        "try:\n"
        "    with t:\n"
        "        kept = bytearray(1000000)\n"
        "        1 / 0\n"
        "except ZeroDivisionError: print(t.live_bytes > 1000000)\n"
    )
    assert done.stdout == "True\n"


def test_misuse(program: Program) -> None:
    done = program(
        HEAD + "t = bursar.track()\n"
        "print(figures(t))\n"
        "with t: pass\n"
        "try:\n"
        "    with t: pass\n"
        "except RuntimeError as error: print(error)\n"
        "blocks = []\n"
        "try:\n"
        "    while True:\n"
        "        blocks.append(bursar.track()); blocks[-1].__enter__()\n"
        "except RuntimeError as error: print(error)\n"
        "for t in blocks: t.__exit__(None, None, None)\n"
        "with bursar.track() as t: kept = bytearray(1000000)\n"
        "print(t.live_bytes > 1000000)\n"
    )
    assert done.stdout.splitlines() == [
        "[0, 0, 0, 0, 0]",
        "this track() was used before: call bursar.track() again for another block",
        "too many measurements at once: at most 32",
        "True",
    ]
