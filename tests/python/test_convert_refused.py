"""What bursar model convert refuses, with its place and no effect: names on no list, bombs, files that are broken."""

import io
import json
import os
import pickle
import resource
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import bursar
import pytest
from bursar import _describe
from converting import MIB, by_joblib, command_of, convert

np = pytest.importorskip("numpy")


# --- bombs --------------------------------------------------------------------------------------------------------


def name(words: str) -> bytes:
    return b"c" + words.replace(" ", "\n").encode() + b"\n"


def text(words: str) -> bytes:
    return b"X" + len(words).to_bytes(4, "little") + words.encode()


def _lists(depth: int) -> bytes:
    """Each list has the one before ten times."""
    return b"\x80\x02]q\0" + b"".join(b"](" + b"h\0" * 10 + b"eq\0" for _ in range(depth)) + b"."


def _texts(count: int) -> bytes:
    return b"\x80\x02X" + (MIB).to_bytes(4, "little") + b"a" * MIB + b"q\0](" + b"h\0" * count + b"e."


def _arrays(count: int) -> bytes:
    """Arrays of the same bytes."""
    content = b"B" + MIB.to_bytes(4, "little") + bytes(MIB) + b"q\xff"
    dtype = b"cnumpy\ndtype\n" + text("u1") + b"\x85R"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85h\xff\x87R(K\x01J\0\0\x10\0\x85"
        + dtype
        + b"\x89h\xfftb"
    )
    return b"\x80\x03" + content + b"0(" + array * count + b"l."


