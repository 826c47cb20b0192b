"""What a file is made into by bursar.convert, for its tests."""

import io
import resource
import subprocess
from pathlib import Path
from typing import Any

import bursar
import pytest
from running import LIMIT, Done

MIB = 1 << 20


def convert(content: bytes, folder: Path, name: str = "model.pkl", **options: Any) -> Any:
    """What bursar.load makes of it."""
    (folder / name).write_bytes(content)
    done = bursar.convert(folder / name, folder / "out", **options)
    with bursar.open(folder / "out") as model:
        assert (len(model), sum(model.info(one).nbytes for one in model)) == (done.tensors, done.nbytes)
    assert (folder / name).read_bytes() == content
    return bursar.load(folder / "out", **options)


def command_of(command: str, *words: "str | Path", memory: int | None = None) -> Done:
    """bursar model convert, in no more memory than that."""

    def limit() -> None:
        if memory is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    return subprocess.run(
        [command, "model", "convert", *words], capture_output=True, text=True, timeout=LIMIT, preexec_fn=limit,
        check=False,
    )  # fmt: skip


def by_joblib(model: Any, compress: Any = 0) -> bytes:
    joblib = pytest.importorskip("joblib")
    file = io.BytesIO()
    joblib.dump(model, file, compress=compress)
    return file.getvalue()
