"""The reader of TOML (src/policy/toml.c) against Python's own: both accept the same, and read the same data."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import install
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

tomllib: Any = pytest.importorskip("tomllib")  # 3.11

Ask = Any


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Gives a document to the reader, and returns its data (None where it makes mistakes) and the mistakes."""
    driver = install.build_folder(Path(sys.executable)) / "tests" / "unit" / "toml_dump"
    if not driver.exists():
        pytest.skip("no build of the core here: make build")
    with subprocess.Popen([driver], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin and reader.stdout
        into, out = reader.stdin, reader.stdout

        def question(document: "str | bytes") -> "dict[str, Any]":
            text = document.encode("utf-8", "surrogatepass") if isinstance(document, str) else document
            into.write(len(text).to_bytes(4, "little") + text)
            into.flush()
            answer: dict[str, Any] = json.loads(out.readline())
            return answer

        yield question
        into.close()


def plain(tree: "list[Any]") -> Any:
    """What tomllib would have made of it."""
    kind, value = tree
    if kind == "table":
        return {key: plain(item) for key, _, _, item in value}
    if kind == "array":
        return [plain(item) for item in value]
    if kind == "integer":
        return int(value)
    if kind == "real":
        return float.fromhex(value)
    return tomllib.loads(f"x = {value}")["x"] if kind == "time" else value


def same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and bool(left == right)


def expected(text: str) -> "tuple[bool, Any]":
    try:
        return True, tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return False, None


def beyond(value: Any) -> bool:
    """Integers of more than 64 bits: Python has them."""
    if isinstance(value, dict):
        return any(map(beyond, value.values()))
    if isinstance(value, list):
        return any(map(beyond, value))
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def compare(ask: Ask, text: str) -> bool:
    """Whether it is a document; fails where the two do not agree."""
    good, data = expected(text)
    answer = ask(text)
    if good and beyond(data):
        assert answer["mistakes"]
        return False
    assert (not answer["mistakes"]) == good, (text, data, answer["mistakes"])
    if good:
        assert same(plain(answer["tree"]), data), (text, answer["tree"])
    for line, column, what in answer["mistakes"]:
        rows = text.replace("\r\n", "\n").split("\n")
        assert 1 <= line <= len(rows) and 1 <= column <= len(rows[line - 1]) + 1, (text, line, column)
        assert "\n" not in what and "; " in what
    return good


# --- documents that are right -----------------------------------------------------------------------------------------

BARE = st.text("abcxyzABC019-_", min_size=1, max_size=6)
WORDS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r"), max_size=12)
ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def escaped(text: str, every: bool) -> str:
    parts = []
    for c in text:
        if c in ESCAPES:
            parts.append(ESCAPES[c])
        elif ord(c) < 0x20 or ord(c) == 0x7F or (every and ord(c) > 0x7F):
            parts.append(f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08X}")
        else:
            parts.append(c)
    return "".join(parts)


def literal(text: str) -> bool:
    return all(c == "\t" or (ord(c) >= 0x20 and ord(c) != 0x7F) for c in text) and "'" not in text


@st.composite
def texts(draw: st.DrawFn) -> str:
    text = draw(WORDS)
    form = draw(st.integers(0, 4))
    if form == 0 and literal(text):
        return f"'{text}'"
    if form == 1 and literal(text):
        return f"'''\n{text}\n{text}{draw(st.sampled_from(['', chr(39), chr(39) * 2]))}'''"
    if form == 2:
        return (
            f'"""{escaped(text, False)}\\  \n \t\n {escaped(text, True)}{draw(st.sampled_from(["", "!", chr(34)]))}"""'
        )
    return f'"{escaped(text, form == 3)}"'


@st.composite
def keys(draw: st.DrawFn) -> str:
    if draw(st.integers(0, 3)):
        return draw(BARE)
    text = draw(WORDS)
    return f"'{text}'" if literal(text) and draw(st.booleans()) else f'"{escaped(text, draw(st.booleans()))}"'


def underscored(number: str, draw: st.DrawFn) -> str:
    at = draw(st.integers(0, 8))
    return number[:at] + "_" + number[at:] if 0 < at < len(number) and number[at - 1 : at + 1].isdigit() else number


@st.composite
def numbers(draw: st.DrawFn) -> str:
    number = draw(st.integers(-(2**63), 2**63 - 1))
    form = draw(st.integers(0, 5))
    if form < 3 and number >= 0:
        return ["0x%x", "0o%o", "0x%X"][form] % number
    if form == 3 and number >= 0:
        return bin(number)
    return underscored(str(number), draw) if form == 4 else f"{'+' if number >= 0 else ''}{number}"


@st.composite
def reals(draw: st.DrawFn) -> str:
    special = draw(st.integers(0, 9))
    if special < 6:
        return ["inf", "-inf", "+inf", "nan", "-nan", "+nan"][special]
    value = draw(st.floats(allow_nan=False, allow_infinity=False))
    text = repr(value) if special < 8 else f"{value:.3e}"
    return text if "." in text or "e" in text else text + ".0"


@st.composite
def times(draw: st.DrawFn) -> str:
    day = draw(st.dates())
    clock = draw(st.times()).isoformat()
    form = draw(st.integers(0, 3))
    if form < 2:
        return day.isoformat() if form else clock
    gap = draw(st.sampled_from("Tt "))
    zone = draw(st.sampled_from(["", "Z", "z", "+00:00", "-23:59", "+05:30"]))
    return f"{day.isoformat()}{gap}{clock}{zone}"


SCALARS = st.one_of(texts(), numbers(), reals(), times(), st.sampled_from(["true", "false"]))


@st.composite
def values(draw: st.DrawFn, deep: int = 0) -> str:
    form = draw(st.integers(0, 7))
    if deep > 3 or form < 5:
        return draw(SCALARS)
    if form == 5:
        items = draw(st.lists(keys(), max_size=3, unique=True))
        pairs = [f"{key}{draw(BLANKS)}={draw(BLANKS)}{draw(values(deep + 1))}" for key in items]
        return "{" + draw(BLANKS) + (draw(BLANKS) + "," + draw(BLANKS)).join(pairs) + draw(BLANKS) + "}"
    items = draw(st.lists(values(deep + 1), max_size=4))
    gap = draw(st.sampled_from(["", " ", "\n", '\t\n  # one [ ] = " more\n']))
    return "[" + gap + ("," + gap).join(items) + (gap + "," if items and draw(st.booleans()) else "") + gap + "]"


BLANKS = st.sampled_from(["", " ", "\t", "  "])


@st.composite
def statements(draw: st.DrawFn) -> str:
    """One line, right by itself: what else is in the document may make it wrong."""
    dot = draw(BLANKS) + "." + draw(BLANKS)
    path = dot.join(draw(st.lists(keys(), min_size=1, max_size=3)))
    tail = draw(st.sampled_from(["", "", " # why", "\t#"]))
    form = draw(st.integers(0, 9))
    if form < 2:
        return f"{draw(BLANKS)}[{draw(BLANKS)}{path}{draw(BLANKS)}]{tail}"
    if form == 2:
        return f"[[{draw(BLANKS)}{path}{draw(BLANKS)}]]{tail}"
    return f"{draw(BLANKS)}{path}{draw(BLANKS)}={draw(BLANKS)}{draw(values())}{tail}" if form < 9 else tail


@st.composite
def documents(draw: st.DrawFn) -> str:
    ends = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    kept: list[str] = []
    for line in draw(st.lists(statements(), max_size=8)):
        if expected(ends.join([*kept, line]))[0]:
            kept.append(line)
    return ends.join(kept) + draw(st.sampled_from(["", ends]))


OFTEN = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


@OFTEN
@given(document=documents())
def test_the_same_data(ask: Ask, document: str) -> None:
    compare(ask, document)


# --- documents that may be wrong --------------------------------------------------------------------------------------

# Few names, so that they meet again as tables, arrays, values and dotted keys.
NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(".".join)
SMALL = st.sampled_from(["1", "[]", "{}", "[{a=1}]", "{a.b=1}", "{a={}, b=2}", "{a=1, a.b=2}", "[[1], {}]"])
LINES = st.one_of(
    NAMES.map("[{}]".format), NAMES.map("[[{}]]".format), st.tuples(NAMES, SMALL).map(" = ".join)
)  # fmt: skip


@settings(OFTEN, max_examples=1500)
@given(lines=st.lists(LINES, min_size=2, max_size=8))
def test_the_same_tables_are_redefined(ask: Ask, lines: "list[str]") -> None:
    compare(ask, "\n".join(lines))


PIECES = ['"', "'", '"""', "'''", "[", "]", "{", "}", "=", ",", ".", "\n", "\r", "\r\n", "#", "\\", " ", "\t", "_", "-",
          "+", "0", "9", "e", "x", "T", "Z", ":", "inf", "nan", "true", "\x00", "\x7f", "\u00a0", "\u2028", "\ud800",
          "\\u12", "\\ud800", "\\U00110000", "00", "1979-02-29", "24:00:00", "99", "\ufeff", "é"]  # fmt: skip


@settings(OFTEN, max_examples=400)
@given(document=documents(), data=st.data())
def test_the_same_is_rejected(ask: Ask, document: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(document)))
        piece = data.draw(st.sampled_from(PIECES))
        document = document[:at] + piece + document[at + data.draw(st.integers(0, 2)) :]
    if "\ud800" in document:
        assert ask(document)["mistakes"]
    else:
        compare(ask, document)


