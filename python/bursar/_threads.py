"""The end of a thread of ours, for whoever is about to fork (3.12 and on warn where the kernel counts several)."""

import os
import time


def until_gone(task: int, seconds: float = 1.0) -> None:
    """Wait until the kernel has let `task` (a native id) go: a thread is joined when Python is done with it, which is
    some microseconds earlier."""
    end = time.monotonic() + seconds
    while os.path.exists(f"/proc/self/task/{task}") and time.monotonic() < end:
        time.sleep(0.0001)
