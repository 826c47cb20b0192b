"""The statistic of verdicts: against a slow model, and how often it is wrong where nothing leaks."""

import collections
import itertools
import math
import random
from collections.abc import Callable, Iterable
from operator import add
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from leak_series import CAP, DESCRIPTORS, POINTS, Statistic, model

CALLS = 5000


@pytest.fixture(scope="module")
def statistic(tmp_path_factory: pytest.TempPathFactory) -> Statistic:
    return Statistic(tmp_path_factory.mktemp("statistic"))


# --- a model of it ----------------------------------------------------------------------------------------------------

steps = st.one_of(st.integers(-3000, 3000), st.sampled_from([0, 512, 1600, 1600, 1600, 40000, -40000]))


@st.composite
def series(draw: st.DrawFn) -> list[tuple[int, int]]:
    spacing, rate = draw(st.integers(1, 60)), draw(st.sampled_from([0, 0, 60, 70, 200, -100, 5000]))
    calls, held, points = draw(st.integers(0, 200)), 0, []
    for step in draw(st.lists(steps, min_size=1, max_size=POINTS)):
        calls += spacing + draw(st.integers(0, 3))
        held += step + rate * spacing
        points.append((calls, held))
    return points


@given(series(), st.sampled_from([1, 64, 1000]))
def test_it_says_what_the_model_says(statistic: Statistic, points: list[tuple[int, int]], threshold: int) -> None:
    found, expected = statistic.judge(points, threshold), model(points, threshold)
    assert found.known == (expected is not None)
    if expected is None:
        assert not (found.grows or found.stands)
        return
    above, below = expected
    assert not (above and below)
    assert found.grows <= above and found.stands >= below
    assert found.grows <= found.goes_on
    # The bound and the answers are one: the threshold is outside of it on that side.
    assert (found.lower > threshold) == above or math.isclose(found.lower, threshold, rel_tol=1e-6)
    assert not below or found.upper < threshold or math.isclose(found.upper, threshold, rel_tol=1e-6)
    assert found.lower <= found.rate + 1e-6 * abs(found.rate) + 1e-6 or above


@given(st.lists(st.integers(-(2**55), 2**55), min_size=1, max_size=POINTS), st.integers(0, 2**40))
def test_whatever_a_ledger_holds_it_answers(statistic: Statistic, held: list[int], start: int) -> None:
    found = statistic.judge([(start + i, value) for i, value in enumerate(held)])
    assert not (found.grows and found.stands)
    assert not any(math.isnan(x) for x in (found.rate, found.lower, found.upper))


# --- leaks, and what is none ------------------------------------------------------------------------------------------


class Held(NamedTuple):
    """After each call: what all calls hold, and what they do where each counts for CAP bytes at most."""

    bytes: list[float]
    capped: list[float]


def left(calls: Iterable[float]) -> Held:
    """Of what each call leaves for good."""
    sizes = list(calls)
    return Held(list(itertools.accumulate(sizes)), list(itertools.accumulate(min(size, CAP) for size in sizes)))


def with_garbage(held: Held, garbage: Iterable[tuple[float, float]]) -> Held:
    more, capped = zip(*garbage, strict=True)
    return Held(list(map(add, held.bytes, more)), list(map(add, held.capped, capped)))


def warm(rng: random.Random, calls: int = CALLS) -> Held:
    """A cache that is full after 300 calls at most."""
    full, size = rng.randrange(20, 300), rng.choice([200, 1000, 10000, 100000])
    return left(size if n < full else 0 for n in range(calls))


def lru(rng: random.Random, size: int, keys: int, value: Callable[[int], float]) -> Held:
    cache: collections.OrderedDict[int, float] = collections.OrderedDict()
    total = capped = 0.0
    held = Held([], [])
    for call in range(CALLS):
        key = rng.randrange(keys)
        if key not in cache:
            cache[key] = value(call)
            total, capped = total + cache[key], capped + min(cache[key], CAP)
            if len(cache) > size:
                _, gone = cache.popitem(last=False)
                total, capped = total - gone, capped - min(gone, CAP)
        cache.move_to_end(key)
        held.bytes.append(total)
        held.capped.append(capped)
    return held


def flat(rng: random.Random) -> Held:
    return warm(rng)


def heavy(rng: random.Random) -> Held:
    tail = rng.choice([1.2, 1.5, 2.5])
    return lru(rng, rng.choice([16, 64, 128, 256]), 10**6, lambda _: 1000 * rng.paretovariate(tail))


def bounded(rng: random.Random) -> Held:
    usual, spread = rng.choice([200, 2000, 50000]), rng.choice([0.2, 1, 2])
    return lru(rng, rng.choice([32, 128]), rng.choice([200, 1000]), lambda _: usual * rng.lognormvariate(0, spread))


def load_changes(rng: random.Random) -> Held:
    change, times = rng.choice([500, 750, 1000, 2500]), rng.choice([2, 5, 20])
    return lru(
        rng, rng.choice([32, 128, 250]), 10**6,
        lambda call: (times if call > change else 1) * 1000 * rng.lognormvariate(0, 0.3),
    )  # fmt: skip


