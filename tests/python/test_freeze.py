"""freeze(), thaw() and verify(): what is frozen cannot be changed, nothing is lost by it, and what is left is told."""

from __future__ import annotations

import collections
import copy
import ctypes
import dataclasses
import functools
import hashlib
import json
import mmap
import os
import pickle
import resource
import signal
import types
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bursar
import pytest
from running import Run

np = pytest.importorskip("numpy")

Names = Callable[[Any], list[str]]
OTHERS = "others hold it"


def frozen(report: Any) -> list[str]:
    return [one.name for one in report.frozen]


def left(report: Any) -> dict[str, str]:
    return {one.name: one.reason for one in report.left}


def is_frozen(array: Any) -> bool:
    """Neither a write nor the flag that would allow one goes."""
    with pytest.raises(ValueError):
        array[...] = array.dtype.type(0) if array.dtype.fields is None else np.zeros((), array.dtype)
    with pytest.raises(ValueError):
        array.flags.writeable = True
    return not array.flags.writeable


# --- what is frozen ---------------------------------------------------------------------------------------------------


class Slotted:
    __slots__ = ("empty", "weights")

    def __init__(self) -> None:
        self.weights = np.arange(3.0)


@dataclasses.dataclass(frozen=True)
class Pinned:
    bias: Any


Pair = collections.namedtuple("Pair", "first second")


def test_arrays_are_found_wherever_they_are() -> None:
    model = SimpleNamespace(
        coef_=np.arange(4.0), layers=[{"w": np.ones(2)}, (np.zeros(3), [np.ones(1)])], slotted=Slotted(),
        pinned=Pinned(np.ones(5)), pair=Pair(np.ones(2), "text"), queue=collections.deque([np.ones(6)]),
        objects=np.array([[np.ones(7), None]], dtype=object), ordered=collections.OrderedDict(a=np.ones(8)),
    )  # fmt: skip
    want = copy.deepcopy(model)
    report = bursar.freeze(model)
    assert frozen(report) == [
        "coef_", "layers[0]['w']", "layers[1][0]", "layers[1][1][0]", "slotted.weights", "pinned.bias", "pair[0]",
        "queue[0]", "objects[0, 0]", "ordered['a']",
    ]  # fmt: skip
    assert report.frozen_bytes == 8 * (4 + 2 + 3 + 1 + 3 + 5 + 2 + 6 + 7 + 8) == sum(one.bytes for one in report.frozen)
    assert left(report) == {"objects": "it holds Python objects (its dtype has object)"}
    assert type(model.pair) is Pair and model.pair.second == "text"
    for now, before in (
        (model.coef_, want.coef_), (model.layers[1][0], want.layers[1][0]), (model.slotted.weights, np.arange(3.0)),
        (model.pinned.bias, want.pinned.bias), (model.pair.first, want.pair.first), (model.queue[0], want.queue[0]),
        (model.objects[0, 0], want.objects[0, 0]), (model.layers[1][1][0], np.ones(1)),
    ):  # fmt: skip
        assert np.array_equal(now, before)
        assert is_frozen(now)


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.arange(12.0).reshape(3, 4),
        lambda: np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        lambda: np.arange(100)[10:60:5],
        lambda: np.arange(10)[::-1],
        lambda: np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1)[1:],
        lambda: np.zeros((0, 3)),
        lambda: np.array(2.5),
        lambda: np.arange(3, dtype=">i4"),
        lambda: np.array([(1, 2.0), (3, 4.0)], dtype=[("a", "<i2"), ("b", ">f8")]),
        lambda: np.array([(1, 2.0), (3, 4.0)], dtype=[("a", "<i2"), ("b", ">f8")])["b"],
        lambda: np.array(["2020-01-01", "NaT"], "datetime64[D]"),
        lambda: np.array(["some", "text"]),
        lambda: np.array([b"", b""], "S0"),
        lambda: np.broadcast_to(np.arange(3.0), (4, 3)),
        lambda: np.frombuffer(bytearray(b"01234567"), np.uint16),
        lambda: pickle.loads(pickle.dumps(np.arange(5.0), 5)),
        lambda: np.arange(6, dtype=np.complex64).real,
    ],
)
def test_form_and_values_are_kept(make: Callable[[], Any]) -> None:
    holder, want = [make()], make()
    report = bursar.freeze(holder)
    now = holder[0]
    assert frozen(report) == ["[0]"] and not report.left
    for form in ("dtype", "shape", "strides", "size"):
        assert getattr(now, form) == getattr(want, form), form
    assert now.flags.f_contiguous == want.flags.f_contiguous and now.flags.c_contiguous == want.flags.c_contiguous
    assert now.tobytes("A") == want.tobytes("A")
    assert is_frozen(now)
    bursar.thaw(holder)
    again = holder[0]
    assert again.flags.writeable and again.dtype == want.dtype and again.tobytes("A") == want.tobytes("A")
    assert again.flags.f_contiguous == want.flags.f_contiguous


