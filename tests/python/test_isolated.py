"""isolated(): work in a process of its own: what comes back, how, and what is left behind."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from programs import Program, printed, program

__all__ = ["program"]

numpy = pytest.importorskip("numpy")

HEAD = """
import dataclasses, json, os, signal, sys, threading, time
import numpy as np
import bursar

@dataclasses.dataclass
class Point:
    x: object

class Unlucky(Exception):
    def __init__(self, a, b):
        super().__init__("unlucky")

def make(n):
    large = np.full(n, 7.0)
    return {"large": large, "small": np.arange(10), "deep": [(Point(np.zeros((n, 2), order="F")),)], "n": n}

def view(n):
    return np.arange(2 * n)[n:]

def slice_of_much(n):
    return np.zeros(20 * n)[n : 2 * n]

def in_a_thread(n):
    found = []
    thread = threading.Thread(target=lambda: found.append(np.ones(n)))
    thread.start()
    thread.join()
    return found[0]

def not_numpys(n):
    return np.frombuffer(bytearray(8 * n))

def strided(n):
    return np.arange(2 * n)[::2]

def grown(n):
    a = np.ones(n)
    a.resize(2 * n, refcheck=False)
    a[n:] = 2
    return a

def readonly(n):
    a = np.ones(n)
    a.flags.writeable = False
    return a

def after_a_fork(n):
    a = np.zeros(n)
    child = os.fork()
    if child == 0:
        a[:] = 9
        os._exit(0)
    os.waitpid(child, 0)
    return a

def total(a):
    result = float(a.sum())
    a[:] = -1
    return result

def nothing(*anything):
    return None

def fails(x):
    raise KeyError(x)

def fails_unlucky():
    raise Unlucky(1, 2)

def leaves():
    sys.exit(7)

def ends(how):
    if how == "_exit":
        os._exit(5)
    os.kill(os.getpid(), how)

def lambda_back():
    return lambda: 1

def pid():
    return os.getpid(), os.getppid(), type(threading.current_thread()).__name__