def smaller(rng: random.Random) -> Held:
    """A cache of so many bytes holds more and more calls, once what they leave is less: that is no leak."""
    change, limit, size = rng.choice([750, 1000, 2500]), rng.choice([200_000, 2_000_000]), rng.choice([100, 200, 1000])
    cache: collections.deque[float] = collections.deque()
    total = capped = 0.0
    held = Held([], [])
    for call in range(CALLS):
        cache.append((20000 if call < change else size) * rng.lognormvariate(0, 0.3))
        total, capped = total + cache[-1], capped + min(cache[-1], CAP)
        while total > limit:
            gone = cache.popleft()
            total, capped = total - gone, capped - min(gone, CAP)
        held.bytes.append(total)
        held.capped.append(capped)
    return held


def collected(
    rng: random.Random, every: int, each: Callable[[], float], calls: int = CALLS
) -> list[tuple[float, float]]:
    """Garbage of each call, until the next collection, which is after about so many."""
    out, total, capped, due = [], 0.0, 0.0, 0
    for call in range(calls):
        if call >= due:
            total, capped, due = 0.0, 0.0, call + rng.randrange(every // 2, every * 3 // 2)
        size = each()
        total, capped = total + size, capped + min(size, CAP)
        out.append((total, capped))
    return out


def garbage(rng: random.Random) -> Held:
    size = rng.choice([200, 1000, 5000])
    return with_garbage(warm(rng), collected(rng, rng.randrange(20, 300), lambda: size))


def garbage_of_few(rng: random.Random) -> Held:
    """What survives the young collections is of those calls that were running then."""
    share = rng.choice([0.02, 0.1, 0.2])
    return with_garbage(
        warm(rng),
        collected(rng, rng.randrange(50, 400), lambda: rng.expovariate(1 / 20000) if rng.random() < share else 0),
    )


def jumps(rng: random.Random) -> Held:
    return left(rng.choice([1000, 10000]) if rng.random() < 0.001 else 0 for _ in range(CALLS))


def slow(rng: random.Random) -> Held:
    """Less than the threshold."""
    return with_garbage(left([32] * CALLS), [(rng.randrange(8) * 100, rng.randrange(8) * 100) for _ in range(CALLS)])


CLEAN = [flat, heavy, bounded, load_changes, smaller, garbage, garbage_of_few, jumps, slow]


@pytest.mark.parametrize("kind", CLEAN)
def test_no_alarm_where_nothing_leaks(statistic: Statistic, kind: Callable[[random.Random], Held]) -> None:
    rng = random.Random(kind.__name__)
    assert [alarm for alarm in (statistic.first_alarm(*kind(rng)) for _ in range(10)) if alarm] == []


@pytest.mark.check
def test_at_most_four_false_alarms_in_a_thousand_clean_runs(statistic: Statistic) -> None:
    rng = random.Random(1)
    alarms = collections.Counter(
        kind.__name__ for n in range(2700) if statistic.first_alarm(*(kind := CLEAN[n % len(CLEAN)])(rng))
    )
    assert alarms.total() <= 10, alarms


def table(entries: int) -> int:
    """A dict's, which doubles."""
    size = 8
    while entries > size * 2 // 3:
        size *= 2
    return size * 26


def in_a_table(rng: random.Random) -> Held:
    tables = [float(table(n)) for n in range(1000)]
    return with_garbage(left([200] * 1000), zip(tables, tables, strict=True))


LEAKS: dict[str, Callable[[random.Random], Held]] = {
    "steady": lambda rng: left([200] * 1000),
    "after a cache": lambda rng: with_garbage(left([200] * 1000), zip(*warm(rng, 1000), strict=True)),
    "every second call": lambda rng: left([0, 400] * 500),
    "of any size": lambda rng: left(rng.expovariate(1 / 200) for _ in range(1000)),
    "in a table": in_a_table,
    "beside noise": lambda rng: with_garbage(left([200] * 1000), [(rng.randrange(8) * 100,) * 2 for _ in range(1000)]),
    "among garbage of few": lambda rng: with_garbage(
        left([200] * 1000),
        collected(rng, 150, lambda: rng.expovariate(1 / 20000) if rng.random() < 0.05 else 0, 1000),
    ),
}


@pytest.mark.parametrize("kind", LEAKS)
def test_a_leak_is_told_within_a_thousand_calls(statistic: Statistic, kind: str) -> None:
    rng = random.Random(kind)
    alarms = [statistic.first_alarm(*LEAKS[kind](rng)) for _ in range(5)]
    assert all(alarm is not None and 500 <= alarm <= 1000 for alarm in alarms), alarms


def test_the_bound_holds_what_is_true_however_often_one_looks(statistic: Statistic) -> None:
    rng, wrong = random.Random(7), 0
    for _ in range(100):
        points, held = [], 0.0
        for n in range(8, 1001, 8):
            held += sum(rng.choice([0, 400]) for _ in range(8))
            points.append((n, int(held)))
            found = statistic.judge(points)
            wrong += found.known and not found.lower <= 200 <= found.upper
    assert wrong <= 4 * 10  # of 6,200 looks: one series that is wrong is so a few times in a row


def test_descriptors_are_judged_where_they_are_known(statistic: Statistic) -> None:
    points = [(n, -1 if n % 3 else 5 + n) for n in range(8, 1001, 4)][-POINTS:]
    found = statistic.judge(points, 1 / 64, what=DESCRIPTORS)
    assert found.known and found.grows and found.rate == pytest.approx(1)
