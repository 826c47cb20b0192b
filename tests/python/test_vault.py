"""SecretBytes: what it gives and refuses, and an attack on each promise of docs/secrets.md, on both kinds of pages."""

import copy
import ctypes
import os
import pickle
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from bursar import SecretBytes
from memory_reader import Watched
from programs import Program, program

__all__ = ["program"]
pytestmark = pytest.mark.core

WORD = b"correct horse battery staple, at length"
HIDDEN = SecretBytes(1).hidden
KINDS = [
    "locked",
    pytest.param("hidden", marks=pytest.mark.skipif(not HIDDEN, reason="no memfd_secret in this kernel")),
]
kinds = pytest.mark.parametrize("kind", KINDS)


def start(kind: str) -> str:
    """The beginning of a program: pages of that kind, and a secret that no copy of was made."""
    return f"""\
import ctypes, os, signal, sys
from bursar import SecretBytes, _bursar
_bursar._vault_start({kind == "hidden"})
def address(view):
    return ctypes.addressof((ctypes.c_char * len(view)).from_buffer(view))
def unmasked():
    secret = SecretBytes({len(WORD)})
    with secret.open(write=True) as view:
        for place, byte in enumerate({[byte ^ 0x55 for byte in WORD]}):
            view[place] = byte ^ 0x55
    return secret
"""


def made(word: bytes = WORD) -> SecretBytes:
    secret = SecretBytes(len(word))
    with secret.open(write=True) as view:
        view[:] = word
    return secret


def test_a_view_is_of_its_block_alone() -> None:
    secret = made()
    with secret.open() as view:
        assert view == WORD and view.readonly and len(view) == len(secret) == len(WORD)
        with pytest.raises(TypeError):
            view[0] = 0
    with pytest.raises(ValueError, match="released"):
        view[0]
    with secret.open(True) as view:
        view[0:7] = b"wrong, "
    with secret.open(write=True) as first, secret.open() as second:
        first[8] = 0
        assert second[8] == 0
    secret.close()
    assert secret.closed and not secret
    secret.close()
    with pytest.raises(ValueError, match="closed"), secret.open():
        pass
    with pytest.raises(ValueError, match="closed"):
        len(secret)


@pytest.mark.parametrize("bad", [0, -1, -(10**30)])
def test_no_bytes_are_no_secret(bad: int) -> None:
    with pytest.raises((ValueError, OverflowError)):
        SecretBytes(bad)


def test_wrong_arguments() -> None:
    for wrong in (b"bytes", "text", bytearray(3), 1.5, None):
        with pytest.raises(TypeError, match="copy which stays"):
            SecretBytes(wrong)  # type: ignore[arg-type]
    secret = made()
    for call in (lambda: secret.open(1, 2), lambda: secret.open(wrote=True)):  # type: ignore[call-arg, misc]
        with pytest.raises(TypeError, match="write=True"):
            call()
    with pytest.raises(TypeError):
        type(secret.open())()  # type: ignore[call-arg, misc]
    with pytest.raises(MemoryError):
        SecretBytes(1 << 39)
    with pytest.raises(ValueError, match="tebibyte"):
        SecretBytes(sys.maxsize)


def test_leaving_while_views_live() -> None:
    secret = made()
    with pytest.raises(BufferError, match="outlive"), secret.open() as view:
        part = view[8:]
    assert part[:5] == WORD[8:13], "it stays open"
    with pytest.raises(BufferError, match="is open"):
        secret.close()
    del part  # the last of it
    secret.close()

    secret = made()
    with pytest.raises(BufferError), secret.open(write=True) as view:
        held = (ctypes.c_char * 8).from_buffer(view)  # C code's, by the buffer protocol
    assert held.raw == WORD[:8]
    del held, view
    secret.close()

    secret = made()
    with pytest.raises(KeyError), secret.open() as view:
        part = view[1:]
        raise KeyError  # goes on, and is not hidden
    with pytest.raises(BufferError):
        secret.close()
    part.release()
    secret.close()


def test_an_opening_is_entered_once_at_a_time() -> None:
    opening = made().open()
    with opening, pytest.raises(RuntimeError, match="entered already"):
        opening.__enter__()
    with opening as view:
        assert view == WORD
    secret = made()
    secret.open().__enter__()  # and forgotten
    secret.close()
    with made().open() as view:
        view.release()  # too early does no harm


