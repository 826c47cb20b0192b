"""docs/benchmarks.md from the facts of build/bench.json: tables, and each goal beside what was measured."""
from __future__ import annotations

from typing import Any

import models_page
import services_page

MIB = 1 << 20
GOALS = {
    "json": 1.2,
    "trees": 1.3,
    "both": 1.2,
    "calls": 1.12,
    "threads": 1.25,
    "pandas": 1.05,
    "sklearn": 1.05,
}
# ... of the other ways to keep books.
ALLOCATION = ("json", "trees", "calls", "threads")
WAYS = {  # tool: CPU time at most, added memory at most
    "ours-native": (1.05, None),
    "ours-sample": (1.03, 8 * MIB),
    "ours-count": (1.05, 2 * MIB),
}
WIPED = {"json": 1.12, "threads": 1.12, "numpy": 1.04, "pandas": 1.04}  # all of it wiped, mode sample on
ALL_MORE = 0.05  # of all domains, on the goals above
STACKS = (*ALLOCATION, "sklearn", "native", "torch")  # with native stacks: a share of what memray adds
STACKS_SHARE = 3
READ_GOAL_NS = 2000
BALANCE_GOAL_MS = 50
VAULT_GOALS_NS = {"take and return": 1000, "open and close": 6000}
SCAN_GOAL_GB_S = 2
UNEXPLAINED_GOAL = 0.02
CAPTURE_GOAL = 8 * MIB
REPORT_GOAL_S = 1.0
ADDED_GOAL = 8 * MIB  # and a quarter of the small blocks that are live
CAPTURE_WORKLOAD = "both"  # sized so that it makes about 27 million allocations

Facts = dict[str, Any]


def mib(size: float | None) -> str:
    return "–" if size is None else f"{size / MIB:.1f}"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value / 1e6:.1f} M"


def row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def header(*cells: str) -> list[str]:
    return [row(*cells), "|" + "---|" * len(cells)]


def outline(failure: str) -> str:
    return failure.partition(":")[0]


def ratio(cell: Facts | None, pairs: int) -> str:
    if cell is None:
        return "–"
    if not cell.get("pairs"):
        return outline(cell.get("failure", "")) or "–"
    fewer = "" if cell["pairs"] >= pairs else f", {cell['pairs']} pair{'s' if cell['pairs'] > 1 else ''}"
    spread = "" if cell["pairs"] == 1 else f" ({cell['low']:.2f}–{cell['high']:.2f}{fewer})"
    if cell["pairs"] == 1:
        spread = fewer and f" ({fewer[2:]})"
    late = f"; then {outline(cell['failure'])}" if cell.get("failure") else ""
    return f"{cell['median']:.2f}{spread}{late}"


def ratios(result: Facts) -> list[str]:
    used = [name for name in result["tools"] if any(name in one["cells"] for one in result["workloads"].values())]
    lines = header("workload", "allocations", "no profiler, CPU s", *(result["tools"][name] for name in used))
    for name, one in result["workloads"].items():
        none = one["none"]
        base = "–" if not none["runs"] else f"{none['cpu_s']:.2f} (×{none['low']:.2f}–{none['high']:.2f})"
        cells = [ratio(one["cells"].get(tool), result["options"]["pairs"]) for tool in used]
        lines.append(row(name, number(one["allocations"]), base, *cells))
    return lines


def memory(result: Facts) -> list[str]:
    used = [name for name in result["tools"] if any(name in one["cells"] for one in result["workloads"].values())]
    lines = header("workload", "no profiler, MiB", *(result["tools"][name] for name in used))
    for name, one in result["workloads"].items():
        none = one["none"]
        base = "–" if not none["runs"] else mib(none["peak_bytes"])
        lines.append(row(name, base, *(added(one["cells"].get(tool)) for tool in used)))
    return lines


def added(cell: Facts | None) -> str:
    if cell is None or "added_bytes" not in cell:
        return "–"
    return f"{cell['added_bytes'] / MIB:+.1f}"


