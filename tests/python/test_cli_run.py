"""`bursar run` before the program begins: what is refused, in one line, and which Python runs what."""

import os
import shutil
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import Facts, Run, UnderWay, finish

Complains = Callable[..., str]
Listed = Callable[[], list[dict[str, Any]]]

SHOW = "import sys; print(sys.executable); print(sys.argv)\n"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "show.py"
    path.write_text(SHOW)
    return path


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A Python without bursar: an empty virtual environment of this one."""
    venv.create(tmp_path / "other", with_pip=False, symlinks=True)
    return tmp_path / "other" / "bin" / "python"


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


# ---- scripts ----


def test_no_such_script(complains: Complains, execute: Run, python: str, listed: Listed) -> None:
    plain = execute(python, "missing.py")
    line = complains(plain.returncode, "run", "missing.py")
    assert plain.returncode == 2
    assert line == "bursar: can't open file 'missing.py': [Errno 2] No such file or directory\n"
    assert not listed()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_script(complains: Complains, script: Path) -> None:
    script.chmod(0)
    assert "Permission denied" in complains(2, "run", script)


def test_a_directory_without_main(complains: Complains, execute: Run, python: str, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    plain = execute(python, "package")
    assert complains(plain.returncode, "run", "package") == "bursar: can't find '__main__' module in 'package'\n"


# ---- ledgers ----


def test_an_unwritable_output(complains: Complains, script: Path, tmp_path: Path) -> None:
    line = complains(1, "run", "-o", "missing/x.bursar", script)
    assert line == "bursar: cannot write the ledger missing/x.bursar: No such file or directory\n"
    line = complains(1, "run", "-o", "/proc/x.bursar", script)
    assert line.startswith("bursar: cannot write the ledger /proc/x.bursar: ")
    complains(1, "run", "-o", "", script)
    complains(1, "run", "-o", tmp_path / ("x" * 300), script)
    assert complains(1, "run", "-o", tmp_path, script).startswith(f"bursar: {tmp_path} exists and is a directory")


@pytest.mark.parametrize("force", [[], ["-f"]])
@pytest.mark.parametrize("content", [b"", b"a", b"important text\n", b"BURSARL", b"\0" * 65536])
def test_an_output_that_is_no_ledger_stays(
    complains: Complains, script: Path, ledger: Path, force: list[str], content: bytes
) -> None:
    ledger.write_bytes(content)
    line = complains(1, "run", *force, "-o", ledger, script)
    assert line == f"bursar: {ledger} exists and is not a ledger: choose another name for the ledger\n"
    assert ledger.read_bytes() == content


@pytest.mark.parametrize("force", [[], ["-f"]])
def test_an_output_that_is_a_link_is_not_followed(
    complains: Complains, script: Path, ledger: Path, tmp_path: Path, force: list[str]
) -> None:
    for target in ("nowhere", script.name):
        ledger.symlink_to(target)
        line = complains(1, "run", *force, "-o", ledger, script)
        assert f"{ledger} exists and is a link" in line
        ledger.unlink()
    assert not (tmp_path / "nowhere").exists()
    assert script.read_text() == SHOW


def test_an_output_that_is_no_file(complains: Complains, script: Path, ledger: Path) -> None:
    os.mkfifo(ledger)
    for force in ([], ["-f"]):
        assert "exists and is not a ledger" in complains(1, "run", *force, "-o", ledger, script)
    assert complains(1, "run", "-f", "-o", "/dev/null", script)


def test_a_ledger_is_replaced_by_force_alone(
    complains: Complains, bursar: Run, script: Path, ledger: Path, facts: Facts, tmp_path: Path
) -> None:
    assert bursar("run", "-o", ledger, script).returncode == 0
    before = ledger.read_bytes()
    line = complains(1, "run", "-o", ledger, script)
    how = "replace that ledger with -f (from Python: force=True), or choose another name"
    assert line == f"bursar: {ledger} exists: {how}\n"
    assert ledger.read_bytes() == before

    big = tmp_path / "big.py"
    big.write_text("kept = bytes(30_000_000)\n")
    assert bursar("run", "-f", "-o", ledger, big).returncode == 0
    assert facts(ledger)["peak_bytes"] > 30_000_000
    assert ledger.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["show.py", "big.py", ledger.name])


def test_the_ledger_of_a_running_program_stays(
    complains: Complains, under_way: UnderWay, script: Path, ledger: Path, facts: Facts
) -> None:
    program = under_way("-o", ledger)
    line = complains(1, "run", "-f", "-o", ledger, script)
    assert line == f"bursar: {ledger} is the ledger of process {program.pid}, which is running: choose another name\n"
    assert finish(program) == 0
    assert facts(ledger)["peak_bytes"] > 4_000_000


@pytest.mark.parametrize("place", [["-o", "x.bursar"], []], ids=["named", "default"])
def test_a_limit_on_files_stops_the_books_alone(
    execute: Run, command: str, tmp_path: Path, listed: Listed, place: list[str]
) -> None:
    """A ledger's first extent is 64 KiB; no shell counts 20 blocks as so much."""
    code = "import sys; print('result'); sys.exit(5)"
    done = execute("sh", "-c", 'ulimit -f 20; exec "$@"', "sh", command, "run", *place, "-c", code)
    assert (done.returncode, done.stdout) == (5, "result\n")
    assert done.stderr.startswith("bursar: no books are kept: cannot ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "x.bursar").exists()
    assert not listed()


def test_a_full_disk_stops_the_books_alone(execute: Run, command: str, tmp_path: Path) -> None:
    """A file system of a few pages, in a mount namespace that nobody else sees."""
    (tmp_path / "full").mkdir()
    mount = "mount -t tmpfs -o size=32k tmpfs full"
    if execute("unshare", "-m", "sh", "-c", mount).returncode != 0:
        pytest.skip("may not mount here")
    code = "import sys; print('result'); sys.exit(5)"
    script = f'{mount} && cd full && "$0" run -o x.bursar -c "$1"; s=$?; ls; exit $s'
    done = execute("unshare", "-m", "sh", "-c", script, command, code)
    assert (done.returncode, done.stdout) == (5, "result\n"), "and nothing is left behind"
    assert done.stderr == "bursar: no books are kept: cannot write the ledger x.bursar: No space left on device\n"


def test_a_ledger_is_private_whatever_the_umask(bursar: Run, script: Path, ledger: Path) -> None:
    for umask in (0, 0o777):
        done = bursar("run", "-f", "-o", ledger, script, umask=umask)
        assert done.returncode == 0, done.stderr
        assert ledger.stat().st_mode & 0o777 == 0o600


def test_a_relative_output_survives_a_chdir(bursar: Run, facts: Facts, tmp_path: Path) -> None:
    done = bursar("run", "-o", "mine.bursar", "-c", "import os; os.chdir('/'); kept = bytes(20_000_000)")
    assert done.returncode == 0, done.stderr
    assert facts(tmp_path / "mine.bursar")["peak_bytes"] > 20_000_000


def test_an_output_with_any_name(bursar: Run, script: Path, facts: Facts, tmp_path: Path) -> None:
    for name in ("a;out=b%41.bursar", "blank and\nline", "é", "-o", "\udcff.bursar"):
        done = bursar("run", f"--output={name}", script)
        assert done.returncode == 0, done.stderr
        assert facts(tmp_path / name)["complete"] is True


# ---- Pythons ----


def test_the_python_beside_the_command(bursar: Run, script: Path, python: str) -> None:
    for folder in (None, "/"):
        done = bursar("run", script, "a", cwd=folder or script.parent)
        assert done.stdout.splitlines() == [python, str([str(script), "a"])]


def test_a_link_to_the_command_finds_its_python(
    command: str, execute: Run, script: Path, python: str, tmp_path: Path, other: Path
) -> None:
    link = tmp_path / "bin" / "bursar"
    link.parent.mkdir()
    link.symlink_to(command)
    assert execute(link, "run", script).stdout.splitlines()[0] == python
    path = f"{link.parent}{os.pathsep}{os.environ['PATH']}"
    assert execute("bursar", "run", script, env={"PATH": path}).stdout.splitlines()[0] == python
    # A Python beside the link comes first, and must prove that it has bursar.
    (link.parent / "python").symlink_to(other.resolve())
    done = execute(link, "run", script)
    if done.returncode == 0:
        assert done.stdout.splitlines()[0] == str(link.parent / "python")
    else:
        assert "has no bursar" in done.stderr


def test_a_python_without_bursar(complains: Complains, script: Path, other: Path, listed: Listed) -> None:
    line = complains(1, "run", "--python", other, script)
    assert line == f"bursar: {other} has no bursar: {other} -m pip install bursar\n"
    assert "has no bursar" in complains(1, "run", "--python", other.relative_to(script.parent), script)
    assert not listed()


def test_a_python_beside_the_command_without_bursar(
    complains: Complains, command: str, execute: Run, script: Path, other: Path
) -> None:
    """The command was copied: the Python that it finds beside itself must not be believed to have bursar."""
    shutil.copy(command, other.parent / "bursar")
    done = execute(other.parent / "bursar", "run", script)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"bursar: {other} has no bursar: {other} -m pip install bursar\n"
    # Nor may a start-up file for another version be: there are two, and it is asked.
    (library,) = (other.parent.parent / "lib").glob("python*")
    (library.parent / "python3.0" / "site-packages").mkdir(parents=True)
    (library.parent / "python3.0" / "site-packages" / "bursar.pth").touch()
    assert "has no bursar" in complains(1, "run", "--python", other, script)


def test_a_folder_called_bursar_is_not_taken_for_it(complains: Complains, script: Path, other: Path) -> None:
    (script.parent / "bursar").mkdir()
    (script.parent / "bursar" / "__init__.py").touch()
    assert "has no bursar" in complains(1, "run", "--python", other, script)


def test_no_python_at_all(complains: Complains, script: Path) -> None:
    assert "no such Python: python9.9: No such file" in complains(1, "run", "--python", "python9.9", script)
    assert "no such Python: ./show.py: not an executable file" in complains(1, "run", "--python", "./show.py", script)
    assert "is no Python that works" in complains(1, "run", "--python", "true", script)


def test_a_named_python_is_used(bursar: Run, script: Path, python: str) -> None:
    done = bursar("run", f"--python={python}", script)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, python)
    path = f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"
    done = bursar("run", "--python", Path(python).name, script, env={"PATH": path})
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, python)


