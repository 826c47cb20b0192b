"""`bursar run` behaves as `python` does: the same output, exit status, arguments, paths and signals, and nothing lost.

Each program is run twice, by the interpreter alone and under bursar, and compared. What is bursar's own is on stderr,
from the line that begins its summary; a program must never see any of it."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import Done, Facts, Run, with_site

pytestmark = pytest.mark.core

Both = Callable[..., "tuple[Done, Done]"]

HELD = 20_000_000
KEEP = f"kept = bytes({HELD})\n"
SUMMARY = re.compile(r"^bursar: ", re.M)
ADDRESS = re.compile(r"\b0x[0-9a-f]+\b")


def own_stderr(done: Done) -> str:
    """What the program itself said, but for addresses, which no two runs share."""
    summary = SUMMARY.search(done.stderr)
    return ADDRESS.sub("0x…", done.stderr[: summary.start()] if summary else done.stderr)


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Path]:
    """Saves a program, and returns its path."""

    def save(text: str) -> Path:
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(text))
        return path

    return save


@pytest.fixture
def both(bursar: Run, execute: Run, python: str, ledger: Path) -> Both:
    """Runs these arguments of python without and with bursar, and compares all that a caller sees."""

    def run(*arguments: "str | Path", **options: Any) -> "tuple[Done, Done]":
        plain = execute(python, *arguments, **options)
        kept = bursar("run", "-f", "-o", ledger, *arguments, **options)
        assert kept.returncode == plain.returncode, kept.stderr
        assert kept.stdout == plain.stdout
        assert own_stderr(kept) == own_stderr(plain)
        return plain, kept

    return run


# ---- what a program sees of itself ----


def test_arguments_and_paths(both: Both, program: Callable[[str], Path]) -> None:
    path = program("""
        import sys
        print(sys.argv, sys.path, sys.executable, sys.prefix, sys.orig_argv, sys.flags)
        print(__name__, __file__, __spec__, __package__, __builtins__, __doc__, sorted(globals()))
        import __main__
        print(vars(__main__) is globals())
    """)
    both(path, "a b", "", "--help", "-c", "é")
    both(path.name, "--", "--mode", "count")


def test_modules_code_folders_and_archives(both: Both, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    show = "import sys; print(sys.argv, sys.path[0], __name__, __package__, __spec__ and __spec__.name)\n"
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(show)
    (package / "part.py").write_text(show)
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        archive.writestr("__main__.py", show)
    for words in (["-m", "package"], ["-m", "package.part"], ["package"], ["package/"], ["app.pyz"], ["-c", show]):
        plain, _ = both(*words, "x", "-m", "y")
        assert "'x', '-m', 'y']" in plain.stdout
    both("-mpackage", "-x")
    both("-c" + show)


def test_a_program_on_stdin(both: Both) -> None:
    plain, _ = both("-", "x", input="import sys; print(sys.argv)\n")
    assert plain.stdout == "['-', 'x']\n"


def test_a_program_in_a_pipe(execute: Run, command: str, python: str) -> None:
    """As `python <(generate)` passes it: a path that can be opened once."""
    for words in ([python], [command, "run"]):
        done = execute("bash", "-c", '"$@" <(echo "print(123)")', "bash", *words)
        assert (done.returncode, done.stdout) == (0, "123\n"), done.stderr


def test_modules_threads_and_descriptors(
    execute: Run, bursar: Run, python: str, program: Callable[[str], Path]
) -> None:
    path = program("""
        import json, sys
        loaded = sorted(sys.modules)
        import os, signal, threading
        print(json.dumps({
            "modules": loaded,
            "threads": len(os.listdir("/proc/self/task")),
            "files": sorted(os.listdir("/proc/self/fd")),
            "environment": dict(os.environ),
            "handlers": [str(signal.getsignal(s)) for s in sorted(signal.valid_signals())],
            "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
            "umask": os.umask(0o77),
            "group": os.getpgid(0) == os.getppid(),
            "tracing": [str(sys.gettrace()), str(sys.getprofile()), threading.active_count()],
            "recursion": sys.getrecursionlimit(),
            "children": os.popen("env").read().splitlines(),
        }))
    """)
    plain, kept = (json.loads(done.stdout) for done in (execute(python, path), bursar("run", path)))
    for facts in (plain, kept):
        facts["children"] = sorted(line for line in facts["children"] if not line.startswith("_="))
    extra = set(kept.pop("modules")) - set(plain.pop("modules"))
    assert extra <= {"bursar", "bursar._boot", "bursar._bursar", "atexit"}
    assert kept == plain


def test_pid_parent_and_terminal(command: str, environment: dict[str, str], tmp_path: Path) -> None:
    code = "import os, sys; print(os.getpid(), os.getppid(), os.getsid(0), os.getpgrp(), sys.stdin.fileno())"
    with subprocess.Popen(
        [command, "run", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as program:
        out, _ = program.communicate(timeout=60)
    assert out == f"{program.pid} {os.getpid()} {os.getsid(0)} {os.getpgrp()} 0\n"


# ---- how it ends ----

ENDINGS = {
    "returns": "",
    "exits": "import sys; sys.exit(7)",
    "exits with a text": "import sys; sys.exit('that is all')",
    "exits with None": "import sys; sys.exit(None)",
    "exits with a large number": "import sys; sys.exit(256 + 3)",
    "raises": "1 / 0",
    "raises deep down": "def f(n):\n    return f(n - 1) if n else {}['x']\nf(5)",
    "raises a group": "import sys\nif sys.version_info >= (3, 11): raise ExceptionGroup('several', [ValueError(1)])",
    "raises SystemExit in a thread": "import threading, sys\nt = threading.Thread(target=sys.exit, args=[5])\n"
    "t.start(); t.join()",
    "raises at exit": "import atexit\n@atexit.register\ndef f(): raise ValueError('late')",
    "prints at exit": "import atexit\natexit.register(print, 'late')",
    "is interrupted": "import os, signal; os.kill(os.getpid(), signal.SIGINT)\nwhile True: pass",
    "interrupts itself": "raise KeyboardInterrupt",
    "leaves by a signal it handles": "import os, signal, sys\n"
    "signal.signal(signal.SIGTERM, lambda *a: sys.exit(9)); os.kill(os.getpid(), signal.SIGTERM)\nwhile True: pass",
    "has an error in a finalizer": "class C:\n    def __del__(self): raise ValueError('gone')\nc = C(); del c",
    "has a hook for exceptions": "import sys\nsys.excepthook = lambda *a: print('hooked')\n1 / 0",
    "has a thread that outlives main": "import threading\ngo = threading.Event()\n"
    "def late():\n    go.wait()\n    print('late')\nthreading.Thread(target=late).start(); go.set()",
    "changes directory": "import os; os.chdir('/')",
    "removes its directory": "import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')",
    "closes stdin": "import os; os.close(0)",
    "closes stdout": "import os, sys; sys.stdout.flush(); os.close(1); os.open('/dev/null', os.O_WRONLY)",
    "drops sys.stderr": "import sys; sys.stderr = None",
    "closes all descriptors": "import os; os.closerange(3, 100)",
    "changes its environment": "import os; os.environ.clear()",
    "forks": "import os\nif pid := os.fork(): print(os.waitpid(pid, 0)[1])\n"
    "else: print('child', flush=True); os._exit(3)",
    "forks a child that ends as Python does": "import os, sys\nif pid := os.fork(): print(os.waitpid(pid, 0)[1])\n"
    "else: sys.exit(4)",
    "starts children": "import subprocess, sys\n"
    "print(subprocess.run([sys.executable, '-c', 'import sys; sys.exit(5)']).returncode)",
    "uses many processes": "import multiprocessing as m\nif __name__ == '__main__':\n"
    "    with m.get_context('fork').Pool(2) as pool: print(pool.map(abs, range(-3, 3)))",
    "spawns processes": "import multiprocessing as m\nif __name__ == '__main__':\n"
    "    with m.get_context('spawn').Pool(1) as pool: print(pool.map(abs, range(-3, 3)))",
    "sets its own trace": "import sys\nseen = []\nsys.settrace(lambda *a: seen.append(1))\n(lambda: 0)()\n"
    "sys.settrace(None)\nprint(len(seen) > 0)",
    "sets a limit": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))",
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
def test_a_program_that(both: Both, program: Callable[[str], Path], ledger: Path, facts: Facts, ending: str) -> None:
    path = program(KEEP + ending + "\n")
    _, kept = both(path)
    told = facts(ledger)
    assert told["complete"] is True
    assert told["peak_bytes"] > HELD
    (site,) = (site for site in told["sites"] if site["peak_bytes"] > HELD)
    assert (site["stack"][0]["file"], site["stack"][0]["line"]) == (str(path), 1)
    assert str(ledger) in kept.stderr, "the summary names the ledger"


CUT = {
    "leaves without a word": "import os; os._exit(3)",
    "becomes another program": "import os; os.execv('/bin/sh', ['sh', '-c', 'echo $0 $BURSAR_RUN; exit 5'])",
    "becomes another Python": "import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'print(1)'])",
    "is told to end": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)\nwhile True: pass",
    "is killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\nwhile True: pass",
    "aborts": "import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()",
}


@pytest.mark.parametrize("ending", CUT.values(), ids=CUT.keys())
def test_a_program_cut_short_that(
    both: Both, program: Callable[[str], Path], ledger: Path, facts: Facts, ending: str
) -> None:
    path = program(KEEP + ending + "\n")
    both(path)
    told = facts(ledger)
    assert told["complete"] is False
    assert told["peak_bytes"] > HELD
    assert told["live_bytes"] > HELD
    (site,) = (site for site in told["sites"] if site["live_bytes"] > HELD)
    assert (site["stack"][0]["file"], site["stack"][0]["line"]) == (str(path), 1)


def test_a_program_that_clears_what_is_to_be_done_at_exit(
    both: Both, program: Callable[[str], Path], ledger: Path, facts: Facts
) -> None:
    """As multiprocessing's children do: the summary may go with the rest, the books may not."""
    both(program(KEEP + "import atexit; atexit.register(print, 'never'); atexit._clear()\n"))
    assert facts(ledger)["peak_bytes"] > HELD


