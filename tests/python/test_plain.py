"""Programs that have no Python: C and C++ whose memory is known to the byte, and whatever this machine has."""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from books import assert_balanced
from running import LIMIT, Done, Facts, Run

HERE = Path(__file__).parent
PAGE = 4096
ASKED = ("--domains", "malloc,mmap")
knows_stacks = platform.machine() == "x86_64" and tuple(map(int, platform.libc_ver()[1].split("."))) >= (2, 35)
with_stacks = pytest.mark.skipif(not knows_stacks, reason="native stacks are known on x86-64 with glibc 2.35 or later")
both = pytest.mark.parametrize("native", [(), pytest.param(("--native",), marks=with_stacks)], ids=["sums", "stacks"])
Build = Callable[..., Path]


def compiler(*names: str) -> str:
    found = next((path for name in names if (path := shutil.which(name))), None)
    if not found:
        pytest.skip("no compiler to build the program with: install gcc and g++")
    return found


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds a program of a text, or of one of the drivers."""

    def make(source: str, *options: str, name: str = "program") -> Path:
        folder = tmp_path_factory.mktemp("plain")
        path = HERE / source
        if not source.startswith("plain_driver"):
            path = folder / "program.c"
            path.write_text(source)
        cpp = source.endswith(".cpp")
        command = compiler("g++", "c++") if cpp else compiler(os.environ.get("CC") or "cc", "gcc")
        flags = ["-O2", "-g", "-Wall", "-Wextra", "-D_GNU_SOURCE", "-pthread"]
        flags += [] if cpp else ["-fno-builtin", "-fno-optimize-sibling-calls"]
        subprocess.run([command, *flags, "-o", folder / name, path, *options], check=True)
        return folder / name

    return make


@pytest.fixture(scope="module")
def driver(build: Build) -> Path:
    return build("plain_driver.c", name="driver")


class Kept(NamedTuple):
    done: Done
    facts: dict[str, Any]

    def sites(self, domain: str = "malloc") -> list[dict[str, Any]]:
        return [site for site in self.facts["sites"] if site["domain"] == domain]

    def total(self, figure: str, domain: str = "malloc") -> int:
        return sum(site[figure] for site in self.sites(domain))


Keep = Callable[..., Kept]


@pytest.fixture
def keep(bursar: Run, facts: Facts, ledger: Path, driver: Path) -> Keep:
    """Runs the driver under `bursar run`, and reads its ledger; the books must balance."""

    def run(*words: str, options: tuple[str, ...] = (), status: int = 0, program: Path = driver, **more: Any) -> Kept:
        done = bursar("run", "-f", "-o", ledger, *options, "--", program, *words, **more)
        assert done.returncode == status, done.stderr
        read = facts(ledger)
        assert read["complete"] and read["state"] == "ended" and read["python_version"] == ""
        assert_balanced(read, peak_error=read["peak_error_bytes"])
        return Kept(done, read)

    return run


def figures(facts: dict[str, Any]) -> dict[str, int]:
    names = "live_bytes live_blocks peak_bytes allocations frees allocated_bytes temporary_allocations"
    return {name: facts[name] for name in names.split()}


# ---- known to the byte ----


@both
def test_each_of_the_family(keep: Keep, native: tuple[str, ...]) -> None:
    sizes = [1001, 1001, 1003, 1003, 1024, 1006, 1007, 8192, 1009, 0]
    books = keep("family", options=native)
    assert figures(books.facts) == {
        "live_bytes": sum(sizes), "live_blocks": 10, "peak_bytes": sum(sizes), "allocations": 10, "frees": 0,
        "allocated_bytes": sum(sizes), "temporary_allocations": 0,
    }  # fmt: skip
    assert not books.sites("mmap")
    if native:
        assert sorted(site["live_bytes"] for site in books.sites()) == sorted(sizes)
    else:
        assert [site["stack"] for site in books.sites()] == [[]]


@both
def test_realloc_moves_fails_and_ends(keep: Keep, native: tuple[str, ...]) -> None:
    assert figures(keep("reallocs", options=native).facts) == {
        "live_bytes": 100_000, "live_blocks": 1, "peak_bytes": 100_500, "allocations": 3, "frees": 2,
        "allocated_bytes": 100_600, "temporary_allocations": 2,
    }  # fmt: skip


@both
def test_a_mapping_ends_in_pieces(keep: Keep, native: tuple[str, ...]) -> None:
    books = keep("maps", options=native)
    assert not books.sites("malloc")
    assert books.total("live_bytes", "mmap") == (100 + 6 + 8 + 500 + 2 + 1) * PAGE == books.facts["live_bytes"]
    assert books.total("live_blocks", "mmap") == 6
    assert books.total("allocations", "mmap") == 9


@both
def test_temporaries(keep: Keep, native: tuple[str, ...]) -> None:
    assert keep("temporaries", options=native).facts["temporary_allocations"] == 1500
    assert keep("temporaries", options=(*native, "--temporary-within", "2")).facts["temporary_allocations"] == 2000


@both
def test_a_peak_to_the_byte(keep: Keep, native: tuple[str, ...]) -> None:
    books = keep("peak", options=native)
    assert (books.facts["peak_bytes"], books.facts["peak_error_bytes"]) == (1_000_000, 0)
    assert books.total("peak_bytes") == 1_000_000
    assert books.total("peak_blocks") == 50
    assert books.facts["live_bytes"] == 0


@both
def test_a_peak_of_threads(keep: Keep, native: tuple[str, ...]) -> None:
    books = keep("threads", options=native)
    assert abs(books.facts["peak_bytes"] - 40_000_000) <= 40_000, "and a few hundred bytes of the C library's"
    assert abs(books.total("peak_bytes") - books.facts["peak_bytes"]) <= 40_000
    assert books.facts["frees"] == 40_000
    assert 40_000 <= books.facts["allocations"] <= 40_010


def test_only_what_is_asked_for(keep: Keep) -> None:
    assert not keep("family", options=("--domains", "mmap")).facts["allocations"]
    assert not keep("maps", options=("--domains", "malloc")).facts["allocations"]


# ---- threads, forks, handlers ----


@both
def test_a_storm_of_threads_and_forks(keep: Keep, native: tuple[str, ...]) -> None:
    books = keep("storms", options=native)
    assert books.total("live_bytes", "mmap") == 0
    assert books.total("live_bytes") < 10_000, "what the C library keeps of threads"
    assert books.facts["allocations"] > 1000


@both
def test_handlers_that_map_memory(keep: Keep, native: tuple[str, ...]) -> None:
    books = keep("handlers", options=native)
    assert (books.total("live_bytes"), books.total("live_bytes", "mmap")) == (12_345, 0)


@both
def test_a_forked_child_lets_go(keep: Keep, ledger: Path, native: tuple[str, ...]) -> None:
    books = keep("forks", options=native)
    assert (books.facts["live_bytes"], books.facts["allocations"]) == (3_000_000, 2)
    assert books.done.stdout == "", "the child maps no ledger"
    assert books.done.stderr.count("bursar: peak") == 1
    assert list(ledger.parent.glob(f"{ledger.name}.*")) == []


@both
def test_a_forked_child_is_followed(keep: Keep, ledger: Path, facts: Facts, native: tuple[str, ...]) -> None:
    books = keep("forks", options=("--follow-fork", *native))
    assert (books.facts["live_bytes"], books.facts["allocations"]) == (3_000_000, 2)
    assert books.done.stderr.count("bursar: peak") == 1, "children say nothing"
    assert books.done.stdout == "a ledger is mapped\n"
    (child,) = ledger.parent.glob(f"{ledger.name}.*")
    read = facts(child)
    assert read["complete"] and (read["live_bytes"], read["allocations"]) == (5_000_000, 1)
    assert child.name == f"{ledger.name}.{read['pid']}" != f"{ledger.name}.{books.facts['pid']}"


def test_threads_that_are_stopped_in_the_books(bursar: Run, ledger: Path, driver: Path) -> None:
    """Nobody waits for them for ever; where one has stopped within them the books stay open."""
    done = bursar("run", "-o", ledger, "--", driver, "stopped")
    assert done.returncode == 3
    assert done.stderr == "" or done.stderr.startswith("bursar: peak ")


# ---- beginning and end ----


def test_it_is_what_is_run_without_bursar(keep: Keep, driver: Path) -> None:
    done = keep("exit", "7", status=7).done
    assert done.stdout == "here\n"
    said = done.stderr.splitlines()
    assert said[0].startswith("bursar: peak 977 KiB at ")
    assert said[2] == "  held at the peak: malloc 977 KiB, mmap 0 B"
    assert keep("closed").done.stderr == "", "no words in a file of the program's own"


@pytest.mark.parametrize(
    ("words", "status"),
    [(("_exit", "5"), 5)]
    + [(("signal", str(int(number))), -number) for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGABRT)],
    ids=["_exit", "SIGKILL", "SIGTERM", "SIGABRT"],
)
def test_an_end_without_a_word(
    bursar: Run, facts: Facts, ledger: Path, driver: Path, words: tuple[str, ...], status: int
) -> None:
    done = bursar("run", "-o", ledger, "--", driver, *words)
    assert (done.returncode, done.stdout, done.stderr) == (status, "here\n", "")
    read = facts(ledger)
    assert (read["complete"], read["state"], read["live_bytes"]) == (False, "killed", 1_000_000)


def test_children_find_no_trace(keep: Keep) -> None:
    for given in (None, "libSegFault-that-is-not-there.so"):
        done = keep("spawn", "env", env={"LD_PRELOAD": given}).done
        names = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
        assert not [name for name in names if name.startswith("BURSAR") and name != "BURSAR_DIR"]
        assert names.get("LD_PRELOAD") == given


def test_another_program_is_executed(bursar: Run, facts: Facts, ledger: Path, driver: Path, tmp_path: Path) -> None:
    done = bursar("run", "-o", ledger, "--", driver, "exec", "env")
    assert "LD_PRELOAD" not in done.stdout and "BURSAR_RUN" not in done.stdout
    read = facts(ledger)
    assert (read["complete"], read["live_bytes"]) == (False, 1_000_000)
    done = bursar("run", "-f", "-o", ledger, "--follow-fork", "--", driver, "exec", driver, "family")
    assert done.returncode == 0, done.stderr
    assert facts(ledger)["live_bytes"] == 1_000_000
    (second,) = tmp_path.glob(f"{ledger.name}.*")
    assert (facts(second)["complete"], facts(second)["live_blocks"]) == (True, 10)
    assert facts(second)["pid"] == facts(ledger)["pid"]


@pytest.mark.core
def test_python_as_a_child(bursar: Run, facts: Facts, ledger: Path, driver: Path, python: str, tmp_path: Path) -> None:
    """It turns up under the library, and keeps its own books, of all its domains; nothing is booked by both."""
    code = "import os; kept = bytes(20_000_000); m = __import__('mmap').mmap(-1, 30_000_000)"
    done = bursar("run", "-o", ledger, "--domains", "all", "--follow-fork", "--", driver, "spawn", python, "-c", code)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert facts(ledger)["live_bytes"] == 1_000_000
    (child,) = tmp_path.glob(f"{ledger.name}.*")
    read = facts(child)
    assert read["complete"] and read["python_version"]
    held = {domain["domain"]: domain["peak_bytes"] for domain in read["domains"]}
    assert 20_000_000 < held["python.obj"] < 25_000_000
    assert 30_000_000 <= held["mmap"] < 35_000_000
    assert held["malloc"] < 10_000_000


@pytest.mark.core
def test_a_python_of_no_bursar_as_a_child(
    bursar: Run, facts: Facts, ledger: Path, driver: Path, python: str, tmp_path: Path
) -> None:
    code = "kept = bytes(20_000_000)"
    words = ("spawn", python, "-S", "-c", code)
    done = bursar("run", "-o", ledger, *ASKED, "--follow-fork", "--", driver, *words)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    (child,) = tmp_path.glob(f"{ledger.name}.*")
    read = facts(child)
    assert read["complete"] and not read["python_version"]
    assert read["peak_bytes"] > 20_000_000


@pytest.mark.core
def test_a_program_that_becomes_python(bursar: Run, facts: Facts, ledger: Path, python: str) -> None:
    """The settings wait for it, as they always did."""
    code = "kept = bytes(20_000_000)"
    for words in (["env", python, "-c", code], ["sh", "-c", f'exec "{python}" -c "{code}"']):
        done = bursar("run", "-f", "-o", ledger, "--", *words)
        assert done.returncode == 0, done.stderr
        assert facts(ledger)["python_version"] and facts(ledger)["peak_bytes"] > 20_000_000


# ---- stacks ----


@with_stacks
def test_stacks_name_the_function(keep: Keep) -> None:
    books = keep("chain", options=("--native",))
    stacks = {site["live_bytes"]: [frame["function"] for frame in site["stack"]] for site in books.sites()}
    assert stacks[10 * 1001][:4] == ["innermost", "middle", "chain", "main"]
    assert stacks[5000][:3] == ["innermost", "chain", "main"]
    assert stacks[40001][:4] == ["innermost", "middle", "chain_in_thread", "start_thread"]
    for site in books.sites():
        assert not [frame for frame in site["stack"] if "libbursar" in (frame["file"] or "")]
        assert all(frame["native"] for frame in site["stack"])
    text = (HERE / "plain_driver.c").read_text().splitlines()
    line = 1 + next(number for number, line in enumerate(text) if "void *p = malloc(size);" in line)
    (site,) = [site for site in books.sites() if site["live_bytes"] == 5000]
    if site["stack"][0]["line"]:  # where there is libdw
        assert (site["stack"][0]["file"], site["stack"][0]["line"]) == (str(HERE / "plain_driver.c"), line)


@with_stacks
def test_more_stacks_than_are_kept(keep: Keep) -> None:
    """They are folded while two threads look stacks up; nothing is lost."""
    books = keep("stacks", options=("--native",))
    assert books.facts["folded_sites"] > 1000
    assert books.facts["allocations"] == books.total("allocations")
    assert 2 * (1 << 16) + 1 <= books.facts["allocations"] <= 2 * (1 << 16) + 10
    (kept,) = [site for site in books.sites() if site["live_bytes"] >= 777_777]
    assert kept["stack"][0]["function"] == "innermost"


@both
def test_new_and_delete(keep: Keep, build: Build, native: tuple[str, ...]) -> None:
    books = keep(options=native, status=42, program=build("plain_driver.cpp"))
    assert books.facts["live_bytes"] == 7000
    if native:
        (site,) = [site for site in books.sites() if site["live_bytes"] == 7000]
        assert [frame["function"] for frame in site["stack"]][1:3] == ["shop::take()", "main"]


# ---- what is on the machine ----

WORDS = "\n".join(f"{number * 7919 % 100_003} line" for number in range(20_000))
PROGRAMS: list[tuple[str, ...]] = [
    ("ls", "-la", "/usr/lib"),
    ("sort", "-n", "words"),
    ("sort", "--parallel=4", "-r", "words"),
    ("grep", "-c", "1.*3", "words"),
    ("sed", "-n", "s/1/one/gp", "words"),
    ("tar", "cf", "-", "words"),
    ("git", "--version"),
    ("git", "hash-object", "words"),
    ("sqlite3", ":memory:", "create table t(a, b); insert into t values(1, 'x'); select * from t, t;"),
    ("dash", "-c", "x=1; while [ $x -lt 1000 ]; do x=$((x+1)); done; sort -n words | head -3; exit $((x % 256))"),
    ("perl", "-e", 'my %h = map { $_ => "x" x $_ } 1..2000; print scalar(keys %h), "\\n"'),
    ("xz", "-T2", "-0", "-c", "words"),
    ("gcc", "-E", "-x", "c", "/dev/null"),
]


@both
@pytest.mark.parametrize("words", PROGRAMS, ids=lambda words: " ".join(words[:2]))
def test_programs_run_as_ever(
    bursar: Run, execute: Run, facts: Facts, ledger: Path, tmp_path: Path, words: tuple[str, ...],
    native: tuple[str, ...],
) -> None:  # fmt: skip
    if not shutil.which(words[0]):
        pytest.skip(f"no {words[0]} here")
    (tmp_path / "words").write_text(WORDS)
    alone = execute(*words)
    done = bursar("run", "-o", ledger, *ASKED, *native, "--", *words)
    assert (done.returncode, done.stdout) == (alone.returncode, alone.stdout)
    assert done.stderr.startswith(alone.stderr)
    read = facts(ledger)
    assert read["complete"] == (words[0] != "dash"), "which ends by _exit"
    assert read["allocations"] > 10
    assert_balanced(read, peak_error=read["peak_error_bytes"])


@both
def test_another_malloc(keep: Keep, native: tuple[str, ...]) -> None:
    """What it maps for itself is not counted beside the blocks that it cuts from it."""
    library = next(iter(Path("/usr/lib").glob("*/libjemalloc.so.2")), None)
    if not library:
        pytest.skip("no jemalloc here")
    books = keep("threads", options=native, env={"LD_PRELOAD": str(library)})
    assert abs(books.facts["peak_bytes"] - 40_000_000) <= 40_000
    assert not books.sites("mmap")
    books = keep("spawn", "env", options=native, env={"LD_PRELOAD": str(library)})
    assert f"LD_PRELOAD={library}\n" in books.done.stdout


def test_a_malloc_of_its_own(keep: Keep, build: Build, bursar: Run) -> None:
    """Everybody calls the program's, which asks the system for its memory."""
    text = (
        "#include <stdlib.h>\n#include <sys/mman.h>\n"
        "void *malloc(size_t size) {\n"
        "  return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);\n}\n"
        "void free(void *p) { (void)p; }\nvoid *volatile kept;\n"
        "int main(void) { kept = malloc(40960); return 0; }\n"
    )
    program = build(text)
    done = bursar("run", "--domains", "malloc", "--", program)
    assert done.stderr == "bursar: no books are kept: the program has a malloc of its own: try --domains mmap\n"
    books = keep(program=program)
    assert books.done.stderr.startswith("bursar: the program has a malloc of its own: its blocks are not seen")
    assert not books.sites("malloc")
    assert books.facts["live_bytes"] == 40960 == books.total("live_bytes", "mmap")


