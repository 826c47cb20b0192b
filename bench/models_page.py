"""The part of docs/benchmarks.md that is about models in files (bench/models.py): tables, and goals beside figures."""
from __future__ import annotations

from typing import Any

Facts = dict[str, Any]
MIB = 1 << 20
# Of one row's bursar cell: CPU time as a ratio at most, added memory at most.
RATIOS = (
    ("save 468 MB of float32", ("save",), "bursar", 1.0, 4),
    ("the same from an iterator", ("save",), "bursar, from an iterator", 1.0, 4),
    ("load, mapped", ("mapped",), "bursar", 0.01, None),
    ("load, copied", ("copied",), "bursar", 1.1, 0),
    ("first 4 MB tensor of 468 MB", ("first",), "bursar", 1.1, None),
    ("50,000 small arrays, load", ("small", "load"), "bursar", 2.0, 10),
    ("scikit-learn forest, load", ("forest",), "bursar", 3.0, None),
)
NOISE = MIB  # what the kernel's counters and a few pages of an interpreter come to, where '+0' is wanted
STEADY = 2.0  # where plain reads or writes differ by more than this, a ratio to them decides nothing
SEALED_FIRST_MS = 2.0
SHARES = {"float32": 0.834, "bfloat16": 0.666}
SPEEDS = {"unpack": 3.5, "pack": 1.5}  # GB/s on one core
SEAL_GB_S, SEAL_BYTES = 2.5, MIB
FOREST_BYTES, FOREST_SHARE = 68 * MIB, 0.21


def row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def header(*cells: str) -> list[str]:
    return [row(*cells), "|" + "---|" * len(cells)]


