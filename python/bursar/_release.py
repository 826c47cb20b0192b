"""release(): who else holds an object, and how many bytes come back once nobody does."""

from __future__ import annotations

import gc
import sys
from types import ModuleType
from typing import Any

from ._holders import Back, Examined, examine, measure, path_back, type_name


class Released:
    """An object that is to go: see release()."""

    def __init__(self, kept: list[Any]) -> None:
        self._kept = kept  # the one place here that has it
        self._type = type_name(kept[0])
        self._back = Back(None, "")

    @property
    def holders(self) -> list[str]:
        """Who holds it now, but for this: empty once nobody does."""
        return [line for held in self._examine().held for line in held.by] if self._kept else []

    @property
    def cycle(self) -> str | None:
        """A path from the object to itself; None where there is none."""
        return path_back(self._kept) if self._kept else None

    @property
    def gone(self) -> bool:
        """Has it gone? Lets go of it, if nobody else holds it any more."""
        if self._kept:
            found = self._examine()
            if not found.held and not found.in_cycle:
                self._back = measure(self._kept.clear)
        return not self._kept

    @property
    def bytes(self) -> int | None:
        """The bytes that came back, once it has gone; None before, and where that is not known."""
        return self._back.bytes if self.gone else None

    @property
    def source(self) -> str | None:
        """By what the bytes are known: the books, or resident memory. None before it has gone."""
        return self._back.source if self.gone else None

    def collect(self) -> int | None:
        """`bytes`, after a collection of the object's own cycles, if these alone hold it."""
        if not self.gone and not self._examine().held:
            gc.collect()  # what else is garbage is no part of it
            self._back = measure(self._let_go)
        return self.bytes

    def _let_go(self) -> None:
        self._kept.clear()
        gc.collect()

    def _examine(self) -> Examined:
        modules = {id(vars(module)) for module in list(sys.modules.values()) if isinstance(module, ModuleType)}
        modules.add(id(sys.modules))
        kept = self._kept
        return examine(
            kept,
            lambda one: isinstance(one, (type, ModuleType)) or id(one) in modules,
            {},
            lambda one: one is kept[0],
            lambda one: "it" if one is kept[0] else type_name(one),
        )

    def __str__(self) -> str:
        if self.gone:
            return f"{self._type}: gone; {self._back}"
        lines = [f"{self._type}: still held"]
        found = self._examine()
        for held in found.held:
            through = "" if held.what == "it" else f" (through {held.what})"
            lines += [f"  by {line}{through}" for line in held.by]
        if found.in_cycle:
            lines.append(f"  by itself: {self.cycle}" + ("" if found.held else "; collect() ends that"))
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Released {self._type}, {'gone' if not self._kept else 'still held'}>"


def release(obj: object) -> Released:
    """Who else holds an object, and, once nobody does, how many bytes came back.

        released = bursar.release(frame)
        del frame
        print(released)  # who holds it still, or that it has gone

    The object stays until released.gone, released.bytes or str() finds that nobody else holds it, and lets go of it: so
    what came back is measured over its end alone. Of an object in a cycle of its own the path is shown, and
    released.collect() ends it. Holders are named as the garbage collector and running frames know them: attributes,
    keys, indexes, local variables; what C code alone holds is counted.
    """
    return Released([obj])
