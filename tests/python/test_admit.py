"""bursar.admit(): who is let in, who waits, who is turned away, and what the middlewares answer then."""

import json
from pathlib import Path

import pytest
from programs import Program, printed, program
from running import Run
from test_limits import HEAD
from test_scopes_web import ASGI

__all__ = ["program"]
pytestmark = pytest.mark.core

MIB = 1 << 20
LIMITED = (
    HEAD
    + "bursar.start('exact', output='a.bursar', force=True)\n"
    + "def limit(room): _bursar.limit_set(None, '', _bursar.budget_held(None) + room, False)\n"
)


def test_without_a_limit_everybody_is_let_in(program: Program) -> None:
    program(
        HEAD + "def all_in(): return all(bursar.admit('load', '1 TiB') for _ in range(3))\n"
        "assert all_in()\n"  # no books
        "bursar.start('exact', output='a.bursar')\n"
        "assert all_in()\n"
        "with bursar.admit('load') as s: assert isinstance(s, bursar._bursar.Scope) and s.name == 'load'\n"
    )


def test_room_is_kept_for_who_was_let_in(program: Program) -> None:
    """Until they leave, whether they hold it yet or not; once they do it does not count twice."""
    done = program(
        LIMITED + "limit(100 * MIB)\n"
        "first, second = bursar.admit('load', '40 MiB'), bursar.admit('load', '40 MiB')\n"
        "third = bursar.admit('load', '40 MiB')\n"
        "answers = [bool(first), bool(second), bool(third)]\n"
        "with first as s:\n"
        "    kept = bytearray(39 * MIB)\n"
        "    answers.append(bool(bursar.admit('load', '40 MiB')))\n"
        "    answers.append(bool(bursar.admit('load', '15 MiB')))\n"  # refused nothing: dropped at once
        "del kept\n"
        "answers.append(bool(bursar.admit('load', '40 MiB')))\n"
        "second.release(); second.release()\n"
        "answers.append(bool(bursar.admit('load', '90 MiB')))\n"
        "no = third.no_room\n"
        "print(json.dumps([answers, no.scope, no.estimate, no.room, no.retry_after, str(no)]))\n"
    )
    answers, scope, estimate, room, after, text = printed(done)
    assert answers == [True, True, False, False, True, True, True]
    assert (scope, estimate, after) == ("load", 40 * MIB, 1)
    assert 18 * MIB < room <= 20 * MIB  # Python has grown a little since
    assert text == f"no room for 'load': it takes about {40 * MIB} bytes, and there are {room}"


def test_what_such_requests_took_is_learned(program: Program) -> None:
    """What 95 % of them did not pass, within the sixteenth of a doubling that counters are apart."""
    done = program(
        LIMITED + "for size in [10] * 19 + [200]:\n"
        "    with bursar.scope('load'): bytearray(size * MIB)\n"
        "limit(100 * MIB)\n"
        "held, estimates = [], []\n"
        "while True:\n"
        "    a = bursar.admit('load')\n"
        "    if not a: break\n"
        "    held.append(a)\n"
        "print(json.dumps([len(held), a.no_room.estimate]))\n"
    )
    count, estimate = printed(done)
    assert estimate == pytest.approx(10 * MIB, rel=0.05)
    assert count == int(100 * MIB / estimate)


def test_who_is_alone_is_let_in(program: Program) -> None:
    """A service whose usual request does not fit any more must not turn everybody away for ever; who says how much
    it will take is taken at its word."""
    program(
        LIMITED + "with bursar.scope('load'): bytearray(50 * MIB)\n"
        "limit(10 * MIB)\n"
        "alone = bursar.admit('load')\n"
        "assert alone and not bursar.admit('load')\n"
        "alone.release()\n"
        "assert not bursar.admit('load', '50 MiB')\n"
        "with bursar.admit('load'): pass\n"
        "try:\n"
        "    with bursar.admit('load', '50 MiB'): raise SystemExit('let in')\n"
        "except bursar.NoRoom as error: assert error.estimate == 50 * MIB\n"
    )


def test_a_limit_of_its_name_counts_too(program: Program) -> None:
    program(
        LIMITED + "_bursar.limit_set('load', 'sum', 50 * MIB, False)\n"
        "limit(1000 * MIB)\n"
        "with bursar.scope('load'): kept = bytearray(20 * MIB)\n"
        "a = bursar.admit('load', '20 MiB')\n"
        "assert a and not bursar.admit('load', '20 MiB') and bursar.admit('other', '20 MiB')\n"
    )


def test_who_waits_is_let_in_one_after_another(program: Program) -> None:
    done = program(
        LIMITED + "limit(100 * MIB)\n"
        "first, order, threads = bursar.admit('load', '60 MiB'), [], []\n"
        "def wait(number):\n"
        "    with bursar.admit('load', '60 MiB', wait=30):\n"
        "        order.append(number)\n"
        "        assert number == 4 or not bursar.admit('load', 1), 'others come before'\n"
        "for number in range(5):\n"
        "    threads.append(threading.Thread(target=wait, args=(number,)))\n"
        "    threads[-1].start()\n"
        "    until(lambda: len(bursar._admit.gate._waiting) == number + 1)\n"
        "began = time.monotonic()\n"
        "late = bursar.admit('load', '60 MiB', wait=0.05)\n"
        "took = time.monotonic() - began\n"
        "first.release()\n"
        "for thread in threads[:-1]: thread.join()\n"
        "print(json.dumps([order[:4], bool(late), took]))\n"
    )
    order, late, took = printed(done)
    assert order == [0, 1, 2, 3]
    assert not late and 0.05 <= took < 5


