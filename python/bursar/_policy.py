"""What of a policy is Python's, while a program runs: what is left open, the governor, and what binds now.

The extension reads policies and holds their limits (pyext/policy.c), and calls these where a change is asked for
(pyext/changing.c, `bursar policy set`).
"""

from __future__ import annotations

import json
from typing import Any

from . import _bursar

_ACTIONS = ("event", "warn", "error", "ignore")
_SETTINGS = ("limit", "pause", "idle", "freeze", "trim")

_limit: int | None = None  # the governor's, as it was before the first change


def _key(name: str) -> str:
    """A name as it stands in a key."""
    plain = name and name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if plain else json.dumps(name, ensure_ascii=False)


def left_open(name: str, action: str) -> int:
    """Set what scopes of a name do about what they leave open; returns what they did, by its number."""
    before = _bursar.open_default(name) or "ignore"
    _bursar.open_default(name, None if action == "ignore" else action)
    return _ACTIONS.index(before) + 1


def govern(which: int, number: int) -> int:
    """Change a setting of the governor's: bytes, nanoseconds, or 0 and 1.  Returns what it was.

    RuntimeError: it does not govern.  PermissionError: the limit would be above the first one.
    """
    global _limit
    from . import _governor

    one = _governor._one
    if one is None:
        raise RuntimeError("the governor is off: it begins with the program, by its policy or bursar.governor()")
    idle, pause, trims = one._settings
    settings: dict[str, Any] = {"limit": one.limit, "pause": pause / 1e9, "idle": idle / 1e9}
    settings |= {"freeze": one._freeze, "trim": trims}
    before = (one.limit, pause, idle, int(bool(one._freeze)), int(trims))[which]
    if which == 0:
        _limit = one.limit if _limit is None else _limit
        if not 0 < number <= _limit:
            raise PermissionError(f"governor.limit stays {one.limit}: it began as {_limit}, and can only be less")
    settings[_SETTINGS[which]] = (number, number / 1e9, number / 1e9, bool(number), bool(number))[which]
    _governor.governor(**settings)
    return before


def show() -> str:
    """What binds now, as a policy file; behind each rule where it is from."""
    lines: list[str] = []
    for name, kind, now, first in _bursar.limits():
        source = "at the start" if now == first else f"live; at the start {_size(first)}"
        key = f"scope.{_key(name)}.{kind}" if kind != "sum" else f"budget.{_key(name)}"
        key = key if kind else "run.budget"
        lines.append(f"{key} = {_size(now)}  # {source}" if now else f"# {key}: none; {source}")
    for name, action in _bursar.open_defaults().items():
        lines.append(f"scope.{_key(name)}.left_open = {json.dumps(action)}")
    threshold, warmup = _bursar.verdict_set(64, 500, False)
    _bursar.verdict_set(threshold, warmup, False)
    lines += [f"verdict.threshold = {threshold}", f"verdict.warmup = {warmup}", *_governed()]
    return "\n".join(lines) + "\n"


def _size(bytes_: int) -> str:
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if bytes_ >= 1 << shift and not bytes_ % (1 << shift):
            return f'"{bytes_ >> shift} {unit}"'
    return str(bytes_)


def _governed() -> list[str]:
    import sys

    module = sys.modules.get("bursar._governor")
    one = module._one if module else None
    if one is None:
        return []
    idle, pause, trims = one._settings
    found = {"limit": _size(one.limit), "pause": pause / 1e9, "idle": idle / 1e9, "trim": str(bool(trims)).lower()}
    if one._freeze is not None:
        found["freeze"] = str(one._freeze).lower()
    return [f"governor.{key} = {value}" for key, value in found.items()]