def test_shared_memory_stays_shared() -> None:
    base = np.arange(20.0)
    model: dict[str, Any] = {"all": base, "same": base, "part": base[5:10], "turned": base.reshape(4, 5).T}
    del base
    report = bursar.freeze(model)
    assert [(one.name, one.bytes, one.also) for one in report.frozen] == [("['all']", 160, ("['part']", "['turned']"))]
    assert model["all"] is model["same"]
    assert np.shares_memory(model["all"], model["part"]) and np.shares_memory(model["all"], model["turned"])
    assert is_frozen(model["part"]) and list(model["part"]) == [5, 6, 7, 8, 9]
    assert bursar.thaw(model) == 160
    model["all"][6] = -1
    assert model["same"][6] == model["part"][1] == model["turned"][1, 1] == -1


def test_what_is_in_itself_and_what_is_deep() -> None:
    model: dict[str, Any] = {"w": np.ones(3)}
    model["me"] = model
    deep: list[Any] = [np.ones(2)]
    for _ in range(50_000):
        deep = [deep]
    model["deep"] = deep
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = bursar.freeze(model)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes: no path is that deep
    assert report.frozen_bytes == 40 and max(len(one.name) for one in report.frozen) < 500
    while deep:  # taken apart by hand: the interpreter's own way down is recursive
        below = deep[0]
        deep.clear()
        deep = below if isinstance(below, list) else []


def test_what_is_frozen_already_stays() -> None:
    model = {"w": np.ones(3)}
    first = bursar.freeze(model)
    array = model["w"]
    model["v"] = np.ones(2)
    second = bursar.freeze(model)
    assert model["w"] is array and frozen(second) == ["['w']", "['v']"]
    assert second.frozen[0] == first.frozen[0]


def test_the_text_of_a_report_is_one_line_an_array() -> None:
    model = {"a\n\x1b[31m": np.ones(3), "b": np.ma.masked_equal([1.0], 0)}
    text = str(bursar.freeze(model)).splitlines()
    assert [line.split()[0] for line in text] == ["frozen:", "24", "left:", "8"]
    assert all(line.isprintable() for line in text)


# --- what is left -----------------------------------------------------------------------------------------------------


def test_what_others_hold_is_left() -> None:
    held, viewed, based = np.arange(3.0), np.arange(4.0), np.arange(5.0)
    view, model = viewed[1:], SimpleNamespace(held=held, viewed=viewed, part=based[:2], own=np.ones(6))
    outside = (np.ones(7),)
    model.outside = outside
    del viewed
    report = bursar.freeze(model)
    assert frozen(report) == ["own"]
    assert set(left(report)) == {"held", "viewed", "part", "outside[0]"}
    assert all(OTHERS in why for why in left(report).values())
    view[0] = held[0] = based[0] = outside[0][0] = 99  # as before: what they have is still the model's
    assert (model.viewed[1], model.held[0], model.part[0], model.outside[0][0]) == (99, 99, 99, 99)
    del held, view, based, outside
    assert frozen(bursar.freeze(model)) == ["held", "viewed", "part", "own", "outside[0]"]


