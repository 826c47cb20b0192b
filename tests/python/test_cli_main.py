"""The command's frame: help, versions, and what is said of verbs, options and values that are not there."""

from collections.abc import Callable

import pytest
from running import Run

VERBS = ["run", "report", "balance", "scan", "model", "imports", "diff", "verdict", "policy", "ls", "clean"]
Complains = Callable[..., str]


def test_help_names_every_verb(bursar: Run) -> None:
    done = bursar("--help")
    assert (done.returncode, done.stderr) == (0, "")
    words = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert words == VERBS


def test_alone_it_helps_and_fails(bursar: Run) -> None:
    done = bursar()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == bursar("--help").stdout


def test_version(bursar: Run) -> None:
    done = bursar("--version")
    assert (done.returncode, done.stderr) == (0, "")
    name, version = done.stdout.split()
    assert name == "bursar"
    assert version[0].isdigit()


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help(bursar: Run, verb: str) -> None:
    for flag in ("--help", "-h"):
        done = bursar(verb, flag)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"usage: bursar {verb} ")
        assert "--help" in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 110


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["rnu"], "no verb 'rnu': did you mean bursar run?"),
        (["reprot"], "no verb 'reprot': did you mean bursar report?"),
        (["ballast"], "no verb 'ballast': see bursar --help"),
        (["--list"], "no option '--list': did you mean bursar ls?"),
        (["--quiet"], "no option '--quiet': see bursar --help"),
        (["run", "--follow", "x.py"], "run: no option --follow: did you mean --follow-fork?"),
        (["run", "--temporary", "3", "x.py"], "run: no option --temporary: did you mean --temporary-within?"),
        (["run", "--sideways", "x.py"], "run: no option --sideways: see bursar run --help"),
        (["run", "-X", "dev", "x.py"], "run: no option -X: see bursar run --help"),
        (["run", "--follow-fork=yes", "x.py"], "run: --follow-fork takes no value"),
        (["run", "-o"], "run: -o needs a value: -o FILE"),
        (["run", "--mode", "off", "x.py"], "run: no mode 'off': there"),
        (["run", "--mode=exat", "x.py"], "run: no mode 'exat': did you mean exact?"),
        (["run", "--temporary-within", "0", "x.py"], "run: --temporary-within takes a number of allocations, 1 to "),
        (["run", "--temporary-within=3x", "x.py"], "run: --temporary-within takes a number of allocations, 1 to "),
        (["run", "--temporary-within=-1", "x.py"], "run: --temporary-within takes a number of allocations, 1 to "),
        (["run"], "run: nothing to run: "),
        (["run", "--"], "run: nothing to run after --"),
        (["run", "-m"], "run: -m needs a value: -m MODULE"),
        (["run", "-c"], "run: -c needs a value: -c CODE"),
        (["run", "-f", "x.py"], "run: -f replaces the ledger that -o names"),
        (["ls", "all"], "ls takes no all: see bursar ls --help"),
        (["ls", "--format", "html"], "ls: no format 'html': there is text, json"),
        (["clean", "--all"], "clean: no option --all: see bursar clean --help"),
    ],
)
def test_wrong_use_is_one_line(complains: Complains, words: list[str], expected: str) -> None:
    assert complains(2, *words).startswith(f"bursar: {expected}")


def test_a_word_with_terminal_escapes_is_only_text(complains: Complains) -> None:
    assert "\\x1b]0;owned\\x07" in complains(2, "\x1b]0;owned\x07")
    assert "a\\x0ab" in complains(2, "run", "a\nb")
    assert "no verb '\\u{9b}31m\\u{202e}\\xff': " in complains(2, "\x9b31m\u202e\udcff")


def test_a_closed_stdout_is_said(bursar: Run) -> None:
    with open("/dev/full", "w") as full:
        done = bursar("--help", stdout=full)
    assert done.returncode == 1
    assert done.stderr == "bursar: cannot write the output: No space left on device\n"
