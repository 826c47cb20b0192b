"""Compilers keep each wipe, at -O3 with link-time optimisation too; the same stores without what holds them go."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "src"


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("options", [("-O2",), ("-O3",), ("-O3", "-flto")], ids="".join)
def test_no_wipe_is_taken_out(compiler: str, options: tuple[str, ...], tmp_path: Path) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")

    def left(*more: str) -> list[int]:
        files = [HERE / "wipe_kept.c", SOURCES / "secret" / "wipe.c"]
        command = [compiler, *options, *more, "-DNDEBUG", "-I", SOURCES, "-o", tmp_path / "kept", *files]
        built = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        if built.returncode != 0 and "-flto" in options and "plugin" in built.stderr:
            pytest.skip(f"{compiler} has no plugin for link-time optimisation here")
        assert built.returncode == 0, built.stderr
        return [int(word) for word in subprocess.check_output([tmp_path / "kept"], text=True).split()]

    stack, block, worked = left()
    assert (stack, block, worked) == (0, 0, 1)
    stack, block, worked = left("-DLEFT_OUT")
    assert stack > 200 and block > 200 and worked == 1