REFUSED: dict[str, Callable[[SecretBytes], object]] = {
    "repr": repr,
    "str": str,
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,  # type: ignore[dict-item]
    "hash": hash,
    "iteration": iter,  # type: ignore[dict-item]
    "list": list,  # type: ignore[dict-item]
    "indexing": lambda secret: secret[0],  # type: ignore[index]
    "slicing": lambda secret: secret[1:],  # type: ignore[index]
    "format": format,
    "f-string": lambda secret: f"{secret}",
    "f-string!r": lambda secret: f"{secret!r}",
    "%s": lambda secret: "%s" % secret,  # noqa: UP031
    "%b": lambda secret: b"%b" % secret,  # type: ignore[str-bytes-safe]
    "in": lambda secret: b"c" in secret,  # type: ignore[operator]
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "str ==": lambda secret: secret == WORD.decode(),
    **{f"pickle {n}": lambda secret, n=n: pickle.dumps(secret, n) for n in range(pickle.HIGHEST_PROTOCOL + 1)},  # type: ignore[misc]
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_copy_it_is_refused(what: str) -> None:
    with pytest.raises(TypeError) as told:
        REFUSED[what](made())
    assert "\n" not in str(told.value)
    assert "secret" in str(told.value).lower()


def test_equality() -> None:
    one, same, other, longer = made(), made(), made(WORD[:-1] + b"H"), made(WORD + b"!")
    assert one == same and one == one and one != other and one != longer and other != one  # noqa: PLR0124
    for equal in (WORD, bytearray(WORD), memoryview(WORD)):
        assert one == equal and equal == one  # whichever is asked
    assert one != WORD[:-1] and one != b"" and one != None and one != 3  # noqa: E711
    with pytest.raises(TypeError):
        one < same  # type: ignore[operator]  # noqa: B015
    with pytest.raises(BufferError):
        one == memoryview(bytes(20))[::2]  # noqa: B015
    same.close()
    with pytest.raises(ValueError, match="closed"):
        one == same  # noqa: B015
    with one.open() as view:
        assert one == view and view != b""
    one.close()  # comparing left it closed


def test_from_files_and_descriptors(tmp_path: Path) -> None:
    path = tmp_path / "key"
    for size in (1, 4095, 4096, 4097, 100_000):
        word = (WORD * (size // len(WORD) + 1))[:size]
        path.write_bytes(word)
        assert SecretBytes.from_file(path) == word
        assert SecretBytes.from_file(str(path), 1) == word[:1]
        with pytest.raises(EOFError, match=f"of {size + 1} bytes was asked for, and there were {size}"):
            SecretBytes.from_file(path, size + 1)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="at least one byte"):
            SecretBytes.from_fd(0, wrong)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="empty"):
        SecretBytes.from_file(path)
    with pytest.raises(FileNotFoundError):
        SecretBytes.from_file(tmp_path / "none")
    with pytest.raises(OSError):
        SecretBytes.from_fd(-1)
    with pytest.raises(ValueError, match="16 MiB"):
        SecretBytes.from_file("/dev/zero")
    out, into = os.pipe()  # it comes in pieces
    threading.Thread(target=lambda: [os.write(into, bytes([byte])) for byte in WORD] and os.close(into)).start()
    assert SecretBytes.from_fd(out) == WORD
    os.close(out)


@kinds
def test_a_signal_ends_the_reading(kind: str, program: Program) -> None:
    program(
        start(kind) + "import time\n"
        "out, into = os.pipe()\n"
        "def handler(*unused): raise KeyError\n"
        "signal.signal(signal.SIGALRM, handler)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)\n"
        "try: SecretBytes.from_fd(out)\n"
        "except KeyError: signal.setitimer(signal.ITIMER_REAL, 0)\n"
    )


# --- attacks ----------------------------------------------------------------------------------------------------

FAULTS = {
    "a write past the end": "with secret.open(write=True) as view: ctypes.memset(address(view) + len(view), 1, 1)",
    "a read past the end": "with secret.open(write=True) as view: ctypes.string_at(address(view), len(view) + 1)",
    "a write before its pages": "with secret.open(write=True) as view: ctypes.memset((at & -4096) - 1, 1, 1)",
    "a read while it is closed": "ctypes.string_at(at, 1)",
    "a write while it is closed": "ctypes.memset(at, 1, 1)",
    "a write while it is open to be read": "with secret.open() as view: ctypes.memset(at, 1, 1)",
    "a read after close()": "secret.close(); ctypes.string_at(at, 1)",
    "a write after the object has gone": "del secret; ctypes.memset(at, 1, 1)",
}
FIND = """\
secret = unmasked()
with secret.open(write=True) as view: at = address(view)
import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
with secret.open() as view: assert ctypes.string_at(at, 1) == b"c"
"""


@kinds
@pytest.mark.parametrize("attack", FAULTS)
def test_it_faults(kind: str, attack: str, execute: Callable[..., object], python: str) -> None:
    done = execute(python, "-c", start(kind) + FIND + FAULTS[attack] + "\nprint('got away with it')\n")
    assert done.returncode == -signal.SIGSEGV, done  # type: ignore[attr-defined]


@kinds
def test_a_write_before_it_is_noticed(kind: str, program: Program) -> None:
    program(
        start(kind) + "def spoil(at): ctypes.memset(at, ctypes.string_at(at, 1)[0] ^ 1, 1)\n"  # whatever the canary is
        "secret = unmasked()\n"
        "try:\n"
        "    with secret.open(write=True) as view: spoil(address(view) - 1)\n"
        "except RuntimeError as error: assert 'before the first byte' in str(error)\n"
        "else: assert False\n"
        "with secret.open() as view: pass\n"
        "try: secret.close()\n"
        "except RuntimeError: assert secret.closed\n"
        "else: assert False\n"
        "secret, told = unmasked(), []\n"  # one that goes without close()
        "sys.unraisablehook = lambda told_of: told.append(told_of.exc_type)\n"
        "with secret.open(write=True) as view: at = address(view)\n"
        "pages = ctypes.CDLL(None).mprotect(ctypes.c_void_p(at & -4096), ctypes.c_size_t(4096), 3)\n"
        "spoil(at - 16)\n"
        "del secret, view\n"
        "assert told == [RuntimeError] and pages == 0\n"
    )


@kinds
def test_a_forked_child_has_no_access(kind: str, program: Program) -> None:
    program(
        start(kind) + FIND + "def child(act):\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        act(); os._exit(0)\n"
        "    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        "def opens():\n"
        "    try: secret.open().__enter__()\n"
        "    except ValueError as error: assert 'a child has no access' in str(error)\n"
        "    else: os._exit(1)\n"
        "    assert not secret.closed and len(secret)\n"
        "    own = unmasked()\n"
        "    assert own == own\n"
        "    try: own == secret\n"
        "    except ValueError: secret.close()\n"
        "    else: os._exit(1)\n"
        "assert child(opens) == 0\n"
        "def reads(): os._exit(ctypes.string_at(at, 1) != b'\\0')\n"
        "with secret.open() as view:\n"
        f"    assert child(reads) == ({-signal.SIGSEGV} if secret.hidden else 0)\n"
        "    assert child(view.release) == 0\n"
        "    assert view[0] == ord('c')\n"
        "assert secret == unmasked()\n"
    )


@kinds
def test_what_others_read_by_the_kernel(kind: str, python: str, tmp_path: Path, environment: dict[str, str]) -> None:
    """The same user reads all of the process; of hidden pages nothing, open or closed."""
    text = start(kind) + (
        "secret = unmasked()\nstop('closed')\n"
        "with secret.open() as view: stop('open')\n"
        "secret.close(); stop('wiped')\n"
        "secret = unmasked()\n"
        "with secret.open() as view: kept = bytes(view)\n"
        "stop('copied')\n"
    )
    there = 0 if kind == "hidden" else 1
    with Watched(python, text, folder=tmp_path, env=environment) as running:
        for name, wanted in (("closed", there), ("open", there), ("wiped", 0), ("copied", there + 1)):
            assert len(running.reaches(name).copies(WORD)) == wanted, name
            running.goes_on()


@kinds
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_reads_nothing(kind: str, python: str, tmp_path: Path, environment: dict[str, str]) -> None:
    with Watched(
        python, start(kind) + "secret = unmasked()\nstop('here')\n", folder=tmp_path, env=environment
    ) as running:
        running.reaches("here")
        pid = os.fork()
        if pid == 0:
            os.setresuid(65534, 65534, 65534)
            try:
                os.open(f"/proc/{running.process.pid}/mem", os.O_RDONLY)
            except PermissionError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


@kinds
def test_a_core_file_has_no_copy(kind: str, execute: Callable[..., object], python: str, tmp_path: Path) -> None:
    if Path("/proc/sys/kernel/core_pattern").read_text().startswith("|"):
        pytest.skip("core files go to a program here")
    text = (
        start(kind)
        + (
            "import faulthandler; faulthandler.disable()\n"
            "secret = unmasked()\n"
            "planted = b'in ordinary memory '.upper() * 3\n"
            "closed = unmasked()\n"
            "with secret.open(write=True) as view: os.abort()\n"
        )
    )
    room = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)}
    done = execute(python, "-c", text, **room)
    assert done.returncode == -signal.SIGABRT, done  # type: ignore[attr-defined]
    cores = list(tmp_path.glob("core*"))
    if not cores:
        pytest.skip("this system writes its core files elsewhere")
    core = cores[0].read_bytes()
    assert b"IN ORDINARY MEMORY " * 3 in core, "it has what is in ordinary memory"
    assert WORD not in core
    assert WORD[:16] not in core


