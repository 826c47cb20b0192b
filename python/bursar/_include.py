"""Where C code finds bursar.h."""

from pathlib import Path


def get_include() -> str:
    """The folder of bursar.h, for a C compiler's -I: the header needs no library to link with."""
    return str(Path(__file__).with_name("include"))