def test_what_no_plain_array_is_is_left() -> None:
    class Mine(np.ndarray):
        pass

    memory = mmap.mmap(-1, 4096)
    model = {
        "mine": np.ones(3).view(Mine), "masked": np.ma.masked_equal([1, 2], 1), "foreign": np.frombuffer(memory, "u1"),
        "mixed": np.zeros(2, dtype=[("a", "i4"), ("b", object)]), "objects": np.array(["x", None], object),
    }  # fmt: skip
    report = bursar.freeze(model)
    assert not report.frozen
    reasons = left(report)
    assert reasons["['mine']"] == "it is a Mine, not a plain array"
    assert reasons["['masked']"] == "it is a MaskedArray, not a plain array"
    assert "belongs to a" in reasons["['foreign']"]
    assert "Python objects" in reasons["['mixed']"] and "Python objects" in reasons["['objects']"]
    assert {one.name: one.bytes for one in report.left}["['mine']"] == 24
    assert report.left_bytes == sum(one.bytes for one in report.left)


def test_what_c_code_holds_is_named() -> None:
    """A partial keeps its arguments where nothing else can be put."""
    model = {"call": functools.partial(np.dot, np.ones(9)), "types": types.MappingProxyType({"a": np.ones(2)})}
    report = bursar.freeze(model)
    assert [(one.name, one.bytes) for one in report.left] == [("['call']", 72), ("['types']", 16)]
    assert all("object of C code" in one.reason for one in report.left)


@pytest.mark.parametrize("wrong", [np.ones(3), (np.ones(3),)])
def test_nothing_can_be_put_in_the_place_of_an_array_itself(wrong: Any) -> None:
    for function in (bursar.freeze, bursar.thaw, bursar.verify):
        with pytest.raises(TypeError, match="put it in a list"):
            function(wrong)


@pytest.mark.parametrize("nothing", [None, 3, "text", [], {"a": 1}, SimpleNamespace(), np])
def test_where_there_is_no_array_that_is_an_error(nothing: Any) -> None:
    with pytest.raises(ValueError, match="no array in it"):
        bursar.freeze(nothing)


