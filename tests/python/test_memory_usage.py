"""memory_usage(): resident memory, as memory_profiler means it."""

import re

import pytest
from programs import Program, printed, program

__all__ = ["program"]
pytestmark = pytest.mark.core

TAKES = "ValueError: memory_usage() takes a process id, a subprocess.Popen, a function or (function, args, kw)"
HEAD = """\
import bursar, io, json, os, subprocess, sys, time
from bursar import memory_usage
MIB = 1 << 20
def status(name, pid="self"):  # in MiB
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(name))
def touch(size):
    data = bytearray(size)
    data[::4096] = b"1" * len(data[::4096])
    return data
def child(size):  # a process that holds as much, and says so, until its stdin ends
    text = f"x = b'1' * {size}; print('ready', flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process
def end(process):
    process.stdin.write(b"\\n")
    process.stdin.close(); process.stdout.close(); process.wait()
"""


def test_this_process_is_measured_once(program: Program) -> None:
    done = program(
        HEAD + "before = memory_usage()\n"
        "kept = touch(64 * MIB)\n"
        "print(json.dumps([before, memory_usage(-1), memory_usage(os.getpid()), memory_usage(str(os.getpid())),\n"
        "                  status('VmRSS'), memory_usage(max_usage=True)]))\n"
    )
    before, *lists, real, greatest = printed(done)
    assert len(before) == 1
    for (usage,) in lists:
        assert usage == pytest.approx(real, abs=4)
        assert usage - before[0] == pytest.approx(64, abs=2)
    assert greatest == pytest.approx(real, abs=4)


def test_a_timeout_gives_that_many_measurements(program: Program) -> None:
    done = program(
        HEAD + "begin = time.monotonic()\n"
        "found = memory_usage(-1, interval=.02, timeout=.2, timestamps=True)\n"
        "print(json.dumps([found, time.monotonic() - begin, time.time()]))\n"
    )
    found, took, now = printed(done)
    assert len(found) == 10
    assert took >= 9 * 0.02
    times = [when for _, when in found]
    assert times == sorted(times)
    assert now - 10 < times[0] <= times[-1] <= now


def test_a_function_is_measured_while_it_runs(program: Program) -> None:
    done = program(
        HEAD + "def work(n, more=0):\n"
        "    data = touch(n * MIB)\n"
        "    time.sleep(.3)\n"
        "    return n + more\n"
        "print(json.dumps([memory_usage(),\n"
        "    memory_usage((work, (64,), {'more': 1}), interval=.02, retval=True),\n"
        "    memory_usage((work, (64,)), interval=.02, max_usage=True),\n"
        "    memory_usage((work, (64,)), interval=.02, max_usage=True, retval=True, timestamps=True),\n"
        "    memory_usage([work, [32]], interval=.02, include_children=True)]))\n"
    )
    (before,), (samples, value), greatest, ((stamped, when), other), fewer = printed(done)
    assert value == 65 and other == 64
    assert len(samples) > 4
    assert max(samples) - before == pytest.approx(64, abs=3)
    assert samples[0] - before < 32  # the first is from before the call
    assert greatest == pytest.approx(max(samples), abs=3)
    assert stamped == pytest.approx(max(samples), abs=3) and when > 1e9
    assert max(fewer) - before == pytest.approx(32, abs=3)  # the process that measures is not counted


def test_a_function_that_holds_the_interpreter_is_measured_all_the_same(program: Program) -> None:
    done = program(
        HEAD + "import re\n"
        "def work():\n"
        "    data = touch(64 * MIB)\n"
        "    begin = time.monotonic()\n"
        "    while time.monotonic() - begin < .3: sum(range(3000000))  # no other thread runs in there\n"
        "sys.setswitchinterval(1000)\n"
        "print(json.dumps([memory_usage(), memory_usage(work, interval=.02)]))\n"
    )
    (before,), samples = printed(done)
    assert len(samples) > 4
    assert max(samples) - before == pytest.approx(64, abs=3)


def test_a_short_function_is_run_again_with_a_shorter_interval(program: Program) -> None:
    done = program(
        HEAD + "runs = []\n"
        "def work(): runs.append(1); time.sleep(.02)\n"
        "samples = memory_usage(work, interval=.1)\n"
        "first = len(runs)\n"
        "memory_usage(work, interval=.1, max_iterations=1)\n"
        "second = len(runs) - first\n"
        "memory_usage(work, interval=.1, timeout=.1)\n"
        "print(json.dumps([len(samples), first, second, len(runs) - first - second]))\n"
    )
    samples, first, second, third = printed(done)
    assert samples > 4 and first > 1
    assert (second, third) == (1, 1)


def test_what_the_function_raises_passes_and_nothing_is_left(program: Program) -> None:
    done = program(
        HEAD + "other = child(1)\n"
        "try: memory_usage((lambda: 1 / 0,))\n"
        "except ZeroDivisionError: print('raised')\n"
        "assert other.poll() is None  # memory_profiler kills all children\n"
        "end(other)\n"
        "try: os.waitpid(-1, os.WNOHANG)\n"
        "except ChildProcessError: print('no child')\n"
        "print(len(os.listdir('/proc/self/fd')))\n"
    )
    raised, no_child, descriptors = done.stdout.split("\n")[:3]
    assert (raised, no_child) == ("raised", "no child")
    assert int(descriptors) <= 4


