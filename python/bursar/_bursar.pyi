"""The extension: the hooks, the exact account and the ledger's writer, in C (pyext/)."""

import os
from array import array
from types import TracebackType
from typing import Literal, TypedDict

from typing_extensions import Self

CAP_MIN: int  # bytes
CAP_MAX: int
DOMAINS: tuple[str, ...]
WITHIN_MAX: int  # allocations

_Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

class _Status(TypedDict):
    mode: str  # 'off', 'sample', 'count' or 'exact'
    path: str | None  # the ledger that is being written
    pid: int  # the process that writes it
    broken: str | None  # why the books stopped, where they did

class _Balance(TypedDict):
    pid: int
    rss_bytes: int
    lines: list[tuple[str, int | None, str, int | None]]  # name, resident bytes, detail, live bytes
    unexplained_bytes: int
    returnable_bytes: int | None
    live_not_resident_bytes: int | None
    pss_bytes: int
    swap_bytes: int
    page_tables_bytes: int | None
    cgroup_limit_bytes: int | None
    cgroup_usage_bytes: int | None
    threads: int | None
    notes: list[str]
    text: str

def start(
    path: _Path,
    *,
    cap: int = 0,
    within: int = 1,
    follow: bool = False,
    domains: str = "python",
    mode: str = "exact",
    interval: int = 0,  # this and the seed, 0 for the usual ones, are for tests
    seed: int = 0,
    native: bool = False,
) -> None: ...
def stop() -> None: ...
def status() -> _Status: ...
def create(path: _Path | None, force: bool, /) -> str: ...
def live_bytes() -> int: ...
def counters() -> tuple[int, int, int, int, int]: ...
def read(into: array[int], mark: int, /) -> None: ...  # counters(), then the mark's peak; allocates nothing
def mark() -> int: ...
def unmark(id: int, /) -> int: ...
def boot(settings: str, /) -> None: ...
def switch_on(mode: str, /) -> None: ...
def finish() -> None: ...
def ledger_summary(path: _Path, fd: int, /) -> None: ...
def balance() -> _Balance: ...

class Scope:
    def __new__(cls, name: str, *, events: bool = False) -> Self: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> Literal[False]: ...
    def _suspend(self) -> None: ...  # what follows is outside, until
    def _resume(self) -> None: ...
    def note(self, text: str, /) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def events(self) -> bool: ...
    @property
    def live(self) -> int | None: ...  # bytes; None where the books are closed
    @property
    def peak(self) -> int | None: ...
    @property
    def allocated(self) -> int | None: ...
    @property
    def allocations(self) -> int | None: ...  # blocks
    @property
    def retained(self) -> int | None: ...  # bytes; None until it has ended
    @property
    def seconds(self) -> float | None: ...