@pytest.mark.parametrize(
    ("text", "error"),
    [("def f(:\n    pass\n", "SyntaxError"), ("x = '\n", "SyntaxError"), ("\tx\n y\n", "Error"),
     ("import no_such_module\n", "ModuleNotFoundError"), ("# coding: nonsense\n", "SyntaxError")],
)  # fmt: skip
def test_a_program_that_cannot_start(both: Both, program: Callable[[str], Path], text: str, error: str) -> None:
    plain, _ = both(program(text))
    assert plain.returncode == 1
    assert error in plain.stderr


def test_a_program_that_is_no_text(both: Both, program: Callable[[str], Path]) -> None:
    """What Python makes of it is Python's affair, and differs by version."""
    path = program("")
    for content in (b"\0", b"\xff\xfe", b"\x7fELF", b"PK\3\4"):
        path.write_bytes(content)
        both(path)


def test_a_module_that_is_not_there(both: Both) -> None:
    plain, _ = both("-m", "no_such_module")
    assert plain.returncode == 1
    assert "No module named no_such_module" in plain.stderr


def test_a_caller_that_closed_stderr(
    execute: Run, command: str, python: str, program: Callable[[str], Path], ledger: Path, facts: Facts
) -> None:
    """Descriptor 2 is then free for any file that is opened: what is meant for a person must not end up there."""
    path = program(KEEP + "import sys, os; f = open('data', 'w'); print(f.fileno(), sys.stderr); f.write('x')\n")
    plain = execute("sh", "-c", 'exec "$0" "$1" 2>&-', python, path)
    kept = execute("sh", "-c", 'exec "$0" run -o "$2" "$1" 2>&-', command, path, ledger)
    assert (kept.returncode, kept.stdout) == (plain.returncode, plain.stdout) == (0, "2 None\n")
    assert (path.parent / "data").read_text() == "x"
    assert facts(ledger)["peak_bytes"] > HELD
    assert execute("sh", "-c", 'exec "$0" run -o "$1" x.py 2>&- >&-', command, ledger).returncode != 0