def test_a_limit_on_files_is_an_error_and_changes_nothing(execute: Run, python: str) -> None:
    done = execute(
        python, "-c",
        "import numpy, bursar, resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "model = [numpy.ones(1000)]\n"
        "try: bursar.freeze(model)\n"
        "except OSError as error: print(error.errno, error.strerror)\n"
        "model[0][0] = 2\n",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("27 the limit on file sizes is lower")


# --- in memory --------------------------------------------------------------------------------------------------------


def test_at_most_one_array_is_in_memory_twice(execute: Run, python: str) -> None:
    """Sixteen arrays of 8 MiB; the peak is looked at by the kernel."""
    done = execute(
        python, "-c",
        "import numpy, bursar, json, re\n"
        "def status(word): return int(re.search(word + r':\\s+(\\d+)', open('/proc/self/status').read())[1]) << 10\n"
        "model = {n: numpy.ones(1 << 20) for n in range(16)}\n"
        "bursar.freeze([numpy.ones(9)])\n"
        "before = status('VmRSS')\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"
        "report = bursar.freeze(model)\n"
        "print(json.dumps([before, status('VmHWM'), status('VmRSS'), report.frozen_bytes]))\n",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, peak, after, size = json.loads(done.stdout)
    assert size == 16 << 23
    assert peak - before < 2 << 23
    assert after - before < 1 << 23


def test_the_memory_goes_with_the_last_array() -> None:
    def maps() -> int:
        return Path("/proc/self/maps").read_text().count("memfd:bursar-frozen")

    def descriptors() -> int:
        return sum("bursar-frozen" in os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                   if os.path.islink(f"/proc/self/fd/{fd}"))  # fmt: skip

    before = maps(), descriptors()
    model: dict[str, Any] = {"w": np.ones(1000), "v": np.ones(10)}
    bursar.freeze(model)
    assert (maps(), descriptors()) == (before[0] + 1, before[1] + 1)
    kept = model["w"][5:]
    model.clear()
    assert kept[0] == 1 and maps() == before[0] + 1
    del kept
    assert (maps(), descriptors()) == before


# --- verify -----------------------------------------------------------------------------------------------------------


def test_verify_says_what_was_put_in_its_place() -> None:
    model = SimpleNamespace(a=np.ones(3), b=np.ones(4))
    report = bursar.freeze(model)
    assert report.verify() == bursar.verify(model) == 56
    model.b = model.b.copy()
    assert bursar.verify(model) == 24
    with pytest.raises(ValueError, match="^b is not what was frozen"):
        report.verify()
    with pytest.raises(ValueError, match="nothing in it is frozen"):
        bursar.verify([np.ones(3)])


def test_verify_sees_other_memory_at_that_address(execute: Run, python: str) -> None:
    """The one way that is left to who runs code in the process: to map something else over it."""
    done = execute(
        python, "-c",
        "import numpy, bursar, ctypes\n"
        "model = {'w': numpy.ones(100000), 'v': numpy.ones(3)}\n"
        "report = bursar.freeze(model)\n"
        "at = model['w'].ctypes.data + 8192 & ~4095\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]\n"
        "libc.mmap.restype = ctypes.c_void_p\n"
        "assert libc.mmap(at, 4096, 3, 0x32, -1, 0) == at\n"  # private, anonymous, at that address
        "for check in report.verify, lambda: bursar.verify(model):\n"
        "    try: check()\n"
        "    except ValueError as error: print(error)\n",
    )  # fmt: skip
    assert done.stdout == "['w'] is not what was frozen: its bytes have changed\n" * 2, done.stderr


def test_the_hash_is_that_of_the_bytes() -> None:
    data = np.arange(1000.0)
    want = hashlib.sha256(data.tobytes()).hexdigest()
    assert bursar.freeze({"w": data.copy()}).frozen[0].sha256 == want


def test_copies_and_pickles_are_ordinary() -> None:
    model = {"w": np.arange(3.0)}
    bursar.freeze(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model, 4))):
        other["w"][0] = 7
        assert model["w"][0] == 0
    newest = pickle.loads(pickle.dumps(model, 5))  # keeps that it is for reading, as of any array
    assert not np.shares_memory(newest["w"], model["w"])


# --- writes of C code -------------------------------------------------------------------------------------------------

WRITES = """
import ctypes, sys, threading
{before}
import numpy, bursar
model = {{"coef_": numpy.arange(10.0)}}
bursar.freeze(model)
def step():
    ctypes.memset(model["coef_"].ctypes.data + 8, 1, 8)
def main():
{main}
main()
print("still there")
"""


@pytest.mark.parametrize("where", ["main", "thread"])
def test_a_write_of_c_code_ends_the_program_and_is_told(execute: Run, python: str, tmp_path: Path, where: str) -> None:
    script = tmp_path / "write.py"
    how = "    step()" if where == "main" else "    t = threading.Thread(target=step); t.start(); t.join()"
    script.write_text(WRITES.format(before="", main=how))
    done = execute(python, script)
    assert done.returncode == -signal.SIGSEGV and done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0] == ("bursar: a write to frozen memory: byte 8 of the 80 of ['coef_'] "
                        "(bursar.thaw() gives writable copies)")  # fmt: skip
    assert lines[1] == "  Python, most recent call first:"
    assert lines[2] == f'    File "{script}", line 8 in step'
    assert where == "thread" or lines[3] == f'    File "{script}", line 10 in main'
    native = lines.index("  C, most recent call first:")
    assert "libc" in lines[native + 1] and any("ffi" in line for line in lines[native:])


