"""bursar.reclaim(), and `bursar run --tune`: what came back is what RSS says, what could not is named."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import Run
from test_governor import FREE_HEAP, HEAD, ask

__all__ = ["ask"]
Ask = Callable[..., Any]
PLANTED = 64 << 20


def test_planted_memory_comes_back(ask: Ask, command: str, ledger: Path, bursar: Run) -> None:
    text = f"""
{FREE_HEAP}
leave(64)
node = Node(bytearray(b"x") * 300_000)
gc.collect()  # it is old now
del node
before = rss()
done = bursar.reclaim()
print(json.dumps([before - rss(), done.rss_bytes, done.foretold_bytes, done.objects, done.booked_bytes, done.not_done,
                  done.collect_seconds > 0, done.trim_seconds > 0, done.foretold_seconds > 0, done.caches_seconds]))
"""
    back, told, foretold, objects, booked, *rest = ask(text, command=(command, "run", "-o", str(ledger), "-c"))
    assert told == pytest.approx(PLANTED, rel=0.1)
    assert back == pytest.approx(told, abs=3 << 20)  # what was looked at afterwards took some
    assert foretold == pytest.approx(PLANTED, rel=0.1)
    assert objects >= 1
    assert booked == pytest.approx(300_000, abs=50_000)
    assert rest == [{}, True, True, True, None]
    assert "reclaim()" in bursar("report", str(ledger), "--view", "events").stdout


@pytest.mark.core
def test_nothing_is_done_while_a_scope_is_open(ask: Ask) -> None:
    text = """
gc.callbacks.append(listen)
with bursar.scope("request"):
    thread = threading.Thread(target=lambda: found.append(bursar.reclaim(caches=True)))  # anybody's
    found = []
    thread.start(); thread.join()
done = found[0]
print(json.dumps([done.not_done, done.collect_seconds, done.trim_seconds, done.rss_bytes, full]))
"""
    why = "1 scope is open: call it when none is"
    assert ask(text) == [dict.fromkeys(("collection", "caches", "malloc_trim"), why), None, None, 0, []]


@pytest.mark.core
def test_what_is_not_worth_it_is_said(ask: Ask) -> None:
    text = """
bursar.reclaim()
done = bursar.reclaim()
print(json.dumps([done.not_done, done.trim_seconds, done.booked_bytes, done.pinned, str(done)]))
"""
    not_done, seconds, booked, pinned, text = ask(text)
    assert "not worth its cost" in not_done["malloc_trim"] or "not known" in not_done["malloc_trim"]
    assert (seconds, booked, pinned) == (None, None, None), "what is not known is None"
    assert text.startswith("0 bytes of resident memory came back\n  full collection: ")


@pytest.mark.core
def test_caches_where_asked_for_and_never_the_programs_own(ask: Ask) -> None:
    text = """
import functools, re
@functools.lru_cache
def own(x): return x
own(1)
re.compile("a+b")
bursar.reclaim()
before = len(re._cache), own.cache_info().currsize
done = bursar.reclaim(caches=True)
print(json.dumps([before, len(re._cache), own.cache_info().currsize, done.caches_seconds > 0]))
"""
    before, patterns, mine, timed = ask(text)
    assert before[0] >= 1 and before[1] == 1
    assert (patterns, mine, timed) == (0, 1, True)


def test_who_pins_arenas_is_named(ask: Ask, command: str, tmp_path: Path) -> None:
    text = HEAD + """
def load():
    return [str(number) * 3 for number in range(300_000)]
kept = load()[::150]  # @kept
done = bursar.reclaim()
first = done.pinned[0]
print(json.dumps([done.arenas, done.pinned_arenas, done.pinned_free_bytes, first.stack[0], first.arenas, first.bytes,
                  first.free_bytes, len(kept), sum(sys.getsizeof(each) for each in kept)]))