def test_a_program_of_fixed_addresses(keep: Keep, build: Build) -> None:
    """Where it takes malloc's address that is a stub of its own, which is no malloc of its own."""
    text = (
        "#include <stdlib.h>\nvoid *(*volatile take)(size_t);\nvoid *volatile kept;\n"
        "int main(void) { take = malloc; kept = take(40960); return 0; }\n"
    )
    books = keep(program=build(text, "-no-pie", "-fno-pie"))
    assert books.total("live_bytes") == 40960, books.done.stderr


def test_where_others_preload_too(execute: Run, keep: Keep, tmp_path: Path, build: Build) -> None:
    """Ours is taken out wherever it stands by now."""
    empty = tmp_path / "libempty.so"
    subprocess.run(["gcc", "-shared", "-o", empty, "-x", "c", "/dev/null"], check=True)
    books = keep("spawn", "env", env={"LD_PRELOAD": f"{empty} {empty}:{empty}"})
    assert f"LD_PRELOAD={empty} {empty}:{empty}\n" in books.done.stdout


def test_a_language_of_its_own_does_not_show(keep: Keep, build: Build, tmp_path: Path) -> None:
    """Numbers are written as everywhere."""
    if not shutil.which("localedef") or not Path("/usr/share/i18n/locales/de_DE").exists():
        pytest.skip("no languages here: install locales")
    subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", tmp_path / "de_DE.UTF-8"], check=True)
    text = '#include <locale.h>\nint main(void) { return setlocale(LC_ALL, "") ? 0 : 1; }\n'
    done = keep(program=build(text), env={"LC_ALL": "de_DE.UTF-8", "LOCPATH": str(tmp_path)}).done
    assert re.match(r"bursar: peak [0-9.]+ KiB at 0\.[0-9]{3} s of ", done.stderr)


