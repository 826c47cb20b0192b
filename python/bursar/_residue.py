"""Copies of a secret in this process: where they are, and who holds them."""

import os
from typing import Any

from . import _bursar
from ._holders import MOST, describe, holders_of, shown, type_name

_SHOWN = 20


class Hit:
    """One copy. `form` is the shape that it was found in ("raw", "hex" …): `whole`, or `length` bytes of it.

    `where` is "live", "freed", "free_list", "stack", "file" or "other"; `mapping` names the memory, `block_bytes` the
    block that it lies in (None: not known). `owner` is the type of the Python object whose memory it is, `holders` say
    what refers to that, `site` where it was allocated: (function, file, line), innermost first, as the books know it.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        self.form: str = facts["form"]
        self.whole: bool = facts["whole"]
        self.length: int = facts["length"]
        self.where: str = facts["where"]
        self.address: int = facts["address"]
        self.mapping: str = facts["mapping"]
        self.block_bytes: int | None = facts["block_bytes"] or None
        self.held: bool = facts["held"]
        self.site: list[tuple[str, str, int]] | None = facts["site"]
        self.owner: str | None = None
        self.holders: list[str] = []

    def __str__(self) -> str:
        size = f"{self.length} bytes" if self.whole else f"part, {self.length} bytes"
        text = f"{self.form:<10} {self.where:<9} {self.address:#x}  {size}  {self.mapping}"
        if self.owner:
            text += f", {self.owner}"
        if self.holders:
            text += ", held by " + "; ".join(self.holders)
        if self.site:
            function, file, line = self.site[0]
            text += f", allocated at {file}:{line} {function}"
        return text.rstrip()

    def __repr__(self) -> str:
        return f"<Hit {self}>"


class Residue:
    """What a scan found. `copies` counts the hits but for what the caller passed in, which is in `held`.

    `canary_found` is always True: a scan that misses one of its canaries raises. `not_scanned` says what it cannot see.
    `cut`: there are more hits than are listed.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        hits = [Hit(one) for one in facts["hits"]]
        self.canary_found: bool = facts["canary_found"]
        self.canaries: int = facts["canaries"]
        self.scanned_bytes: int = facts["scanned_bytes"]
        self.seconds: float = facts["seconds"]
        self.copies: int = facts["copies"]
        self.cut: bool = facts["cut"]
        self.not_scanned: list[str] = facts["not_scanned"]
        self.hits = [hit for hit in hits if not hit.held]
        self.held = [hit for hit in hits if hit.held]

    def __str__(self) -> str:
        if self.copies:
            more = "at least " if self.cut else ""
            lines = [f"{more}{self.copies} cop{'y' if self.copies == 1 else 'ies'} found"]
        else:
            lines = ["no copy found in what was scanned"]
        lines += [f"  {hit}" for hit in self.hits[:_SHOWN]]
        if len(self.hits) > _SHOWN:
            lines.append(f"  and {len(self.hits) - _SHOWN} more")
        size = f"{self.scanned_bytes / 2**20:.1f} MiB"
        lines.append(f"scanned {size} in {self.seconds:.3f} s; all {self.canaries} canaries were found")
        return "\n".join([*lines, "not scanned:", *(f"  {what}" for what in self.not_scanned)])

    def __repr__(self) -> str:
        return f"<Residue copies={self.copies} scanned_bytes={self.scanned_bytes}>"


def residue(secret: object) -> Residue:
    """Look for copies of a secret in this process: bytes, str, int, float, a contiguous array, or a vault's.

    It is looked for as it is, as hexadecimal and base64, as UTF-16 and UTF-32, reversed, as an int's digits, and for
    any half of each, in all readable memory that is resident, stacks included. What is passed in is itself a copy,
    which is no residue, whoever else refers to it. Runs in a copy of the process, in some tenths of a second a
    gigabyte; other threads go on. The results hold nothing of the secret.

    TypeError, ValueError: no such secret, or one that proves nothing (less than 8 bytes, fewer than 4 different ones).
    RuntimeError: a canary was not found. OSError: the process cannot be copied or read.
    """
    opened = None if isinstance(secret, (str, bytes, bytearray, os.PathLike)) else getattr(type(secret), "open", None)
    if opened is None:
        facts = _bursar.residue(secret)
    else:
        with opened(secret) as view:
            facts = _bursar.residue(view)
    found = Residue(facts)
    # Where nobody had a block when the memory was read somebody may have one now: us.
    used = [hit for hit in found.hits if hit.where != "freed"]
    if used:
        _name_holders(used)
    return found


def assert_no_residue(secret: object) -> None:
    """AssertionError with where they are and who holds them, where copies of the secret are found. See residue()."""
    __tracebackhide__ = True
    found = residue(secret)
    if found.copies:
        raise AssertionError(str(found))


def _name_holders(hits: list[Hit]) -> None:
    owners: dict[int, tuple[Any, set[int]]] = {}
    locals_of: dict[int, list[str]] = {}
    ranges = [(hit.address, hit.address + hit.length) for hit in hits]
    containers: dict[int, list[Any]] = {}
    for index, owner, local, container in _bursar.residue_owners(ranges):
        if local is not None:
            name, function, file = local
            if file == __file__:
                continue
            text = f"local {shown(name, ())} of {function}"
            if text not in locals_of.setdefault(id(owner), []):
                locals_of[id(owner)].append(text)
        owners.setdefault(id(owner), (owner, set()))[1].add(index)
        if container is not None:
            containers.setdefault(id(owner), []).append(container)
    secrets = {key for key, (owner, _) in owners.items() if isinstance(owner, str)}
    ours = {id(one) for one in containers.values()}
    for key, (owner, indexes) in owners.items():
        holders = locals_of.get(key, []) + holders_of(owner, ours, secrets)
        for one in containers.get(key, ()):
            holders.append(describe(one, owner, ours, secrets))
        for index in indexes:
            if hits[index].owner is None or not hits[index].holders:
                hits[index].owner = type_name(owner)
                hits[index].holders = list(dict.fromkeys(holders))[:MOST]