def test_who_is_turned_away_is_an_event(program: Program, bursar: Run, tmp_path: Path) -> None:
    program(LIMITED + "limit(10 * MIB)\nassert not bursar.admit('load', '20 MiB')\n")
    events = json.loads(bursar("report", tmp_path / "a.bursar", "--view", "events", "--format", "json").stdout)
    (event,) = events["events"]
    assert (event["kind"], event["scope"], event["bytes"]) == ("shed", "load", 20 * MIB)
    assert event["text"].startswith("no room: ")


def test_a_forked_child_has_no_requests_of_its_parents(program: Program) -> None:
    program(
        HEAD + "bursar.start('exact', output='a.bursar', follow_fork=True, budget='1 GiB')\n"
        "a = bursar.admit('load', '900 MiB')\n"
        "pid = os.fork()\n"
        "if not pid: os._exit(0 if bursar.admit('load', '800 MiB') else 1)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "assert not bursar.admit('load', '800 MiB')\n"
    )


def test_what_makes_no_sense(program: Program) -> None:
    program(
        HEAD + "for wrong in ({'estimate': 0}, {'estimate': 'lots'}, {'wait': -1}, {'wait': 'a'}, {'wait': 1e9},\n"
        "              {'hard': -1}, {'estimate': 1.5}, {'wait': True}):\n"
        "    try: bursar.admit('load', **wrong)\n"
        "    except (ValueError, TypeError): continue\n"
        "    raise SystemExit(wrong)\n"
        "import pickle\n"
        "no = pickle.loads(pickle.dumps(bursar.NoRoom('load', 5, -3, 2)))\n"
        "assert (no.scope, no.estimate, no.room, no.retry_after) == ('load', 5, -3, 2)\n"
    )


# Enough of them that the few which take little do not change what is usual.
TAKEN = """
for name in 40 * ["GET /x", "WEBSOCKET /x"]:
    with bursar.scope(name): bytearray(30 << 20)
"""
WEB = """
from bursar import _bursar
MIB = 1 << 20
_bursar.limit_set(None, '', _bursar.budget_held(None) + 50 * MIB, False)
"""


def test_asgi_answers_with_503(program: Program) -> None:
    done = program(
        ASGI + TAKEN + WEB + "async def app(scope, receive, send):\n"
        "    await send(start())\n"
        "    await send(body(b'ok'))\n"
        "wrapped = ScopeMiddleware(app, route=lambda scope: '/x', admit=0)\n"
        "waits = ScopeMiddleware(app, route=lambda scope: '/x', admit=20)\n"
        "answers = [ask(wrapped, 'GET', '/x')[0]['status']]\n"
        "full = bursar.admit('GET /y', '60 MiB', wait=0)\n"
        "assert not full\n"
        "full = bursar.admit('GET /y', '45 MiB')\n"
        "no = ask(wrapped, 'GET', '/x')\n"
        "answers += [no[0]['status'], dict(no[0]['headers'])[b'retry-after'].decode(), no[1]['body'].decode()]\n"
        "answers.append(ask(wrapped, 'GET', '/x', kind='websocket'))\n"
        "import threading\n"
        "threading.Timer(0.05, full.release).start()\n"
        "answers.append(ask(waits, 'GET', '/x')[0]['status'])\n"
        "print(json.dumps(answers))\n"
    )
    first, status, after, text, websocket, waited = printed(done)
    assert (first, status, after, waited) == (200, 503, "1", 200)
    assert text == "There is no memory for one more request: try again later.\n"
    assert websocket == [{"type": "websocket.close", "code": 1013, "reason": "no memory for one more"}]


def test_wsgi_answers_with_503(program: Program) -> None:
    done = program(
        ASGI + TAKEN + WEB + "import bursar.wsgi\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return iter([b'ok']) if environ['PATH_INFO'] == '/parts' else [b'ok']\n"
        "def ask(path):\n"
        "    said = []\n"
        "    body = wrapped({'REQUEST_METHOD': 'GET', 'PATH_INFO': path}, lambda *a: said.append(a))\n"
        "    parts = list(body)\n"
        "    getattr(body, 'close', lambda: None)()\n"
        "    return [*said[0], b''.join(parts).decode()]\n"
        "wrapped = bursar.wsgi.ScopeMiddleware(app, route=lambda environ: '/x', admit=0)\n"
        "answers = [ask('/'), ask('/parts'), ask('/')]\n"  # each leaves its room again
        "full = bursar.admit('GET /y', '45 MiB')\n"
        "answers.append(ask('/'))\n"
        "print(json.dumps(answers))\n"
    )
    *through, no = printed(done)
    assert [answer[0] for answer in through] == ["200 OK"] * 3
    assert no[0] == "503 Service Unavailable" and ["retry-after", "1"] in no[1]
