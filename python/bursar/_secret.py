"""SecretBytes and secret_array: secrets in locked memory, readable within a block alone. See docs/secrets.md."""

import math
import operator
import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from . import _bursar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self


class SecretBytes(_bursar.SecretBytes):
    """`SecretBytes(size)`: so many zeros in locked memory, to be written within `with secret.open(write=True) as view`.

    Outside of a block nobody can read it, the process itself included. What would copy it raises TypeError. `==` takes
    as long whatever is in it. Wiped by close(), when the object goes, and at the interpreter's exit.
    Errors: MemoryError where RLIMIT_MEMLOCK is too small; ValueError for one that is closed, or that was made before a
    fork, in the child.
    """

    __slots__ = ()

    @classmethod
    def from_fd(cls, fd: int, size: "int | None" = None) -> "Self":
        """What can be read from the descriptor until its end, or exactly `size` bytes (EOFError: there are fewer)."""
        if size is not None and size < 1:
            raise ValueError(f"a secret has at least one byte, not {size}")
        return cls._read(fd, -1 if size is None else size)

    @classmethod
    def from_file(cls, path: "str | os.PathLike[str]", size: "int | None" = None) -> "Self":
        """All bytes of the file, an end of line included, or the first `size` of them."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return cls.from_fd(fd, size)
        finally:
            os.close(fd)

    @classmethod
    def from_getpass(cls, prompt: str = "Password: ") -> "Self":
        """A line that is typed at the terminal, which does not show it. OSError: there is no terminal."""
        return cls._ask(prompt.encode(errors="replace"))

    @classmethod
    def from_env(cls, name: str) -> "Self":
        """The value of an environment variable, which is wiped from the environment block and os.environ, and removed.
        KeyError: it is not set."""
        key = os.fsencode(name)
        try:
            secret = cls._from_environment(key)
        except KeyError:
            raise KeyError(name) from None  # as text
        data = getattr(os.environ, "_data", None)
        if isinstance(data, dict):
            _bursar._wipe_value(data, key)
        try:
            del os.environ[name]
        except KeyError:  # set by C code after os was imported
            os.unsetenv(name)
        return secret


class SecretArray(_bursar.SecretBytes):
    """What secret_array() returns: `with secret.open() as array` has it as an ndarray."""

    __slots__ = ("dtype", "shape")
    dtype: "np.dtype[Any]"
    shape: "tuple[int, ...]"

    def __new__(cls, shape: "int | Sequence[int]", dtype: "npt.DTypeLike" = float) -> "Self":
        import numpy as np

        kind = np.dtype(dtype)
        sizes = tuple(map(operator.index, shape)) if isinstance(shape, Sequence) else (operator.index(shape),)
        sizes += kind.shape
        kind = kind.base
        if kind.hasobject:
            raise TypeError(f"a secret array holds numbers, not objects: {kind} has pointers to what is elsewhere")
        if min(sizes, default=1) < 0:
            raise ValueError(f"a secret array has no negative sizes: {sizes}")
        self = super().__new__(cls, math.prod(sizes) * kind.itemsize)
        self.dtype, self.shape = kind, sizes
        return self

    def open(self, write: bool = False) -> "ArrayOpening":  # type: ignore[override]  # a view of another kind
        return ArrayOpening(self, write)

    def __array__(self, *args: object, **kwargs: object) -> NoReturn:
        raise TypeError("SecretArray refuses to be copied to an array: it is one within `with secret.open() as array`")


def secret_array(shape: "int | Sequence[int]", dtype: "npt.DTypeLike" = float) -> SecretArray:
    """An array of zeros in locked memory, an ndarray within `with secret.open(write=True) as array` alone.

    Leaving while others hold the array or views of it raises BufferError; after the block the name has an empty array.
    """
    return SecretArray(shape, dtype)


def _references() -> int:
    """What sys.getrefcount() says of an object that one local name has: it differs between versions."""
    alone = object()
    return sys.getrefcount(alone)


_ALONE = _references()


class ArrayOpening:
    """What SecretArray.open() returns."""

    __slots__ = ("_arrays", "_opening", "_secret")

    def __init__(self, secret: SecretArray, write: bool) -> None:
        self._secret = secret
        self._opening = super(SecretArray, secret).open(write)
        self._arrays: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None = None

    def __enter__(self) -> "np.ndarray[Any, Any]":
        import numpy as np

        # Of two arrays the first is the base of all views, so that its references tell how many there are.
        root = np.frombuffer(self._opening.__enter__(), self._secret.dtype)
        given = root.reshape(self._secret.shape)
        self._arrays = (root, given)
        return given

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> Literal[False]:
        if self._arrays:
            root, given = self._arrays
            self._arrays = None
            # Each may be held once more: the first by the second, the second by the name behind `as`, which remains.
            if sys.getrefcount(root) <= _ALONE + 1 and sys.getrefcount(given) <= _ALONE + 1:
                empty: Any = (1, (0,), given.dtype, False, b"")
                given.__setstate__(empty)  # whoever still names it has this
            del root, given
        return self._opening.__exit__(kind, error, trace)
