"""The statistic of verdicts (src/ledger/leaks.c) compiled for itself, and a slow model of it, from docs/verdict.md."""

import ctypes
import math
import subprocess
from collections.abc import Sequence
from pathlib import Path

SRC = Path(__file__).resolve().parents[2] / "src"
POINTS, WARMUP, STARTS, ERROR, COUNTED = 128, 500, 250, 0.004, 1 / 64
BYTES, DESCRIPTORS, CAPPED = 0, 1, 3  # enum bursar_leaks_what
CAP = 192  # bytes of a call that count where calls are capped, at the usual threshold
Series = Sequence["tuple[int, int]"]  # calls, held


class Point(ctypes.Structure):
    _fields_ = [
        ("calls", ctypes.c_uint64), ("bytes", ctypes.c_int64), ("capped", ctypes.c_int64),
        ("descriptors", ctypes.c_int32), ("threads", ctypes.c_int32),
    ]  # fmt: skip


class Found(ctypes.Structure):
    _fields_ = [
        ("known", ctypes.c_bool), ("rate", ctypes.c_double), ("lower", ctypes.c_double), ("upper", ctypes.c_double),
        ("from_", ctypes.c_uint64), ("to", ctypes.c_uint64), ("goes_on", ctypes.c_bool), ("grows", ctypes.c_bool),
        ("stands", ctypes.c_bool), ("stopped", ctypes.c_bool),
    ]  # fmt: skip


class Statistic:
    """bursar_leaks_judge() and _thin()."""

    def __init__(self, folder: Path) -> None:
        out = folder / "leaks.so"
        source = SRC / "ledger" / "leaks.c"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", f"-I{SRC}", "-o", out, source, "-lm"], check=True)
        self.library = ctypes.CDLL(str(out))
        self.library.bursar_leaks_judge.argtypes = [
            ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_double, ctypes.c_uint64, ctypes.c_bool,
            ctypes.c_void_p,
        ]  # fmt: skip

    def judge(self, series: Series, threshold: float = 64, bounds: bool = True, what: int = BYTES) -> Found:
        points = (Point * max(len(series), 1))(
            *(
                Point(
                    n, *(held if what == one else 0 for one in (BYTES, CAPPED)), held if what == DESCRIPTORS else -1, -1
                )
                for n, held in series
            )
        )
        found = Found()
        self.library.bursar_leaks_judge(
            points, len(series), what, float(threshold), WARMUP, bounds, ctypes.byref(found)
        )
        return found

    def first_alarm(self, held: Sequence[float], capped: Sequence[float], threshold: float = 64) -> int | None:
        """The call at which the process would raise it, as src/account/verdict.c does: n calls hold held[n - 1]."""
        points, count, due, spacing = (Point * POINTS)(), 0, 64, 8
        since: dict[int, int] = {}
        for calls in range(64, len(held) + 1):
            if calls < due:
                continue
            if count == POINTS:
                count = self.library.bursar_leaks_thin(points, count)
                spacing *= 2
            points[count] = Point(calls, int(held[calls - 1]), int(capped[calls - 1]), -1, -1)
            count, due = count + 1, calls + spacing
            found = {}
            for what in (BYTES, CAPPED):
                found[what] = Found()
                self.library.bursar_leaks_judge(
                    points, count, what, float(threshold), WARMUP, False, ctypes.byref(found[what])
                )
            growing = [what for what in found if found[what].grows]
            if not since:
                since = dict.fromkeys(growing, calls)
                continue
            since = {what: first for what, first in since.items() if found[what].goes_on}
            if any(found[what].grows and calls >= first + first // 4 for what, first in since.items()):
                return calls
        return None


# --- the model --------------------------------------------------------------------------------------------------------


def _blocks(series: Series, first: int, step: int, rate: float) -> list[float]:
    chosen = series[first::step]
    return [(b[1] - a[1]) - rate * (b[0] - a[0]) for a, b in zip(chosen, chosen[1:], strict=False)]


def _evidence(blocks: list[float], scales: tuple[float, float]) -> float:
    """Of the mean of two normal mixtures of exp(l S - l^2 V / 2), the logarithm."""
    total, squares = sum(blocks), sum(x * x for x in blocks)
    logs = [total**2 / (2 * (squares + r * r)) - 0.5 * math.log1p(squares / (r * r)) for r in scales]
    most = max(logs)
    return most + math.log(sum(math.exp(x - most) for x in logs) / 2)


def model(series: Series, threshold: float) -> tuple[bool, bool] | None:
    """Whether it grows by more than the threshold for sure, and by less, of the later half. None: too few calls."""
    if len(series) < 3 or series[-1][0] < WARMUP:
        return None
    start = 0
    while STARTS * 2 ** ((start + 1) / 4) <= series[-1][0] / 2:
        start += 1
    first = next(i for i, point in enumerate(series) if point[0] >= STARTS * 2 ** (start / 4))
    if first + 2 > len(series) - 1:
        return None
    enough = math.log(4 / (ERROR * 6 / math.pi**2 / (start + 1) ** 2 / 2))
    above = below = False
    for step in (1, 2):
        if len(series) - 1 - first < 2 * step:
            break
        block = threshold * (series[first + step][0] - series[first][0])
        before = sorted(abs(x) for x in _blocks(series[: first + 1], 0, step, threshold))
        usual = max(before[len(before) // 2] if before else 0, block)
        blocks = _blocks(series, first, step, threshold)
        cut = [min(max(x, -4 * usual), 4 * usual) for x in blocks]
        above = above or (sum(cut) > 0 and _evidence(cut, (block, usual)) >= enough)
        below = below or (sum(blocks) < 0 and _evidence(blocks, (block, usual)) >= enough)
    return above, below
