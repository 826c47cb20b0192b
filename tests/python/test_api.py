"""start() and stop(): what opens and closes the books, and what is refused."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from programs import Program, printed, program

__all__ = ["program"]
pytestmark = pytest.mark.core

ROOT = Path(__file__).resolve().parents[2]
HEAD = "import bursar, json, os, sys, warnings\nfrom bursar import _bursar\n"


def test_nothing_is_loaded_before_it_is_asked_for(program: Program) -> None:
    done = program(
        HEAD + "loaded = [name for name in sys.modules if name.startswith('bursar')]\n"
        "public = {name: type(getattr(bursar, name)).__name__ for name in bursar.__all__}\n"
        "assert set(bursar.__all__) <= set(dir(bursar))\n"
        "print(json.dumps([loaded, public]))\n"
    )
    loaded, public = printed(done)
    assert loaded == ["bursar", "bursar._bursar"]
    functions = ("balance", "carry", "get_include", "memory_usage", "profile", "start", "stop", "track")
    functions += ("assert_no_residue", "residue", "secret_array", "unwatch_predict", "watch_predict")
    functions += ("assert_no_leak", "verdict")
    functions += ("freeze", "no_core", "thaw", "verify", "wipe_argv", "wipe_caches", "wipe_environ")
    functions += ("convert", "governor", "keep_open", "load", "open", "prefork", "reclaim", "save", "score", "shared")
    functions += ("stream",)
    classes = ("Balance", "BudgetExceeded", "Converted", "Governor", "Reclaimed", "Refused", "Residue", "ResidueError")
    classes += ("LeftOpenError", "LeftOpenWarning", "SecretArray", "SecretBytes", "Shared", "Spec", "scope")
    classes += ("LeakSite", "Undecided", "Verdict")
    functions += ("admit", "isolated", "release", "unload")
    classes += ("Admission", "CannotUnload", "IsolatedError", "NoRoom")
    types = dict.fromkeys(classes, "type")
    others = {"__version__": "str", "Model": "ABCMeta", "Stream": "ABCMeta"}
    assert public == others | types | dict.fromkeys(functions, "function")


def test_an_unknown_name_is_an_attribute_error(program: Program) -> None:
    done = program(HEAD + "try: bursar.nothing\nexcept AttributeError as error: print(error)\n")
    assert done.stdout == "module 'bursar' has no attribute 'nothing'\n"


def test_the_version_is_that_of_the_build(program: Program) -> None:
    build = re.search(r"^  version: '([^']+)'", (ROOT / "meson.build").read_text(), re.M)
    assert build is not None
    assert program(HEAD + "print(bursar.__version__)\n").stdout == build[1] + "\n"


def test_start_books_until_stop(program: Program, ledger: Path, facts: Callable[[Path], dict[str, Any]]) -> None:
    done = program(
        HEAD + "before = _bursar.status()['mode'], _bursar.live_bytes()\n"
        "assert bursar.start('exact', output=sys.argv[1]) is None\n"
        "during = _bursar.status()\n"
        "kept = bytearray(3 << 20)\n"
        "held = _bursar.live_bytes()\n"
        "bursar.stop()\n"
        "after = bytearray(50 << 20)\n"
        "bursar.stop()  # again: nothing happens\n"
        "print(json.dumps([before, during, held, _bursar.status()['mode'], _bursar.live_bytes()]))\n",
        ledger,
    )
    before, during, held, mode, live = printed(done)
    assert before == ["off", -1]
    assert (during["mode"], during["path"], during["broken"]) == ("exact", str(ledger), None)
    assert 3 << 20 <= held < 4 << 20
    assert (mode, live) == ("off", -1)
    read = facts(ledger)
    assert read["complete"]
    assert 3 << 20 <= read["peak_bytes"] < 4 << 20  # not the 50 MiB after stop()


def test_start_without_stop_is_closed_at_exit(
    program: Program, ledger: Path, facts: Callable[[Path], dict[str, Any]]
) -> None:
    program(HEAD + "bursar.start(output=sys.argv[1])\nkept = bytearray(1 << 20)\n", ledger)
    assert facts(ledger)["complete"]


def test_start_without_output_goes_to_the_default_place(program: Program, environment: dict[str, str]) -> None:
    done = program(HEAD + "bursar.start()\nprint(_bursar.status()['path'])\n")
    path = Path(done.stdout.strip())
    assert path.parent == Path(environment["BURSAR_DIR"])
    assert path.exists()


def test_a_second_start(program: Program, ledger: Path, tmp_path: Path) -> None:
    done = program(
        HEAD + "bursar.start(output=sys.argv[1])\n"
        "bursar.start()  # the same books\n"
        "print(_bursar.status()['path'])\n"
        "try: bursar.start(output=sys.argv[2])\n"
        "except RuntimeError as error: print(error)\n"
        "bursar.stop()\n"
        "bursar.start(output=sys.argv[2])\n"
        "print(_bursar.status()['path'])\n",
        ledger,
        tmp_path / "other.bursar",
    )
    assert done.stdout.splitlines() == [
        str(ledger),
        f"the books are open already, in {ledger}: call bursar.stop() first",
        str(tmp_path / "other.bursar"),
    ]


@pytest.mark.parametrize(
    ("mode", "line"),
    [
        ("exactly", "unknown mode 'exactly': use one of sample, count, exact"),
        ("off", "unknown mode 'off': use one of sample, count, exact"),
    ],
)
def test_modes_that_do_not_exist(program: Program, mode: str, line: str) -> None:
    done = program(
        HEAD + "try: bursar.start(sys.argv[1])\n"
        "except ValueError as error: print(error)\n"
        "print(_bursar.live_bytes())\n",
        mode,
    )
    assert done.stdout.splitlines() == [line, "-1"]


def test_start_replaces_a_ledger_only_by_force_and_never_another_file(
    program: Program, ledger: Path, tmp_path: Path
) -> None:
    text = (
        HEAD + "for force in (False, True):\n"
        "    try: bursar.start(output=sys.argv[1], force=force)\n"
        "    except (RuntimeError, ValueError) as error: print('refused', '\\n' not in str(error))\n"
        "    else: print('opened')\n"
        "    bursar.stop()\n"
    )
    program(HEAD + "bursar.start(output=sys.argv[1])\n", ledger)
    assert program(text, ledger).stdout.splitlines() == ["refused True", "opened"]
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    assert program(text, mine).stdout.splitlines() == ["refused True"] * 2
    assert mine.read_text() == "mine"


def test_stopped_books_may_be_replaced_at_once(
    program: Program, ledger: Path, facts: Callable[[Path], dict[str, Any]]
) -> None:
    program(
        HEAD + "for size in (1, 2, 3):\n"
        "    bursar.start('exact', output=sys.argv[1], force=True)\n"
        "    kept = bytearray(size << 20)\n"
        "    try: bursar.start(output=sys.argv[1] + '.2', force=True)\n"
        "    except RuntimeError: pass\n"
        "    bursar.stop()\n",
        ledger,
    )
    assert 3 << 20 <= facts(ledger)["peak_bytes"] < 4 << 20
    assert [path.name for path in ledger.parent.glob(ledger.name + "*")] == [ledger.name]


@pytest.mark.parametrize("path", ["b'bytes.bursar'", "pathlib.Path('path.bursar')", "os.fsdecode(b'\\xff.bursar')"])
def test_a_ledger_of_any_name(program: Program, path: str) -> None:
    done = program(
        HEAD + f"import pathlib\nbursar.start(output={path})\n"
        "where = _bursar.status()['path']\n"
        f"assert os.fspath(where) == os.path.join(os.getcwd(), os.fsdecode({path}))\n"
        "try: bursar.start(output='other')\n"
        "except RuntimeError as error: print(ascii(str(error)))\n"
        "bursar.stop()\n"
        f"try: bursar.start(output={path})\n"
        "except RuntimeError as error: print(os.path.exists(where), '\\n' not in str(error))\n"
    )
    first, second = done.stdout.splitlines()
    assert "the books are open already, in " in first
    assert second == "True True"


def test_a_default_place_of_any_name(program: Program, tmp_path: Path) -> None:
    done = program(
        HEAD + "os.environb[b'BURSAR_DIR'] = os.getcwdb() + b'/\\xff'\n"
        "with bursar.track() as t: kept = bytes(1000)\n"
        "print(t.live_bytes >= 1000)\n"
    )
    assert done.stdout == "True\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("cap=-1", "cap=-1 is no size for a ledger: from 4194304 (4 MiB) to 4294967296 (4 GiB)"),
        ("cap=1000", "cap=1000 is no size for a ledger: from "),
        ("cap=2**64", "cap=18446744073709551616 is no size for a ledger: from "),
        ("temporary_within=0", "temporary_within=0 is no number of allocations from 1 to 1024"),
        ("temporary_within=1025", "temporary_within=1025 is no number of allocations from 1 to 1024"),
    ],
)
def test_a_number_out_of_its_range(program: Program, arguments: str, said: str) -> None:
    done = program(
        HEAD + f"try: bursar.start(output='x.bursar', {arguments})\n"
        "except ValueError as error: print(error)\n"
        "print(os.path.exists('x.bursar'))\n"
    )
    line, left = done.stdout.splitlines()
    assert line.startswith(said)
    assert left == "False"


@pytest.mark.parametrize("cap", [4 << 20, 4 << 30])
def test_the_least_and_the_greatest_ledger(
    program: Program, ledger: Path, facts: Callable[[Path], dict[str, Any]], cap: int
) -> None:
    program(HEAD + f"bursar.start('exact', output=sys.argv[1], cap={cap})\nkept = bytearray(3 << 20)\n", ledger)
    assert 3 << 20 <= facts(ledger)["peak_bytes"] < 4 << 20


def test_no_ledger_is_left_where_the_books_cannot_be_opened(program: Program) -> None:
    done = program(
        HEAD + "try: bursar.start(output='x.bursar', cap=5e6)\n"
        "except TypeError: print(os.path.exists('x.bursar'))\n"
    )
    assert done.stdout == "False\n"


def test_under_run_start_changes_nothing(bursar: Any, tmp_path: Path, ledger: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        HEAD + "path = _bursar.status()['path']\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    bursar.start(); bursar.start('exact', output='elsewhere.bursar')\n"
        "    quiet = len(caught)\n"
        "    bursar.start('sample')\n"
        "said = [str(warning.message) for warning in caught]\n"
        "print(json.dumps([path, _bursar.status(), quiet, said, os.path.exists('elsewhere.bursar')]))\n"
    )
    path, status, quiet, warned, elsewhere = printed(bursar("run", "-o", ledger, script))
    assert path == status["path"] == str(ledger)
    assert (status["mode"], quiet, elsewhere) == ("exact", 0, False)
    assert warned == ["the books are kept in mode exact already: start(mode='sample') changes nothing"]


def test_a_forked_child_has_no_books(program: Program, ledger: Path) -> None:
    done = program(
        HEAD + "bursar.start('exact', output=sys.argv[1])\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    off = _bursar.live_bytes() == -1\n"
        "    with bursar.track() as t: kept = bytearray(1 << 20)\n"
        "    good = off and t.live_bytes >= 1 << 20 and _bursar.live_bytes() == -1\n"
        "    os._exit(0 if good else 1)\n"
        "print(os.waitpid(child, 0)[1], _bursar.live_bytes() > 0, _bursar.status()['path'] == sys.argv[1])\n",
        ledger,
    )
    assert done.stdout == "0 True True\n"


def test_followed_children_have_ledgers_of_their_own(
    program: Program, ledger: Path, facts: Callable[[Path], dict[str, Any]]
) -> None:
    done = program(
        HEAD + "bursar.start('exact', output=sys.argv[1], follow_fork=True)\n"
        "child = os.fork()\n"
        "kept = bytearray((2 if child else 5) << 20)\n"
        "if child:\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "    print(child)\n",
        ledger,
    )
    child = Path(f"{ledger}.{done.stdout.strip()}")
    for path, held in ((ledger, 2), (child, 5)):
        read = facts(path)
        assert read["complete"]
        assert held << 20 < read["peak_bytes"] < (held + 1) << 20
