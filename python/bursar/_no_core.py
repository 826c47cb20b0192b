"""Undumpable: no core file, no debugger."""

from __future__ import annotations

from . import _bursar


def no_core() -> None:
    """Let nobody but root read this process's memory: no core file, no ptrace, no /proc/PID/mem, from here on.

    It cannot be taken back: the limit on core files (RLIMIT_CORE) becomes 0 for this process and all that come from it,
    so that no program it executes leaves one either where core files are plain files.  The rest holds for this process
    and forked children, and ends with exec.  `bursar balance PID` needs root
    then.  `bursar run --no-core` asks for the same before the program's first line.

    OSError: the system refuses.  Source: prctl(PR_SET_DUMPABLE), setrlimit.
    """
    _bursar.no_core()