def test_faulthandler_is_still_heard(execute: Run, python: str, tmp_path: Path) -> None:
    script = tmp_path / "write.py"
    script.write_text(WRITES.format(before="import faulthandler; faulthandler.enable()", main="    step()"))
    done = execute(python, script)
    assert done.returncode == -signal.SIGSEGV
    assert done.stderr.index("bursar: a write to frozen") < done.stderr.index("Fatal Python error: Segmentation fault")


@pytest.mark.parametrize("before", ["", "import faulthandler; faulthandler.enable()"])
@pytest.mark.parametrize(
    "main", ["ctypes.string_at(0)", "import os; os.kill(os.getpid(), 11)", "import signal; signal.raise_signal(11)"]
)
def test_other_faults_are_as_before(execute: Run, python: str, tmp_path: Path, before: str, main: str) -> None:
    script, plain = tmp_path / "fault.py", tmp_path / "plain.py"
    script.write_text(WRITES.format(before=before, main="    " + main))
    plain.write_text(WRITES.format(before=before, main="    " + main).replace("bursar.freeze(model)", ""))
    ours, theirs = execute(python, script), execute(python, plain)
    assert ours.returncode == theirs.returncode == -signal.SIGSEGV
    assert "bursar:" not in ours.stderr and "frozen" not in ours.stderr
    assert bool(ours.stderr) == bool(theirs.stderr) == bool(before)


def test_a_handler_that_was_there_goes_on(execute: Run, python: str, tmp_path: Path) -> None:
    """Python's own kind, which only notes the signal."""
    script = tmp_path / "handler.py"
    before = "import signal, os; signal.signal(signal.SIGSEGV, lambda *_: print('heard', flush=True))"
    script.write_text(WRITES.format(before=before, main="    os.kill(os.getpid(), 11); os.kill(os.getpid(), 11)"))
    done = execute(python, script)
    assert done.stdout.split() == ["heard", "heard", "still", "there"] and done.returncode == 0, done


def test_no_handler_before_something_is_frozen(execute: Run, python: str) -> None:
    done = execute(
        python, "-c",
        "import numpy, bursar\n"
        "def caught():\n"
        "    mask = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('SigCgt'))\n"
        "    return int(mask, 16) >> 10 & 1\n"
        "bursar.freeze; before = caught()\n"
        "bursar.freeze([numpy.ones(2)]); print(before, caught())\n",
    )  # fmt: skip
    assert done.stdout == "0 1\n", done.stderr


# --- other processes --------------------------------------------------------------------------------------------------

WORKERS = """
import json, multiprocessing, os, re, sys
import numpy, bursar

def sums():
    inside, out = False, {}
    for line in open("/proc/self/smaps"):
        if re.match("[0-9a-f]+-", line):
            inside = "memfd:bursar-frozen" in line
        elif inside and line.split()[0] in ("Rss:", "Pss:", "Private_Dirty:", "Private_Clean:"):
            out[line.split()[0]] = out.get(line.split()[0], 0) + int(line.split()[1])
    return out

def work(model, queue, barrier):
    total, size = float(model["w"].sum()), bursar.verify(model)
    try:
        model["w"].flags.writeable = True
        told = "writable"
    except ValueError:
        told = "not writable"
    same = bool(numpy.shares_memory(model["w"], model["part"]))
    barrier.wait()
    facts = sums()
    barrier.wait()
    queue.put([total, size, told, same, facts])

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    w = numpy.ones(1 << 20)
    model = {"w": w, "part": w[10:20], "turned": numpy.asfortranarray(numpy.ones((30, 2)))}
    del w
    bursar.freeze(model)
    if len(sys.argv) > 2:
        bursar.no_core()
    queue, barrier = context.Queue(), context.Barrier(3)
    workers = [context.Process(target=work, args=(model, queue, barrier)) for _ in range(3)]
    for worker in workers:
        worker.start()
    print(json.dumps([queue.get(timeout=100) for _ in workers]))
    for worker in workers:
        worker.join()
"""


