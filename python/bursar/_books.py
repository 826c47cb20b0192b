"""Who opened the books of this process, and who may close them.

The books are opened by `bursar run` before the program begins (then nobody here owns them), by start(), or by track()
and profile, which lend themselves books where there are none.  One lock guards the owner; it is taken for opening and
closing alone, and made anew in a forked child, whose books are its own matter.
"""

from __future__ import annotations

import atexit
import os
import threading
import warnings
from collections.abc import Callable
from typing import Any

from . import _bursar
from ._rss import resident

_MODES = ("sample", "count", "exact")

# Owners of open books.
_NOBODY = 0  # there are none, or `bursar run` keeps them
_STARTED = 1  # start()
_LENT = 2  # track() or profile


class _State:
    """The one set of books; see the module's docstring."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.owner = _NOBODY
        self.borrowers = 0  # blocks and calls under way that need the books open
        self.kept = False  # lent books stay open when the last borrower leaves
        self.closing: dict[int, Callable[[], None]] = {}  # called before the books close
        self.at_exit = False
        self.limits = False  # start() has given the process a budget, which stop() takes back
        self.warned = False  # that measurements are estimates

    def forked(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self.lock = threading.RLock()
        if not is_open():
            self.owner = _NOBODY
            self.kept = False


def is_open() -> bool:
    """Whether the books of this process are open."""
    return _bursar.live_bytes() >= 0


def _open(
    owner: int,
    path: str | bytes | None = None,
    force: bool = False,
    cap: int = 0,
    within: int = 1,
    follow: bool = False,
    domains: str = "python",
    mode: str = "exact",
    native: bool = False,
) -> None:
    made = _bursar.create(path, force)
    try:
        _bursar.start(made, cap=cap, within=within, follow=follow, domains=domains, mode=mode, native=native)
    except BaseException:
        os.unlink(made)  # nobody will write it
        raise
    _state.owner = owner
    if not _state.at_exit:
        _state.at_exit = True
        atexit.register(_close_own)


def _close() -> None:
    for before in list(_state.closing.values()):
        before()
    _state.owner = _NOBODY
    _state.kept = False
    if _state.limits:
        _bursar.limit_set(None, "", 0, False)
    _state.limits = False
    _bursar.stop()


def _close_own() -> None:
    with _state.lock:
        if _state.owner != _NOBODY and is_open():
            _close()


def _check(mode: str | None, cap: int, within: int, domains: str) -> None:
    if mode is not None and mode not in _MODES:
        raise ValueError(f"unknown mode {mode!r}: use one of {', '.join(_MODES)}")
    least, most = _bursar.CAP_MIN, _bursar.CAP_MAX
    if cap != 0 and not least <= cap <= most:
        sizes = f"from {least} ({least >> 20} MiB) to {most} ({most >> 30} GiB)"
        raise ValueError(f"cap={cap} is no size for a ledger: {sizes}")
    for word in domains.split(","):
        if word not in _bursar.DOMAINS:
            raise ValueError(f"no domain {word!r}: there are {', '.join(_bursar.DOMAINS)}")
    if not 1 <= within <= _bursar.WITHIN_MAX:
        raise ValueError(f"temporary_within={within} is no number of allocations from 1 to {_bursar.WITHIN_MAX}")


def start(
    mode: str | None = None,
    *,
    output: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None = None,
    force: bool = False,
    cap: int = 0,
    temporary_within: int | None = None,
    follow_fork: bool = False,
    domains: str | None = None,
    native: bool = False,
    wipe: bool = False,
    budget: int | str | None = None,
    policy: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None = None,
) -> None:
    """Open the books: from here on every block of the domains is accounted for.

    mode: 'sample' (None is this): what is allocated counted exactly, what is live and who holds it estimated from about
        one in 512 KiB, each figure with its standard error; cheap enough to be always on.  'count': live and peak
        bytes by domain, in usable bytes, without stacks.  'exact': every block, its stack by line, in requested bytes.
    output: the ledger file; None: one in the default place ($BURSAR_DIR, else $XDG_RUNTIME_DIR/bursar, else the
        temp directory), where `bursar ls` finds it.
    force: replace an existing ledger at output (never a file that is no ledger).
    cap: the greatest size of the ledger in bytes, from 4 MiB to 4 GiB; 0: 64 MiB.
    temporary_within: a block freed before its thread's next that many allocations, 1 to 1024, counts as temporary;
        None: 1.
    follow_fork: forked children keep books of their own, in OUTPUT.PID.
    domains: whose blocks, separated by commas; None: python, or with a budget all.  They are python (its three
        allocator domains), numpy (the data of arrays), malloc (with calloc, realloc and their kin), mmap; native is the
        last two, all is all.  Native ones are heard where modules call them by name, in those that are loaded and those
        that will be; what a program copied into a variable of its own before is not seen.
    native: stacks have the C and C++ frames between Python's, on x86-64 with glibc 2.35 or later; elsewhere one line on
        stderr says that they have not.  Names come when a report is made.
    wipe: from here on every block of memory is zeroed before it is freed, and where it moves: those of Python's
        allocators, of malloc and of NumPy, whoever allocated them, until the process ends.
    budget: what the process may hold until stop(): bytes, a size as "2 GiB", or a share as "80%" of what its control
        group may have (docs/budgets.md).
    policy: a file with budgets, the governor, and what else docs/policy.md has.  Its table [run] says what the
        arguments do not; its switches and theirs add up.  Where a policy binds already, this one may only make limits
        tighter: a RuntimeWarning says so.

    Under `bursar run`, or where BURSAR in the environment has opened the books, this changes nothing; where another
    mode is asked for, it says so in one warning.  Blocks
    allocated before are not known to the books.  Source: the allocator hooks of PEP 445, the handlers of NEP 49.

    ValueError: there is no such mode or domain, a number is out of its range, or the policy has mistakes (the first is
    named, `bursar policy check` names all).  OSError: it cannot be read.  RuntimeError: the books are open
    already elsewhere, or the ledger cannot be made (there is one and force is not given, or output is something else).
    """
    rules: dict[str, Any] = {} if policy is None else _bursar.policy_load(os.fspath(policy))
    mode = rules.get("mode") if mode is None else mode
    within = rules.get("temporary_within", 1) if temporary_within is None else temporary_within
    of = rules.get("domains", "python" if budget is None else "all") if domains is None else domains
    _check(mode, cap, within, of)
    limit = 0 if budget is None else _bursar.limit_read(budget, "budget")
    if limit and limit <= (held := resident(os.getpid(), "rss")):
        raise ValueError(f"budget={budget!r} is less than the {held} bytes that the process holds already")
    if rules.get("no_core"):
        _bursar.no_core()
    if wipe or rules.get("wipe"):
        _bursar.wipe()
    follow, natively = follow_fork or rules.get("follow_fork", False), native or rules.get("native", False)
    _start(mode, None if output is None else os.fspath(output), (force, cap, within, follow, of), natively, limit)
    if policy is not None:
        _apply()


def _apply() -> None:
    """What was read of a policy, but for its table [run]."""
    _bursar.policy_apply()
    settings = _bursar.policy_governor()
    if settings is not None:
        from ._governor import governor

        governor(**settings)


def _start(
    mode: str | None, path: str | bytes | None, how: tuple[bool, int, int, bool, str], native: bool, limit: int
) -> None:
    force, cap, within, follow, domains = how
    with _state.lock:
        if is_open() and _state.owner == _NOBODY:
            kept = _bursar.status()["mode"]
            if mode not in (None, kept):
                said = f"the books are kept in mode {kept} already: start(mode={mode!r}) changes nothing"
                warnings.warn(said, stacklevel=3)
            return
        if is_open():
            same = mode in (None, _bursar.status()["mode"])
            asked = (cap, within, follow, domains, native)
            if same and path is None and not limit and asked == (0, 1, False, "python", False):
                _state.owner = _STARTED
                return
            if _state.owner == _STARTED or _state.borrowers:
                where = _bursar.status()["path"]
                raise RuntimeError(f"the books are open already, in {where}: call bursar.stop() first")
            _close()
        _open(_STARTED, path, force, cap, within, follow, domains, mode or "sample", native)
        if limit:
            _bursar.limit_set(None, "", limit, False)
            _state.limits = True


def stop() -> None:
    """Close the books; what was booked stays in the ledger.  Does nothing where they are closed.

    Also closes those of `bursar run`.  The figures of a track() block that is still open stay as they are then.
    """
    with _state.lock:
        if is_open():
            _close()


def _measure() -> None:
    """Open exact books to measure by where there are none.  RuntimeError: those that are open cannot do it."""
    if not is_open():
        _open(_LENT)
        return
    mode = _bursar.status()["mode"]
    if mode == "count":
        raise RuntimeError("the books are kept in mode count, which knows no parts of a run: use bursar.start('exact')")
    if mode == "sample" and not _state.warned:
        _state.warned = True
        warnings.warn("live and peak bytes are estimates in mode sample: use bursar.start('exact')", stacklevel=4)


def keep_open() -> None:
    """Lend open books that stay open until stop() or the program's end.  RuntimeError: they cannot be opened."""
    with _state.lock:
        _measure()
        _state.kept = True


def borrow(closing: Callable[[], None] | None = None) -> int:
    """Lend open books until give_back() of the number returned.

    closing is called should they be closed before.  RuntimeError: they cannot be opened.
    """
    with _state.lock:
        _measure()
        _state.borrowers += 1
        ticket = id(closing) if closing is not None else 0
        if closing is not None:
            _state.closing[ticket] = closing
        return ticket


def borrow_any(domains: str) -> None:
    """Lend books of any mode, those that are open or exact ones of the domains, until give_back(0).

    RuntimeError: they cannot be opened.
    """
    with _state.lock:
        if not is_open():
            _open(_LENT, domains=domains)
        _state.borrowers += 1


def give_back(ticket: int) -> None:
    """The end of borrow(): closes lent books with their last borrower, unless they are kept."""
    with _state.lock:
        _state.closing.pop(ticket, None)
        _state.borrowers -= 1
        if _state.borrowers == 0 and _state.owner == _LENT and not _state.kept and is_open():
            _close()


_state = _State()
os.register_at_fork(after_in_child=_state.forked)
