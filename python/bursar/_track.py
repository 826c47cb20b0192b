"""track(): what a block of the program allocated, freed and kept, and the most that it held."""

from __future__ import annotations

import threading
from array import array
from types import TracebackType

from . import _books, _bursar

# Where counters() has them; the second is the whole run's peak, in whose place the block's own peak is kept.
_LIVE, _PEAK, _ALLOCATIONS, _FREES, _ALLOCATED = range(5)


def _read(into: array[int]) -> None:
    """Take a reading.  All that it allocates comes after the reading, and is freed when it returns."""
    (
        into[_LIVE],
        into[_PEAK],
        into[_ALLOCATIONS],
        into[_FREES],
        into[_ALLOCATED],
    ) = _bursar.counters()


class Track:
    """What a block did: figures that can be read while it runs, and after it; 0 before.

    All threads of the process count, not only the block's own, in requested bytes of Python's three domains.  The
    cost of keeping the figures is not in them: an empty block has zeros.
    """

    # The figures are the sums over stretches between readings.  A stretch begins with two readings, so that what a
    # reading itself costs is known and taken off, and everything is kept in arrays made before, which allocate
    # nothing when they are written.
    __slots__ = ("_first", "_base", "_last", "_sums", "_mark", "_open", "_entered", "_ticket", "_lock")

    def __init__(self) -> None:
        self._first = array("q", bytes(40))
        self._base = array("q", bytes(40))
        self._last = array("q", bytes(40))
        self._sums = array("q", bytes(40))
        self._mark = -1
        self._open = False
        self._entered = False
        self._ticket = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Track:
        if self._entered:
            raise RuntimeError("this track() was used before: call bursar.track() again for another block")
        self._ticket = _books.borrow(self._close)
        try:
            self._mark = _bursar.mark()
        except BaseException:
            _books.give_back(self._ticket)
            raise
        self._entered = self._open = True
        self._lock.acquire()
        self._begin()
        self._lock.release()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._entered:
            self._close()
            _books.give_back(self._ticket)

    def _begin(self) -> None:
        """Begin a stretch: what is done between two readings here is what _end() does around the block."""
        last = self._last
        _read(last)
        last[_PEAK] = _bursar.unmark(self._mark)
        _read(self._first)
        self._mark = _bursar.mark()
        last[_PEAK] = _bursar.unmark(self._mark)
        _read(self._base)
        self._mark = _bursar.mark()

    def _end(self) -> None:
        """End a stretch and add it to the sums."""
        sums = self._sums
        peak = _bursar.unmark(self._mark)
        _read(self._last)
        first, base, last = self._first, self._base, self._last
        sums[_PEAK] = max(sums[_PEAK], sums[_LIVE] + peak - base[_LIVE])
        sums[_LIVE] += last[_LIVE] - base[_LIVE]
        for count in (_ALLOCATIONS, _FREES, _ALLOCATED):
            sums[count] += last[count] - 2 * base[count] + first[count]

    def _close(self) -> None:
        """Take the final figures: at the block's end, or when the books close before it."""
        self._lock.acquire()
        try:
            if self._open:
                self._open = False
                self._end()
        finally:
            self._lock.release()

    def _figure(self, which: int) -> int:
        self._lock.acquire()
        try:
            if self._open:
                self._end()
                self._mark = _bursar.mark()
                self._begin()
            return self._sums[which]
        finally:
            self._lock.release()

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
    def frees(self) -> int:
        """How many blocks were freed."""
        return self._figure(_FREES)

    @property
    def allocated_bytes(self) -> int:
        """The sum of all allocations, freed since or not."""
        return self._figure(_ALLOCATED)

    def __repr__(self) -> str:
        return (
            f"<track: peak {self.peak_bytes}, live {self.live_bytes}, allocated {self.allocated_bytes} bytes, "
            f"{self.allocations} allocations, {self.frees} frees>"
        )


def track() -> Track:
    """Account for a block: ``with bursar.track() as t: ...``, then t.peak_bytes, t.live_bytes, t.allocations,
    t.frees, t.allocated_bytes.

    Blocks nest, and run in any thread.  Where the books are closed, the block has its own, in exact mode, in a
    ledger in the default place.  Source: differences of the exact account's totals.

    RuntimeError at entry: the ledger cannot be made, or too many blocks are open at once.
    """
    return Track()


Track().__exit__(None, None, None)  # before 3.11 a function's first call leaves a frame behind