def captures(result: Facts) -> list[str]:
    used = [name for name in ("ours", "memray", "memray-aggregate") if name in result["tools"]]
    titles = [f"{result['tools'][name]}: {what}" for name in used for what in ("MiB", "report, CPU s")]
    lines = header("workload", "allocations", *titles)
    for name, one in result["workloads"].items():
        cells = []
        for tool in used:
            cell = one["cells"].get(tool) or {}
            seconds = cell.get("report_s")
            cells += [mib(cell.get("capture_bytes")), "–" if seconds is None else f"{seconds:.2f}"]
        lines.append(row(name, number(one["allocations"]), *cells))
    return lines


def goal(what: str, wanted: str, got: str, met: bool | None) -> str:
    return row(what, wanted, got, "not measured" if met is None else "yes" if met else "**no**")


def goals(result: Facts) -> list[str]:
    lines = header("what", "goal", "measured", "met")
    for name, limit in GOALS.items():
        cell = (result["workloads"].get(name) or {"cells": {}})["cells"].get("ours") or {}
        got = cell.get("median")
        lines.append(goal(f"CPU, {name}", f"≤ {limit:g}×", ratio(cell, 1) if cell else "–", got and got <= limit))
    for name, one in result["workloads"].items():
        cell = one["cells"].get("ours") or {}
        if "small_blocks_at_peak_bytes" in cell:
            limit_bytes = ADDED_GOAL + cell["small_blocks_at_peak_bytes"] / 4
            got = cell["added_bytes"]
            wanted = f"≤ 8 MiB + ¼ of {mib(cell['small_blocks_at_peak_bytes'])} MiB = {mib(limit_bytes)} MiB"
            lines.append(goal(f"added peak memory, {name}", wanted, f"{mib(got)} MiB", got <= limit_bytes))
    one = result["workloads"].get(CAPTURE_WORKLOAD) or {"cells": {}, "allocations": None}
    cell = one["cells"].get("ours") or {}
    size, seconds = cell.get("capture_bytes"), cell.get("report_s")
    what = f"{number(one['allocations'])} allocations"
    lines.append(goal(f"capture of {what}", "≤ 8 MiB", f"{mib(size)} MiB", size and size <= CAPTURE_GOAL))
    took = "–" if seconds is None else f"{seconds:.2f} s"
    lines.append(goal("flamegraph page from it", "≤ 1 CPU-s", took, seconds and seconds <= REPORT_GOAL_S))
    off = (result.get("instructions") or {}).get("off")
    known = (result.get("instructions") or {}).get("off_error", {})  # of malloc's own realloc, by a neighbour or two
    worst = max((abs(value) for case, value in off.items() if case not in known), default=0) if off else None
    got = "–" if worst is None else f"{worst:g} instructions"
    got += "".join(f"; realloc {off[case]:+g}, within malloc's own ±{error}" for case, error in known.items() if off)
    met = None if worst is None else worst == 0 and all(abs(off[case]) <= error for case, error in known.items())
    lines.append(goal("off: added per allocation and free", "0 instructions", got, met))
    services = services_page.goals(result.get("services"), goal)
    return lines + goals_of_ways(result) + goals_of_balances(result) + goals_of_secrets(result) + services


def cell_of(result: Facts, workload: str, tool: str) -> Facts:
    cell: Facts = (result["workloads"].get(workload) or {"cells": {}})["cells"].get(tool) or {}
    return cell


def cpu_goal(result: Facts, workload: str, tool: str, limit: float, wanted: str) -> str:
    cell = cell_of(result, workload, tool)
    got = cell.get("median")
    what = f"CPU, {workload}, {result['tools'].get(tool, tool)}"
    return goal(what, wanted, ratio(cell, 1) if cell else "–", None if got is None else got <= limit)