def test_a_program_that_closes_stderr(both: Both, program: Callable[[str], Path], ledger: Path, facts: Facts) -> None:
    path = program(KEEP + "import os\nos.close(2)\nf = open('data', 'w')\nprint(f.fileno())\nf.write('x')\n")
    both(path)
    assert (path.parent / "data").read_text() == "x"
    assert facts(ledger)["peak_bytes"] > HELD


def test_a_closed_pipe_on_stderr(command: str, environment: dict[str, str], tmp_path: Path, ledger: Path) -> None:
    """Nobody reads the summary: the exit status is the program's all the same."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [command, "run", "-o", ledger, "-c", "import sys; sys.exit(6)"], stderr=write, env=environment, timeout=60
        )
    finally:
        os.close(write)
    assert done.returncode == 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("runner", ["plain", "bursar"])
def test_signals_from_outside(
    command: str, python: str, environment: dict[str, str], ledger: Path, facts: Facts, number: int, runner: str
) -> None:
    """What a caller sees of a program that it interrupts, without and with bursar."""
    code = f"kept = bytes({HELD})\nprint('here', flush=True)\nwhile True: pass"
    start = [python] if runner == "plain" else [command, "run", "-o", str(ledger)]
    program = subprocess.Popen(
        [*start, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert program.stdout and program.stdout.readline() == "here\n"
    program.send_signal(number)
    out, err = program.communicate(timeout=60)
    assert (program.returncode, out) == (-number, "")
    assert err.startswith("Traceback") if number == signal.SIGINT else own_stderr(Done([], 0, "", err)) == ""
    if runner == "bursar":
        assert facts(ledger)["peak_bytes"] > HELD
        assert facts(ledger)["complete"] is (number == signal.SIGINT)


def test_an_interrupt_at_the_terminal(command: str, environment: dict[str, str], ledger: Path, facts: Facts) -> None:
    """Ctrl-C reaches the foreground's whole group: the program must be in it, as its leader."""
    import pty

    code = f"kept = bytes({HELD})\nprint('here', flush=True)\nwhile True: pass"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(command, [command, "run", "-o", str(ledger), "-c", code], environment)
    seen = b""
    while b"here" not in seen:
        seen += os.read(terminal, 1000)
    os.write(terminal, b"\x03")
    try:
        while chunk := os.read(terminal, 1000):
            seen += chunk
    except OSError:  # how a terminal's end is told
        pass
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGINT
    assert b"KeyboardInterrupt" in seen
    assert facts(ledger)["peak_bytes"] > HELD


