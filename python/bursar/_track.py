"""track(): what a block of the program allocated, freed and kept, and the most that it held."""

from __future__ import annotations

import threading
from array import array
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _books, _bursar

# Where _bursar.read() puts them.
_LIVE, _RUN_PEAK, _ALLOCATIONS, _FREES, _ALLOCATED, _PEAK = range(6)


class _Held:
    """A special method that the block holds while it runs: `with` makes a bound method of each, and frees the one in
    the block and the other, before it is called, at its end."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, track: Track | None, owner: type[Track]) -> Any:
        if track is None:
            return getattr(owner, self._name)
        method = getattr(track, self._name)
        track._held.append(method)
        return method


class Track:
    """What a block did: figures that can be read while it runs, and after it; 0 before.

    All threads of the process count, not only the block's own, in requested bytes of Python's three domains.  The
    cost of keeping the figures is not in them: an empty block has zeros.
    """

    # The figures are the sums over stretches between readings, and a reading is written to an array made before: from
    # the reading that begins a stretch to the one that ends it nothing here allocates.
    __slots__ = ("_base", "_last", "_sums", "_mark", "_open", "_entered", "_ticket", "_lock", "_held")

    def __init__(self) -> None:
        self._base = array("q", bytes(48))
        self._last = array("q", bytes(48))
        self._sums = array("q", bytes(48))
        self._mark = -1
        self._open = False
        self._entered = False
        self._ticket = 0
        self._lock = threading.Lock()
        self._held: list[Any] = []

    def _enter(self) -> Track:
        if self._entered:
            raise RuntimeError("this track() was used before: call bursar.track() again for another block")
        self._ticket = _books.borrow(self._close)
        try:
            self._mark = _bursar.mark()
        except BaseException:
            _books.give_back(self._ticket)
            raise
        self._entered = self._open = True
        self._begin()
        return self

    def _leave(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        self._held.clear()
        if self._ticket:
            _books.give_back(self._ticket)
            self._ticket = 0

    if TYPE_CHECKING:

        def __enter__(self) -> Track: ...
        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None: ...
    else:
        __enter__ = _Held("_enter")
        __exit__ = _Held("_leave")

    def _begin(self) -> None:
        """Begin a stretch, with a mark that is open already; the mark is set anew, at the same live bytes."""
        _bursar.read(self._base, self._mark)
        self._mark = _bursar.mark()

    def _add(self) -> None:
        """Add a stretch, whose last reading was taken, to the sums."""
        sums, base, last = self._sums, self._base, self._last
        sums[_PEAK] = max(sums[_PEAK], sums[_LIVE] + last[_PEAK] - base[_LIVE])
        for which in (_LIVE, _ALLOCATIONS, _FREES, _ALLOCATED):
            sums[which] += last[which] - base[which]

    def _close(self) -> None:
        """Take the final figures: at the block's end, or when the books close before it."""
        self._lock.acquire()
        try:
            if self._open:
                self._open = False
                _bursar.read(self._last, self._mark)
                self._add()
        finally:
            self._lock.release()

    def _figure(self, which: int) -> int:
        self._lock.acquire()
        try:
            if self._open:
                _bursar.read(self._last, self._mark)
                self._mark = _bursar.mark()
                self._add()
            figure = self._sums[which]
        finally:
            self._lock.release()
            if self._open:
                self._begin()
        return figure

    @property
    def peak_bytes(self) -> int:
        """The most that was live at one instant of the block, above what was live at its start; exact."""
        return self._figure(_PEAK)

    @property
    def live_bytes(self) -> int:
        """What is live now, or was at the block's end, less what was at its start; negative where more was freed."""
        return self._figure(_LIVE)

    @property
    def allocations(self) -> int:
        """How many blocks were allocated; a realloc counts as a free and an allocation."""
        return self._figure(_ALLOCATIONS)

    @property
    def frees(self) -> int | None:
        """How many blocks were freed; None in mode sample, which does not count them."""
        figure = self._figure(_FREES)
        return None if self._last[_FREES] < 0 else figure

    @property
    def allocated_bytes(self) -> int:
        """The sum of all allocations, freed since or not."""
        return self._figure(_ALLOCATED)

    def __repr__(self) -> str:
        return (
            f"<track: peak {self.peak_bytes}, live {self.live_bytes}, allocated {self.allocated_bytes} bytes, "
            f"{self.allocations} allocations, {'unknown' if self.frees is None else self.frees} frees>"
        )


def track() -> Track:
    """Account for a block: ``with bursar.track() as t: ...``, then t.peak_bytes, t.live_bytes, t.allocations,
    t.frees, t.allocated_bytes.

    Blocks nest, and run in any thread.  Where the books are closed, the block has its own, in exact mode, in a
    ledger in the default place.  Source: differences of the exact account's totals.

    RuntimeError at entry: the ledger cannot be made, or too many blocks are open at once.
    """
    return Track()


# Before 3.11 a function's first call leaves a frame behind, which would be in a block's figures.
Track().__exit__(None, None, None)
Track().peak_bytes  # noqa: B018