def goals_of_ways(result: Facts) -> list[str]:
    lines = []
    for tool, (limit, most) in WAYS.items():
        lines += [cpu_goal(result, workload, tool, limit, f"≤ {limit:g}×") for workload in ALLOCATION]
        for workload in ALLOCATION if most else ():
            got = cell_of(result, workload, tool).get("added_bytes")
            what = f"added peak memory, {workload}, {result['tools'].get(tool, tool)}"
            met = None if got is None or most is None else got <= most
            lines.append(goal(what, f"≤ {mib(most)} MiB", f"{mib(got)} MiB", met))
    for workload, limit in GOALS.items():
        more = limit + ALL_MORE
        lines.append(cpu_goal(result, workload, "ours-all", more, f"≤ {more:g}×"))
    for workload, limit in WIPED.items():
        lines.append(cpu_goal(result, workload, "ours-wipe", limit, f"≤ {limit:g}×"))
    for workload in STACKS:
        peer = cell_of(result, workload, "memray-stacks").get("median")
        if peer is None:
            what = f"CPU, {workload}, {result['tools'].get('ours-stacks', 'native stacks')}"
            got = ratio(cell_of(result, workload, "ours-stacks"), 1)
            lines.append(goal(what, "a third of memray's overhead", got, None))
            continue
        share = 1 + max(0.0, peer - 1) / STACKS_SHARE
        wanted = f"≤ {share:.2f}×: a third of memray's overhead at {peer:.2f}×"
        lines.append(cpu_goal(result, workload, "ours-stacks", share, wanted))
    return lines


def goals_of_secrets(result: Facts) -> list[str]:
    lines = []
    took = (result.get("vault") or {}).get("ns") or {}
    pages = (result.get("vault") or {}).get("pages", "")
    for what, most in VAULT_GOALS_NS.items():
        got = took.get(what)
        met = None if got is None else got <= most
        shown = "–" if got is None else f"{got / 1000:.2f} µs"
        lines.append(goal(f"a secret in the vault ({pages}): {what}", f"≤ {most / 1000:g} µs", shown, met))
    for kind, figures in (result.get("scan") or {}).items():
        if kind != "failure":
            got = figures["within_gb_s"]
            what = f"scan from within, of {kind}"
            lines.append(goal(what, f"≥ {SCAN_GOAL_GB_S} GB/s of CPU", f"{got:.1f} GB/s", got >= SCAN_GOAL_GB_S))
    return lines


def goals_of_balances(result: Facts) -> list[str]:
    measured = result.get("balance") or {}
    read = (measured.get("counters") or {}).get("read_ns")
    met = None if read is None else read <= READ_GOAL_NS
    lines = [goal("reading one process's counters", "≤ 2 µs", "–" if read is None else f"{read / 1000:.3f} µs", met)]
    for name, one in (measured.get("large") or {}).items():
        took = one.get("balance_ms")
        got = "–" if took is None else f"{took:.0f} ms, {one['smaps_ms']:.0f} of them to read smaps"
        met = None if took is None else took <= BALANCE_GOAL_MS
        lines.append(goal(f"`bursar.balance()` with {measured['bytes'] >> 20} MiB of {name}", "≤ 50 ms", got, met))
    for name, one in (measured.get("explained") or {}).items():
        shares = [one.get(when) for when in ("running", "end")]
        known = [share for share in shares if share is not None]
        got = " and ".join("–" if share is None else f"{share:.2%}" for share in shares)
        met = None if len(known) < len(shares) else max(known) < UNEXPLAINED_GOAL
        lines.append(goal(f"unexplained of {name}, while it runs and at its end", "< 2 %", got, met))
    return lines


def balances(result: Facts) -> list[str]:
    measured = result.get("balance") or {}
    if "failure" in measured or not measured:
        return ["Not measured in this run."]
    titles = ("resident, MiB", "smaps alone, ms", "`bursar.balance()`, ms", "`bursar balance PID`, ms")
    lines = header("a process with", *titles)
    for name, one in measured["large"].items():
        figures = (one.get(key) for key in ("smaps_ms", "balance_ms", "outside_ms"))
        shown = ("–" if figure is None else f"{figure:.0f}" for figure in figures)
        lines.append(row(name, mib(one.get("rss_bytes")), *shown))
    return lines


def work(result: Facts) -> list[str]:
    counted = result.get("instructions") or {}
    if "failure" in counted:
        return [f"Not counted: {outline(counted['failure'])} failed."]
    if not counted:
        return ["Not counted in this run."]
    states = [state for state in ("off", "imported", "exact") if state in counted]
    lines = header("case", *(f"{state}: added instructions" for state in states))
    for case, text in counted["cases"].items():
        figures = (counted[state].get(case) for state in states)
        lines.append(row(text, *("–" if figure is None else f"{figure:+.1f}" for figure in figures)))
    return lines


