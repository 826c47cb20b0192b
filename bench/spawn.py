"""Start a command from a small process and print what it cost: CPU seconds, those of them that were not the system's,
wall seconds, peak bytes, exit status.

A child's peak memory begins with that of the process it was started from, so that a large parent would hide the peak of
a small child. This one imports nothing that it can do without; measure.py runs it with -I -S.
"""
import os
import signal
import sys
import time
from types import FrameType


def main() -> int:
    timeout_s, log, command = float(sys.argv[1]), sys.argv[2], sys.argv[3:]
    late = False
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.execvp(command[0], command)
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        finally:
            os._exit(127)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal late
        late = _signal == signal.SIGALRM
        os.killpg(child, signal.SIGKILL)

    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    _, status, usage = os.wait4(child, 0)
    wall_s = time.monotonic() - started
    exit_status = "timeout" if late else str(os.waitstatus_to_exitcode(status))
    print(usage.ru_utime + usage.ru_stime, usage.ru_utime, wall_s, usage.ru_maxrss * 1024, exit_status)
    return 0


raise SystemExit(main())
