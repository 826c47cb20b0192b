"""What a scope proves at its end: that no copy of these secrets is left in the process."""

from __future__ import annotations

from typing import Any

from . import _bursar
from ._residue import Residue, residue


class ResidueError(RuntimeError):
    """Copies were left.

    `found` has the Residue of each secret that there are any of; str() says where they are, and who holds them.
    """

    def __init__(self, name: str, found: list[Residue]) -> None:
        super().__init__("\n".join([f"scope {name!r} left copies of what it was to prove gone", *map(str, found)]))
        self.found = found


def prove(scope: _bursar.Scope, secrets: list[Any]) -> None:
    """Scan for each, and note the proof as an event of the scope. ResidueError: there are copies."""
    results = [residue(secret) for secret in secrets]
    copies = sum(one.copies for one in results)
    canaries = sum(one.canaries for one in results)
    told = f"{copies} cop{'y' if copies == 1 else 'ies'} of {len(secrets)}; all {canaries} canaries found"
    _bursar.tell("proof", scope.name, max((one.scanned_bytes for one in results), default=0), told)
    if copies:
        raise ResidueError(scope.name, [one for one in results if one.copies])