def scopes(result: Facts) -> list[str]:
    """All that a workload allocates is in one scope; the heap's part is of what is charged. Goals: 1.03, 7 %, 1 µs."""
    facts = result.get("scopes")
    if not facts or "failure" in facts:
        return ["Not measured in this run."]
    modes = [mode for mode in ("exact", "sample", "count") if mode in facts]
    names = list(facts[modes[0]]["ratios"])
    lines = header("mode", *(f"{name}: ≤ 1.03×" for name in names), "memory, of the heap: ≤ 7 %", "an entry: ≤ 1 µs")
    for mode in modes:
        one = facts[mode]
        ratios = (f"{a:.2f} ({b:.2f}–{c:.2f})" for a, b, c in (one["ratios"][name] for name in names))
        memory = f"{100 * one['memory']:.1f} % and {mib(one['memory_fixed_bytes'])} MiB"
        lines.append(row(mode, *ratios, memory, f"{one['entry_us']:.2f} µs"))
    return lines


def render(result: Facts) -> str:
    """The page. It says what was measured, on what, by which rule, and where a goal is missed."""
    machine = result["machine"]
    options = result["options"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    quick = ["", "**A quick run: a tenth of the work, one pair. These numbers mean nothing.**"]
    # What pip or a tool said may name this machine's paths and mirrors: that stays in build/bench.json.
    missing = [f"- {name} is missing: it would not install here." for name in result["missing"]]
    return "\n".join(
        [
            "<!-- Generated by `make bench` (bench/run.py). Do not edit. -->",
            "# What bursar costs, and what its peers cost",
            *(quick if options["quick"] else []),
            "",
            f"Measured on {result['date']}, revision {result['revision']}: {machine['cpu']}, {machine['cores']} cores,"
            f" {machine['memory_bytes'] / (1 << 30):.0f} GiB; {machine['system']}, {machine['kernel']};"
            f" {machine['python']}; {versions}.",
            "",
            "Each figure is the CPU time (user and system, the whole process with its children) under the profiler"
            " over that of the same program without one. They run in turn on the same machine; a run without a profiler"
            " stands before each two runs under one. A cell is the median and the range of"
            f" {options['pairs']} pair(s). A peer that is slow has fewer, and the cell says how many; one run is given"
            f" up after {options['timeout_s']:g} s. The range beside the time without a profiler"
            " is the noise: runs of the same thing. Each run must print the program's own answer. The count of"
            " allocations is bursar's own, of what it paid for. bursar's and fil's time includes making their end"
            " summary or report; the others' does not. jemalloc and tcmalloc take malloc's place: what another malloc"
            " costs or spares is in their figures. What is slow was measured on the workloads that goals speak of.",
            *([""] + missing if missing else []),
            "",
            "## Goals",
            *goals(result),
            "",
            "## CPU time, as a ratio to no profiler",
            *ratios(result),
            "",
            "deltablue, async_tree (variant “none”) and logging (formatted messages) are pyperformance's, as they"
            " ship, in one process. native is four threads in a C library without the GIL, torch a network's answers on"
            " the CPU. CPU time includes the imports. Some tools in the table see less than bursar: memray's default,"
            " heaptrack, jemalloc and tcmalloc do not see what Python's own allocator serves; scalene, ddtrace,"
            " jemalloc and tcmalloc sample.",
            "",
            "## Added peak memory, MiB (median)",
            *memory(result),
            "",
            "## Captures and the page made from them",
            *captures(result),
            "",
            "## Balances (`bench/balance.py`)",
            "A process with another thread; the kernel looks at each resident page to say what smaps says. From outside"
            " the program rests, and the time that it is given to answer is in the figure.",
            "",
            *balances(result),
            "",
            "## Scopes, on top of each mode (`bench/scopes.py`)",
            *scopes(result),
            "",
            "## Work per event, counted under callgrind (`bench/instructions.py`)",
            *work(result),
            "",
            "## Models in files (`bench/models.py`)",
            *models_page.section(result.get("models")),
            "",
            "## Services (`bench/services.py`)",
            *services_page.section(result.get("services")),
            "",
        ]
    )