def figure(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def ratio(cell: Facts | None, pairs: int = 0) -> str:
    if cell is None:
        return "–"
    if "median" not in cell:
        return cell.get("failure", "").partition(":")[0] or "–"
    fewer = f", {cell['pairs']} pair{'s' if cell['pairs'] > 1 else ''}" if cell["pairs"] < pairs else ""
    spread = f" ({figure(cell['low'])}–{figure(cell['high'])}{fewer})" if cell["pairs"] > 1 else fewer
    late = f"; then {cell['failure'].partition(':')[0]}" if cell.get("failure") else ""
    return f"{figure(cell['median'])}{spread}{late}"


def least(cell: Facts | None) -> str:
    return "–" if cell is None or "least" not in cell else figure(cell["least"])


def added(cell: Facts | None) -> str:
    return "–" if cell is None or cell.get("added_bytes") is None else f"{cell['added_bytes'] / MIB:+.1f}"


def part_of(result: Facts, path: tuple[str, ...]) -> Facts | None:
    found: Any = result["rows"]
    for part in path:
        found = (found or {}).get(part)
    measured: Facts | None = found
    return measured


def cell_of(result: Facts, path: tuple[str, ...], way: str) -> Facts | None:
    cell: Facts | None = ((part_of(result, path) or {}).get("cells") or {}).get(way)
    return cell


def speed(cell: Facts | None, what: str) -> float | None:
    found = ((cell or {}).get("speed") or {}).get(what)
    return None if not found else found["median"] / 1e9


def speed_text(cell: Facts | None, what: str) -> str:
    found = ((cell or {}).get("speed") or {}).get(what)
    if not found:
        return ((cell or {}).get("failure") or "–").partition(":")[0]
    low, middle, high = (found[name] / 1e9 for name in ("low", "median", "high"))
    return f"{middle:.2f}" if low == high else f"{middle:.2f} ({low:.2f}–{high:.2f})"


def memory(cell: Facts | None, what: str) -> float | None:
    found = ((cell or {}).get("memory") or {}).get(what)
    return None if not found else found["median"]


def memory_text(cell: Facts | None, what: str) -> str:
    found = memory(cell, what)
    return "–" if found is None else f"{found / MIB:+.1f}"


# --- goals ----------------------------------------------------------------------------------------------------------


def goal(what: str, wanted: str, got: str, met: bool | None) -> str:
    unknown = "undecided" if "undecided" in got else "not measured"
    return row(what, wanted, got, unknown if met is None else "yes" if met else "**no**")


def at_most(value: float | None, limit: float) -> bool | None:
    return None if value is None else value <= limit


def at_least(value: float | None, limit: float) -> bool | None:
    return None if value is None else value >= limit


def goals_of_ratios(result: Facts) -> list[str]:
    lines = []
    for what, path, way, limit, more in RATIOS:
        cell = cell_of(result, path, way) or {}
        shown = ratio(cell) + (f"; the least {figure(cell['least'])}" if "least" in cell else "")
        met = at_most(cell.get("median"), limit)
        raw = (part_of(result, path) or {}).get("raw_s")
        if met is not None and raw and raw["high"] > STEADY * raw["low"]:
            shown += f"; undecided: plain ones took {raw['low'] * 1e3:.1f} to {raw['high'] * 1e3:.1f} ms"
            met = None
        lines.append(goal(f"{what}: CPU", f"≤ {limit:g}×", shown, met))
        if more is not None:
            met = at_most(cell.get("added_bytes"), more * MIB + (0 if more else NOISE))
            lines.append(goal(f"{what}: peak above the model", f"+{more} MiB", f"{added(cell)} MiB", met))
    cell = cell_of(result, ("first",), "bursar, sealed") or {}
    got = None if "cpu_s" not in cell else cell["cpu_s"] * 1e3
    shown = "–"
    if got is not None:
        raw = result["rows"]["first"]["raw"]
        times = (f"{one[name] * 1e3:.2f}" for name in ("cpu_s", "again_s") for one in (cell, raw))
        shown = "{} ms of CPU in new memory (pread: {}), {} where malloc has it (pread: {})".format(*times)
    lines.append(goal("first 4 MB tensor, sealed", f"≤ {SEALED_FIRST_MS:g} ms", shown, at_most(got, SEALED_FIRST_MS)))
    return lines


def goals_of_speeds(result: Facts) -> list[str]:
    lines = []
    for dtype, share in SHARES.items():
        cell = cell_of(result, ("packed", dtype), "bursar") or {}
        got = cell.get("share")
        shown = "–" if got is None else f"{got:.4f}"
        lines.append(goal(f"packed size, {dtype}", f"≤ {share}", shown, at_most(got, share)))
        for what, least in SPEEDS.items():
            met = at_least(speed(cell, what), least)
            how = "into memory" if what == "unpack" else "from file to file"
            lines.append(goal(f"{what}, {dtype}, {how}, one core", f"≥ {least} GB/s", speed_text(cell, what), met))
    for way, what in (
        ("bursar, to /dev/null", "encrypt"), ("bursar, to /dev/null", "decrypt"), ("bursar.read", "decrypt"),
    ):  # fmt: skip
        cell = cell_of(result, ("sealed",), way) or {}
        met = at_least(speed(cell, what), SEAL_GB_S)
        lines.append(goal(f"{what}, {way}, one core", f"≥ {SEAL_GB_S} GB/s", speed_text(cell, what), met))
        loaded = "load" if way == "bursar.read" else what
        met = at_most(memory(cell, loaded), SEAL_BYTES)
        shown = f"{memory_text(cell, loaded)} MiB"
        lines.append(goal(f"{what}, {'bursar.load' if loaded == 'load' else way}: memory", "+1 MiB", shown, met))
    cell = cell_of(result, ("forest",), "bursar") or {}
    got = cell.get("kept_bytes")
    shown = "–" if got is None else f"{got / MIB:.1f} MiB"
    lines.append(goal("scikit-learn forest: resident after load", "≤ 68 MiB", shown, at_most(got, FOREST_BYTES)))
    got = (cell_of(result, ("forest",), "bursar, packed") or {}).get("share")
    shown = "–" if got is None else f"{got:.3f}"
    lines.append(goal("scikit-learn forest: packed size", f"≤ {FOREST_SHARE}", shown, at_most(got, FOREST_SHARE)))
    return lines


def goals_of_streams(result: Facts) -> list[str]:
    """As fast as the best of Arrow's ways, or 1.4 plain reads; and never more than the budget."""
    lines = []
    for name, found in (result["rows"].get("stream") or {}).items():
        tools = found["tools"]
        kind = name.partition("-")[0]
        ours = tools.get(f"bursar, 32 MiB, {'numpy' if kind == 'npy' else 'arrow'}")
        if ours is None:
            continue
        if name == "npy":
            lines.append(goal("stream npy: CPU", "≤ 1.4×", figure(ours["ratio"]), at_most(ours["ratio"], 1.4)))
        elif "grown" not in name:
            theirs = [row["MB_per_s"] for tool, row in tools.items() if row and tool.startswith("pyarrow")]
            best = max(theirs, default=None)
            shown = f"{ours['MB_per_s']:.0f} MB/s; pyarrow {best or 0:.0f}"
            met = None if best is None else ours["MB_per_s"] >= 0.95 * best
            lines.append(goal(f"stream {name}, as Arrow", "as fast as pyarrow", shown, met))
        held = max(row["held_bytes"] for tool, row in tools.items() if row and tool.startswith("bursar, 32 MiB"))
        shown = f"{held / MIB:.1f} MiB"
        lines.append(goal(f"stream {name}: held", "≤ 32 MiB", shown, at_most(held, 32 * MIB)))
    return lines


def goals(result: Facts) -> list[str]:
    ratios, speeds, streams = goals_of_ratios(result), goals_of_speeds(result), goals_of_streams(result)
    return [*header("what", "goal", "measured", "met"), *ratios, *speeds, *streams]


# --- tables ---------------------------------------------------------------------------------------------------------


def matrix(result: Facts) -> list[str]:
    """A line for each way; a row that was not measured is not there."""
    columns = [
        (title, path)
        for title, path in (
            ("save", ("save",)), ("load, copied", ("copied",)), ("load, mapped", ("mapped",)),
            ("50,000 arrays: save", ("small", "save")), ("50,000 arrays: load", ("small", "load")),
        )
        if path[0] in result["rows"]
    ]  # fmt: skip
    if not columns:
        return ["Not measured in this run."]
    lines = header("way", *(text for title, _ in columns for text in (title, "least", "MiB")))
    ways: list[str] = []
    for _, path in columns:
        row_of = result["rows"][path[0]] if len(path) == 1 else result["rows"][path[0]][path[1]]
        ways += [way for way in row_of["cells"] if way not in ways]
    for way in sorted(ways, key=lambda one: one.startswith("bursar")):
        cells = [cell_of(result, path, way) for _, path in columns]
        pairs = result["options"]["pairs"]
        lines.append(row(way, *(text for cell in cells for text in (ratio(cell, pairs), least(cell), added(cell)))))
    return lines


def first(result: Facts) -> list[str]:
    measured = result["rows"].get("first")
    if not measured:
        return ["Not measured in this run."]
    lines = header("way", "CPU, ratio to pread", "CPU, ms", "by the clock, ms", "CPU, where malloc has the memory, ms")
    for way, cell in {"pread": measured["raw"], **measured["cells"]}.items():
        times = ("–" if name not in cell else f"{cell[name] * 1e3:.2f}" for name in ("cpu_s", "wall_s", "again_s"))
        lines.append(row(way, ratio(cell), *times))
    return lines


def packed(result: Facts) -> list[str]:
    measured = result["rows"].get("packed")
    if not measured:
        return ["Not measured in this run."]
    titles = ("size", "pack", "its codec alone", "unpack", "its codec alone", "load")
    lines = header("way", *(f"{dtype}: {title}" for dtype in SHARES for title in titles))
    for way in measured["float32"]["cells"]:
        texts = []
        for dtype in SHARES:
            cell = measured[dtype]["cells"][way]
            texts.append("–" if "share" not in cell else f"{cell['share']:.4f}")
            texts += [speed_text(cell, "pack"), alone(cell, "pack_alone")]
            texts += [speed_text(cell, "unpack"), alone(cell, "unpack_alone"), speed_text(cell, "load")]
        lines.append(row(way, *texts))
    texts = []
    for dtype in SHARES:
        cell = measured[dtype]["cells"]["bursar"]
        texts += ["–", "–", "–", speed_text(cell, "unpack_command"), alone(cell, "unpack_command_alone"), "–"]
    lines.append(row("`bursar model unpack`, from file to file", *texts))
    if measured.get("raw_copy"):
        lines += ["", f"A file copied by dd, on the same core: {measured['raw_copy'] / 1e9:.2f} GB/s."]
    return lines


def alone(cell: Facts, what: str) -> str:
    found = speed(cell, what)
    return "–" if found is None else f"{found:.2f}"


def sealed(result: Facts) -> list[str]:
    measured = result["rows"].get("sealed")
    if not measured:
        return ["Not measured in this run."]
    titles = (title for what in ("encrypt", "decrypt") for title in (f"{what}, GB/s", "user code alone", "MiB"))
    lines = header("way", *titles)
    names = {
        "bursar": "`bursar model seal`, `open`, -o",
        "bursar, to /dev/null": "`bursar model seal`, `open`, to /dev/null",
        "bursar.read": "`Model.read`, into memory that was there",
        "age": "`age`, -o",
        "age, to /dev/null": "`age`, to /dev/null",
        "limit": "OpenSSL's cipher alone, in memory, by `cryptography`",
    }
    for way, cell in measured["cells"].items():
        texts = []
        for what in ("encrypt", "decrypt"):
            texts += [speed_text(cell, what), alone(cell, f"{what}_alone"), memory_text(cell, what)]
        lines.append(row(names.get(way, way), *texts))
    loaded = speed_text(measured["cells"]["bursar.read"], "load")
    lines += ["", f"`bursar.load` of the sealed file, into new arrays: {loaded} GB/s."]
    if measured.get("raw_copy"):
        lines += ["", f"A file copied by dd, on the same core: {measured['raw_copy'] / 1e9:.2f} GB/s."]
    return lines


def forest(result: Facts) -> list[str]:
    measured = result["rows"].get("forest")
    if not measured:
        return ["Not measured in this run."]
    size = measured.get("bytes")
    lines = [f"{size / MIB:.1f} MiB as bursar saves it.", ""] if size else []
    titles = ("size, of bursar's", "load, ratio to a plain read", "peak above its size, MiB", "resident after, MiB")
    lines += header("way", *titles)
    for way, cell in measured["cells"].items():
        share = "–" if "share" not in cell else f"{cell['share']:.3f}"
        kept = "–" if "kept_bytes" not in cell else f"{cell['kept_bytes'] / MIB:.1f}"
        lines.append(row(way, share, ratio(cell, result["options"]["pairs"]), added(cell), kept))
    return lines


def streaming(result: Facts) -> list[str]:
    """bench/stream.py's figures."""
    measured = result["rows"].get("stream")
    if not measured:
        return ["Not measured in this run."]
    lines = [
        "CPU time of going through a file once, as a ratio to reading its bytes, medians; by how much resident memory"
        " grew at most; and what was held, as the tool says itself: bursar what is charged to the stream, whose budget"
        " is in its name, Arrow its pool's mark.",
    ]
    for name, found in measured.items():
        size = f"{found['file_bytes'] / 1e6:.0f} MB"
        lines += ["", f"| {name}, {size} | ratio | MB/s | grew by, MiB | held, MiB |", "|---|---|---|---|---|"]
        for tool, row in found["tools"].items():
            if row is None:
                lines.append(f"| {tool} | not installed, or failed | | | |")
                continue
            held = "" if row["held_bytes"] is None else f"{row['held_bytes'] / 2**20:.1f}"
            lines.append(
                f"| {tool} | {row['ratio']:.2f} | {row['MB_per_s']:.0f} | {row['peak_bytes'] / 2**20:.1f} | {held} |"
            )
    return lines


def tables(result: Facts) -> list[str]:
    return [
        "CPU time of saving or loading alone, as a ratio to a plain write or read (one `read` into new memory) of the"
        " same bytes, the middle one of those that stood between the ways in the same round; beside it the least of"
        " all its runs over the least of all plain ones, which has least of the machine's noise in it, and the peak"
        " resident memory above the model's own size, MiB: in a load that maps, everything. Imports, and what a library"
        " sets up in its first call, were done before on a tiny model. bursar's saves reach the disk (fsync) before"
        " they return; the others' do not, and 'raw and fsync' says what that costs. On a virtual machine whose host"
        " takes free memory away, a save may have to wait for its pages, and then costs three times as much.",
        "",
        *matrix(result),
        "",
        "### The first 4 MB tensor",
        "Opening the file, and a copy of its first tensor in new memory, whose pages are most of what it costs.",
        "",
        *first(result),
        "",
        "### Packed",
        "GB of the model by CPU second, one thread. Packing is from file to file, unpacking from a file into memory"
        " that was there, a load into new arrays, whose pages cost what they do in a plain read too. The codec alone is"
        " from memory to memory; of bursar's, user time without the system's. bursar's pack reaches the disk.",
        "",
        *packed(result),
        "",
        "### Sealed",
        "GB by CPU second, one core, from file to file or to nowhere; and what it takes of memory beyond a tiny file"
        " (of pyrage and Fernet: of all).",
        "",
        *sealed(result),
        "",
        "### A forest of scikit-learn's",
        *forest(result),
        "",
        "### Streaming",
        *streaming(result),
    ]


def section(result: Facts | None) -> list[str]:
    """What stands below its heading."""
    if not result:
        return ["Not measured in this run."]
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return [
        *(["**A quick run of tiny models: these numbers mean nothing.**", ""] if result["options"]["quick"] else []),
        f"Measured on {result['date']}, revision {result['revision']}: {machine['cpu']}, {machine['cores']} cores,"
        f" a load of {result['load_before']:.1f} when it began and {result['load_after']:.1f} when it ended;"
        f" {machine['python']}; {versions}. Medians and ranges of {result['options']['pairs']} pair(s), of what is slow"
        " fewer.",
        "",
        *goals(result),
        "",
        *tables(result),
    ]
