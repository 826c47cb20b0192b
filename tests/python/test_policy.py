"""A policy as a file: what is wrong with one, each mistake with its line; and what binds where a program starts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import Done, Facts, Run

pytestmark = pytest.mark.core

MIB = 1 << 20
WHOLE = """\
# what the service may hold
[run]
mode = "count"
domains = ["python", "numpy"]
budget = "50%"

[budget]
"GET /predict" = "1 GiB"

[scope."GET /predict"]
hard = "300 MiB"
soft = "200 MiB"
left_open = "error"

[governor]
pause = 0.02

[verdict]
threshold = 128
"""
# What a program says of what binds it.
BINDS = (
    "import json, sys\n"
    "from bursar import _bursar\n"
    "governor = sys.modules.get('bursar._governor')\n"
    "threshold, warmup = _bursar.verdict_set(64, 500, False); _bursar.verdict_set(threshold, warmup, False)\n"
    "print(json.dumps({'mode': _bursar.status()['mode'],\n"
    "    'limits': {f'{name} {kind}': now for name, kind, now, first in _bursar.limits() if kind},\n"
    "    'process': _bursar.limit_of(None, ''), 'open': _bursar.open_defaults(), 'threshold': threshold,\n"
    "    'pause': governor and governor._one and governor._one._settings[1] / 1e9}))\n"
)
BOUND = {
    "mode": "count", "open": {"GET /predict": "error"}, "threshold": 128, "pause": 0.02,
    "limits": {"GET /predict sum": 1024 * MIB, "GET /predict hard": 300 * MIB, "GET /predict soft": 200 * MIB},
}  # fmt: skip


@pytest.fixture
def policy(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "bursar.toml"
        path.write_text(text)
        return path

    return write


def without_process(said: str) -> "dict[str, Any]":
    found: dict[str, Any] = json.loads(said)
    assert found.pop("process") > MIB
    return found


# --- check ------------------------------------------------------------------------------------------------------------


def test_it_explains_each_rule_with_its_line(bursar: Run, policy: Callable[[str], Path]) -> None:
    path = policy(WHOLE)
    done = bursar("policy", "check", path)
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows = done.stdout.splitlines()
    assert head == f"{path}: 10 rules, which bind from a program's start"
    assert [int(row.split()[0]) for row in rows] == [3, 4, 5, 8, 11, 12, 13, 15, 16, 19]
    assert rows[4].split("  ")[-1].strip() == "each entry may hold 300 MiB: what would take it above that is refused"
    facts = json.loads(bursar("policy", "check", path, "--format", "json").stdout)
    assert facts["good"] and facts["mistakes"] == [] and facts["schema"] == 1
    assert [rule["key"] for rule in facts["rules"]][3:6] == [
        'budget."GET /predict"', 'scope."GET /predict".hard', 'scope."GET /predict".soft',
    ]  # fmt: skip
    assert facts["rules"][4]["value"] == '"300 MiB"'


WRONG = [
    # negative, zero, unreadable, contradictory budgets
    ("[scope.a]\nhard = -1", 2, "-1 bytes are no limit; it is above 0"),
    ("[scope.a]\nhard = 0", 2, "0 bytes are no limit; it is above 0"),
    ('[scope.a]\nsoft = "0 MiB"', 2, "'0 MiB' is no limit; it is above 0"),
    ('[scope.a]\nsoft = "-3 MiB"', 2, "'-3 MiB' is no size; write bytes, or as \"300 MiB\""),
    ('[budget]\na = "much"', 2, "'much' is no size; write bytes, or as \"300 MiB\""),
    ('[budget]\na = "300 parsec"', 2, "no size"),
    ('[budget]\na = "99999999999 GiB"', 2, "too large; less than 8 EiB"),
    ("[budget]\na = 1.5", 2, "'a' takes a size, not a number; write"),
    ("[scope.a]\nhard = 300 MiB", 2, 'put texts in quotes, as in "300 MiB"'),
    ("[scope.a]\nhard = 10\nsoft = 11", 3, "soft of 'a' is 11 B, above its hard limit of 10 B in line 2"),
    ("[scope.a]\nhard = 11\n[budget]\na = 10", 2, "hard of 'a' is 11 B, above the budget of all its entries of 10 B"),
    ("[scope.a]\nsoft = 11\n[budget]\na = 10", 2, "soft of 'a' is 11 B, above the budget of all its entries"),
    ("[budget]\na = 11\n[run]\nbudget = 10", 2, "the budget of 'a' is 11 B, above the process's of 10 B in line 4"),
    ("[scope.a]\nhard = 11\n[run]\nbudget = 10", 2, "above the process's budget of 10 B"),
    ('[run]\nbudget = "0%"', 2, '\'0%\' is no part of the memory; write one from "1%" to "100%"'),
    ('[run]\nbudget = "101%"', 2, "no part of the memory"),
    ('[run]\nbudget = "%"', 2, "no part of the memory"),
    ('[run]\nbudget = "1e1%"', 2, "no part of the memory"),
    ('[scope.a]\nhard = "10%"', 2, "'10%' is no size"),
    ('[scope.a]\nhard = "none"', 2, "'none' is no size"),
    ("[scope.a]\nhard = true", 2, "'hard' takes a size, not true or false"),
    # unknown keys and words
    ("[scope.a]\nhrad = 1", 2, "no key 'hrad' in [scope.NAME]; did you mean hard?"),
    ("[scope.a]\nx = 1", 2, "there is hard, soft, left_open"),
    ("[governer]", 1, "no table 'governer'; did you mean governor?"),
    ("budgt = 1", 1, "no key 'budgt'; did you mean budget?"),
    ("[run]\nfollow-fork = true", 2, "no key 'follow-fork' in [run]; did you mean follow_fork?"),
    ('[run]\nmode = "smaple"', 2, "no mode 'smaple'; did you mean sample?"),
    ('[run]\ndomains = ["python", "nunpy"]', 2, "no domain 'nunpy'; did you mean numpy?"),
    ('[run]\ndomains = "all,xyz"', 2, "no domain 'xyz'; there is python.obj"),
    ("[run]\ndomains = []", 2, "'domains' is empty"),
    ("[run]\ndomains = [1]", 2, "'domains' takes texts, not a number"),
    ('[run]\ntune = "fast"', 2, "no tune 'fast'; there is serving"),
    ('[scope.a]\nleft_open = "warm"', 2, "no left_open 'warm'; did you mean warn?"),
    # other kinds than they take
    ("[run]\nwipe = 1", 2, "'wipe' takes true or false, not a number"),
    ("[run]\nmode = 1", 2, "'mode' takes a text, not a number"),
    ("[run]\ntemporary_within = 1025", 2, "takes a number from 1 to 1024"),
    ("[governor]\npause = 0", 2, "'pause' takes seconds, more than 0 and less than 3600"),
    ("[governor]\nidle = nan", 2, "'idle' takes seconds"),
    ('[governor]\nidle = "1 s"', 2, "'idle' takes seconds, not a text"),
    ("[verdict]\nwarmup = 499", 2, "'warmup' takes a number from 500"),
    ("[verdict]\nthreshold = 0", 2, "'threshold' takes a number from 1"),
    ("run = 1", 1, "'run' is a table, not a number; write [run]"),
    ("[[verdict]]", 1, "'verdict' is a table, not an array; write [verdict]"),
    ('[scope]\na = "1 MiB"', 2, "'a' is said a text of; write scope.NAME.hard, .soft or .left_open"),
    ("[scope.a.b]\nhard = 1", 1, 'a name with dots goes in quotes, as in [scope."a.b"]'),
    ("[budget]\na.b = 1", 2, 'a name with dots goes in quotes, as in "a.b" = "1 GiB"'),
    ('[scope.""]\nhard = 1', 1, "a scope without a name"),
    (f"[budget]\n{'n' * 256} = 1", 2, "a name of 256 bytes; it has at most 255"),
    # no TOML
    ("[run\n", 1, "a header that does not end"),
    ("[run]\nmode = 'count'\nmode = 'count'", 3, "'mode' is a text already, in line 2; leave one of the two"),
    ("[run]\n\n[run]", 3, "'run' has its table in line 1; add to it there"),
    ("[scope.GET /x]", 1, "quotes around a name"),
]


@pytest.mark.parametrize(("text", "line", "what"), WRONG)
def test_a_mistake_has_its_line_and_what_to_do(
    bursar: Run, policy: Callable[[str], Path], text: str, line: int, what: str
) -> None:
    path = policy(text)
    done = bursar("policy", "check", path)
    assert (done.returncode, done.stdout) == (1, "")
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"{path}:{line}: ") and what in said and "; " in said


def test_all_mistakes_are_said_at_once(bursar: Run, policy: Callable[[str], Path]) -> None:
    """One of each, the contradictions aside, in one file: none hides another."""
    lines, text = [], []
    for number, (wrong, line, _) in enumerate(WRONG):
        body = wrong.split("\n")
        if body[0].startswith("[scope.a]") and len(body) == 2:
            text += [f"[scope.a{number}]", body[1]]
            lines.append(len(text) - (line == 1))
    path = policy("\n".join(text))
    done = bursar("policy", "check", path)
    assert [int(said.split(":")[1]) for said in done.stderr.splitlines()] == lines
    assert len(lines) > 9


def test_a_name_that_hides_itself_is_shown(bursar: Run, policy: Callable[[str], Path]) -> None:
    done = bursar("policy", "check", policy('[scope."a\\u001b[31m\\n"]\nhrad = 1\nhard = 1\n[budget]\n"\\u202e" = 1\n'))
    assert all(line.isprintable() for line in done.stderr.splitlines()) and "hrad" in done.stderr


def test_too_many_names(bursar: Run, policy: Callable[[str], Path]) -> None:
    names = [f"name{number} = 1" for number in range(257)]
    assert bursar("policy", "check", policy("\n".join(["[budget]", *names[:256]]))).returncode == 0
    done = bursar("policy", "check", policy("\n".join(["[budget]", *names])))
    assert done.stderr.endswith(":258: more than 256 names of scopes; leave some out\n")


def test_wrong_use(complains: Callable[..., str], tmp_path: Path, policy: Callable[[str], Path]) -> None:
    assert "did you mean check?" in complains(2, "policy", "chekc", "x")
    assert "bursar policy check FILE" in complains(2, "policy")
    assert "bursar policy check FILE" in complains(2, "policy", "check")
    assert "bursar policy set (PID | LEDGER) KEY VALUE" in complains(2, "policy", "set", "1", "x")
    assert "did you mean json?" in complains(2, "policy", "check", policy(""), "--format", "jsno")
    assert "No such file" in complains(1, "policy", "check", tmp_path / "nowhere.toml")
    assert "is no regular file" in complains(1, "policy", "check", tmp_path)
    assert "is no regular file" in complains(1, "policy", "check", "/dev/zero")


def test_an_empty_policy_says_nothing(bursar: Run, policy: Callable[[str], Path]) -> None:
    assert ": 0 rules" in bursar("policy", "check", policy("# later\n")).stdout


# A model of it: which of a scope's limits are mistakes.
LIMIT = st.one_of(st.none(), st.integers(-1, 4))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(scopes=st.lists(st.tuples(LIMIT, LIMIT, LIMIT), min_size=1, max_size=5), process=LIMIT)
def test_limits_against_a_model(
    bursar: Run,
    policy: Callable[[str], Path],
    scopes: "list[tuple[int | None, int | None, int | None]]",
    process: "int | None",
) -> None:
    text, wrong = [], set()
    good = process if process is not None and process > 0 else None
    if process is not None:
        text += ["[run]", f"budget = {process}"]
        wrong |= {len(text)} if process < 1 else set()
    for number, limits in enumerate(scopes):
        at: dict[str, int] = {}
        values = {
            key: value
            for key, value in zip(("hard", "soft", "sum"), limits, strict=True)
            if value is not None and value > 0
        }
        for key, value in zip(("hard", "soft", "sum"), limits, strict=True):
            if value is not None:
                text.append(
                    f"{'budget' if key == 'sum' else 'scope'}.s{number}{'' if key == 'sum' else '.' + key} = {value}"
                )
                at[key] = len(text)
                wrong |= {len(text)} if value < 1 else set()
        hard, soft, total = (values.get(key, 99) for key in ("hard", "soft", "sum"))
        if "soft" in values and (soft > hard or ("hard" not in values and soft > total)):
            wrong.add(at["soft"])
        if "hard" in values and (hard > total or ("sum" not in values and good is not None and hard > good)):
            wrong.add(at["hard"])
        if "sum" in values and good is not None and total > good:
            wrong.add(at["sum"])
    if process is not None:  # dotted keys go before the table
        text, shift = text[2:] + text[:2], 2
        wrong = {line - shift if line > 2 else line + len(text) - 2 for line in wrong}
    done = bursar("policy", "check", policy("\n".join(text)), "--format", "json")
    assert {mistake["line"] for mistake in json.loads(done.stdout)["mistakes"]} == wrong, text
    assert done.returncode == (1 if wrong else 0)


# --- at the start -----------------------------------------------------------------------------------------------------


def test_run_applies_it(bursar: Run, policy: Callable[[str], Path], ledger: Path, facts: Facts) -> None:
    path = policy(WHOLE)
    done = bursar("run", "--policy", path, "-o", ledger, "-c", BINDS)
    assert done.returncode == 0, done.stderr
    assert without_process(done.stdout) == BOUND
    read = facts(ledger)
    assert read["mode"] == "count"
    (event,) = [event for event in read["events"] if event["kind"] == "changed"]
    assert event["text"] == f"policy {path}: 10 rules" and event["scope"] == "(process)"


def test_options_win(bursar: Run, policy: Callable[[str], Path], ledger: Path, facts: Facts) -> None:
    done = bursar(
        "run", "--policy", policy(WHOLE), "--mode", "exact", "--domains", "python.raw", "-o", ledger, "-c", ""
    )
    assert done.returncode == 0, done.stderr
    read = facts(ledger)
    assert read["mode"] == "exact"
    assert {domain["domain"] for domain in read["domains"] if domain["peak_bytes"]} == {"python.raw"}


@pytest.mark.parametrize(
    "text", ["[run]\nwipe = true", "[run]\nnative = true\nfollow_fork = true", '[run]\ntune = "serving"']
)
def test_what_run_does_before_the_program(bursar: Run, policy: Callable[[str], Path], text: str) -> None:
    """As the options do."""
    options = {"wipe": ["--wipe"], "native": ["--native", "--follow-fork"], "tune": ["--tune", "serving"]}
    program = (
        "import os, re, sys; from bursar import _bursar\n"
        "run = os.environ.get('BURSAR_RUN', '')\n"
        "print(re.sub('(pid|out|policy)=[^;]*', '', run), 'libbursar' in open('/proc/self/maps').read(),\n"
        "      os.environ.get('ARROW_DEFAULT_MEMORY_POOL'))\n"
    )
    option = next(words for key, words in options.items() if key in text)
    by_file = bursar("run", "--policy", policy(text), "-c", program)
    by_option = bursar("run", *option, "-c", program)
    assert by_file.returncode == by_option.returncode == 0, by_file.stderr
    assert by_file.stdout == by_option.stdout


def test_run_does_not_begin_with_mistakes(
    complains: Callable[..., str], policy: Callable[[str], Path], tmp_path: Path, ledger: Path
) -> None:
    path = policy('[run]\nmode = "smaple"\nx = 1\n')
    program = "open('ran', 'w')"
    said = complains(2, "run", "--policy", path, "-o", ledger, "-c", program)
    assert said == f"bursar: {path}:2: no mode 'smaple'; did you mean sample? (and 1 more): see bursar policy check\n"
    assert "No such file" in complains(1, "run", "--policy", tmp_path / "none", "-o", ledger, "-c", program)
    assert not (tmp_path / "ran").exists() and not ledger.exists()


def test_a_program_without_python_is_told(bursar: Run, policy: Callable[[str], Path]) -> None:
    done = bursar("run", "--policy", policy("[scope.a]\nhard = 1\n"), "--", "/bin/true")
    assert done.returncode == 0 and "the policy's limits bind Python alone: none binds /" in done.stderr


def test_the_program_may_be_elsewhere(bursar: Run, policy: Callable[[str], Path], tmp_path: Path, python: str) -> None:
    """A relative path, read by a child in another folder."""
    policy("[scope.a]\nhard = 4096\n")
    child = f"import os, subprocess; os.chdir('/'); subprocess.run([{python!r}, '-c', {BINDS!r}])"
    done = bursar("run", "--follow-fork", "--policy", "bursar.toml", "-c", child)
    assert json.loads(done.stdout)["limits"] == {"a hard": 4096}, done.stderr


def started(execute: Run, python: str, environment: "dict[str, str | None]", *options: str) -> Done:
    done = execute(python, *options, "-c", BINDS, env=environment)
    assert done.returncode == 0, done.stderr
    return done


def test_bursar_policy_applies_it(execute: Run, python: str, policy: Callable[[str], Path]) -> None:
    done = started(execute, python, {"BURSAR_POLICY": str(policy(WHOLE))})
    assert done.stderr == "" and without_process(done.stdout) == BOUND


def test_bursar_wins_over_its_mode(execute: Run, python: str, policy: Callable[[str], Path]) -> None:
    path = str(policy(WHOLE))
    done = started(execute, python, {"BURSAR_POLICY": path, "BURSAR": "exact"})
    assert done.stderr == "" and without_process(done.stdout) == BOUND | {"mode": "exact"}
    assert json.loads(started(execute, python, {"BURSAR_POLICY": path, "BURSAR": "off"}).stdout)["mode"] == "off"


def test_without_a_mode_it_samples(execute: Run, python: str, policy: Callable[[str], Path]) -> None:
    found = json.loads(started(execute, python, {"BURSAR_POLICY": str(policy("[scope.a]\nhard = 5\n"))}).stdout)
    assert found["mode"] == "sample" and found["limits"] == {"a hard": 5} and found["pause"] is None


@pytest.mark.parametrize("options", [("-E",), ("-I",)])
def test_it_is_not_heard(execute: Run, python: str, policy: Callable[[str], Path], options: "tuple[str, ...]") -> None:
    done = started(execute, python, {"BURSAR_POLICY": str(policy(WHOLE))}, *options)
    assert json.loads(done.stdout)["limits"] == {} and done.stderr == ""


def test_with_mistakes_the_program_goes_on(
    execute: Run, python: str, policy: Callable[[str], Path], bursar: Run
) -> None:
    path = str(policy("[scope.a]\nhard = 0\n"))
    done = started(execute, python, {"BURSAR_POLICY": path})
    assert json.loads(done.stdout)["mode"] == "off" and json.loads(done.stdout)["limits"] == {}
    assert done.stderr.startswith(f"bursar: no books are kept: {path}:2: 0 bytes are no limit; ")
    assert done.stderr.count("\n") == 1
    done = bursar("run", "-c", BINDS, env={"BURSAR_POLICY": path})
    assert json.loads(done.stdout)["mode"] == "exact"
    assert f"bursar: the policy does not bind: {path}:2:" in done.stderr


def test_under_run_its_rules_bind(bursar: Run, policy: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("[scope.a]\nhard = 7\n[run]\nmode = 'count'\n")
    environment = {"BURSAR_POLICY": str(tmp_path / "other.toml")}
    alone = json.loads(bursar("run", "-c", BINDS, env=environment).stdout)
    assert (alone["mode"], alone["limits"]) == ("exact", {"a hard": 7})
    both = json.loads(bursar("run", "--policy", policy("[scope.b]\nhard = 8\n"), "-c", BINDS, env=environment).stdout)
    assert both["limits"] == {"b hard": 8}


def test_children_have_it(execute: Run, python: str, policy: Callable[[str], Path]) -> None:
    """Forked, and executed."""
    text = (
        "import os, subprocess, sys\n"
        f"sys.stdout.flush(); pid = os.fork()\nif pid == 0:\n    exec({BINDS!r}); sys.stdout.flush(); os._exit(0)\n"
        f"os.waitpid(pid, 0); subprocess.run([sys.executable, '-c', {BINDS!r}], check=True)\n"
    )
    done = execute(python, "-c", text, env={"BURSAR_POLICY": str(policy("[scope.a]\nhard = 9\n"))})
    assert [json.loads(line)["limits"] for line in done.stdout.splitlines()] == [{"a hard": 9}] * 2


def test_what_is_left_open_is_an_error(execute: Run, python: str, policy: Callable[[str], Path]) -> None:
    text = (
        "import bursar\n"
        "try:\n    with bursar.scope('GET /predict'):\n        kept = open('/dev/null')\n"
        "except bursar.LeftOpenError as error:\n    print(error)\n"
    )
    done = execute(python, "-c", text, env={"BURSAR_POLICY": str(policy(WHOLE))})
    assert "'GET /predict' left open: " in done.stdout, done.stderr


def test_start_takes_one(execute: Run, python: str, policy: Callable[[str], Path], tmp_path: Path) -> None:
    path = policy(WHOLE)
    done = execute(python, "-c", f"import bursar; bursar.start(policy={str(path)!r})\n{BINDS}")
    assert done.stderr == "" and without_process(done.stdout) == BOUND
    done = execute(
        python, "-c", f"import bursar, pathlib; bursar.start('exact', policy=pathlib.Path({str(path)!r}))\n{BINDS}"
    )
    assert without_process(done.stdout) == BOUND | {"mode": "exact"}
    text = (
        "import bursar\n"
        "for wrong in ('[run]\\nmode = 1\\n', None):\n"
        "    if wrong: open('wrong.toml', 'w').write(wrong)\n"
        "    try:\n        bursar.start(policy='wrong.toml' if wrong else 'none.toml')\n"
        "    except (ValueError, OSError) as error:\n        print(type(error).__name__, error)\n"
        "from bursar import _bursar; print(_bursar.status()['mode'])"
    )
    said = execute(python, "-c", text).stdout.splitlines()
    assert said[0].startswith("ValueError wrong.toml:2: 'mode' takes a text, not a number; ")
    assert said[1:] == ["OSError cannot read the policy none.toml: No such file or directory", "off"]


def test_a_later_policy_only_makes_tighter(execute: Run, python: str, policy: Callable[[str], Path]) -> None:
    text = (
        "import bursar, warnings\n"
        'later = \'[scope."GET /predict"]\\nhard = "400 MiB"\\nsoft = "1 MiB"\\n[scope.b]\\nhard = 3\\n\'\n'
        "open('later.toml', 'w').write(later)\n"
        "with warnings.catch_warnings(record=True) as heard:\n"
        "    warnings.simplefilter('always'); bursar.start(policy='later.toml')\n"
        "(one,) = heard; assert one.filename == '<string>' and 'left out: 1' in str(one.message), one\n"
    )
    done = execute(python, "-c", text + BINDS, env={"BURSAR_POLICY": str(policy(WHOLE))})
    limits = json.loads(done.stdout)["limits"]
    assert limits == BOUND["limits"] | {"GET /predict soft": MIB, "b hard": 3}  # type: ignore[operator]


def test_files_that_cannot_be_read_stop_no_program(execute: Run, python: str, policy: Callable[[str], Path]) -> None:
    for path in ("/", "/dev/zero", "/nowhere", str(policy("x" * (300 << 10)))):
        done = execute(python, "-c", "print('ran')", env={"BURSAR_POLICY": path})
        assert (done.returncode, done.stdout) == (0, "ran\n")
        assert done.stderr.startswith("bursar: no books are kept: ") and done.stderr.count("\n") == 1
