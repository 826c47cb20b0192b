"""Why this process is as large as it is: its resident memory, explained line by line."""

from __future__ import annotations

from . import _bursar


class Line:
    """One line of a balance.

    name, detail: text.  bytes: resident bytes; None: not known.  live_bytes: of a domain, live bytes as booked,
    resident or not; None elsewhere.
    """

    __slots__ = ("bytes", "detail", "live_bytes", "name")

    def __init__(self, name: str, resident: int | None, detail: str, live_bytes: int | None) -> None:
        self.name = name
        self.bytes = resident
        self.detail = detail
        self.live_bytes = live_bytes

    def __repr__(self) -> str:
        return f"<Line {self.name!r} bytes={self.bytes}>"


class Balance:
    """Resident memory, explained; all figures in bytes, None where one is not known.

    rss_bytes: what is resident, the sum over one pass of /proc/self/smaps.
    lines: who holds it; those that are known and unexplained_bytes add up to rss_bytes exactly.
    unexplained_bytes: what nothing explains.
    returnable_bytes: what malloc_trim(0) would give back to the system now.
    live_not_resident_bytes: live bytes that no page stands behind, as in an array of zeros that nobody wrote to.
    pss_bytes, swap_bytes, page_tables_bytes: as the kernel counts them; pages shared with others count in PSS in
        proportion.
    cgroup_limit_bytes, cgroup_usage_bytes: of the nearest control group that has a limit.
    threads: their number.  pid: the process.  notes: what limits these figures, a sentence each.

    str() of it is the table that `bursar balance` prints.
    """

    def __init__(self, facts: _bursar._Balance) -> None:
        self.pid = facts["pid"]
        self.rss_bytes = facts["rss_bytes"]
        self.lines = [Line(*line) for line in facts["lines"]]
        self.unexplained_bytes = facts["unexplained_bytes"]
        self.returnable_bytes = facts["returnable_bytes"]
        self.live_not_resident_bytes = facts["live_not_resident_bytes"]
        self.pss_bytes = facts["pss_bytes"]
        self.swap_bytes = facts["swap_bytes"]
        self.page_tables_bytes = facts["page_tables_bytes"]
        self.cgroup_limit_bytes = facts["cgroup_limit_bytes"]
        self.cgroup_usage_bytes = facts["cgroup_usage_bytes"]
        self.threads = facts["threads"]
        self.notes = facts["notes"]
        self._text = facts["text"]

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<Balance pid={self.pid} rss_bytes={self.rss_bytes} unexplained_bytes={self.unexplained_bytes}>"


def balance() -> Balance:
    """Explain this process's resident memory, as it is now.

    Takes milliseconds; other threads of Python wait meanwhile, nothing else does.  Works without books too; then what
    is live, and whose, is not known.  Source: /proc/self/smaps and pagemap, the table of live blocks, and what malloc
    and pymalloc write into their own memory.

    OSError: /proc cannot be read.
    """
    return Balance(_bursar.balance())
