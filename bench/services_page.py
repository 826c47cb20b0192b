"""The section of docs/benchmarks.md on the example services: what bench/services.py measured, beside its goals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

KIB, MIB = 1 << 10, 1 << 20
Facts = dict[str, Any]
Goal = Callable[[str, str, str, "bool | None"], str]

OVER = {"over_refusable_bytes": 64 * KIB, "over_small_bytes": MIB}
VERDICT_CPU = 1.05
PAUSE_S = 0.010
WORKER_BYTES = 1_000_000
LEAK_CALLS = 1000


def mib(size: float) -> str:
    return f"{size / MIB:.1f}"


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def header(*cells: str) -> list[str]:
    return [row(*cells), "|" + "---|" * len(cells)]


def spread(values: list[float]) -> str:
    return f"{values[0]:.2f} ({values[1]:.2f}–{values[2]:.2f})"


def goals(measured: Facts | None, goal: Goal) -> list[str]:
    found = measured or {}
    lines = []
    for name, one in found.get("flood", {}).items():
        if "killed" not in one:
            kept = one["right"] == one["sent_honest"] and one["refused"] == one["sent_absurd"] and one["alive"]
            got = f"{one['right']} of {one['sent_honest']} honest right, "
            got += f"{one['refused']} of {one['sent_absurd']} absurd refused"
            lines.append(goal(f"a flood, {name}", "all, all", got, kept))
            for key, most in OVER.items():
                what = key.split("_")[1]
                got = f"{max(one[key], 0) / KIB:.0f} KiB"
                lines.append(goal(f"a budget overshot, {name}, {what}", f"≤ {most // KIB} KiB", got, one[key] <= most))
        else:
            got = "killed" if one["killed"] else f"{one['right']} of {one['sent_honest']} honest right"
            plain = name.startswith("plain")
            met = one["killed"] if plain else not one["killed"] and one["right"] == one["sent_honest"]
            lines.append(goal(f"the same: {name}", "killed" if plain else "all", got, met))
    if "cost" in found:
        cost = found["cost"]
        beyond = cost["budgets"]["to_scopes"]
        lines.append(goal("CPU of a request, budgets beyond scopes", "1.00×", spread(beyond), beyond[1] <= 1))
        beyond = cost["scopes"]["to_books"]
        got = spread(beyond)
        lines.append(goal("CPU of a request, scopes and verdict", f"≤ {VERDICT_CPU}×", got, beyond[0] <= VERDICT_CPU))
    if "pause" in found:
        longest = found["pause"]["governed"]["longest_inside_s"]
        got = f"{longest * 1e3:.1f} ms"
        lines.append(goal("longest collection inside a request", "≤ 10 ms", got, longest <= PAUSE_S))
    if "workers" in found:
        private = found["workers"]["prefork()"]["private_bytes"]
        got = f"{private / 1e6:.1f} MB"
        lines.append(goal("private memory of a worker of gunicorn's", "< 1 MB", got, private < WORKER_BYTES))
    for name, one in found.get("verdict", {}).items():
        if name.startswith("leak"):
            calls = one["alarm_calls"]
            got = f"{calls} calls" if calls else f"not within {one['after']} requests"
            lines.append(goal(name, f"≤ {LEAK_CALLS} calls", got, bool(calls) and calls <= LEAK_CALLS))
        else:
            lines.append(goal(f"false alarms, {name}", "0", str(one["alarms"]), one["alarms"] == 0))
    return lines


def section(measured: Facts | None) -> list[str]:
    if not measured or "failure" in measured:
        return ["Not measured in this run."]
    lines = [
        "A FastAPI service, one with torch, gunicorn with three workers and a pool of eight threads, on loopback under"
        " wrk; in a flood one request in fifty wants 2 GB.",
    ]
    if "flood" in measured:
        titles = ("longest answer, ms", "peak resident beyond idle, MiB")
        lines += ["", *header("a flood", *titles)]
        lines += [
            row(name, f"{one['longest_ms']:.0f}", mib(one["grown_bytes"]))
            for name, one in measured["flood"].items()
            if "killed" not in one
        ]
    if "cost" in measured:
        lines += ["", *header("FastAPI, honest requests alone", "CPU a request, µs", "as a ratio to no bursar")]
        lines += [
            row(name, f"{one['us_a_request']:.0f}", spread(one["to_plain"])) for name, one in measured["cost"].items()
        ]
    if "idle" in measured:
        titles = ("idle before", "peak", "idle after", "growth that stays, ratio", "CPU, ratio")
        lines += ["", *header("arrays of 0.5 kB to 20 MB, then 3 s of rest; MiB", *titles)]
        lines += [
            row(name, *(mib(one[key]) for key in ("start", "peak", "idle")), f"{one['idle_grown_ratio']:.2f}",
                f"{one['cpu_ratio']:.2f}")
            for name, one in measured["idle"].items()
        ]  # fmt: skip
    if "pause" in measured:
        lines += ["", *header("a million objects", "longest collection, ms")]
        lines += [row(name, f"{one['longest_s'] * 1e3:.1f}") for name, one in measured["pause"].items()]
    if "workers" in measured:
        titles = ("resident, MB", "private, MB", "grown in 1,000 predictions, MB")
        lines += ["", *header("a worker of gunicorn's", *titles)]
        lines += [
            row(name, *(f"{one[key] / 1e6:.1f}" for key in ("rss_bytes", "private_bytes", "grown_bytes")))
            for name, one in measured["workers"].items()
        ]
    return lines
