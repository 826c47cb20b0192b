"""`bursar imports`: what each import of a program cost, and whether the module was used after it.

The start-up file begins it in the program's own process, before the program. importlib's _find_and_load, which every
import that is not answered by sys.modules goes through, gives way to a function in C (pyext/uses.c) that calls _begin
and _end around it: no finder stands on sys.meta_path, no loader is wrapped, and no traceback has a frame more. What
this module allocates meanwhile is taken out of the figures. Imports nothing but what every Python has loaded by now.
"""

import os
import sys
from time import perf_counter_ns

from . import _bursar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SCHEMA = 1
_START, _NESTED, _TIME, _NESTED_TIME = range(4)
_UNSEEN = ("ExtensionFileLoader", "BuiltinImporter")  # their code, and who calls it, is not met
_TOOLS = (3, 4, 1, 0, 5, 2)  # ids of sys.monitoring, those without a name first


class _State:
    pid = 0
    form = "text"
    out = ""
    ledger = ""
    stdout: "tuple[int, int] | None" = None
    known = False  # are there books?
    calls = False  # are calls heard of?
    overhead = 0  # live bytes of what is kept here
    now = memoryview(bytearray(48)).cast("q")
    then = memoryview(bytearray(48)).cast("q")
    stacks: "dict[int, list[Any]]" = {}  # by thread: imports under way
    rows: "list[tuple[str, int, int, int, int, int | None]]" = []
    ident: "Callable[[], int]"
    importlib: "Any"
    original: "Any"


def begin(form: str, out: str, ledger: str, there: "set[str]") -> None:
    """Follows imports from here on, and tells of them at the program's end. there: modules that were loaded before."""
    # All of these are built in. What the program has not imported is not to be found in sys.modules by it.
    import _frozen_importlib
    import _thread
    import atexit

    for name in ("_frozen_importlib", "_thread", "atexit"):
        if name not in there:
            sys.modules.pop(name, None)
    state = _State
    state.pid = os.getpid()
    state.form, state.out, state.ledger = form, out, ledger
    state.stdout = _identity(1)
    state.ident = _thread.get_ident
    state.importlib = _frozen_importlib
    state.original = _frozen_importlib._find_and_load  # type: ignore[attr-defined]
    state.known = _bursar.live_bytes() >= 0
    monitoring: Any = getattr(sys, "monitoring", None)
    state.calls = _bursar.imports_follow(
        _begin, _end, state.original, vars(_frozen_importlib), monitoring.DISABLE if monitoring else None
    ) or bool(monitoring and _monitor(monitoring))  # fmt: skip
    atexit.register(_bursar.imports_untraced, _tell)
    _frozen_importlib._find_and_load = _bursar.imports_load  # type: ignore[attr-defined]


def _monitor(monitoring: "Any") -> bool:
    for tool in _TOOLS:
        if monitoring.get_tool(tool) is None:
            monitoring.use_tool_id(tool, "bursar imports")
            monitoring.register_callback(tool, monitoring.events.PY_START, _bursar.imports_started)
            monitoring.set_events(tool, monitoring.events.PY_START)
            return True
    return False


def _identity(fd: int) -> "tuple[int, int] | None":
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_the_interpreters() -> bool:
    """Does the interpreter import for itself: before the program, for -m, to print an exception?"""
    try:
        frame = sys._getframe(2)
    except ValueError:
        return True
    while frame.f_back is not None:
        frame = frame.f_back
    return frame.f_globals is vars(_State.importlib)


def _begin(name: str) -> "Any":
    """An import begins: what it is called back with, or None."""
    state = _State
    _bursar.read(state.now, -1)
    stack = state.stacks.get(state.ident())
    if not stack:
        if _is_the_interpreters():
            return None
        if stack is None:
            stack = state.stacks[state.ident()] = []
    cells = memoryview(bytearray(32)).cast("q")
    stack.append(cells)
    _bursar.read(state.then, -1)
    state.overhead += state.then[0] - state.now[0]
    cells[_START] = state.then[0] - state.overhead
    cells[_TIME] = perf_counter_ns()
    return cells