@kinds
def test_an_executed_program_has_none_of_it(
    kind: str, python: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    text = start(kind) + (
        "if sys.argv[1:] == ['again']: stop('executed')\n"
        "secret = unmasked()\n"
        "with secret.open() as view: os.execv(sys.executable, [sys.executable, __file__, 'again'])\n"
    )
    with Watched(python, text, folder=tmp_path, env=environment) as running:
        assert running.reaches("executed").copies(WORD) == []


@kinds
@pytest.mark.parametrize("how", ["secret.close()", "del secret"])
def test_its_end_wipes_it(kind: str, how: str, program: Program) -> None:
    program(
        start(kind) + "secret, libc = unmasked(), ctypes.CDLL(None)\n"
        "with secret.open(write=True) as view: at = address(view)\n"
        "del view\n"
        f"{how}\n"
        "assert libc.mprotect(ctypes.c_void_p(at & -4096), ctypes.c_size_t(4096), 1) == 0\n"
        "assert ctypes.string_at(at & -4096, 4096) == bytes(4096)\n"
    )


@kinds
@pytest.mark.parametrize("how", ["pass", "sys.exit(0)", "kept = secret.open(); view = kept.__enter__()"])
def test_the_exit_wipes_all(kind: str, how: str, program: Program) -> None:
    """A handler of C's, which runs after the interpreter's end, prints the text that is there: none, by then."""
    done = program(
        start(kind) + "secret, libc = SecretBytes(5), ctypes.CDLL(None)\n"
        "with secret.open(write=True) as view:\n"
        "    view[:] = b'word\\0'\n"
        "    at = address(view)\n"
        "    assert ctypes.string_at(at) == b'word'\n"
        "assert libc.__cxa_atexit(ctypes.cast(libc.puts, ctypes.c_void_p), ctypes.c_void_p(at), None) == 0\n"
        "ctypes.pythonapi.Py_IncRef(ctypes.py_object(secret))\n"  # it never goes by itself
        f"{how}\n"
    )
    assert done.stdout == "\n"


@pytest.mark.parametrize("again", [False, True])
def test_an_environment_variable_is_wiped(
    again: bool, python: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    """In the block on the stack, in what setenv() made of it, and in os.environ."""
    text = (
        start("hidden" if HIDDEN else "locked") + "stop('before')\n"
        + (f"os.environb[b'WORD'] = bytes(byte ^ 0x55 for byte in {[byte ^ 0x55 for byte in WORD]})\n" if again else "")
        + "secret = SecretBytes.from_env('WORD')\n"
        "assert 'WORD' not in os.environ and not os.getenv('WORD')\n"
        "assert os.system('test -z \"$WORD\"') == 0\n"
        "assert os.environ['OTHER'] == 'WORD=stays'\n"
        "try: SecretBytes.from_env('WORD')\n"
        "except KeyError as error: assert error.args == ('WORD',)\n"
        "assert secret == unmasked()\n"
        "stop('after')\n"
    )  # fmt: skip
    full = environment | {"WORD": WORD.decode(), "OTHER": "WORD=stays", "WORDS": "no"}
    with Watched(python, text, folder=tmp_path, env=full) as running:
        assert len(running.reaches("before").copies(WORD)) >= 2
        running.goes_on()
        assert len(running.reaches("after").copies(WORD)) == (0 if HIDDEN else 2)  # its pages', and unmasked()'s


def test_environment_variables_that_are_none() -> None:
    for wrong in ("NO_SUCH_VARIABLE", "", "A=B", "NO\0SUCH"):
        with pytest.raises(KeyError):
            SecretBytes.from_env(wrong)
    os.environ["EMPTY_SECRET"] = ""
    with pytest.raises(ValueError, match="empty"):
        SecretBytes.from_env("EMPTY_SECRET")
    os.environ["EMPTY_SECRET"] = "x"  # one byte: an object that all share
    held = os.environb[b"EMPTY_SECRET"]
    assert SecretBytes.from_env("EMPTY_SECRET") == held == b"x"
    os.environ["HELD_SECRET"] = WORD.decode()
    held = os.environb[b"HELD_SECRET"]  # another's: it must not change under them
    assert SecretBytes.from_env("HELD_SECRET") == WORD == held


PROMPT = """\
import termios
before = termios.tcgetattr(0)
secret = SecretBytes.from_getpass("the word, please: ")
assert secret == unmasked() and termios.tcgetattr(0) == before
try: SecretBytes.from_getpass("and again: ")
except ValueError: os._exit(7)
"""


def test_the_prompt(python: str) -> None:
    """At a terminal: the prompt is shown, what is typed is not, and the terminal is as it was."""
    import pty

    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(python, [python, "-c", start("locked") + PROMPT])
    seen = b""
    for prompt, answer in ((b"please: ", WORD + b"\n"), (b"again: ", b"\n")):
        while prompt not in seen:
            seen += os.read(terminal, 1000)
        os.write(terminal, answer)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7, seen
    os.close(terminal)
    assert WORD not in seen


def test_no_terminal(program: Program) -> None:
    program(
        "from bursar import SecretBytes\n"
        "try: SecretBytes.from_getpass()\n"
        "except OSError as error: assert 'no terminal' in str(error)\n"
        "else: assert False\n",
        start_new_session=True,
    )


@kinds
@pytest.mark.parametrize("limit", [0, 10])
def test_the_limit(kind: str, limit: int, program: Program) -> None:
    """RLIMIT_MEMLOCK, of a user who is bound by it."""
    program(
        start(kind) + "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_MEMLOCK, ({limit} * 4096,) * 2)\n"
        "if os.geteuid() == 0: os.setresuid(65534, 65534, 65534)\n"
        f"kept = [SecretBytes(9) for _ in range({limit})]\n"
        "for size in (1, 100_000):\n"
        "    try: SecretBytes(size)\n"
        "    except MemoryError as error: told = str(error)\n"
        "    else: assert False\n"
        "    assert 'ulimit -l' in told and 'LimitMEMLOCK=' in told and '\\n' not in told, told\n"
        f"assert ('lock {limit * 4} KiB' if {limit} else 'lock 0 B') in told, told\n"
        "if kept:\n"
        "    kept.pop()\n"
        "    SecretBytes(4096)\n"
    )


def test_subinterpreters_have_their_own(program: Program) -> None:
    program(
        start("locked") + "try: import _interpreters as interpreters\n"
        "except ImportError: import _xxsubinterpreters as interpreters\n"
        "secret = unmasked()\n"
        "other = interpreters.create()\n"
        "text = 'from bursar import SecretBytes; secret = SecretBytes(5); assert secret == bytes(5)'\n"
        "got = interpreters.run_string(other, text)\n"
        "assert got is None, got\n"
        "interpreters.destroy(other)\n"
        "assert secret == unmasked()\n"
    )


@kinds
def test_threads_share_an_open_secret(kind: str, program: Program) -> None:
    program(
        start(kind) + "import threading\n"
        "secret, wrong = unmasked(), []\n"
        "def work(write):\n"
        "    for _ in range(1000):\n"
        "        with secret.open(write=write) as view:\n"
        "            if view[0] != ord('c') or SecretBytes(8) != bytes(8): wrong.append(view[0])\n"
        "sys.setswitchinterval(1e-5)\n"
        "threads = [threading.Thread(target=work, args=(write,)) for write in (0, 0, 1, 1)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "assert not wrong\n"
        "secret.close()\n"
    )