def test_signals_that_the_caller_ignores_stay_ignored(execute: Run, command: str, python: str) -> None:
    """As under nohup, or in a shell's background."""
    code = "import signal as s; print(*(s.getsignal(n) == s.SIG_IGN for n in (s.SIGINT, s.SIGHUP, s.SIGTERM)))"
    script = 'trap "" INT HUP; exec "$@"'
    plain = execute("sh", "-c", script, "sh", python, "-c", code)
    kept = execute("sh", "-c", script, "sh", command, "run", "-c", code)
    assert plain.stdout == "True True False\n"
    assert (kept.returncode, kept.stdout) == (0, plain.stdout)


# ---- children ----


def test_children_are_followed_where_asked(
    bursar: Run, program: Callable[[str], Path], ledger: Path, facts: Facts
) -> None:
    path = program("""
        import os, subprocess, sys
        kept = bytes(20_000_000)
        if pid := os.fork():
            os.waitpid(pid, 0)
        else:
            more = bytes(30_000_000)
            sys.exit()
        subprocess.run([sys.executable, "-c", "kept = bytes(40_000_000)"], check=True)
    """)
    assert bursar("run", "-o", ledger, "--follow-fork", path).returncode == 0
    told = {path.name: facts(path) for path in ledger.parent.glob("test.bursar*")}
    assert all(books["complete"] for books in told.values())
    own = told.pop(ledger.name)
    executed, forked = sorted(told.values(), key=lambda books: len(with_site(books, path, 7)))
    assert 20_000_000 < own["peak_bytes"] < 30_000_000
    assert 40_000_000 < executed["peak_bytes"] < 45_000_000
    assert with_site(forked, path, 7)[0]["peak_bytes"] > 30_000_000
    assert not with_site(own, path, 7)