def test_a_parent_that_ignores_children(bursar: Run, script: Path, python: str, command: str, execute: Run) -> None:
    """With SIGCHLD ignored a child leaves no status behind: the question to a Python must not need one."""
    code = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
        f"os.execv({command!r}, [{command!r}, 'run', '--python', {python!r}, 'show.py'])"
    )
    done = execute(sys.executable, "-c", code)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, python)


# ---- commands ----


@pytest.mark.parametrize(
    "line", ["#!{python}", "#! {python} -u", "#!/usr/bin/env {name}", "#!/usr/bin/env -S {name} -u"]
)
def test_a_shebang_keeps_its_python(
    bursar: Run, python: str, other: Path, tmp_path: Path, ledger: Path, facts: Facts, line: str
) -> None:
    if len(python) > 100:
        pytest.skip("the kernel would cut such a line")
    path = f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"
    shebang = line.format(python=python, name=Path(python).name)
    tool = executable(tmp_path / "tool", f"{shebang}\n{SHOW}kept = bytes(20_000_000)\n")
    done = bursar("run", "-o", ledger, "--python", other, "--", "./tool", "--mode", "x", env={"PATH": path})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [python, "['./tool', '--mode', 'x']"]
    assert facts(ledger)["peak_bytes"] > 20_000_000
    assert tool.exists()


