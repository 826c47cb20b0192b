"""memory_usage(): resident memory over time, with the meaning that memory_profiler gave it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from . import _rss

_MIB = 1048576.0
_METRICS = {None: "rss", "psutil": "rss", "posix": "rss", "psutil_pss": "pss", "psutil_uss": "uss"}
_ENOUGH = 4  # a function with fewer measurements is run again, with a tenth of the interval

Process = subprocess.Popen[Any]
Call = Callable[..., Any] | Sequence[Any]


class _Sampler:
    """Measures this process from another one, from its making until finish() or abandon()."""

    def __init__(self, interval: float, metric: str, children: bool, greatest: bool) -> None:
        if not sys.executable:
            raise RuntimeError("memory_usage() of a function needs sys.executable, a Python to measure from")
        flags = [str(int(children)), str(int(greatest))]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", _rss.__file__, str(os.getpid()), repr(interval), metric, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        if self._process.stdout.read(1) != b"+":
            self.abandon()
            raise RuntimeError(f"memory_usage() cannot measure: {sys.executable} does not run {_rss.__file__}")

    def finish(self) -> tuple[int, array[float]]:
        """The number of measurements, and (bytes, time) one after the other."""
        out, _ = self._process.communicate()
        count = array("q", out[:8])
        samples = array("d", out[8:])
        if self._process.returncode != 0 or not samples:
            raise RuntimeError("memory_usage() lost the process that it measures from")
        return count[0], samples

    def abandon(self) -> None:
        self._process.kill()
        self._process.communicate()


def memory_usage(
    proc: int | str | Call | Process = -1,
    interval: float = 0.1,
    timeout: float | None = None,
    timestamps: bool = False,
    include_children: bool = False,
    multiprocess: bool = False,
    max_usage: bool = False,
    retval: bool = False,
    stream: TextIO | None = None,
    backend: str | None = None,
    max_iterations: int | None = None,
) -> Any:
    """Measure the resident memory of a process, or of this one while a function runs, in MiB.

    proc: a process id (-1: this process), a subprocess.Popen (until it ends), or a function, alone or in a tuple
        (f, args, kw): it is run, and run again with a tenth of the interval until there are more than 4 measurements.
    interval: seconds between measurements.
    timeout: seconds; a process id is measured once without it, a function is run at most timeout / interval times.
    timestamps: each measurement is a pair of MiB and seconds since 1970.
    include_children: add what the descendants of the process hold.
    multiprocess: each measurement is a list: the process, then each descendant.
    max_usage: only the greatest measurement.
    retval: for a function: a pair of the above and what the function returned.
    stream: write the measurements there (lines 'MEM MiB time', 'CHLD pid MiB time') and return None.
    backend: 'psutil', 'posix' (resident), 'psutil_pss', 'psutil_uss'; the names are memory_profiler's, the source of
        all is /proc.
    max_iterations: how often a function is run at most.

    Returns a list of measurements, or one.  ProcessLookupError: there is no such process.  ValueError: no such
    backend, or proc is none of these.  What the function raises passes through.
    """
    if backend not in _METRICS:
        known = ", ".join(repr(name) for name in _METRICS if name)
        raise ValueError(f"memory_usage() has no backend {backend!r}: use one of {known}")
    if interval <= 0 and timeout is not None:
        raise ValueError("memory_usage() needs an interval above 0 where there is a timeout")
    metric = _METRICS[backend]
    rounds = None if timeout is None else max(1, round(timeout / interval))
    if isinstance(proc, int) or (isinstance(proc, str) and proc.strip().isdigit()):
        pid = int(proc)
        found: Any = _watch(
            os.getpid() if pid == -1 else pid,
            _ticks(interval, rounds or 1),
            _Form(metric, timestamps, include_children, multiprocess, max_usage, stream),
        )
    elif isinstance(proc, subprocess.Popen):
        found = _watch(
            proc.pid,
            _while_running(proc, interval, rounds),
            _Form(metric, timestamps, include_children, multiprocess, max_usage, stream),
        )
    else:
        form = _Form(metric, timestamps, include_children, multiprocess, max_usage, stream)
        found, returned = _of_call(*_parts(proc), interval, rounds if rounds is not None else max_iterations, form)
        if retval and stream is None:
            return found, returned
    return found


class _Form:
    """How measurements are taken and given back."""

    def __init__(
        self, metric: str, stamps: bool, children: bool, apart: bool, greatest: bool, stream: TextIO | None
    ) -> None:
        self.metric = metric
        self.stamps = stamps or stream is not None
        self.children = children
        self.apart = apart
        self.greatest = greatest
        self.stream = stream

    def one(self, size: float, when: float) -> float | tuple[float, float]:
        return (size / _MIB, when) if self.stamps else size / _MIB


def _ticks(interval: float, rounds: int) -> Iterator[None]:
    yield
    for _ in range(rounds - 1):
        time.sleep(interval)
        yield


def _while_running(process: Process, interval: float, rounds: int | None) -> Iterator[None]:
    while True:
        yield
        try:
            process.wait(interval)
            return
        except subprocess.TimeoutExpired:
            pass
        if rounds is not None:
            rounds -= 1
            if rounds == 0:
                return


def _watch(pid: int, ticks: Iterator[None], form: _Form) -> Any:
    """Measure a process at each tick."""
    found: list[Any] = []
    greatest = -1.0
    streamed = False
    for _ in ticks:
        try:
            size = _rss.measure(pid, form.metric, form.children)
        except ProcessLookupError:
            if found or greatest >= 0 or streamed:
                break
            raise
        now = time.time()
        if form.greatest:
            greatest = max(greatest, size / _MIB)
            continue
        children = _rss.of_children(pid, form.metric) if form.apart else []
        if form.stream is not None:
            streamed = True
            form.stream.write(f"MEM {size / _MIB:.6f} {now:.4f}\n")
            for child, held in children:
                form.stream.write(f"CHLD {child} {held / _MIB:.6f} {now:.4f}\n")
        elif form.apart:
            found.append([form.one(size, now), *(held / _MIB for _, held in children)])
        else:
            found.append(form.one(size, now))
    if form.stream is not None:
        form.stream.flush()
        return None
    return greatest if form.greatest else found


def _parts(call: Call) -> tuple[Callable[..., Any], Sequence[Any], dict[str, Any]]:
    """A function with its arguments, from the forms that memory_usage() takes."""
    if callable(call):
        return call, (), {}
    if not isinstance(call, (tuple, list)) or not 1 <= len(call) <= 3 or not callable(call[0]):
        raise ValueError("memory_usage() takes a process id, a subprocess.Popen, a function or (function, args, kw)")
    return call[0], call[1] if len(call) > 1 else (), call[2] if len(call) > 2 else {}


def _of_call(
    function: Callable[..., Any],
    args: Sequence[Any],
    kw: dict[str, Any],
    interval: float,
    runs: int | None,
    form: _Form,
) -> tuple[Any, Any]:
    """Measure this process while a function runs, as often as it takes."""
    run = 0
    while True:
        run += 1
        sampler = _Sampler(interval, form.metric, form.children, form.greatest)
        try:
            returned = function(*args, **kw)
        except BaseException:
            sampler.abandon()
            raise
        count, samples = sampler.finish()
        if count > _ENOUGH or run == runs or interval < 1e-6:
            break
        interval /= 10
    pairs = list(zip(samples[::2], samples[1::2], strict=True))
    if form.stream is not None:
        for size, when in pairs:
            form.stream.write(f"MEM {size / _MIB:.6f} {when:.4f}\n")
        form.stream.flush()
        return None, returned
    found = [form.one(size, when) for size, when in pairs]
    return (found[0] if form.greatest else found), returned