def test_following_changes_nothing_that_a_caller_sees(
    execute: Run, bursar: Run, python: str, program: Callable[[str], Path], ledger: Path, facts: Facts
) -> None:
    path = program("""
        import concurrent.futures, multiprocessing, subprocess, sys
        def work(n):
            return len(bytes(n * 1_000_000))
        if __name__ == "__main__":
            for how in ("fork", "spawn", "forkserver"):
                with multiprocessing.get_context(how).Pool(2) as pool:
                    print(how, pool.map(work, range(4)))
            with concurrent.futures.ProcessPoolExecutor(2) as pool:
                print(list(pool.map(work, range(4))))
            print(subprocess.run([sys.executable, "-c", "import sys; print(1); sys.exit(3)"]).returncode, flush=True)
            sys.exit(4)
    """)
    plain = execute(python, path)
    kept = bursar("run", "-o", ledger, "--follow-fork", path)
    assert (kept.returncode, kept.stdout) == (plain.returncode, plain.stdout)
    assert own_stderr(kept) == own_stderr(plain)
    assert kept.stderr.count("bursar: ") == 1, "the program's summary, and none of its children's"
    children = list(ledger.parent.glob("test.bursar.*"))
    assert len(children) >= 6
    for child in children:
        assert facts(child)["allocations"] > 0


def test_children_are_left_alone_otherwise(
    bursar: Run, program: Callable[[str], Path], ledger: Path, facts: Facts
) -> None:
    path = program("""
        import os, sys
        kept = bytes(20_000_000)
        if pid := os.fork():
            os.waitpid(pid, 0)
        else:
            more = bytes(70_000_000)
            print("test.bursar" in open("/proc/self/maps").read(), "BURSAR_RUN" in os.environ)
    """)
    done = bursar("run", "-o", ledger, path)
    assert (done.returncode, done.stdout) == (0, "False False\n")
    assert [path.name for path in ledger.parent.glob("test.bursar*")] == [ledger.name]
    assert 20_000_000 < facts(ledger)["peak_bytes"] < 60_000_000
    assert done.stderr.count(str(ledger)) == bursar("run", "-f", "-o", ledger, "-c", "").stderr.count(str(ledger))


def test_temporaries_within(bursar: Run, program: Callable[[str], Path], ledger: Path, facts: Facts) -> None:
    """A block freed after two more allocations of its thread is temporary within 3, and not within 1."""
    path = program("""
        def work():
            for _ in range(1000):
                a = bytes(5000)
                b = bytes(5000)
                c = bytes(5000)
                del a, b, c
        work()
    """)
    counts = []
    for within in ("1", "3"):
        assert bursar("run", "-f", "-o", ledger, "--temporary-within", within, path).returncode == 0
        sites = [site for site in facts(ledger)["sites"] if site["stack"] and site["stack"][0]["file"] == str(path)]
        counts.append({s["stack"][0]["line"]: s["temporary_allocations"] for s in sites if s["allocations"] >= 1000})
    assert counts[0].get(4, 0) < 10 and counts[1][4] > 990
    assert counts[0][6] > 990 and counts[1][6] > 990


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_program_keeps_its_standard_streams(both: Both, program: Callable[[str], Path]) -> None:
    path = program("import sys\nprint(sys.stdin.read().upper())\nprint('to stderr', file=sys.stderr)\n")
    plain, _ = both(path, input="typed\n")
    assert plain.stdout == "TYPED\n\n"
