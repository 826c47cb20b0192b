"""What the start-up file imports where `bursar run` or BURSAR asks for books: opens them before the program begins.

BURSAR=sample, count or exact opens books in any Python, each in a ledger of its own in the default place; off, or
nothing, does not.  BURSAR_POLICY=FILE opens them as the policy says, and applies it; under `bursar run` it applies the
rules alone.  Children inherit both.  They are not heard in a program with more rights than its user (setuid), nor with
-E or -I.

BURSAR_RUN is taken out of the environment, of os.environ and of C, unless the books follow forks, so that no child
takes itself for the program.  Whatever goes wrong here is one line on stderr, and the program goes on without books.
Imports nothing but the extension and what every Python has loaded by now: what is in sys.modules afterwards is the
program's to see.
"""

import os
import sys


def _decode(encoded: str) -> str:
    raw = encoded.encode().split(b"%")
    return os.fsdecode(raw[0] + b"".join(bytes.fromhex(part[:2].decode()) + part[2:] for part in raw[1:]))


def _take_out(encoded: str) -> None:
    """Removes our library from LD_PRELOAD, where it stands first."""
    path = _decode(encoded)
    first, colon, others = os.environ.get("LD_PRELOAD", "").partition(":")
    if path and first == path and others:
        os.environ["LD_PRELOAD"] = others
    elif path and first == path:
        del os.environ["LD_PRELOAD"]


def _take_tunables_out(encoded: str) -> None:
    """Removes what --tune put last into GLIBC_TUNABLES: malloc has read it."""
    ours, tunables = _decode(encoded), os.environ.get("GLIBC_TUNABLES", "")
    if ours and tunables == ours:
        del os.environ["GLIBC_TUNABLES"]
    elif ours and tunables.endswith(ours):
        os.environ["GLIBC_TUNABLES"] = tunables[: -len(ours)]


def _run(settings: str) -> None:
    there = set(sys.modules)
    pairs = dict(pair.partition("=")[::2] for pair in settings.split(";"))
    if pairs.get("follow") != "1":
        del os.environ["BURSAR_RUN"]
        _take_out(pairs.get("preload", ""))
        _take_tunables_out(pairs.get("tune", ""))
    from . import _bursar

    try:
        _bursar.boot(settings)
    finally:
        if "imports" in pairs:
            from . import _imports

            _imports.begin(pairs["imports"], _decode(pairs["imports_out"]), _decode(pairs["out"]), there)


def _switch_on(mode: str, policy: str) -> None:
    if mode == "off" or not (mode or policy):
        return
    if mode not in ("", "sample", "count", "exact"):
        raise ValueError(f"BURSAR is {mode!r}: set it to sample, count, exact or off")
    from . import _bursar

    _bursar.switch_on(mode or None, policy or None)


def _govern() -> None:
    """What a policy says of the governor, which is Python's and imports what it needs."""
    if "bursar._bursar" not in sys.modules:
        return
    from . import _bursar

    settings = _bursar.policy_governor()
    if settings is not None:
        from ._governor import governor

        governor(**settings)


def _begin() -> None:
    try:
        if "BURSAR_RUN" in os.environ:
            _run(os.environ["BURSAR_RUN"])
        if not sys.flags.ignore_environment:
            _switch_on(os.environ.get("BURSAR", ""), os.environ.get("BURSAR_POLICY", ""))
        _govern()
    except Exception as error:  # a program must start with or without its books
        extension = sys.modules.get("bursar._bursar")
        kept = extension is not None and extension.live_bytes() >= 0
        if sys.stderr is not None:  # descriptor 2 may be closed
            what = "the policy does not bind: " if kept else "no books are kept: "
            sys.stderr.write("bursar: " + what + " ".join(str(error).split()) + "\n")


_begin()
