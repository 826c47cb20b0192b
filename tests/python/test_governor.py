"""bursar.governor(): what waits for a rest, what does not wait, and that everything is as it was afterwards."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import Run

Ask = Callable[..., Any]

HEAD = """
import bursar, gc, json, os, sys, threading, time, weakref
from bursar import _bursar
def until(true, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)
def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
class Node:
    def __init__(self, data=None):
        self.me, self.data = self, data
full = []  # (open scopes, thread) of each collection of the oldest generation
def listen(phase, info):
    if phase == "start" and info["generation"] == 2:
        full.append((_bursar.open_scopes(), threading.get_ident()))
"""


@pytest.fixture
def ask(python: str, execute: Run) -> Ask:
    """What a program prints as JSON; nothing else may be said."""

    def run(text: str, *options: str, command: tuple[str, ...] = ()) -> Any:
        done = execute(*(command or (python, *options, "-c")), HEAD + text)
        assert done.returncode == 0, done.stderr
        assert command or not done.stderr
        return json.loads(done.stdout)

    return run


# Requests in two threads, each of which leaves cycles that outlive it, and a rest now and then.
REQUESTS = """
gc.callbacks.append(listen)
def serve():
    kept = []
    for request in range(60):
        with bursar.scope("request"):
            kept.append([Node() for _ in range(2000)])
            del kept[:-10]
        if request % 20 == 19:
            time.sleep(0.15)