def test_a_document_of_everything(ask: Ask) -> None:
    """The strategies make what they should: each kind of value is among what is compared."""
    text = 'a = [1, 2.5, "x", 1979-05-27T07:32:00Z, 07:32:00, true, {b.c = 1}]\n[d."e f"]\n[[g]]\n'
    assert compare(ask, text)
    found = plain(ask(text)["tree"])
    assert [type(item) for item in found["a"]] == [int, float, str, datetime, time, bool, dict]
    assert found["d"] == {"e f": {}} and found["g"] == [{}]
    assert isinstance(plain(ask("a = 1979-05-27")["tree"])["a"], date)
    assert not compare(ask, "a = 1\na = 2")


# --- where it is, and how it goes on ----------------------------------------------------------------------------------


def places(ask: Ask, document: "str | bytes") -> "list[tuple[int, int]]":
    return [(line, column) for line, column, _ in ask(document)["mistakes"]]


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ("a = 1\nb = \n", [(2, 5)]),
        ("a = 1\n\n  a = 2\n", [(3, 3)]),
        ("é = 1", [(1, 1)]),
        ('"é" = 1 x', [(1, 9)]),
        ("a = 300 MiB\nb = [x, y]\n[c d]\ne = 1\n[f]\ng = 1 1\n", [(1, 9), (2, 6), (3, 4), (6, 7)]),
        ('a = """\n\n', [(1, 5)]),
        ("a = [\n1,\n", [(1, 5)]),
        ("a = 1 \x01\nb = 2 # \x7f\nc =", [(1, 7), (2, 9), (3, 4)]),
        (b"a = 1\r\nb = '\xff'\r\n", [(2, 6)]),
        (b"\xef\xbb\xbfa = 1", [(1, 1)]),
        ("[a]\n[b]\n[a]\nc = 1\n", [(3, 2)]),
        ("a = 99999999999999999999", [(1, 5)]),
        ("a = " + "[" * 65 + "]" * 65, [(1, 69)]),
        ("a = " + "[" * 64 + "]" * 64, []),
    ],
)
def test_each_mistake_has_its_place(ask: Ask, document: str, where: "list[tuple[int, int]]") -> None:
    assert places(ask, document) == where


def test_bounds(ask: Ask) -> None:
    assert ask("a = [" + "1," * 16000 + "]")["status"] == 0
    assert "more than 16384 keys and values" in ask("a = [" + "1," * 17000 + "]")["mistakes"][0][2]
    assert places(ask, "#" * (256 << 10)) == []
    assert ask("#" * ((256 << 10) + 1))["mistakes"] == [[0, 0, "more than 256 KiB; leave some out"]]
    assert len(ask("=\n" * 1000)["mistakes"]) == 100
