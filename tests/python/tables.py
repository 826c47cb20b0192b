"""The tables that profile prints, read back."""

import re
import subprocess
from typing import NamedTuple

import pytest
from conftest import Done

TITLE = "Line #    Mem usage    Increment  Occurrences   Line Contents"
MIB = 1 << 20

HEAD = """\
import asyncio, bursar, contextlib, functools, gc, io, json, sys, threading, warnings
MIB = 1 << 20
gc.disable()  # what it frees would be charged to the line that it comes in
exact = bursar.profile(precision=8)  # to the byte
"""
SIZE = bytearray().__sizeof__() + 1  # of a bytearray of n bytes, beyond them

EMPTY = re.compile(r" *(\d+) {41}(.*)")
FULL = re.compile(r" *(\d+) +(-?[\d.]+) MiB +(-?[\d.]+) MiB +(\d+)   (.*)")


class Row(NamedTuple):
    """A line's figures, in bytes."""

    usage: int
    increment: int
    times: int


class Table(NamedTuple):
    filename: str
    rows: dict[str, Row]  # by the line's text, without its indentation; lines that did not run are not in it
    texts: list[str]  # of all lines


def read_tables(text: str) -> list[Table]:
    """The tables in an output; each of their lines must have the form that it should."""
    tables: list[Table] = []
    for part in text.split("Filename: ")[1:]:
        filename, empty, title, rule, *lines = part.split("\n")
        assert (empty, title, rule) == ("", TITLE, "=" * len(TITLE))
        table = Table(filename, {}, [])
        for line in lines[: lines.index("")]:
            found, full = EMPTY.fullmatch(line), FULL.fullmatch(line)
            if full:
                usage, increment = (round(float(number) * MIB) for number in full.groups()[1:3])
                table.rows[full[5].strip()] = Row(usage, increment, int(full[4]))
            assert full or found, line
            table.texts.append((full or found)[full.lastindex if full else 2])  # type: ignore[index]
        tables.append(table)
    return tables


def tables(done: Done) -> list[Table]:
    return read_tables(done.stdout)


@pytest.fixture(scope="module")
def version(python: str) -> tuple[int, ...]:
    """The version of the interpreter under test."""
    text = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True)
    return tuple(map(int, text.stdout.split()))


def near(version: tuple[int, ...], figure: int, known: int) -> bool:
    """Equal; before 3.12 within what tracing leaves of nested frames."""
    return abs(figure - known) <= (0 if version >= (3, 12) else 1000)