BOMBS = {
    "lists of lists": (_lists(100), None),
    "an array": (_arrays(1), None),
    "texts again": (_texts(1_000_000), "longer than a file's header"),
    "arrays of the same bytes": (_arrays(3), "the same bytes again and again"),
    "memo": (b"\x80\x02Nr\xff\xff\xff\x7f.", "memo has a number that is too large"),
    "memo by line": (b"Np4000000000\n.", "memo has a number that is too large"),
    "many": (b"\x80\x02" + b"]" * 5_000_000 + b".", "more in it than a model"),
    "marks": (b"(" * 5_000_000 + b".", "more in it than a model"),
    "deep": (b"\x80\x02" + b"]" * 1000 + b"a" * 999 + b".", "more than 150 deep"),
    "sets of sets": (
        b"\x80\x02]"
        + b"K\1" * 1000
        + b"0" * 1000
        + b"("
        + b"K\1" * 1000
        + b"eq\0("
        + (b"c__builtin__\nset\nh\0\x85R") * 20_000
        + b"l.",
        "more in it than a model",
    ),
    "a long number": (b"\x80\x02\x8b\xff\xff\xff\x7f.", "more than 1024 bytes"),
    "digits": (b"L" + b"9" * 5000 + b"L\n.", "line is too long"),
    "a text made bytes again": (
        b"\x80\x02X"
        + (MIB).to_bytes(4, "little")
        + b"a" * MIB
        + b"q\0("
        + (b"c_codecs\nencode\nh\0X\6\0\0\0latin1\x86R0") * 10_000
        + b"l.",
        "made bytes again and again",
    ),
    "a shape": (
        pickle.dumps(np.zeros(3, "u1"), 2).replace(b"K\x03\x85", b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85"),
        "other bytes than its type and shape",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str, command: str, tmp_path: Path) -> None:
    """In bounded time and memory: as much as is written in nodes.h, and what a header may have."""
    content, wrong = BOMBS[name]
    (tmp_path / "bomb.pkl").write_bytes(content)
    done = command_of(command, tmp_path / "bomb.pkl", "-o", tmp_path / "out", memory=800 * MIB)
    if wrong is None:
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out").stat().st_size < len(content) + 40_000
    else:
        assert done.returncode == 1 and wrong in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert not (tmp_path / "out").exists()


# --- what is refused ------------------------------------------------------------------------------------------------


TOUCH = text("touch effect")
EVIL = {
    "system": (name("os system") + TOUCH + b"\x85R.", [(0, "os.system")]),
    "eval": (b"\x80\x02" + name("builtins eval") + text("open('effect', 'w')") + b"\x85R.", [(2, "builtins.eval")]),
    "python 2": (name("__builtin__ eval") + text("open('effect', 'w')") + b"\x85R.", [(0, "builtins.eval")]),
    "stack name": (b"\x80\x04\x8c\x02os\x8c\x06system\x93" + TOUCH + b"\x85R.", [(14, "os.system")]),
    "dotted": (b"\x80\x04\x8c\x05numpy\x8c\x0fos.path.os.exit\x93.", [(26, "numpy.os.path.os.exit")]),
    "family": (name("sklearn.utils os.system") + TOUCH + b"\x85R.", [(0, "sklearn.utils.os.system")]),
    "of a class": (
        name("sklearn.base BaseEstimator.__class__.mro") + b")R.",
        [(0, "sklearn.base.BaseEstimator.__class__.mro")],
    ),
    "getattr": (name("builtins getattr") + name("numpy ndarray") + text("size") + b"\x86R.", [(0, "builtins.getattr")]),
    "chain": (
        name("functools partial") + name("os system") + b"\x85R" + TOUCH + b"\x85R.",
        [(0, "functools.partial"), (19, "os.system")],
    ),
    "unused": (name("os system") + b"0N.", [(0, "os.system")]),
    "in the memo": (b"\x80\x02" + name("os system") + b"q\0" + b"0h\0" + TOUCH + b"\x85R.", [(2, "os.system")]),
    "in arguments": (name("collections Counter") + name("os system") + TOUCH + b"\x85R\x85R.", [(21, "os.system")]),
    "inst": (b"(" + TOUCH + b"ios\nsystem\n.", [(18, "os.system")]),
    "obj": (b"(" + name("os system") + TOUCH + b"o.", [(1, "os.system")]),
    "new": (b"\x80\x02" + name("subprocess Popen") + TOUCH + b"\x85\x81.", [(2, "subprocess.Popen")]),
    "new with names": (b"\x80\x04" + name("subprocess Popen") + b")}\x92.", [(2, "subprocess.Popen")]),
    "state": (b"\x80\x02" + name("mine Class") + b")\x81" + TOUCH + b"b.", [(2, "mine.Class")]),
    "extension": (b"\x80\x02\x82\x05.", [(2, "extension code 5")]),
    "extension 2": (b"\x83\x05\x00.", [(0, "extension code 5")]),
    "extension 4": (b"\x84\x05\0\0\0.", [(0, "extension code 5")]),
    "persistent": (b"Pabc\n.", [(0, "a persistent id")]),
    "persistent binary": (b"K\x01Q.", [(2, "a persistent id")]),
    "escapes": (name("os \x1b[31msystem") + b".", [(0, "os.\\x1b[31msystem")]),
    "torch's": (name("torch.storage _load_from_bytes") + b"C\0\x85R.", [(0, "torch.storage._load_from_bytes")]),
    "many": (b"(" + name("os system") * 200 + b"l.", [(1 + 11 * i, "os.system") for i in range(100)]),
}


@pytest.mark.parametrize("what", EVIL)
def test_names_on_no_list(what: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, refused = EVIL[what]
    monkeypatch.chdir(tmp_path)
    Path("evil.pkl").write_bytes(content)
    Path("out").write_text("before")
    with pytest.raises(bursar.Refused, match=r"^evil\.pkl: byte \d+: .* is on no list .*--allow ") as caught:
        bursar.convert("evil.pkl", "out")
    assert list(caught.value.refused) == refused
    done = command_of(command, "evil.pkl", "-o", "out", "--format", "json")
    facts = json.loads(done.stdout)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and not facts["converted"]
    assert [(one["position"], one["name"]) for one in facts["refused"]] == refused
    assert facts["refused_count"] == (200 if what == "many" else len(refused))
    done = command_of(command, "evil.pkl", "-o", "out")
    assert done.stdout.splitlines()[0].split(None, 2)[1:] == [str(refused[0][0]), refused[0][1]]
    assert Path("out").read_text() == "before" and sorted(os.listdir()) == ["evil.pkl", "out"]


def test_evil_in_other_files(tmp_path: Path) -> None:
    """In joblib's arrays of references, in npy's, in a checkpoint."""

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'effect'}",)

    objects = np.array([Evil()], object)
    np.save(file := io.BytesIO(), objects)
    np.savez_compressed(other := io.BytesIO(), a=np.ones(3), b=objects)
    contents = [file.getvalue(), other.getvalue(), by_joblib([np.ones(3), objects]), by_joblib({"a": Evil()}, 3)]
    if "torch" in sys.modules:
        sys.modules["torch"].save([sys.modules["torch"].ones(3), Evil()], file := io.BytesIO())
        contents.append(file.getvalue())
    for content in contents:
        (tmp_path / "evil").write_bytes(content)
        with pytest.raises(bursar.Refused, match=r"byte \d+: (posix|nt)\.system is on no list"):
            bursar.convert(tmp_path / "evil", tmp_path / "out")
    assert os.listdir(tmp_path) == ["evil"]


MINE = b"\x80\x02cmine\nClass\n)\x81}" + text("a") + b"K\x01sb."


def test_names_that_the_user_allows(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mine", type(sys)("mine"))
    exec("class Class: pass", sys.modules["mine"].__dict__)
    made = convert(MINE, tmp_path, allow=["mine.Class"])
    assert made.a == 1 and type(made) is sys.modules["mine"].Class
    assert command_of(command, tmp_path / "model.pkl", "--allow", "mine.Class", "--allow", "x.y").returncode == 0
    assert command_of(command, tmp_path / "model.pkl", "--allow", "mine.Clas").returncode == 1
    with pytest.raises(bursar.Refused, match=r"mine\.Class"):
        bursar.load(tmp_path / "model.safetensors")


def test_the_lists_are_those_of_load(tmp_path: Path) -> None:
    """Both are written down: what one has the other has."""
    rules = _describe.Rules()
    names = {
        *_describe._NAMED,
        "scipy.sparse._csr.csr_matrix",
        "scipy.sparse._a.lil_array",
        "sklearn._loss._loss.CyHalf",
        "sklearn._loss.loss.HalfLoss",
        "sklearn._loss.link.LogLink",
        "sklearn.metrics._dist_metrics.EuclideanDistance",
        "sklearn.metrics._dist_metrics.EuclideanDistance32",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neighbors._ball_tree.BallTree64",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.linear_model._sgd_fast.Hinge",
        "sklearn.metrics._ranking.roc_auc_score",
        "sklearn.model_selection._split.KFold",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    }
    others = {
        "scipy.sparse._csr.csr_matrix.x",
        "scipy.sparse.csr.csr_matrix",
        "sklearn._loss._loss.half",
        "sklearn.metrics.x",
        "sklearn.utils.os.system",
        "uuid.UUID4",
        "x.uuid.UUID",
        "torch.nn.modules.module.warnings.warn",
        "datetime.datetime.now",
        "scipy.sparse._.csr_matrix",
    }

    def loaded(one: str) -> bool:
        try:
            return rules.allow(one)
        except (AttributeError, bursar.Refused):  # of a family, and not there; or the family itself is not
            return False

    for one in names | others:
        module, _, last = one.rpartition(".")
        (tmp_path / "name.pkl").write_bytes(name(f"{module} {last}") + b".")
        try:
            bursar.convert(tmp_path / "name.pkl", tmp_path / "out")
            allowed = True
        except bursar.Refused:
            allowed = False
        assert allowed == (one in names) == loaded(one), one


WRONG = {
    "an empty file": (b"", "is empty"),
    "no end": (b"\x80\x02N", "byte 3: the pickle is cut off"),
    "cut off": (pickle.dumps([1, "two", 3.0])[:-8], "cut off|beyond its frame|goes beyond"),
    "a later protocol": (b"\x80\x06N.", "byte 0: its protocol is later than 5"),
    "no operation": (b"\x80\x02\xff.", "byte 2: that operation is none"),
    "an empty stack": (b".", "byte 0: the stack has nothing for it"),
    "a mark alone": (b"(.", "byte 1: the stack has nothing"),
    "no mark": (b"Nt.", "byte 1: there is no mark"),
    "a tuple over a mark": (b"N(N\x86.", "byte 3: the stack has nothing"),
    "an append to a mark": (b"](Na.", "byte 3: the stack has nothing"),
    "a key alone": (b"}(Nu.", "a key has no value"),
    "added to a number": (b"K\x01Na.", "byte 3: something is added to what has no place"),
    "a name made of a number": (b"K\x01\x8c\x01a\x93.", "made of what is no text"),
    "an empty name": (b"c\n\n.", "a name is empty"),
    "a call of a number": (b"K\x01)R.", "byte 3: it calls what is no name"),
    "a call of a call": (name("collections Counter") + b")R)R.", "byte 24: it calls what is no name"),
    "a call of a part": (name("numpy ndarray") + b")R.", "byte 16: numpy.ndarray is called there"),
    "a part alone": (name("numpy ndarray") + b".", "byte 0: numpy.ndarray means nothing there"),
    "arguments of a list": (name("collections Counter") + b"]R.", "arguments are no tuple"),
    "a state of a list": (b"]}b.", "byte 2: a state is set on what is no object"),
    "a state of a class": (name("collections Counter") + b"}b.", "a state is set on what is no object"),
    "two states": (name("collections Counter") + b")R}b}b.", "a state is set twice"),
    "arguments by name": (
        b"\x80\x04" + name("collections Counter") + b")}(" + text("a") + b"Nu\x92.",
        "arguments by name",
    ),
    "a base": (
        name("copyreg _reconstructor") + b"(" + name("collections Counter") + name("builtins dict") + b"}tR.",
        "a base that is not object",
    ),
    "encoded otherwise": (name("_codecs encode") + text("a") + text("utf-7") + b"\x86R.", "encoded as no bytes are"),
    "no bytes": (
        name("_codecs encode") + b"X\3\0\0\0\xe2\x82\xac" + text("latin1") + b"\x86R.",
        "no byte is written there",
    ),
    "what was not kept": (b"h\x05.", "nothing was kept under that number"),
    "a memo of letters": (b"gabc\n.", "a number that is none"),
    "a frame too long": (b"\x80\x04\x95\xff\0\0\0\0\0\0\0N.", "byte 2: the pickle is cut off"),
    "a frame too short": (b"\x80\x04\x95\x02\0\0\0\0\0\0\0J\1\0\0\0.", "beyond its frame"),
    "a frame in a frame": (
        b"\x80\x04\x95\x20\0\0\0\0\0\0\0\x95\x01" + bytes(7) + b"N" * 30 + b".",
        "a frame begins in another",
    ),
    "buffers beside": (b"\x80\x05\x97.", "outside of it"),
    "not UTF-8": (b"X\1\0\0\0\xff.", "a text is no UTF-8"),
    "a negative length": (b"B\xff\xff\xff\xff.", "cut off"),
    "no digits": (b"Iabc\n.", "a number is none"),
    "no float": (b"Fabc\n.", "a number is none"),
    "no quotes": (b"Sabc\n.", "a text has no quotes"),
    "more behind it": (b"N.N.", "byte 2: something follows the pickle"),
    "of torch before 1.6": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "of torch before 1.6"),
    "bzip2": (b"BZh91AY", "bzip2 -d"),
    "xz": (b"\xfd7zXZ\0", "xz -d"),
    "sealed": (b"age-encryption.org/v1\n", "bursar model open"),
    "a zlib stream cut off": (by_joblib([1] * 99, 3)[:20] if "joblib" in sys.modules else b"\x78\x9c\1", "is cut off"),
    "a dictionary of zlib's": (b"\x78\x20\1\2\3\4" + bytes(30), "is broken"),
    "a hole in gzip": (b"\x1f\x8b\x08" + bytes(30), "is broken|is cut off"),
}


@pytest.mark.parametrize("what", WRONG)
def test_broken_files(what: str, tmp_path: Path) -> None:
    content, line = WRONG[what]
    (tmp_path / "broken").write_bytes(content)
    with pytest.raises(ValueError, match=line) as caught:
        bursar.convert(tmp_path / "broken", tmp_path / "out")
    assert str(caught.value).startswith(str(tmp_path / "broken")) and "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["broken"]


# --- zip files ------------------------------------------------------------------------------------------------------


def npz(packed: bool = False, **more: Any) -> bytes:
    (np.savez_compressed if packed else np.savez)(file := io.BytesIO(), a=np.arange(1000), b=np.ones(500), **more)
    return file.getvalue()


def changed(content: bytes, old: bytes, new: bytes, number: int = -1) -> bytes:
    """One occurrence of some bytes in place of others; by default the last one."""
    places = [at for at in range(len(content)) if content.startswith(old, at)]
    at = places[number]
    return content[:at] + new + content[at + len(old) :]


def entry(content: bytes, which: int, offset: int, value: bytes) -> bytes:
    """The directory with a field of that member changed."""
    at = [at for at in range(len(content)) if content.startswith(b"PK\x01\x02", at)][which] + offset
    return content[:at] + value + content[at + len(value) :]


def named_twice() -> bytes:
    file = io.BytesIO(npz())
    np.save(array := io.BytesIO(), np.zeros(3))
    with warnings.catch_warnings(), zipfile.ZipFile(file, "a") as zipped:
        warnings.simplefilter("ignore")
        zipped.writestr("a.npy", array.getvalue())
    return file.getvalue()


def with_member(member: str) -> bytes:
    file = io.BytesIO(npz())
    with zipfile.ZipFile(file, "a") as zipped:
        zipped.writestr(member, b"text")
    return file.getvalue()


ZIPS = {
    "a name twice": (named_twice, "a name is there twice"),
    "cut off": (lambda: npz()[:-30], "its end is not there"),
    "cut off before": (lambda: npz()[:100], "its end is not there"),
    "one over another": (lambda: entry(npz(), 1, 42, bytes(4)), "a member lies over another"),
    "one over its neighbour": (
        lambda: entry(entry(npz(), 0, 20, b"\0\x28\0\0"), 0, 24, b"\0\x28\0\0"),
        "a member (lies over another|is not there)",
    ),
    "beyond the file": (lambda: entry(npz(), 1, 42, b"\0\0\0\x7f"), "a member is not there"),
    "larger than the file": (
        lambda: entry(entry(npz(), 1, 20, b"\0\0\0\x7f"), 1, 24, b"\0\0\0\x7f"),
        "a member is not there",
    ),
    "two sizes": (lambda: entry(npz(), 1, 24, b"\1\0\0\0"), "a member has two sizes"),
    "another size": (lambda: entry(npz(packed=True), 1, 24, b"\1\0\0\0"), "is not as long as it says"),
    "less packed bytes": (lambda: entry(npz(packed=True), 1, 20, b"\5\0\0\0"), "is cut off|is broken"),
    "another name": (lambda: changed(npz(), b"a.npy", b"c.npy"), "a member has two names"),
    "encrypted": (lambda: entry(npz(), 0, 8, b"\1\0"), "a member is encrypted"),
    "another way of packing": (lambda: entry(npz(), 0, 10, b"\x0c\0"), "in a way other than deflate"),
    "a bit": (lambda: changed(npz(), b"\x05\0\0\0\0\0\0\0\x06", b"\x04\0\0\0\0\0\0\0\x06"), "a member has changed"),
    "a packed bit": (lambda: entry(npz(packed=True), 0, 16, b"\1\2\3\4"), "a member has changed"),
    "several files": (lambda: changed(npz(), b"PK\x05\x06\0\0", b"PK\x05\x06\1\0"), "it is one of several files"),
    "too many members": (lambda: changed(npz(), b"\2\0\2\0", b"\xfe\xff\xfe\xff"), "or too large"),
    "a directory elsewhere": (lambda: npz()[:-6] + b"\xff\xff\xff\x7f\0\0", "its directory is not where"),
    "something else in it": (lambda: with_member("text.txt"), "neither of NumPy's"),
    "an npy file cut off": (lambda: with_member("c.npy"), "an npy file is cut off"),
}


@pytest.mark.parametrize("what", ZIPS)
def test_broken_zip_files(what: str, tmp_path: Path) -> None:
    make, line = ZIPS[what]
    (tmp_path / "broken.npz").write_bytes(make())
    with pytest.raises(ValueError, match=line) as caught:
        bursar.convert(tmp_path / "broken.npz", tmp_path / "out")
    assert str(caught.value).startswith(str(tmp_path / "broken.npz"))
    assert os.listdir(tmp_path) == ["broken.npz"]


def test_a_zip_of_64_bits(tmp_path: Path) -> None:
    np.save(array := io.BytesIO(), np.arange(5))
    with zipfile.ZipFile(file := io.BytesIO(), "w") as zipped, zipped.open("a.npy", "w", force_zip64=True) as member:
        member.write(array.getvalue())
    content = file.getvalue()
    assert np.array_equal(convert(content, tmp_path)["a"], np.arange(5))
    # The directory's own numbers in the record of large files, which the small one points past.
    at = content.index(b"PK\x05\x06")
    count, size, place = (
        int.from_bytes(content[at + i : at + i + n], "little") for i, n in ((10, 2), (12, 4), (16, 4))
    )
    large = (
        b"PK\6\6"
        + (44).to_bytes(8, "little")
        + bytes(12)
        + b"".join(n.to_bytes(8, "little") for n in (count, count, size, place))
    )
    locator = b"PK\6\7" + bytes(4) + at.to_bytes(8, "little") + b"\1\0\0\0"
    end = content[at : at + 8] + b"\xff" * 12 + bytes(2)
    assert np.array_equal(convert(content[:at] + large + locator + end, tmp_path)["a"], np.arange(5))


# --- the file that is written ---------------------------------------------------------------------------------------


def test_the_output_is_whole_or_as_it_was(command: str, tmp_path: Path) -> None:
    content = pickle.dumps({"a": np.ones(3)})
    (tmp_path / "model.pkl").write_bytes(content)
    done = command_of(command, tmp_path / "model.pkl")
    assert done.stdout == f"{tmp_path}/model.safetensors: 1 tensors, 24 B, from pickle\n" and done.stderr == ""
    with bursar.open(tmp_path / "model.safetensors") as model:
        assert model.record["versions"] == f"bursar {bursar.__version__}, converted from pickle"
        assert model.record["made"].startswith("20") and model.metadata == {}
    assert command_of(command, tmp_path / "model.pkl", "--no-environment").returncode == 0
    with bursar.open(tmp_path / "model.safetensors") as model:
        assert not model.record
    before = (tmp_path / "model.safetensors").read_bytes()
    done = command_of(command, tmp_path / "model.pkl", "-o", tmp_path / "model.pkl")
    assert done.returncode == 2 and "would be written over" in done.stderr
    (tmp_path / "link").symlink_to("model.pkl")
    assert command_of(command, tmp_path / "link", "-o", tmp_path / "model.pkl").returncode == 2
    (tmp_path / "model.pkl").write_bytes(content[:-5])
    assert command_of(command, tmp_path / "model.pkl").returncode == 1
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["link", "model.pkl", "model.safetensors"]
    for words in (["none"], [tmp_path], [tmp_path / "model.pkl", "-o", tmp_path / "no" / "folder"]):
        done = command_of(command, *words)
        assert done.returncode == 1 and done.stderr.startswith("bursar: ") and done.stderr.count("\n") == 1
    assert command_of(command).returncode == command_of(command, "a", "b").returncode == 2
    assert command_of(command, "a", "--format", "jsn").returncode == 2


def test_a_file_that_changes(command: str, tmp_path: Path) -> None:
    """It is touched all the time until the command ends: what is read then may be of two models."""
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"a": np.ones(8 * MIB)}))
    words = [command, "model", "convert", path]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as program:
        while program.poll() is None:
            os.utime(path)
        assert program.stderr and program.stderr.read().startswith(f"bursar: {path} was written to while it was read")
    assert program.returncode == 1 and os.listdir(tmp_path) == ["model.pkl"]


def test_a_full_disk(command: str, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"a": np.ones(MIB)}))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))

    words = [command, "model", "convert", tmp_path / "model.pkl"]
    done = subprocess.run(
        ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh", *words],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
    )
    assert done.returncode == 1 and "cannot write" in done.stderr and os.listdir(tmp_path) == ["model.pkl"]
