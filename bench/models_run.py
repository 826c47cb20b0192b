"""One way to save or load, once, in a process of its own, for bench/models.py: prints a line of JSON.

    models_run.py TASK WAY FOLDER NAME

What a way imports and sets up is done before on a tiny model, so that it is not in the figures; what it loads is
compared with the model afterwards. Peak memory is the kernel's high-water mark (VmHWM), set back before, above what was
resident then. It counts pages of mapped files too, and is exact to some hundred KiB.
"""
from __future__ import annotations

import gc
import json
import os
import re
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import models_ways as ways
import numpy as np
from measure import touch

FIRST_ROUNDS = 15
SPARE = 128 << 20


def resident() -> int:
    """Page by page, where VmRSS leaves out what its counters keep for each processor."""
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("Rss:"))


def high_water() -> int:
    text = Path("/proc/self/status").read_text()
    found = re.search(r"^VmHWM:\s*(\d+)", text, re.M)
    return int(found[1]) << 10 if found else 0


def timed(act: Callable[[], Any], room: int = 0) -> tuple[dict[str, Any], Any]:
    """room: memory that the machine is to have ready."""
    gc.collect()
    if room:
        touch(room + SPARE)
    known = True
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    except OSError:
        known = False
    before = resident()
    wall, cpu, user = time.perf_counter(), time.process_time(), os.times().user
    answer = act()
    cpu_s, user_s, wall_s = time.process_time() - cpu, os.times().user - user, time.perf_counter() - wall
    after, high = resident(), high_water()
    facts = {"cpu_s": cpu_s, "user_s": user_s, "wall_s": wall_s, "kept_bytes": after - before}
    facts["peak_bytes"] = max(high, after) - before if known else None
    return facts, answer


def save(way: str, folder: Path, name: str) -> dict[str, Any]:
    act, small = ways.SAVE[way], ways.tiny(folder)
    act(ways.arrays_of(small), str(small / name))
    arrays = ways.arrays_of(folder)
    facts, _ = timed(lambda: act(arrays, str(folder / name)))
    facts["file_bytes"] = (folder / name).stat().st_size
    return facts


def load(kinds: dict[str, Callable[[str], Any]], way: str, folder: Path, name: str) -> dict[str, Any]:
    act = kinds[way]
    act(str(ways.tiny(folder) / name))
    facts, answer = timed(lambda: act(str(folder / name)), size_of(folder))
    if way != "raw":
        ways.same(answer, folder)
    return facts


def size_of(folder: Path) -> int:
    return (folder / "raw").stat().st_size


def copied(way: str, folder: Path, name: str) -> dict[str, Any]:
    return load(ways.COPIED, way, folder, name)


def mapped(way: str, folder: Path, name: str) -> dict[str, Any]:
    return load(ways.MAPPED, way, folder, name)


