#!/usr/bin/env python3
"""Runs tests/valgrind/exercise.py under bursar and valgrind's memcheck, and lists what memcheck found.

Under PYTHONMALLOC=malloc memcheck sees each of Python's blocks. Of values that were never set, only those count that
the extension uses, and that are no integer's: up to 3.11 CPython looks at the digit of a new one before it sets it
(gh-102509), and memcheck then takes all that follows from its value for never set. Everything else counts wherever it
is. That memcheck looks at all is shown first, by a read behind a block's end.
"""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "memcheck"
PLANTED = """
import ctypes
malloc = ctypes.CDLL(None).malloc
malloc.restype = ctypes.c_void_p
ctypes.string_at(malloc(ctypes.c_size_t(64)) + 64, 8)
"""


def counts(error: ElementTree.Element) -> bool:
    kind = error.findtext("kind") or ""
    if kind.startswith("Uninit"):
        use, *origin = error.iter("stack")
        ours = any("_bursar" in (frame.findtext("obj") or "") for frame in use.iter("frame"))
        return ours and not any(frame.findtext("fn") == "_PyLong_New" for stack in origin for frame in stack)
    return not kind.startswith("Leak_")  # with --xml they are always there; the interpreter leaves blocks behind


def describe(error: ElementTree.Element) -> str:
    what = error.findtext("what") or error.findtext("xwhat/text") or error.findtext("kind") or "?"
    frames = [
        f"  {frame.findtext('fn') or frame.findtext('ip')} ({frame.findtext('file') or frame.findtext('obj')}"
        f":{frame.findtext('line') or '?'})"
        for frame in list(error.iter("frame"))[:20]
    ]
    return "\n".join([what, *frames])


def run(name: str, *command: str) -> tuple[int, int, list[str]]:
    """Runs the command under memcheck. Returns its status, how many processes were watched, and what was found."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob(f"{name}.*.xml"):
        old.unlink()
    valgrind = ["valgrind", "--tool=memcheck", "--trace-children=yes", "--num-callers=30", "--track-origins=yes",
                "--xml=yes", f"--xml-file={FOLDER / name}.%p.xml"]  # fmt: skip
    environment = dict(os.environ, PYTHONMALLOC="malloc", PYTHONDONTWRITEBYTECODE="1")
    status = subprocess.run([*valgrind, *command], cwd=ROOT, env=environment).returncode
    reports = sorted(FOLDER.glob(f"{name}.*.xml"))
    found = []
    for report in reports:
        try:
            found += [describe(error) for error in ElementTree.parse(report).iter("error") if counts(error)]
        except ElementTree.ParseError as error:
            found.append(f"{report.relative_to(ROOT)} is not whole ({error}): the process was killed")
    return status, len(reports), found


def main() -> int:
    _, _, planted = run("planted", sys.executable, "-c", PLANTED)
    if not any("Invalid read" in found for found in planted):
        print("memcheck: the planted error was not found, so nothing that follows can be believed", file=sys.stderr)
        return 1
    command = [str(Path(sys.executable).parent / "bursar"), "run", "-f", "-o", "build/memcheck/exercise.bursar"]
    status, processes, found = run("exercise", *command, "tests/valgrind/exercise.py")
    print("\n".join(found), end="\n" if found else "")
    print(f"memcheck: exit status {status}, {processes} processes watched, {len(found)} errors")
    return 0 if status == 0 and processes >= 2 and not found else 1


if __name__ == "__main__":
    sys.exit(main())
