"""A scope that proves at its end that nothing is left of a secret, or says where it is and who holds it."""

from pathlib import Path
from typing import Any

import pytest
from programs import Program, printed, program
from running import Facts

__all__ = ["program"]
pytestmark = pytest.mark.core

# The secret is made of a masked one, so that the program's own text is no copy.
WORK = """import json, sys, bursar
MASKED = bytes.fromhex("0a1904130f0e0f1513080e0f112233445566778899aabbcc")
secrets = []  # made in the scope: outside of one the making itself leaves copies
def secret(): return bytes(x ^ 0x6B for x in MASKED)
def work(kept=None):
    text = json.dumps({"card": secret().hex()})
    document = json.loads(text)
    if kept is not None:
        kept.append(document)
    return len(document)
"""
OPEN = "bursar.start('exact', output=sys.argv[1], force=True)\n"


def events(facts: Facts, ledger: Path) -> list[Any]:
    return [event for event in facts(ledger)["events"] if event["kind"] == "proof"]


@pytest.mark.parametrize("mode", ["exact", "sample", "count"])
def test_a_proof_is_an_event(program: Program, facts: Facts, ledger: Path, mode: str) -> None:
    code = (
        WORK
        + OPEN.replace("exact", mode)
        + "for _ in range(2):\n"
        + "    with bursar.scope('score', wipe=True, prove=secrets): secrets[:] = [secret()]; work()\n"
        + "bursar.stop()"
    )
    program(code, ledger)
    proofs = events(facts, ledger)
    assert [proof["scope"] for proof in proofs] == ["score", "score"]
    assert all(proof["bytes"] > 5_000_000 for proof in proofs)
    assert all(proof["text"].startswith("0 copies of 1; all ") for proof in proofs)


def test_what_is_left_is_an_error_that_names_the_holders(program: Program, facts: Facts, ledger: Path) -> None:
    code = (
        WORK
        + OPEN
        + (
            "kept = []\n"
            "try:\n"
            "    with bursar.scope('score', wipe=True, prove=secrets): secrets.append(secret()); work(kept)\n"
            "except bursar.ResidueError as error:\n"
            "    print(json.dumps([str(error), [(h.form, h.where, h.holders) for h in error.found[0].hits]]))\n"
            "bursar.stop()"
        )
    )
    text, hits = printed(program(code, ledger))
    assert text.startswith("scope 'score' left copies of what it was to prove gone\n1 copy found\n")
    form, where, holders = hits[0]
    assert (form, where) == ("hex", "live") and any("'kept'" in holder for holder in holders), holders
    assert bytes(b ^ 0x6B for b in bytes.fromhex("0a1904130f0e0f15")).hex() not in text
    assert events(facts, ledger)[0]["text"].startswith("1 copy of 1; all ")


def test_without_wiping_it_would_be_found(program: Program) -> None:
    """The same work in a scope that does not wipe leaves copies: the proof above is of something."""
    code = WORK + (
        "with bursar.scope('score', wipe=False):\n"
        "    texts = [json.dumps({'card': secret().hex(), 'n': n}) for n in range(500)]\n"
        "    del texts\n"
        "print(json.dumps(bursar.residue(secret()).copies))"
    )
    assert printed(program(code)) > 50
    code = code.replace("wipe=False", "wipe=True").replace("secret()).copies", "one).copies")
    code = code.replace("    del texts", "    del texts; one = bytearray(secret())")
    assert printed(program(code)) == 0


def test_secrets_that_come_in_the_scope(program: Program) -> None:
    """The list may still grow, books need not be open, and functions prove each of their calls."""
    code = WORK + (
        "with bursar.scope('score', wipe=True, prove=secrets):\n"
        "    secrets.append(secret()); work()\n"
        "kept = []\n"
        "@bursar.scope('call', wipe=True, prove=secrets)\n"
        "def call(*arguments): return work(*arguments)\n"
        "done = [call()]\n"
        "try: call(kept)\n"
        "except bursar.ResidueError as error: done.append(error.found[0].copies)\n"
        "print(json.dumps(done))"
    )
    assert printed(program(code)) == [1, 1]


def test_a_proof_after_an_error(program: Program) -> None:
    """The traceback of what went wrong holds the secret: that is said, with the error as its context."""
    code = WORK + (
        "def fail():\n"
        "    card = secret().hex()\n"
        "    raise KeyError(len(card))\n"
        "try:\n"
        "    with bursar.scope('score', wipe=True, prove=secrets): secrets.append(secret()); fail()\n"
        "except bursar.ResidueError as error:\n"
        "    print(json.dumps([repr(error.__context__), [h.holders for h in error.found[0].hits]]))"
    )
    context, holders = printed(program(code))
    assert context == "KeyError(48)" and "fail" in str(holders)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("prove=[secret()]", "prove takes a list of secrets, and needs wipe=True"),
        ("wipe=True, prove=secret()", "prove takes a list of secrets, and needs wipe=True"),
        ("wipe=True, prove=[b'abc']", "8 bytes"),
        ("wipe=True, prove=[b'']", "8 bytes"),
    ],
)
def test_what_proves_nothing_is_refused(program: Program, options: str, says: str) -> None:
    code = WORK + (
        "try:\n"
        f"    with bursar.scope('score', {options}): pass\n"
        "except ValueError as error: print(json.dumps(str(error)))"
    )
    assert says in printed(program(code))