"""
    path = tmp_path / "pinned.py"
    path.write_text(text)
    arenas, pinned, free, frame, in_arenas, held, around, count, size = ask("", command=(command, "run", str(path), ))
    assert pinned >= 10 and arenas >= pinned
    assert free > 0.5 * pinned * (1 << 20)
    assert frame[1] == str(path) and text.splitlines()[frame[2] - 1].startswith("    return [str(number)")
    assert in_arenas >= pinned - 5
    assert held == pytest.approx(size, rel=0.1)
    assert around <= free


# --- malloc's settings -----------------------------------------------------------------------------------------------

SERVING = (
    "glibc.malloc.arena_max=2", "glibc.malloc.mmap_threshold=33554432", "glibc.malloc.trim_threshold=536870912",
)  # fmt: skip
SHOW = """
import os, subprocess, sys
words = open("/proc/self/environ").read().split("GLIBC_TUNABLES=")[1].split("\\0")  # cut by the loader
print(":".join(word for word in words if word.startswith("glibc.")))
print(os.environ.get("GLIBC_TUNABLES"))
print(subprocess.run(["env"], stdout=subprocess.PIPE, text=True).stdout.count("GLIBC_TUNABLES"))
"""


@pytest.mark.core
@pytest.mark.parametrize(
    ("theirs", "started", "after"),
    [
        ({}, ":".join(SERVING), "None"),
        ({"GLIBC_TUNABLES": "glibc.malloc.arena_max=5"}, ":".join(("glibc.malloc.arena_max=5", *SERVING[1:])),
         "glibc.malloc.arena_max=5"),
        ({"GLIBC_TUNABLES": "", "MALLOC_ARENA_MAX": "7", "MALLOC_TRIM_THRESHOLD_": "1"}, SERVING[1], "None"),
        ({"GLIBC_TUNABLES": ":".join(SERVING)}, ":".join(SERVING), ":".join(SERVING)),
    ],
)  # fmt: skip
def test_malloc_is_tuned_for_the_program_alone(
    bursar: Run, theirs: dict[str, str], started: str, after: str
) -> None:
    if not os.path.exists("/proc/self/environ"):
        pytest.skip("no /proc")
    done = bursar("run", "--tune", "serving", "-c", SHOW, env=theirs)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [started, after, "0" if after == "None" else "1"]


def test_followed_children_are_tuned_too(bursar: Run) -> None:
    done = bursar("run", "--tune", "serving", "--follow-fork", "-c", SHOW)
    assert done.stdout.splitlines() == [":".join(SERVING)] * 2 + ["1"]


def test_a_program_without_python_is_tuned(bursar: Run) -> None:
    done = bursar("run", "--tune", "serving", "--domains", "malloc", "--", "env")
    assert "GLIBC_TUNABLES" not in done.stdout
    assert "GLIBC_TUNABLES" not in bursar("run", "--domains", "malloc", "--", "env").stdout


def test_there_are_other_profiles(bursar: Run) -> None:
    done = bursar("run", "--tune", "fast", "-c", "1")
    assert done.returncode == 2
    assert done.stderr == "bursar: run: no profile 'fast': there is serving\n"


def test_tuned_malloc_does_as_told(bursar: Run) -> None:
    """Blocks of 20 MiB come from the heap, where glibc would map each on its own: freed, they stay until a trim."""
    text = HEAD + """
blocks = [bytearray(b"x") * (20 << 20) for _ in range(4)]
last = bytes(200_000)
del blocks
stays = rss()
done = bursar.reclaim()
print(json.dumps([stays, stays - rss()]))
"""
    plain = json.loads(bursar("run", "-c", text).stdout)
    tuned = json.loads(bursar("run", "--tune", "serving", "-c", text).stdout)
    assert plain[1] < 10 << 20, "they went back when they were freed"
    assert tuned[1] > 70 << 20


@pytest.mark.core
def test_a_heap_that_was_advised_in_part_comes_back(ask: Ask) -> None:
    """madvise() makes several mappings of one heap; NumPy calls it for what is larger than 4 MiB."""
    text = """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
SIZE, PAGE, MADV_DONTFORK = 20 << 20, 4096, 10
libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD: it is to come from the thread's heap
libc.mallopt(-1, 512 << 20)  # M_TRIM_THRESHOLD: and to stay there
done, go = threading.Event(), threading.Event()
def work():
    p = libc.malloc(SIZE)
    libc.malloc(1000)  # behind it: the last chunk of a thread's heap malloc_trim() leaves
    ctypes.memset(p, 1, SIZE)
    assert libc.madvise((p + PAGE) // PAGE * PAGE, SIZE // 2 // PAGE * PAGE, MADV_DONTFORK) == 0
    libc.free(p)
    done.set(); go.wait()
bursar.reclaim()  # what the first one imports and makes stays
thread = threading.Thread(target=work); thread.start(); done.wait()
balance = bursar.balance()
before = rss()
came = bursar.reclaim()
print(json.dumps([before - rss(), came.foretold_bytes, balance.unexplained_bytes]))
go.set()
"""
    back, foretold, unexplained = ask(text)
    assert back == pytest.approx(20 << 20, rel=0.05)
    assert foretold == pytest.approx(20 << 20, rel=0.05)
    assert unexplained < 1 << 20
