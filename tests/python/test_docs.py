"""What the README and docs/*.md show works: their programs run, their commands print what is shown there.

A ```python block is a program, saved under the name that its first line gives (`# leak.py`), and run where the package
is that it says it needs (`# leak.py (needs numpy)`); a ```toml block is a file, saved likewise. In a ```console block a
line that begins with `$ ` is a command, the lines after it are what it prints: each must be in the output, where
numbers and folders may differ, and `...` stands for anything."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def blocks(kind: str) -> list[str]:
    return [text for page in PAGES for label, text in FENCE.findall(page.read_text()) if label == kind]


def lacks_its_package(text: str) -> bool:
    needed = re.match(r"# \S+\.py \(needs (\w+)\)", text)
    return bool(needed) and find_spec(needed[1]) is None


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines shown after it."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, *shown = part.splitlines()
        yield command, [line for line in shown if line.strip()]


NUMBER = r"[0-9][0-9.,]*(?: (?:[kMG]|[KMG]?i?B)\b)?"
PIECE = re.compile(
    rf"(?P<any>\.\.\.)|(?P<address>0x[0-9a-f]+)|(?P<folder>(?<!\S)/\S*/)|(?P<number>{NUMBER})|(?P<blank>\s+)"
)


def pattern(line: str) -> re.Pattern[str]:
    """Numbers may differ, with their units; blanks may be more or fewer; a folder is another; `...` is anything."""
    meanings = {"any": ".*", "address": "0x[0-9a-f]+", "folder": r"/\S*", "number": NUMBER, "blank": r"\s+"}
    parts, end = [], 0
    line = line.strip()
    for piece in PIECE.finditer(line):
        assert piece.lastgroup is not None
        parts += [re.escape(line[end : piece.start()]), meanings[piece.lastgroup]]
        end = piece.end()
    return re.compile("".join([*parts, re.escape(line[end:])]))


def run(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {key: value for key, value in os.environ.items() if not key.startswith("BURSAR")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["BURSAR_DIR"] = str(folder / "ledgers")
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=120,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages' programs, saved."""
    place = tmp_path_factory.mktemp("readme")
    (place / "ledgers").mkdir(mode=0o700)
    for number, text in enumerate(text for text in blocks("python") if not lacks_its_package(text)):
        named = re.match(r"# (\S+\.py)\b", text)
        (place / (named[1] if named else f"block{number}.py")).write_text(text)
    for text in blocks("toml"):
        (place / text.split()[1]).write_text(text)
    return place


def test_a_shown_line_matches_what_it_should() -> None:
    assert pattern("peak 12.5 MiB at ... leak.py:4").search("  peak  1,300 KiB at 0.3 s, leak.py:9")
    assert not pattern("peak 12.5 MiB at ... leak.py:4").search("peak at 0.3 s, leak.py:9")
    assert pattern("26.4 k of them, 1 in all").search("1103 of them, 2 M in all")
    assert pattern("ledger /srv/shop/books.bursar").search("  ledger /tmp/x/books.bursar")
    assert not pattern("ledger /srv/shop/books.bursar").search("  ledger /tmp/x/sheep.bursar")


def test_the_programs_run(folder: Path) -> None:
    programs = sorted(folder.glob("*.py"))
    assert programs
    for program in programs:
        done = run(f"python {shlex.quote(program.name)}", folder)
        assert done.returncode == 0, f"{program.name}:\n{done.stdout}"


def test_the_commands_print_what_is_shown(folder: Path) -> None:
    shown = [pair for text in blocks("console") for pair in commands(text) if not pair[0].startswith(("make", "pip"))]
    assert shown
    for command, lines in shown:
        done = run(command, folder)
        assert done.returncode == 0, f"$ {command}\n{done.stdout}"
        for line in lines:
            if re.match(r" *0\.[0-9] %", line):
                continue  # so small that another Python may have another line there
            found = pattern(line).search(done.stdout)
            assert found, f"$ {command}\nis said to print\n{line}\nand prints\n{done.stdout}"


def test_its_links_lead_somewhere() -> None:
    targets = [(page, target) for page in PAGES for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text())]
    assert targets
    assert not [target for page, target in targets if not (page.parent / target).exists()]