def test_a_shebang_of_a_python_without_bursar(complains: Complains, other: Path, tmp_path: Path) -> None:
    executable(tmp_path / "tool", f"#!{other}\n{SHOW}")
    assert complains(1, "run", "--", "./tool") == f"bursar: {other} has no bursar: {other} -m pip install bursar\n"
    executable(tmp_path / "tool2", f"#!/usr/bin/env python9.9\n{SHOW}")
    assert "asks for python9.9: No such file or directory" in complains(1, "run", "--", "./tool2")


def test_a_python_and_its_own_options(bursar: Run, python: str, script: Path, ledger: Path, facts: Facts) -> None:
    code = "import sys; print(sys.flags.dev_mode, sys.argv); kept = bytes(20_000_000)"
    done = bursar("run", "-o", ledger, "--", python, "-X", "dev", "-c", code, "-o", "x")
    assert done.stdout == "True ['-c', '-o', 'x']\n", done.stderr
    assert facts(ledger)["peak_bytes"] > 20_000_000


@pytest.mark.parametrize("options", [("-S",), ("-IS",), ("-X", "dev", "-W", "ignore", "-bS"), ("-Xdev", "-S")])
def test_a_python_that_reads_no_start_up_file(
    bursar: Run, python: str, options: tuple[str, ...], ledger: Path
) -> None:
    done = bursar("run", "-o", ledger, "--", python, *options, "-c", "print('it runs')", "-S")
    said = "bursar: no books are kept: Python's option -S leaves out the start-up file that opens them\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, "it runs\n", said)
    assert not ledger.exists()