# ---- what no books can be kept of ----

EMPTY = "int main(void) { return 5; }\n"


def refused(done: Done) -> str:
    """The one line that it was told; the program ran all the same."""
    assert done.returncode == 5, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("bursar: no books are kept of ")
    return line


def test_a_static_program(bursar: Run, build: Build) -> None:
    assert refused(bursar("run", "--", build(EMPTY, "-static"))).endswith("it is statically linked")


def test_a_program_with_more_rights(bursar: Run, build: Build, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make one")
    program = tmp_path / "rights"
    shutil.copy(build(EMPTY), program)
    os.chown(program, 65534, 65534)
    program.chmod(0o4755)
    assert "it runs with more rights than yours (setuid)" in refused(bursar("run", "--", program))
    program.chmod(0o755)
    assert "bursar: peak" in bursar("run", "--", program).stderr


def test_another_c_library(bursar: Run, build: Build, tmp_path: Path) -> None:
    """What stands for musl's here leads to the loader of this machine, so that it runs."""
    loader = next(path for path in Path("/lib64").glob("ld-linux-x86-64.so.2"))
    other = tmp_path / "ld-musl-x86_64.so.1"
    shutil.copy(loader, other)
    program = build(EMPTY, f"-Wl,--dynamic-linker={other}")
    assert refused(bursar("run", "--", program)).endswith("its C library is another one than bursar's")
    link = tmp_path / "ld-linux.so"
    link.symlink_to(loader)
    assert "bursar: peak" in bursar("run", "--", build(EMPTY, f"-Wl,--dynamic-linker={link}")).stderr


def test_another_processor(bursar: Run, build: Build, complains: Callable[..., str], tmp_path: Path) -> None:
    raw = bytearray(build(EMPTY).read_bytes())
    raw[18] = 0xF3  # e_machine: RISC-V
    program = tmp_path / "foreign"
    program.write_bytes(raw)
    program.chmod(0o755)
    done = bursar("run", "--", program)
    said = done.stderr.splitlines()
    assert said[0].endswith("it is for another processor than bursar")
    assert said[1] == f"bursar: cannot run {program}: Exec format error"
    assert (done.returncode, len(said)) == (1, 2)


def test_domains_of_python_s_alone(bursar: Run, driver: Path) -> None:
    done = bursar("run", "--domains", "numpy", "--", driver, "exit", "5")
    assert done.stdout == "here\n"
    assert refused(done).endswith("it is no Python: --domains malloc,mmap sees what it has")


def test_other_modes(keep: Keep) -> None:
    books = keep("family", options=("--mode", "sample"))
    assert (books.facts["mode"], books.facts["live_blocks"]) == ("exact", 10)
    assert "mode sample needs Python: as long as" in books.done.stderr.splitlines()[0]


def test_a_shell_where_it_is_asked_for(bursar: Run, facts: Facts, ledger: Path, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('#!/bin/sh\necho "$1"\nexit 6\n')
    script.chmod(0o755)
    done = bursar("run", "-o", ledger, *ASKED, "--", script, "x")
    assert (done.returncode, done.stdout) == (6, "x\n")
    assert facts(ledger)["allocations"] > 0
    done = bursar("run", "--", script, "x")
    assert (done.returncode, done.stdout, done.stderr) == (6, "x\n", "")


def test_while_it_runs(bursar: Run, facts: Facts, ledger: Path, build: Build, command: str, environment: Any) -> None:
    text = (
        "#include <poll.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\nvoid *volatile p;\n"
        "int main(void) { struct pollfd in = {0, POLLIN, 0}; p = malloc(50000000); memset(p, 1, 50000000);\n"
        '  if (write(1, "here\\n", 5) < 5) return 1;\n'
        "  while (poll(&in, 1, 0) == 0) free(malloc(100));\n"
        "  return 0; }\n"
    )
    program = subprocess.Popen(
        [command, "run", "-o", ledger, "--", build(text)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert program.stdout and program.stdin and program.stdout.readline() == "here\n"
    read = facts(ledger)
    assert read["state"] == "running" and 50_000_000 <= read["live_bytes"] <= 50_000_100
    done = bursar("balance", str(program.pid), "--format", "json")
    assert done.returncode == 0, done.stderr
    balance = json.loads(done.stdout)
    lines = {line["name"]: line["bytes"] for line in balance["lines"]}
    assert 50_000_000 <= lines["malloc"] <= 50_100_000, "it answers"
    assert balance["unexplained_bytes"] < balance["rss_bytes"] / 50
    program.communicate("q", timeout=LIMIT)
    assert program.returncode == 0


def test_without_address_space(bursar: Run, driver: Path, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (60 << 20, 60 << 20))

    done = bursar("run", "--", driver, "exit", "5", preexec_fn=limit)
    assert (done.returncode, done.stdout) == (5, "here\n")
    (line,) = done.stderr.splitlines()
    assert line.startswith("bursar: no books are kept: no address space")


@with_stacks
def test_a_full_disk_leaves_it_alone(bursar: Run, driver: Path, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    done = bursar("run", "-o", tmp_path / "full.bursar", "--native", "--", driver, "stacks", preexec_fn=limit)
    assert done.returncode == 0, done.stderr
    assert "the books stopped, the program goes on" in done.stderr
