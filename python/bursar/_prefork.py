"""prefork() and shared(): pages that workers share with whoever forked them, and how many (docs/giving_back.md)."""

from __future__ import annotations

import gc
import os

from . import _bursar, _governor
from ._reclaim import Reclaimed, reclaim


class Shared:
    """Resident memory of a process by whose it is, in bytes; all of it from one pass over its mappings.

    private_bytes: pages that nobody else has: what this process costs.  shared_bytes: pages that others have too, those
    of libraries among them.  pss_bytes: private ones, and of the shared ones a part for each that has them.
    rss_bytes: private and shared.  pid: whose.
    """

    __slots__ = ("pid", "private_bytes", "pss_bytes", "shared_bytes")

    def __init__(self, pid: int, private: int, shared: int, pss: int) -> None:
        self.pid, self.private_bytes, self.shared_bytes, self.pss_bytes = pid, private, shared, pss

    @property
    def rss_bytes(self) -> int:
        return self.private_bytes + self.shared_bytes

    def __repr__(self) -> str:
        return f"<Shared pid={self.pid} private_bytes={self.private_bytes} shared_bytes={self.shared_bytes}>"


def shared(pid: int | None = None) -> Shared:
    """How much of a process's resident memory is its own: of a worker's, what it costs beside its parent.

    OSError: there is no such process, or it is another user's.  Source: /proc/PID/smaps_rollup (Linux 4.14).
    """
    sums = {"Private": 0, "Shared": 0, "Pss": 0}
    with open(f"/proc/{'self' if pid is None else int(pid)}/smaps_rollup") as file:
        for line in file:
            name, _, rest = line.partition(":")
            kind = name.partition("_")[0] if name.endswith(("_Clean", "_Dirty")) and name[:3] != "Pss" else name
            if kind in sums:
                sums[kind] += int(rest.split()[0]) * 1024
    return Shared(os.getpid() if pid is None else pid, sums["Private"], sums["Shared"], sums["Pss"])


def prefork() -> Reclaimed:
    """Call it once, when all is loaded, before the first worker is forked: workers then share what was loaded.

    A full collection, so that no garbage is kept; gc.freeze(), so that no collection in a worker writes to the headers
    of what was there before; and malloc's free pages go back, so that no worker fills pages that were half full.
    Where a governor is on, it leaves what is frozen alone from here on, in workers too.

    What a worker then writes to is its own: the reference count of each object that it uses (not the data of arrays:
    bursar.freeze() keeps those from being written to at all).  bursar.shared() has the figure.

    RuntimeError: a scope is open, so that nothing can be collected.
    """
    scopes = _bursar.open_scopes()
    if scopes:
        raise RuntimeError(
            f"prefork() while {scopes} {'scope is' if scopes == 1 else 'scopes are'} open:"
            " call it before the first request"
        )
    done = reclaim()
    if _governor._one is not None:
        _governor._one.hand_over()
    gc.freeze()
    return done