threads = [threading.Thread(target=serve) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@pytest.mark.core
def test_no_full_collection_while_a_scope_is_open(ask: Ask) -> None:
    plain = ask("gc.set_threshold(700, 10, 10)\n" + REQUESTS + "print(json.dumps([scopes for scopes, _ in full]))")
    assert any(plain), "the requests do not show what happens without a governor"
    text = f"""
gc.set_threshold(700, 10, 10)
governor = bursar.governor(idle=0.02, freeze=True)
{REQUESTS}
until(lambda: full)
print(json.dumps([[scopes for scopes, _ in full], governor.full_in_scope, governor.longest_pause_in_scope]))
"""
    scopes, inside, longest = ask(text)
    assert scopes and not any(scopes)
    assert inside == 0
    assert 0 < longest < 60


@pytest.mark.core
def test_the_users_settings_come_back(ask: Ask) -> None:
    text = """
gc.set_threshold(500, 7, 9)
gc.callbacks.append(listen)
with bursar.governor(freeze=True):
    during = gc.get_threshold(), len(gc.callbacks), gc.get_freeze_count() > 2000
first = gc.get_threshold(), len(gc.callbacks), gc.get_freeze_count() > 2000  # since 3.12 immortal objects stay
governor = bursar.governor()
gc.set_threshold(600, 8, 4)
until(lambda: gc.get_threshold() != (600, 8, 4) or governor.collector == "incremental")
governor.stop()
print(json.dumps([governor.collector, during, first, gc.get_threshold(), gc.isenabled()]))
"""
    collector, during, first, last, enabled = ask(text)
    assert during[1:] == [2, True]
    assert during[0] == ([500, 7, 9] if collector == "incremental" else [500, 7, 2**31 - 1])
    third = 0 if collector == "incremental" else 9
    assert first[0][:2] == [500, 7] and first[0][2] in (9, third) and first[1:] == [1, False]
    assert last[:2] == [600, 8] and enabled


@pytest.mark.core
def test_a_disabled_collector_stays_so(ask: Ask) -> None:
    text = """
gc.disable()
node = Node()
gone = weakref.ref(node)
gc.collect(); gc.callbacks.append(listen)
governor = bursar.governor(limit="1 MiB", idle=0.005)  # far below what is held
with bursar.scope("request"):
    del node
until(lambda: _bursar.governor_figures(False)["collections"] == 0, 1)
time.sleep(0.1)
before = gone() is not None, list(full), gc.isenabled()
governor.stop()
print(json.dumps([before, gc.isenabled()]))
"""
    assert ask(text) == [[True, [], False], False]


@pytest.mark.core
def test_what_the_program_froze_stays_frozen(ask: Ask) -> None:
    text = """
gc.freeze()
before = gc.get_freeze_count()
with bursar.governor(freeze=True) as governor:
    during = governor.frozen
print(json.dumps([before > 2000, during, gc.get_freeze_count() > before / 2]))
"""
    assert ask(text) == [True, False, True]


@pytest.mark.core
def test_gc_collect_collects_what_the_governor_froze(ask: Ask) -> None:
    text = """
node = Node()
gone = weakref.ref(node)
governor = bursar.governor(freeze=True)
frozen = governor.frozen
del node
gc.collect()
print(json.dumps([frozen, gone() is None, governor.frozen, gc.get_freeze_count() > 2000]))
"""
    assert ask(text) == [True, True, True, True]


@pytest.mark.core
def test_growth_is_collected_in_a_rest(ask: Ask) -> None:
    """Garbage of the oldest generation goes without anybody asking, frozen ones or not."""
    text = """
seen = []
for freeze in (True, False):
    with bursar.governor(freeze=freeze, idle=0.01) as governor:
        nodes = [Node() for _ in range(200_000)]  # a few hundred younger collections
        gone = weakref.ref(nodes[0])
        with bursar.scope("request"):
            gc.collect(1)
            del nodes
        until(lambda: gone() is None)
        seen.append(governor.full_collections + governor.partial_collections)
print(json.dumps(seen))
"""
    assert all(count >= 2 for count in ask(text))


OLD_GARBAGE = """
def leave(mebibytes):
    nodes = [Node(bytearray(b"x") * (1 << 20)) for _ in range(mebibytes)]
    gc.collect(0); gc.collect(1)  # they are old now
"""


@pytest.mark.core
def test_memory_wins_over_the_scope(ask: Ask, command: str, ledger: Path, bursar: Run) -> None:
    text = f"""
{OLD_GARBAGE}
before, most = rss(), 0
with bursar.governor(limit=rss() + (96 << 20)) as governor:
    with bursar.scope("request"):
        for _ in range(20):
            leave(16)
            until(lambda: rss() < governor.limit + (32 << 20))  # malloc keeps some of it, for the next
    until(lambda: governor.memory_won == governor.full_in_scope)  # counted one after the other
    print(json.dumps([governor.memory_won, governor.full_in_scope]))
"""
    won, inside = ask(text, command=(command, "run", "-o", str(ledger), "-c"))
    assert 2 <= won <= 20
    assert inside == won
    events = bursar("report", str(ledger), "--view", "events").stdout
    assert len(re.findall(r"memory wins.* in 1 scopes", events)) == won  # it may win once more when all has ended
    assert "reclaimed" in events


def test_without_a_limit_in_sight_nothing_wins(ask: Ask) -> None:
    text = f"""
{OLD_GARBAGE}
before = rss()
with bursar.governor(limit=rss() + (10 << 30)) as governor:
    with bursar.scope("request"):
        for _ in range(10):
            leave(16)
        grew = rss() - before
    print(json.dumps([governor.memory_won, governor.full_in_scope, grew]))
"""
    won, inside, grew = ask(text)
    assert (won, inside) == (0, 0)
    assert grew > 128 << 20


# Blocks of malloc's heap, freed below one that stays.
FREE_HEAP = """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def leave(mebibytes):
    blocks = [libc.malloc(65536) for _ in range(mebibytes * 16)]
    for block in blocks: ctypes.memset(block, 1, 65536)
    libc.malloc(65536)  # above them
    for block in blocks: libc.free(block)
"""


def test_free_memory_goes_back_in_a_rest_alone(ask: Ask, command: str, ledger: Path, bursar: Run) -> None:
    text = f"""
{FREE_HEAP}
with bursar.governor(idle=0.01) as governor:
    with bursar.scope("request"):
        leave(64)
        busy = rss()
        for _ in range(50):
            time.sleep(0.01)
        inside = governor.trims
    until(lambda: governor.trims)
    print(json.dumps([inside, governor.trims, governor.returned_bytes, busy - rss(), governor.trim_seconds,
                      governor.met_seconds]))
"""
    inside, trims, told, back, seconds, met = ask(text, command=(command, "run", "-o", str(ledger), "-c"))
    assert inside == 0 and trims == 1
    assert told == pytest.approx(64 << 20, rel=0.1)
    assert back == pytest.approx(64 << 20, rel=0.15)
    assert seconds > 0 and met == 0
    assert "malloc_trim" in bursar("report", str(ledger), "--view", "events").stdout


def test_a_program_without_scopes_has_nothing_trimmed(ask: Ask) -> None:
    text = f"""
{FREE_HEAP}
with bursar.governor(idle=0.005) as governor:
    leave(64)
    time.sleep(0.5)
    print(json.dumps([governor.trims, _bursar.returnable()[0]]))
"""
    trims, returnable = ask(text)
    assert trims == 0
    assert returnable > 50 << 20, "nothing could have come back"


@pytest.mark.core
def test_slow_young_collections_are_made_smaller(ask: Ask) -> None:
    text = """
user = gc.get_threshold()
with bursar.governor(pause=0.000001, freeze=False):
    nodes = [Node() for _ in range(50_000)]
    during = gc.get_threshold()
print(json.dumps([user, during, gc.get_threshold()]))
"""
    user, during, after = ask(text)
    assert during[0] == user[0] // 4
    assert after == user


@pytest.mark.core
def test_parent_and_child_go_on_after_a_fork(ask: Ask) -> None:
    text = """
governor = bursar.governor(freeze=True, idle=0.01)
def works():
    gc.collect(0)
    nodes = [Node() for _ in range(100_000)]
    gone = weakref.ref(nodes[0])
    with bursar.scope("request"):
        gc.collect(1)
        del nodes
    until(lambda: gone() is None)
pid = os.fork()
if not pid:
    works()
    os._exit(7)
works()
print(json.dumps(os.waitpid(pid, 0)[1] >> 8))
"""
    assert ask(text, "-W", "error") == 7


@pytest.mark.core
def test_a_fork_inside_a_scope_leaves_none_open_in_the_child(ask: Ask) -> None:
    text = """
with bursar.scope("request"):
    threading.Thread(target=bursar.scope("other").__enter__).start()
    pid = os.fork() if sys.version_info < (3, 12) else (__import__("warnings").simplefilter("ignore"), os.fork())[1]
    if not pid:
        inside = _bursar.open_scopes()
if not pid:
    os._exit(inside * 16 + _bursar.open_scopes())
print(json.dumps(os.waitpid(pid, 0)[1] >> 8))
"""
    assert ask(text) == 0


@pytest.mark.core
def test_called_again_it_changes_its_settings(ask: Ask) -> None:
    text = """
one = bursar.governor("1 GiB")
other = bursar.governor("2 GiB", trim=False)
print(json.dumps([one is other, one.limit, one.on]))
one.stop(); one.stop()
assert not one.on and bursar.governor() is not one
"""
    assert ask(text) == [True, 2 << 30, True]


@pytest.mark.core
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("limit=0", "ValueError: limit=0 is no size: it must be above 0, and below 8 EiB"),
        ("limit=-5", "ValueError: limit=-5 is no size: it must be above 0, and below 8 EiB"),
        ("limit='much'", "ValueError: limit='much' is no size: write bytes, or as '300 MiB'"),
        ("limit=1.5", "TypeError: limit takes bytes, or a size as '300 MiB', not float"),
        ("pause=0", "ValueError: pause takes seconds, more than 0, not 0"),
        ("idle=-1", "ValueError: idle takes seconds, more than 0, not -1"),
    ],
)
def test_settings_that_make_no_sense(ask: Ask, arguments: str, error: str) -> None:
    text = f"""
before = gc.get_threshold(), list(gc.callbacks)
try:
    bursar.governor({arguments})
except Exception as error:
    print(json.dumps(f"{{type(error).__name__}}: {{error}}"))
assert before == (gc.get_threshold(), gc.callbacks)
"""
    assert ask(text) == error