@pytest.mark.parametrize("how", [("fork",), ("spawn",), ("forkserver",), ("spawn", "no_core")])
def test_workers_share_the_pages(execute: Run, python: str, tmp_path: Path, how: tuple[str, ...]) -> None:
    """Three of them and who started them: a quarter of the pages is each one's share, and none is its own."""
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    done = execute(python, script, *how)
    assert done.returncode == 0, done.stderr
    size = (1 << 20) * 8 + 480
    for total, verified, told, same, facts in json.loads(done.stdout):
        assert (total, verified, told, same) == (1 << 20, size, "not writable", True)
        assert facts["Rss:"] >= size >> 10
        assert facts["Private_Dirty:"] == facts["Private_Clean:"] == 0
        assert facts["Pss:"] <= facts["Rss:"] // 4 + 8


def test_a_queue_hands_it_on_too(execute: Run, python: str, tmp_path: Path) -> None:
    script = tmp_path / "tasks.py"
    script.write_text(
        "import multiprocessing, numpy, bursar\n"
        "def work(tasks, results):\n"
        "    first, second = tasks.get(), tasks.get()\n"
        "    results.put((bursar.verify(first), first['w'].flags.writeable, float(first['w'].sum()),\n"
        "                 bool(numpy.shares_memory(first['w'], second['w'])), first))\n"
        "    tasks.get()\n"  # who sends it has to live until it has come
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    tasks, results = context.Queue(), context.Queue()\n"
        "    worker = context.Process(target=work, args=(tasks, results))\n"
        "    worker.start()\n"
        "    model = {'w': numpy.ones(1000), 'plain': numpy.zeros(3)}\n"
        "    kept = model['plain']\n"
        "    bursar.freeze(model)\n"
        "    tasks.put(model); tasks.put(model)\n"
        "    *told, back = results.get(timeout=100)\n"
        "    tasks.put(None)\n"
        "    print(*told, numpy.shares_memory(back['w'], model['w']))\n"
        "    worker.join()\n"
    )
    done = execute(python, script)
    assert done.stdout == "8000 False 1000.0 True True\n", done.stderr


def test_a_descriptor_that_the_program_closed_costs_a_copy(execute: Run, python: str, tmp_path: Path) -> None:
    script = tmp_path / "closed.py"
    script.write_text(
        "import multiprocessing, numpy, os, bursar\n"
        "def work(model, results): results.put((float(model['w'].sum()), model['w'].flags.writeable))\n"
        "if __name__ == '__main__':\n"
        "    model = {'w': numpy.ones(1000)}\n"
        "    bursar.freeze(model)\n"
        "    os.closerange(3, 1000)\n"  # as a daemon does
        "    context = multiprocessing.get_context('spawn')\n"
        "    results = context.Queue()\n"
        "    worker = context.Process(target=work, args=(model, results))\n"
        "    worker.start()\n"
        "    print(*results.get(timeout=100), bursar.verify(model))\n"
        "    worker.join()\n"
    )
    done = execute(python, script)
    assert done.stdout == "1000.0 True 8000\n", done.stderr


def test_what_is_not_sealed_is_not_taken() -> None:
    from bursar import _bursar

    fd = os.memfd_create("open", os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, 4096)
        with pytest.raises(OSError, match="not sealed"):
            _bursar.Sealed(fd=fd)
    finally:
        os.close(fd)
    for wrong in ({}, {"bytes": 1, "fd": 0}):
        with pytest.raises(ValueError):
            _bursar.Sealed(**wrong)
    sealed = _bursar.Sealed(4096)
    assert memoryview(sealed).readonly
    with pytest.raises(TypeError):
        ctypes.c_char.from_buffer(sealed)
