"""bursar model keygen, seal, open: the age format, against its public test vectors, the age command, and against what
was changed on the way."""

import base64
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import zlib
from pathlib import Path
from typing import NamedTuple

import bursar
import pytest
from running import LIMIT

ROOT = Path(__file__).resolve().parents[2]
CHUNK = 65536
SIZES = (0, 1, 15, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 17, 5 * CHUNK)


class Done(NamedTuple):
    returncode: int
    out: bytes
    said: str


def run(command: str, *words: "str | Path", given: bytes = b"") -> Done:
    """`bursar model`, with bytes on both ends."""
    done = subprocess.run([command, "model", *words], input=given, capture_output=True, timeout=LIMIT, check=False)
    said = done.stderr.decode()
    assert done.returncode == 0 or said.count("\n") == 1, said
    return Done(done.returncode, done.stdout, said)


@pytest.fixture
def identity(command: str, tmp_path: Path) -> Path:
    path = tmp_path / "identity"
    assert run(command, "keygen", "-o", path).returncode == 0
    return path


def recipient(identity: Path) -> str:
    found = re.search(r"^# public key: (age1\w+)$", identity.read_text(), re.M)
    assert found
    return found[1]


# --- the public vectors -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def vectors() -> dict[str, bytes]:
    """CCTV's, by name, from npm."""
    place = ROOT / "build" / "interop"
    index = place / "node_modules" / "cctv-age" / "index.js"
    if not index.exists():
        npm = shutil.which("npm") or shutil.which("npm", path=str(Path(sys.executable).parent))
        if not npm:
            pytest.skip("no npm to fetch the vectors with")
        place.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(ROOT / "tests" / "interop" / name, place)
        environment = os.environ | {"PATH": os.pathsep.join([str(Path(npm).parent), os.environ["PATH"]])}
        subprocess.run([npm, "ci", "--ignore-scripts"], cwd=place, env=environment, check=True, capture_output=True)
    found = re.findall(r'// \.\./testdata/(\S+)\nvar \S+ = __toBinary\("([^"]*)"\)', index.read_text())
    return {name: base64.b64decode(content) for name, content in found}


def facts_of(vector: bytes) -> tuple[dict[str, list[str]], bytes]:
    head, _, body = vector.partition(b"\n\n")
    keys: dict[str, list[str]] = {}
    for line in head.decode().split("\n"):
        key, _, value = line.partition(": ")
        keys.setdefault(key, []).append(value)
    return keys, zlib.decompress(body) if keys.get("compressed") == ["zlib"] else body


def test_the_public_vectors(vectors: dict[str, bytes], command: str, tmp_path: Path) -> None:
    """Each as expected, to the released prefix; those that need a hybrid identity are not supported, and say so."""
    unsupported, wrong = [], []
    for name, vector in vectors.items():
        keys, sealed = facts_of(vector)
        words: list[str | Path] = ["open", "-o", "-"]
        for kind, option in (("identity", "--identity"), ("passphrase", "--passphrase-file")):
            if kind in keys:
                (tmp_path / kind).write_text("\n".join(keys[kind]) + "\n")
                words += [option, tmp_path / kind]
        done = run(command, *words, given=sealed)
        expected = keys["expect"][0]
        right = (done.returncode == 0) == (expected == "success")
        if "payload" in keys:
            right = right and hashlib.sha256(done.out).hexdigest() == keys["payload"][0]
        elif expected != "success":
            right = right and not done.out
        if not right and "not supported" in done.said and any("-PQ-" in one for one in keys.get("identity", [])):
            unsupported.append(name)
        elif not right:
            wrong.append((name, expected, done.returncode, done.said))
    assert len(vectors) > 100
    assert not wrong
    assert all("hybrid" in name for name in unsupported) and len(unsupported) < 10


# --- the age command ------------------------------------------------------------------------------------------------


@pytest.fixture
def age() -> str:
    found = shutil.which("age")
    if not found:
        pytest.skip("no age command: install age")
    return found


@pytest.mark.parametrize("size", SIZES)
def test_both_ways(size: int, age: str, command: str, identity: Path, tmp_path: Path) -> None:
    content = os.urandom(size)
    (tmp_path / "plain").write_bytes(content)
    to = recipient(identity)
    for armor in ([], ["-a"]):
        sealed = run(command, "seal", *armor, "--to", to, tmp_path / "plain").out
        assert subprocess.check_output([age, "-d", "-i", identity], input=sealed) == content
        theirs = subprocess.check_output([age, *armor, "-r", to], input=content)
        assert run(command, "open", "--identity", identity, given=theirs).out == content


def test_its_keys_are_ours(age: str, command: str, identity: Path, tmp_path: Path) -> None:
    theirs = subprocess.check_output(["age-keygen", "-y", identity], text=True)
    assert theirs.strip() == recipient(identity)
    subprocess.run(["age-keygen", "-o", tmp_path / "theirs"], check=True, capture_output=True)
    sealed = run(command, "seal", "--to", recipient(tmp_path / "theirs"), given=b"secret").out
    assert run(command, "open", "-i", tmp_path / "theirs", given=sealed).out == b"secret"