def test_another_process(program: Program) -> None:
    done = program(
        HEAD + "other = child(64 * MIB)\n"
        "real = status('VmRSS', other.pid)\n"
        "found = memory_usage(other.pid), memory_usage(other, interval=.02, timeout=.1)\n"
        "end(other)\n"
        "short = subprocess.Popen([sys.executable, '-c', 'import time; x = b\"1\" * (64 << 20); time.sleep(.5)'])\n"
        "print(json.dumps([real, *found, memory_usage(short, interval=.02), short.returncode]))\n"
    )
    real, once, several, until_end, code = printed(done)
    assert once == [pytest.approx(real, abs=2)]
    assert several == [pytest.approx(real, abs=2)] * 5
    assert len(until_end) > 4 and max(until_end) > 64
    assert code == 0


def test_children(program: Program) -> None:
    done = program(
        HEAD + "other = child(64 * MIB)\n"
        "grown = memory_usage(include_children=True, max_usage=True) - memory_usage(max_usage=True)\n"
        "apart = memory_usage(multiprocess=True)\n"
        "stream = io.StringIO()\n"
        "nothing = memory_usage(-1, interval=.01, timeout=.03, multiprocess=True, stream=stream)\n"
        "plain = io.StringIO()\n"
        "memory_usage(lambda: time.sleep(.1), interval=.01, stream=plain)\n"
        "real = status('VmRSS', other.pid)\n"
        "print(json.dumps([grown, real, apart, nothing, stream.getvalue(), other.pid, plain.getvalue()]))\n"
        "end(other)\n"
    )
    grown, real, apart, nothing, text, pid, plain = printed(done)
    assert grown == pytest.approx(real, abs=2)
    ((_, held),) = apart
    assert held == pytest.approx(real, abs=2)
    assert nothing is None
    lines = text.splitlines()
    assert [line.split()[0] for line in lines] == ["MEM", "CHLD"] * 3
    assert re.fullmatch(r"MEM \d+\.\d{6} \d+\.\d{4}", lines[0])
    assert re.fullmatch(rf"CHLD {pid} \d+\.\d{{6}} \d+\.\d{{4}}", lines[1])
    assert len(plain.splitlines()) > 4
    assert all(re.fullmatch(r"MEM \d+\.\d{6} \d+\.\d{4}", line) for line in plain.splitlines())


def test_metrics(program: Program) -> None:
    """A file that two processes map counts in both, half in each, and in neither."""
    done = program(
        HEAD + "import mmap\n"
        "with open('shared', 'wb') as file: file.write(bytes(64 * MIB))\n"
        "file = open('shared', 'rb')\n"
        "shared = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)\n"
        "sum(shared[::4096])\n"
        "names = (None, 'posix', 'psutil', 'psutil_pss', 'psutil_uss')\n"
        "text = f'''import mmap\n"
        "file = open('shared', 'rb'); m = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ); sum(m[::4096])\n"
        "print('ready', flush=True); input()'''\n"
        "other = subprocess.Popen([sys.executable, '-c', text], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "other.stdout.readline()\n"
        "with_file = [memory_usage(backend=name)[0] for name in names]\n"
        "shared.close()\n"
        "without = [memory_usage(backend=name)[0] for name in names]\n"
        "print(json.dumps([a - b for a, b in zip(with_file, without)]))\n"
        "end(other)\n"
    )
    assert printed(done) == [pytest.approx(size, abs=2) for size in (64, 64, 64, 32, 0)]


@pytest.mark.parametrize(
    ("call", "line"),
    [
        ("99999999", "ProcessLookupError: there is no process 99999999"),
        ("'99999999'", "ProcessLookupError: there is no process 99999999"),
        ("'init'", TAKES),
        ("(1, 2)", TAKES),
        (
            "-1, backend='tracemalloc'",
            "ValueError: memory_usage() has no backend 'tracemalloc': "
            "use one of 'psutil', 'posix', 'psutil_pss', 'psutil_uss'",
        ),
        ("-1, interval=0, timeout=1", "ValueError: memory_usage() needs an interval above 0 where there is a timeout"),
    ],
)
def test_misuse(program: Program, call: str, line: str) -> None:
    done = program(
        HEAD + f"try: memory_usage({call})\nexcept Exception as error: print(type(error).__name__ + ':', error)\n"
    )
    assert done.stdout == line + "\n"


def test_without_sys_executable(program: Program) -> None:
    done = program(
        HEAD + "sys.executable = None\n"
        "try: memory_usage(lambda: 1)\n"
        "except RuntimeError as error: print(error)\n"
    )
    assert done.stdout == "memory_usage() of a function needs sys.executable, a Python to measure from\n"
