"""The statistic of verdicts: against a slow model, and how often it is wrong where nothing leaks."""

import collections
import itertools
import math
import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from leak_series import POINTS, Statistic, model

CALLS = 5000
Held = list[float]


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


def warm(rng: random.Random) -> Iterator[float]:
    """A cache that is full after 300 calls at most."""
    full, size = rng.randrange(20, 300), rng.choice([200, 1000, 10000, 100000])
    return (min(n, full) * size for n in range(1, CALLS + 1))


def lru(rng: random.Random, size: int, keys: int, value: Callable[[int], float]) -> Held:
    cache: collections.OrderedDict[int, float] = collections.OrderedDict()
    total, held = 0.0, []
    for call in range(CALLS):
        key = rng.randrange(keys)
        if key not in cache:
            cache[key] = value(call)
            total += cache[key]
            if len(cache) > size:
                total -= cache.popitem(last=False)[1]
        cache.move_to_end(key)
        held.append(total)
    return held


def flat(rng: random.Random) -> Held:
    return list(warm(rng))


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


def garbage(rng: random.Random) -> Held:
    every, size = rng.randrange(20, 400), rng.choice([200, 1000, 5000])
    return [n % every * size + held for n, held in enumerate(warm(rng))]


def jumps(rng: random.Random) -> Held:
    total, held = 0, []
    for _ in range(CALLS):
        total += rng.choice([1000, 10000]) if rng.random() < 0.001 else 0
        held.append(total)
    return held


def slow(rng: random.Random) -> Held:
    """Less than the threshold."""
    return [32 * n + rng.randrange(8) * 100 for n in range(CALLS)]


CLEAN = [flat, heavy, bounded, load_changes, garbage, jumps, slow]


@pytest.mark.parametrize("kind", CLEAN)
def test_no_alarm_where_nothing_leaks(statistic: Statistic, kind: Callable[[random.Random], Held]) -> None:
    rng = random.Random(kind.__name__)
    assert [alarm for alarm in (statistic.first_alarm(kind(rng)) for _ in range(10)) if alarm] == []


@pytest.mark.check
def test_at_most_four_false_alarms_in_a_thousand_clean_runs(statistic: Statistic) -> None:
    rng = random.Random(1)
    alarms = collections.Counter(
        kind.__name__ for n in range(2002) if statistic.first_alarm((kind := CLEAN[n % len(CLEAN)])(rng))
    )
    assert alarms.total() <= 8, alarms


def table(entries: int) -> int:
    """A dict's, which doubles."""
    size = 8
    while entries > size * 2 // 3:
        size *= 2
    return size * 26


LEAKS: dict[str, Callable[[random.Random], Held]] = {
    "steady": lambda rng: [200 * n for n in range(1, 1001)],
    "after a cache": lambda rng: [200 * n + held for n, held in zip(range(1000), warm(rng), strict=False)],
    "every second call": lambda rng: [400 * (n // 2) for n in range(1000)],
    "of any size": lambda rng: list(itertools.accumulate(rng.expovariate(1 / 200) for _ in range(1000))),
    "in a table": lambda rng: [200 * n + table(n) for n in range(1000)],
    "beside noise": lambda rng: [200 * n + rng.randrange(8) * 100 for n in range(1000)],
}  # fmt: skip


@pytest.mark.parametrize("kind", LEAKS)
def test_a_leak_is_told_within_a_thousand_calls(statistic: Statistic, kind: str) -> None:
    rng = random.Random(kind)
    alarms = [statistic.first_alarm(LEAKS[kind](rng)) for _ in range(5)]
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
    found = statistic.judge(points, 1 / 64, what=1)
    assert found.known and found.grows and found.rate == pytest.approx(1)