def sleep_for_ever(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    os.rename(path, path + ".there")
    time.sleep(600)

@bursar.isolated
def decorated(x, y=2):
    "Adds."
    return x + y

def shmem():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssShmem"))

def fds():
    return len(os.listdir("/proc/self/fd"))

def maps():
    with open("/proc/self/maps") as file:
        return sum("bursar-array" in line for line in file)

MIB = 1 << 20
N = MIB // 8  # float64 in a mebibyte
if __name__ == "__main__":
"""


def main(text: str) -> str:
    return HEAD + "".join(f"    {line}\n" for line in text.strip().splitlines())


METHODS = pytest.mark.parametrize("method", ["spawn", "forkserver"])


@METHODS
def test_arrays_come_back_as_they_are_in_shared_memory(program: Program, method: str) -> None:
    done = program(
        main(f"""
before = shmem()
result = bursar.isolated(make, method={method!r}).run(4 * N)
value = result.value
deep = value["deep"][0][0].x
total = float(value["large"].sum())
print(json.dumps([result.shared, result.copied, value["n"], total, deep.shape, deep.flags.f_contiguous]))
value["large"][0] = 1
deep[:] = 2
print(shmem() - before, maps())
del value, result
print(shmem() - before, maps())
del deep
print(shmem() - before, maps())
""")
    )
    facts, held, half, none = done.stdout.splitlines()
    assert facts == "[[4194304, 8388608], [], 524288, 3670016.0, [524288, 2], true]"
    assert [line.split() for line in (held, half, none)] == [["12582912", "2"], ["8388608", "1"], ["0", "0"]]


@pytest.mark.parametrize(
    ("name", "shared", "copied", "expected"),
    [
        ("view", [MIB := 1 << 20], [], "a[0] == N and a[-1] == 2 * N - 1"),
        ("slice_of_much", [], [MIB], "not a.any()"),  # one twentieth must not keep the rest
        ("in_a_thread", [MIB], [], "a.all()"),
        ("not_numpys", [], [MIB], "not a.any()"),
        ("grown", [2 * MIB], [], "a[0] == 1 and a[-1] == 2"),
        ("readonly", [MIB], [], "a.all() and not a.flags.writeable"),
        ("after_a_fork", [], [MIB], "not a.any()"),  # what the forked process wrote is its own
    ],
)
def test_which_are_handed_over_and_which_copied(
    program: Program, name: str, shared: list[int], copied: list[int], expected: str
) -> None:
    done = program(
        main(f"""
result = bursar.isolated({name}).run(N)
a = result.value
print(json.dumps([result.shared, result.copied, bool({expected})]))
""")
    )
    assert printed(done) == [shared, copied, True]


def test_what_is_not_contiguous_or_small_is_pickled(program: Program) -> None:
    done = program(
        main("""
result = bursar.isolated(strided).run(N)
print(json.dumps([result.shared, result.copied, result.pickled_bytes > MIB, int(result.value[-1])]))
print(result)
""")
    )
    facts, line = done.stdout.splitlines()
    assert facts == "[[], [], true, 262142]" or facts.startswith("[[], [1048576]")
    assert re.fullmatch(r"0 arrays, 0 bytes, made in .*; \d+ bytes pickled", line)


def test_large_arguments_are_the_childs_own(program: Program) -> None:
    done = program(
        main("""
a = np.ones(4 * N)
print(bursar.isolated(total)(a), a.sum())
""")
    )
    assert done.stdout == "524288.0 524288.0\n"


def test_a_thousand_arrays(program: Program) -> None:
    done = program(
        main("""
result = bursar.isolated(many).run(300)
right = all(a[0] == i for i, a in enumerate(result.value))
print(len(result.value), sum(result.shared + result.copied) // MIB, fds() < 20, right)
""").replace("MIB = 1", "def many(n): return [np.full(N, i) for i in range(n)]\nMIB = 1")
    )
    assert done.stdout == "300 300 True True\n"


@METHODS
def test_the_child_is_no_fork_of_this_process(program: Program, method: str) -> None:
    done = program(
        main(f"""
child, parent, _ = bursar.isolated(pid, method={method!r})()
print(child != os.getpid(), parent == os.getpid(), os.path.exists(f"/proc/{{child}}"))
""")
    )
    assert done.stdout == f"True {method == 'spawn'} False\n"


def test_as_a_decorator(program: Program) -> None:
    done = program(
        main("""
print(decorated(1), decorated(1, y=5), decorated.__name__, decorated.__doc__)
print(decorated.run(2).value, decorated.function(1))
""")
    )
    assert done.stdout == "3 6 decorated Adds.\n4 3\n"


def test_what_it_raises_is_raised_here(program: Program) -> None:
    done = program(
        main("""
for f, args in ((fails, (3,)), (fails_unlucky, ()), (leaves, ())):
    try: bursar.isolated(f)(*args)
    except BaseException as error:
        lines = [line for line in str(error.__cause__).strip().splitlines() if line.strip(" ~^")]  # 3.13 marks more
        print(repr(error), "|", lines[-2:])
""")
    )
    first, second, third = done.stdout.splitlines()
    assert first == "KeyError(3) | ['    raise KeyError(x)', 'KeyError: 3']"
    assert second == "IsolatedError('Unlucky: unlucky') | ['    raise Unlucky(1, 2)', 'Unlucky: unlucky']" or (
        "__mp_main__.Unlucky: unlucky" in second and second.startswith("IsolatedError('Unlucky: unlucky') | ")
    )
    assert third == "SystemExit(7) | ['    sys.exit(7)', 'SystemExit: 7']"


@METHODS
def test_a_child_that_dies_is_one_clear_error(program: Program, method: str) -> None:
    done = program(
        main(f"""
for how in (signal.SIGKILL, signal.SIGSEGV, "_exit"):
    try: bursar.isolated(ends, method={method!r})(how)
    except bursar.IsolatedError as error: print(error, error.signal, error.status)
""")
    )
    assert done.stdout.splitlines() == [
        "the child that ran ends was ended by SIGKILL: the kernel does that where memory runs out 9 None",
        "the child that ran ends was ended by SIGSEGV 11 None",
        "the child that ran ends ended with status 5 and no result None 5",
    ]


def test_what_cannot_be_sent_is_told_before_anything_starts(program: Program) -> None:
    done = program(
        main("""
import multiprocessing.process
def begun(self): print("started")
multiprocessing.process.BaseProcess.start = begun
def local(): pass
class Local: pass
for f, args, kwargs in (
    (lambda: 1, (), {}), (local, (), {}), (nothing, (1, sys.stdout), {}), (nothing, (), {"key": lambda: 1}),
    (nothing, (threading.Lock(),), {}),
):
    try: bursar.isolated(f)(*args, **kwargs)
    except TypeError as error: print(error)
for arguments in ((3,), (nothing, "fork")):
    try: bursar.isolated(*arguments[:1], **({"method": arguments[1]} if arguments[1:] else {}))
    except (TypeError, ValueError) as error: print(error)
""")
        .replace("if __name__", "def outer():\n    def local(): pass\n    return local\nif __name__")
        .replace("def local(): pass\n    class", "local = outer()\n    class")
    )
    lines = done.stdout.splitlines()
    why = "cannot be sent to another process"
    assert lines[0] == f"<lambda> {why}: define it by `def` at the top of a module"
    assert lines[1] == f"outer.<locals>.local {why}: define it by `def` at the top of a module"
    assert lines[2].startswith(f"argument 2 (TextIOWrapper) {why}: ")
    assert lines[3].startswith(f"argument key (function) {why}: ")
    assert lines[4].startswith(f"argument 1 (lock) {why}: ")
    assert lines[5] == "isolated() takes a function, not int"
    assert lines[6] == "no method 'fork': use one of spawn, forkserver"
    assert len(lines) == 7


def test_a_function_of_no_file_is_told_before_anything_starts(execute, python: str) -> None:  # type: ignore[no-untyped-def]
    code = "import bursar\ndef f(): pass\ntry: bursar.isolated(f)()\nexcept TypeError as error: print(error)"
    assert "__main__ is no file there" in execute(python, "-c", code).stdout


def test_a_result_that_cannot_be_sent(program: Program) -> None:
    done = program(
        main("""
try: bursar.isolated(lambda_back)()
except TypeError as error: print(error)
""")
    )
    assert done.stdout.startswith("the result (function) cannot be sent back: ")


def wait_for(path: Path) -> int:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    return int(path.read_text())


def gone(pid: int) -> bool:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        time.sleep(0.01)
    return False


@METHODS
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_child_ends_with_its_parent_and_by_ctrl_c(
    tmp_path: Path, python: str, environment: dict[str, str], method: str, how: signal.Signals
) -> None:
    (tmp_path / "program.py").write_text(main(f"bursar.isolated(sleep_for_ever, method={method!r})('child')"))
    parent = subprocess.Popen(
        [python, "program.py"], cwd=tmp_path, env=environment, start_new_session=True, stderr=subprocess.DEVNULL
    )
    child = wait_for(tmp_path / "child.there")
    if how == signal.SIGINT:
        os.killpg(parent.pid, how)  # as a terminal does it
    else:
        parent.kill()
    assert parent.wait(60) == -how
    assert gone(child)


def leak_test(program: Program, method: str, calls: int) -> None:
    done = program(
        main(f"""
f = bursar.isolated(make, method={method!r})
for _ in range(3): f(N)
before = fds(), maps(), threading.active_count(), shmem()
for n in range({calls}):
    value = f(N)
    if n % 10 == 0:
        try: bursar.isolated(ends, method={method!r})("_exit")
        except bursar.IsolatedError: pass
        try: bursar.isolated(fails, method={method!r})(1)
        except KeyError: pass
del value
print(before == (fds(), maps(), threading.active_count(), shmem()), before)
"""),
        timeout=1200,
    )
    assert done.stdout.startswith("True"), done.stdout


def test_calls_leave_nothing_behind(program: Program) -> None:
    leak_test(program, "forkserver", 12)


@pytest.mark.check
@METHODS
def test_a_thousand_calls_leave_nothing_behind(program: Program, method: str) -> None:
    leak_test(program, method, 1000)
