"""In the place of bursar: the scenarios as they are without it."""

from typing import Any


class scope:  # noqa: N801
    def __init__(self, name: str, **options: Any) -> None:
        pass

    def __enter__(self) -> "scope":
        return self

    def __exit__(self, *error: object) -> None:
        pass


def wipe_caches() -> None:
    pass


def wipe_environ(name: str) -> None:
    pass
