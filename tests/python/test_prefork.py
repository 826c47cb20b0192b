"""bursar.prefork(): a worker's collection writes to nothing from before; bursar.shared() says what a worker costs."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from test_governor import ask

__all__ = ["ask"]
Ask = Callable[..., Any]

MB = 1_000_000

# A model of 100 MB in objects, which a worker that is forked looks at after one collection of its own.
WORKER = """
model = [{"weight": number, "names": [number, str(number)]} for number in range(250_000)]
def worker(use):
    (read, write), (wait, go) = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        gc.collect()
        if use:
            sum(each["weight"] for each in model[:50_000])
        os.write(write, b".")
        os.read(wait, 1)
        os._exit(0)
    os.read(read, 1)
    private = bursar.shared(pid).private_bytes  # from here: to look costs memory too
    os.write(go, b".")
    os.waitpid(pid, 0)
    return private
"""


@pytest.mark.core
def test_a_worker_shares_what_was_loaded(ask: Ask) -> None:
    text = f"""
{WORKER}
size, before = rss(), worker(False)
done = bursar.prefork()
print(json.dumps([size, before, worker(False), worker(True), done.not_done.get("collection")]))
"""
    size, plain, shared, used, not_done = ask(text)
    assert size > 80 * MB
    assert plain > 20 * MB, "a collection writes to what it looks at"
    assert shared < MB
    assert used > shared + 3 * MB, "what is used has its reference counts written to"
    assert not_done is None


@pytest.mark.core
def test_with_a_governor_workers_share_too(ask: Ask) -> None:
    """Its own freezing ends with prefork(): what it would thaw is everybody's."""
    text = f"""
{WORKER}
governor = bursar.governor(freeze=True, idle=0.01)
bursar.prefork()
shared = worker(False)
frozen = gc.get_freeze_count()
governor.stop()
print(json.dumps([shared, frozen, gc.get_freeze_count()]))
"""
    shared, frozen, stays = ask(text)
    assert shared < 1.5 * MB
    assert frozen > 100_000
    assert frozen - 100 < stays <= frozen  # what nobody has any more goes all the same


@pytest.mark.core
def test_who_forks_has_no_thread_of_ours(ask: Ask) -> None:
    """3.12 and on count what the kernel has, and warn; so does this on any Python."""
    text = """
counts, told = [], []
def count(): counts.append(len(os.listdir("/proc/self/task")))
os.register_at_fork(before=count)  # what is registered first is called last: when ours have been
bursar.start()
with bursar.governor():
    with bursar.scope("request", soft="1 MiB", on_soft=told.append): pass
    for _ in range(200):
        gc.collect()  # from here on the governor has a thread again
        ahead = len(os.listdir("/proc/self/task"))
        pid = os.fork()
        if not pid: os._exit(0)
        os.waitpid(pid, 0)
    later = bursar.scope("request", soft="1 MiB", on_soft=told.append)
    pid = os.fork()
    if not pid: os._exit(0)
    os.waitpid(pid, 0)
    with later: bytearray(2 << 20)
    until(lambda: told == [later])
print(json.dumps([ahead, max(counts)]))
"""
    ahead, most = ask(text)
    assert ahead > 1 and most == 1


@pytest.mark.core
def test_figures_of_this_process_and_another(ask: Ask) -> None:
    text = f"""
import mmap
before = bursar.shared()
private = bytearray(b"x") * (32 << 20)
after = bursar.shared()
other = bursar.shared({os.getpid()})
print(json.dumps([after.private_bytes - before.private_bytes, after.shared_bytes - before.shared_bytes, after.pid,
                  os.getpid(), after.rss_bytes - rss(), other.pid, other.private_bytes,
                  before.private_bytes <= before.pss_bytes <= before.rss_bytes]))
"""
    grew, others, pid, own, off, other, private, between = ask(text)
    assert grew == pytest.approx(32 << 20, abs=1 << 20)
    assert abs(others) < 1 << 20
    assert pid == own
    assert abs(off) < 2 << 20
    assert other == os.getpid() and private > 0
    assert between


@pytest.mark.core
def test_no_such_process_and_no_rest(ask: Ask) -> None:
    text = """
errors = []
try: bursar.shared(2**22 + 1)
except OSError as error: errors.append(type(error).__name__)
with bursar.scope("request"):
    try: bursar.prefork()
    except RuntimeError as error: errors.append(str(error))
print(json.dumps([errors, gc.get_freeze_count() < 2000]))
"""
    errors = ["FileNotFoundError", "prefork() while 1 scope is open: call it before the first request"]
    assert ask(text) == [errors, True]