def first(way: str, folder: Path, name: str) -> dict[str, Any]:
    """The first tensor alone, opening the file included, many times: the middle one, in new memory each time; and
    where malloc has memory from the time before."""
    act = ways.FIRST[way](str(folder / name))
    kept, seconds, again = [act()], [], []
    touch(SPARE)
    for _ in range(FIRST_ROUNDS):
        facts, answer = timed(act)
        kept.append(answer)
        seconds.append((facts["cpu_s"], facts["wall_s"]))
    kept.clear()
    for _ in range(FIRST_ROUNDS):
        again.append(timed(lambda: act() is None)[0]["cpu_s"])
    count, length, dtype = ways.shape_of(folder)
    if not np.array_equal(answer, np.fromfile(folder / "raw", dtype, length)):
        raise SystemExit(f"{way}: the first tensor came back as something else")
    cpu, wall = (sorted(column)[FIRST_ROUNDS // 2] for column in zip(*seconds, strict=True))
    return {"cpu_s": cpu, "wall_s": wall, "again_s": sorted(again)[FIRST_ROUNDS // 2]}


def pack(way: str, folder: Path, name: str) -> dict[str, Any]:
    ways.Codec(way, folder.name).pack(ways.tiny(folder), str(ways.tiny(folder) / name))
    codec = ways.Codec(way, folder.name)
    facts, _ = timed(lambda: codec.pack(folder, str(folder / name)))
    return {**facts, "file_bytes": (folder / name).stat().st_size, "alone_s": codec.alone_s}


def unpack(way: str, folder: Path, name: str) -> dict[str, Any]:
    """Into arrays; and where there is memory from the one before (`again_s`)."""
    if way == "bursar":
        return bursar_reads(folder, name)
    ways.Codec(way, folder.name).unpack(ways.tiny(folder), str(ways.tiny(folder) / name))
    facts, answer = timed(lambda: ways.Codec(way, folder.name).unpack(folder, str(folder / name)), size_of(folder))
    ways.same(answer, folder)
    del answer
    codec = ways.Codec(way, folder.name)
    again, _ = timed(lambda: codec.unpack(folder, str(folder / name), keep=False))
    return {**facts, "again_s": again["cpu_s"], "alone_s": codec.alone_s}


def bursar_reads(folder: Path, name: str, **how: Any) -> dict[str, Any]:
    """A packed or sealed file, by one thread."""
    facts = load({"": lambda path: ways.bursar_load_one_thread(path, **how)}, "", folder, name)
    into = np.zeros(size_of(folder) // ways.shape_of(folder)[0], "u1")
    again, _ = timed(lambda: ways.bursar_read_each(str(folder / name), into, **how))
    return {**facts, "again_s": again["cpu_s"], "alone_s": again["user_s"]}


def seal(way: str, folder: Path, name: str, opening: bool = False) -> dict[str, Any]:
    if way == "limit":
        return {"cpu_s": ways.limit(opening, size_of(folder))}
    act = ways.SEALERS[way][opening]
    for place in (ways.tiny(folder), folder):
        source, target = (name, f"{name}.out") if opening else ("raw", name)
        paths = str(place / source), str(place / target)
        facts, _ = timed(lambda paths=paths: act(*paths, folder))  # type: ignore[misc]
    return {**facts, "alone_s": facts["user_s"]}


def unseal(way: str, folder: Path, name: str) -> dict[str, Any]:
    return seal(way, folder, name, opening=True)


def load_sealed(way: str, folder: Path, name: str) -> dict[str, Any]:
    return bursar_reads(folder, name, identity=str(folder / "identity"))


def save_forest(way: str, folder: Path, name: str) -> dict[str, Any]:
    for place in (ways.tiny(folder), folder):
        model = ways.pickle_load(str(place / "raw"))
        facts, _ = timed(lambda model=model, place=place: ways.FOREST_SAVE[way](model, str(place / name)))  # type: ignore[misc]
    facts["file_bytes"] = (folder / name).stat().st_size
    return facts


def load_forest(way: str, folder: Path, name: str) -> dict[str, Any]:
    act = ways.FOREST_LOAD[way]
    answer: Any = act(str(ways.tiny(folder) / name))
    if way != "raw":
        ways.answers(answer)  # what a first prediction imports
    facts, answer = timed(lambda: act(str(folder / name)), size_of(folder))
    if way != "raw" and not np.array_equal(ways.answers(answer), np.load(folder / "answers.npy")):
        raise SystemExit(f"{way}: the forest answers differently")
    return facts


def make(way: str, folder: Path, name: str) -> dict[str, Any]:
    """The model: in `way`, how many arrays of how many numbers of which type; or a forest's samples and trees."""
    if folder.name == "forest":
        samples, trees = map(int, way.split())
        for place, parts in ((folder, (samples, trees)), (ways.tiny(folder), (50, 2))):
            place.mkdir(parents=True)
            model = ways.forest(*parts)
            ways.pickle_save(model, str(place / "raw"))
            np.save(place / "answers.npy", ways.answers(model))
        return {}
    count, length, dtype = way.split()
    for place, parts in ((folder, (int(count), int(length))), (ways.tiny(folder), (2, 64))):
        place.mkdir(parents=True)
        ways.make(place, *parts, dtype)
    return {}


def have(way: str, folder: Path, name: str) -> dict[str, Any]:
    """Those of these packages that are here."""
    return {package: True for package in way.split(",") if find_spec(package)}


TASKS = (save, copied, mapped, first, pack, unpack, seal, unseal, load_sealed, save_forest, load_forest, make, have)

if __name__ == "__main__":
    task, way, folder, name = sys.argv[1:]
    os.umask(0o077)
    print(json.dumps({one.__name__: one for one in TASKS}[task](way, Path(folder), name)))