def test_several_recipients(age: str, command: str, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        run(command, "keygen", "-o", path)
    to = [word for path in paths[:2] for word in ("--to", recipient(path))]
    sealed = run(command, "seal", *to, given=b"for two").out
    for path in paths[:2]:
        assert run(command, "open", "-i", path, given=sealed).out == b"for two"
        assert subprocess.check_output([age, "-d", "-i", path], input=sealed) == b"for two"
    assert run(command, "open", "-i", paths[2], "-i", paths[0], given=sealed).out == b"for two"
    refused = run(command, "open", "-i", paths[2], given=sealed)
    assert refused == (1, b"", "bursar: cannot open standard input: it is sealed for others: no identity fits\n")


# --- what was changed on the way ------------------------------------------------------------------------------------


def test_never_a_byte_of_wrong_plaintext(command: str, identity: Path, tmp_path: Path) -> None:
    content = os.urandom(2 * CHUNK + 1000)
    sealed = run(command, "seal", "--to", recipient(identity), given=content).out
    header = len(sealed) - len(content) - 3 * 16
    one = CHUNK + 16
    chunks = [sealed[header : header + one], sealed[header + one : header + 2 * one], sealed[header + 2 * one :]]
    cases = {
        "cut": [sealed[:at] for at in (0, 5, header - 20, header, header + 1, header + one, header + 2 * one, -1)],
        "moved": [
            sealed[:header] + b"".join(chunks[i] for i in order)
            for order in ((1, 0, 2), (0, 2, 1), (0, 2), (0, 0, 1, 2))
        ],
        "more": [sealed + b"\0", sealed + chunks[2], sealed + chunks[0]],
        "flipped": [
            sealed[:at] + bytes([sealed[at] ^ 1 << at % 8]) + sealed[at + 1 :]
            for at in (*range(0, header, 3), header, header + 70, header + one - 1, header + one, len(sealed) - 1)
        ],
    }  # fmt: skip
    out = tmp_path / "out"
    for what, many in cases.items():
        for changed in many:
            done = run(command, "open", "-i", identity, given=changed)
            assert done.returncode == 1 and content.startswith(done.out), what
            assert len(done.out) % CHUNK == 0 or (what == "more" and done.out == content), what
            done = run(command, "open", "-i", identity, "-o", out, given=changed)
            assert done.returncode == 1 and not out.exists() and os.listdir(tmp_path) == ["identity"], what


def test_an_output_is_whole_or_as_it_was(command: str, identity: Path, tmp_path: Path) -> None:
    sealed = run(command, "seal", "--to", recipient(identity), given=b"new").out
    out = tmp_path / "out"
    out.write_bytes(b"old")
    assert run(command, "open", "-i", identity, "-o", out, given=sealed[:-1]).returncode == 1
    assert out.read_bytes() == b"old"
    assert run(command, "open", "-i", identity, "-o", out, given=sealed).returncode == 0
    assert out.read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == ["identity", "out"]


# --- models ---------------------------------------------------------------------------------------------------------


def test_a_sealed_model(command: str, identity: Path, tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    rng = np.random.default_rng(3)
    model = {"large": rng.normal(size=(3000, 500)), "small": np.arange(7), "none": np.zeros((0, 2))}
    plain, sealed = tmp_path / "plain", tmp_path / "sealed"
    bursar.save(model, plain, metadata={"made": "here"})
    run(command, "seal", "--to", recipient(identity), "-o", sealed, plain)
    for name in (b"large", b"shape", b"made"):
        assert name not in sealed.read_bytes()
    for given in (identity, bursar.SecretBytes.from_file(identity), [identity]):
        with bursar.open(sealed, identity=given) as read:
            assert read.keys() == model.keys() and read.metadata == {"made": "here"}
            assert np.array_equal(read["large"], model["large"]) and not read["large"].flags.writeable
            assert np.array_equal(read.read("large", rows=slice(17, 2018)), model["large"][17:2018])
            assert bytes(read.raw("small")) == model["small"].tobytes()
            secret = bursar.secret_array((3000, 500))
            with secret.open(write=True) as view:
                read.read("large", out=view)
                view = None
            with secret.open() as view:
                assert np.array_equal(view, model["large"])
                view = None
    for threads in (1, 3, 16):
        loaded = bursar.load(sealed, identity=identity, threads=threads)
        assert all(np.array_equal(loaded[name], model[name]) for name in model)
    with pytest.raises(ValueError, match="is sealed: give identity"):
        bursar.open(sealed)
    word = tmp_path / "word"
    word.write_text("correct horse")
    run(command, "seal", "--passphrase-file", word, "-o", tmp_path / "by-word", plain)
    with bursar.open(tmp_path / "by-word", passphrase=bursar.SecretBytes.from_file(word)) as read:
        assert np.array_equal(read["small"], model["small"])


def test_a_model_that_was_changed(command: str, identity: Path, tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    model = {name: np.full(CHUNK // 8, i) for i, name in enumerate("abcdef")}
    bursar.save(model, tmp_path / "plain")
    sealed = run(command, "seal", "--to", recipient(identity), tmp_path / "plain").out
    path = tmp_path / "sealed"
    path.write_bytes(sealed[:-1])
    with pytest.raises(ValueError, match="was changed or cut off"):  # the last chunk is looked at first
        bursar.open(path, identity=identity)
    path.write_bytes(sealed[: -(CHUNK + 16)])
    with pytest.raises(ValueError, match="was changed or cut off"):
        bursar.open(path, identity=identity)
    middle = len(sealed) - 3 * CHUNK
    path.write_bytes(sealed[:middle] + bytes([sealed[middle] ^ 1]) + sealed[middle + 1 :])
    with bursar.open(path, identity=identity) as read:
        assert np.array_equal(read["a"], model["a"])
        wrong = 0
        for name in model:
            into = np.full(CHUNK // 8, 99)
            try:
                assert np.array_equal(read.read(name, out=into), model[name])
            except ValueError as error:
                assert "was changed or cut off" in str(error) and not into.any()  # what was decrypted is wiped
                wrong += 1
        assert wrong in (1, 2)
    (tmp_path / "other").write_bytes(run(command, "seal", "--to", recipient(identity), given=b"no model").out)
    with pytest.raises(ValueError, match="holds no safetensors file|is no safetensors file"):
        bursar.open(tmp_path / "other", identity=identity)


# --- passphrases, keys, wrong use -----------------------------------------------------------------------------------


def test_a_passphrase(command: str, tmp_path: Path) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("correct horse battery\nsomething else\n")
    wrong.write_text("correct horse\n")
    sealed = run(command, "seal", "--passphrase-file", right, given=b"secret").out
    assert run(command, "open", "--passphrase-file", right, given=sealed).out == b"secret"
    assert run(command, "open", "--passphrase-file", wrong, given=sealed).said.endswith("that is not its passphrase\n")
    (tmp_path / "empty").write_text("\n")
    assert "is empty" in run(command, "open", "--passphrase-file", tmp_path / "empty", given=sealed).said
    too_much = sealed.replace(b" 18\n", b" 23\n", 1)
    assert "2^22 are done at most" in run(command, "open", "--passphrase-file", right, given=too_much).said


def test_an_identity_is_its_owners_alone(command: str, identity: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE(identity.stat().st_mode) == 0o600
    before = identity.read_text()
    refused = run(command, "keygen", "-o", identity)
    assert refused.returncode == 1 and "is there already" in refused.said and identity.read_text() == before
    printed = run(command, "keygen").out.decode()
    assert re.fullmatch(r"# created: .*\n# public key: age1\w{58}\nAGE-SECRET-KEY-1[A-Z0-9]{58}\n", printed)


def test_what_is_wrong_is_said(command: str, identity: Path, tmp_path: Path) -> None:
    to = recipient(identity)
    (tmp_path / "other").write_text("AGE-SECRET-KEY-PQ-1ABC\n")
    (tmp_path / "typo").write_text(identity.read_text().replace("AGE-SECRET-KEY-1", "AGE-SECRET-KEY-1Q"))
    (tmp_path / "none").write_text("# nothing\n\n")
    for words, status, said in (
        (["seal"], 2, "say for whom"),
        (["seal", "--to", to, "--passphrase-file", identity], 2, "say for whom"),
        (["seal", "--to", to[:-1] + ("q" if to[-1] != "q" else "p")], 1, "is no recipient"),
        (["seal", "--to", "age1pq1xyz"], 1, "not supported"),
        (["seal", "--to", "ssh-ed25519 AAAA"], 1, "not supported"),
        (["seal", "--to", to, "a", "b"], 2, "give one file"),
        (["seal", "--to", to, tmp_path / "missing"], 1, "No such file"),
        (["open", "--identity", tmp_path / "missing"], 1, "No such file"),
        (["open", "--identity", tmp_path / "other"], 1, "not supported"),
        (["open", "--identity", tmp_path / "typo"], 1, "line 3 of"),
        (["open", "--identity", tmp_path / "none"], 1, "there is no identity in"),
        (["open", "--identity", identity], 1, "no file that age sealed"),
        (["keygen", "more"], 2, "takes no operand"),
    ):
        done = run(command, *words, given=b"plain")
        assert done.returncode == status and said in done.said, (words, done)
        assert "AGE-SECRET" not in done.said.replace("AGE-SECRET-KEY-1,", "").replace("AGE-SECRET-KEY-1…", "")