@pytest.mark.parametrize("options", [("-XS",), ("-W", "ignore::SyntaxWarning"), ("-c", "pass", "-S"), ("-", "-S")])
def test_options_that_only_look_like_it(bursar: Run, python: str, options: tuple[str, ...], ledger: Path) -> None:
    done = bursar("run", "-o", ledger, "--", python, *options, *(() if "-c" in options else ("-c", "pass")))
    assert (done.returncode, ledger.exists(), "no books" in done.stderr) == (0, True, False)


def test_a_python_without_bursar_as_the_command(complains: Complains, other: Path, script: Path) -> None:
    assert "has no bursar" in complains(1, "run", "--", other, script)


def test_a_shell_that_becomes_python(bursar: Run, python: str, ledger: Path, facts: Facts) -> None:
    code = "kept = bytes(20_000_000)"
    done = bursar("run", "-o", ledger, "--", "sh", "-c", f'exec "{python}" -c "{code}"')
    assert done.returncode == 0, done.stderr
    assert facts(ledger)["peak_bytes"] > 20_000_000


def test_a_python_file_without_a_shebang(bursar: Run, python: str, tmp_path: Path, ledger: Path, facts: Facts) -> None:
    executable(tmp_path / "bare.py", SHOW + "kept = bytes(20_000_000)\n")
    done = bursar("run", "-o", ledger, "--", "./bare.py", "x")
    assert done.stdout.splitlines() == [python, "['./bare.py', 'x']"], done.stderr
    assert facts(ledger)["peak_bytes"] > 20_000_000


def test_a_shell_script_without_a_shebang(bursar: Run, tmp_path: Path) -> None:
    executable(tmp_path / "words", 'echo "$0 $1"; exit 7\n')
    done = bursar("run", "--", "./words", "x")
    assert (done.returncode, done.stdout) == (7, "./words x\n")


def test_a_command_that_is_not_there(complains: Complains, script: Path, listed: Listed) -> None:
    assert complains(1, "run", "--", "no-such-command") == "bursar: no-such-command is no command on PATH\n"
    assert complains(1, "run", "--", "./nothing") == "bursar: cannot run ./nothing: No such file or directory\n"
    assert "show.py is no command on PATH: as a script: bursar run show.py" in complains(1, "run", "--", "show.py")
    assert "./show.py is not executable: as a script: " in complains(1, "run", "--", "./show.py")
    assert not listed()


def test_what_cannot_be_executed_leaves_no_ledger(complains: Complains, tmp_path: Path, listed: Listed) -> None:
    executable(tmp_path / "broken", "\x7fELF\0\0\0\0")
    assert "cannot run ./broken: Exec format error" in complains(1, "run", "--", "./broken")
    assert not listed()