def _end(cells: "Any", name: str, done: bool) -> None:
    time = perf_counter_ns()
    state = _State
    _bursar.read(state.now, -1)
    total = state.now[0] - state.overhead - cells[_START]
    seconds = time - cells[_TIME]
    stack = state.stacks[state.ident()]
    while stack and stack.pop() is not cells:  # a greenlet's, that was left
        pass
    outer = stack[-1] if stack else None
    if done:
        row = (name, total - cells[_NESTED], total, seconds, seconds - cells[_NESTED_TIME], _watch(name))
        state.rows.append(row)
    if outer is not None:  # what a failed import leaves is its importer's, but for the modules that it imported
        outer[_NESTED] += total if done else cells[_NESTED]
        outer[_NESTED_TIME] += seconds if done else cells[_NESTED_TIME]
    _bursar.read(state.then, -1)
    state.overhead += state.then[0] - state.now[0]


def _watch(name: str) -> "int | None":
    """The number to ask by whether it was used; None: that cannot be known of it."""
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    loader = getattr(spec, "loader", None)
    number = _bursar.imports_watch(module)
    kind = loader if isinstance(loader, type) else type(loader)
    # Below 0: what is not seen may be used all the same.
    return -1 - number if number is not None and kind.__name__ in _UNSEEN else number


# --- at the program's end ---------------------------------------------------------------------------------------------


def _used(number: "int | None") -> "bool | None":
    if number is None:
        return None
    used = _bursar.imports_used(number if number >= 0 else -1 - number)
    return used if used or (number >= 0 and _State.calls) else None


def _facts() -> "list[dict[str, Any]]":
    facts: list[dict[str, Any]] = []
    use: dict[str, bool | None] = {}
    for name, own, total, ns, own_ns, number in _State.rows:
        use[name] = _used(number)
        facts.append({
            "module": name, "own_bytes": own if _State.known else None, "total_bytes": total if _State.known else None,
            "seconds": ns / 1e9, "own_seconds": own_ns / 1e9, "used": None,
        })  # fmt: skip
    for name in sorted(use, key=len, reverse=True):  # who needs a module needs the package that it is in
        package = name.rpartition(".")[0]
        if package in use and not use[package] and use[name] is not False:
            use[package] = use[name]
    for one in facts:
        one["used"] = use[one["module"]]
    facts.sort(key=lambda one: (-(one["own_bytes"] or 0), one["module"]))
    return facts


def _size(size: "int | None") -> str:
    if size is None:
        return "?"
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if abs(size) >= 1 << shift:
            return f"{size / (1 << shift):.1f} {unit}"
    return f"{size} B"


def _shown(text: str) -> str:
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _as_text(facts: "list[dict[str, Any]]") -> str:
    lines = [f"{'own':>10}  {'total':>10}  {'seconds':>8}  used  module"]
    for one in facts:
        word = {True: "yes", False: "no", None: "?"}[one["used"]]
        own, total = _size(one["own_bytes"]), _size(one["total_bytes"])
        lines.append(f"{own:>10}  {total:>10}  {one['seconds']:8.3f}  {word:<4}  {_shown(one['module'])}")
    unused = [one for one in facts if one["used"] is False]
    own = _size(sum(one["own_bytes"] or 0 for one in facts) if _State.known else None)
    lost = _size(sum(one["own_bytes"] or 0 for one in unused) if _State.known else None)
    lines.append(f"{len(facts)} modules, {own}; never used after their import: {len(unused)}, {lost}")
    return "\n".join(lines) + "\n"


def _tell() -> None:
    state = _State
    if os.getpid() != state.pid:  # a forked child
        return
    state.importlib._find_and_load = state.original
    # A program may close its books, and a full disk breaks them off.
    state.known = state.known and _bursar.live_bytes() >= 0 and _bursar.status()["broken"] is None
    facts = _facts()
    _bursar.stop()
    if os.path.exists(state.ledger):
        os.unlink(state.ledger)
    if state.form == "json":
        import json

        text = json.dumps({"schema": SCHEMA, "imports": facts}) + "\n"
    else:
        text = _as_text(facts)
    try:
        _write(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        _complain(f"what was imported cannot be written: {error}")


def _write(data: bytes) -> None:
    state = _State
    if state.out:
        made = f"{state.out}.{state.pid}"
        with open(made, "xb") as file:
            file.write(data)
        os.replace(made, state.out)
        return
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()
    if state.stdout is None or _identity(1) != state.stdout:
        raise OSError("the program closed standard output: name a file by -o")
    while data:
        data = data[os.write(1, data) :]


def _complain(line: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write("bursar: " + " ".join(line.split()) + "\n")
