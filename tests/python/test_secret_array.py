"""secret_array(): an ndarray within its block, and nothing behind any name after it."""

import pickle
from typing import Any

import bursar
import pytest

np = pytest.importorskip("numpy")


def test_an_array_of_its_block_alone() -> None:
    secret = bursar.secret_array((2, 3), "float32")
    assert (secret.shape, secret.dtype) == ((2, 3), np.dtype("float32"))
    with secret.open(write=True) as array:
        assert isinstance(array, np.ndarray)
        assert (array.shape, array.dtype) == (secret.shape, secret.dtype)
        assert not array.any()
        array[...] = [[1, 2, 3], [4, 5, 6]]
        also = array  # another name for the same array is no view
        del also
    assert array.size == 0  # the name remains
    with pytest.raises(IndexError):
        array[0]
    with secret.open() as array:
        assert array.sum() == 21
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.setflags(write=True)
    with secret.open():  # no name at all
        pass
    secret.close()
    with pytest.raises(ValueError, match="closed"), secret.open():
        pass


@pytest.mark.parametrize("dtype", ["i1", "f8", "c16", "longdouble", "U3", "M8[s]", [("a", "i1"), ("b", "f8")], "3f4"])
@pytest.mark.parametrize("shape", [1, 7, (3, 5), (), [2, 1, 2]])
def test_shapes_and_types(shape: Any, dtype: Any) -> None:
    secret, plain = bursar.secret_array(shape, dtype), np.zeros(shape, dtype)
    with secret.open(write=True) as array:
        assert (array.shape, array.dtype) == (plain.shape, plain.dtype)
        assert array.flags.aligned
        assert np.array_equal(array, plain)
    assert array.size == 0


def held_by_a_slice(array: Any) -> object:
    return array[1:]


def held_by_a_view_of_a_view(array: Any) -> object:
    return array.reshape(-1)[2:].view("u1")


def held_by_a_buffer(array: Any) -> object:
    return memoryview(array)


def held_by_a_list(array: Any) -> object:
    return [array]


@pytest.mark.parametrize("hold", [held_by_a_slice, held_by_a_view_of_a_view, held_by_a_buffer, held_by_a_list])
def test_leaving_while_others_hold_it(hold: Any) -> None:
    secret = bursar.secret_array((2, 3))
    with secret.open(write=True) as array:
        array[...] = 7
    with pytest.raises(BufferError, match="outlive"), secret.open() as array:
        held = hold(array)
    assert np.asarray(held).reshape(-1)[-1] in (7, 64)  # it stays open: 64 is the last byte of 7.0
    with pytest.raises(BufferError, match="is open"):
        secret.close()
    del held, array
    secret.close()


def test_an_exception_goes_on() -> None:
    secret = bursar.secret_array(3)

    def fails(array: Any) -> None:
        raise KeyError(len(array))

    with pytest.raises(KeyError), secret.open() as array:
        fails(array)
    del array
    secret.close()  # the traceback that held it has gone


def test_bad_input() -> None:
    for wrong, error in (((3, object), TypeError), (((2, -1),), ValueError), ((0,), ValueError), ((-1,), ValueError),
                         (("ab",), TypeError), ((1.5,), TypeError), ((3, "nonsense"), TypeError)):  # fmt: skip
        with pytest.raises(error):
            bursar.secret_array(*wrong)  # type: ignore[arg-type]
    secret = bursar.secret_array(3)
    for refused in (np.asarray, np.array, np.sum, repr, str, bytes, pickle.dumps, list):
        with pytest.raises(TypeError):
            refused(secret)  # type: ignore[operator]
    with pytest.raises(TypeError):
        secret + 1  # type: ignore[operator]  # noqa: B018


def test_equality_is_of_bytes() -> None:
    one, other = bursar.secret_array(3, "i4"), bursar.secret_array((3, 1), "f4")
    assert one == other
    with one.open(write=True) as array:
        array[2] = 1
    assert one != other
    assert one == np.array([0, 0, 1], "i4")
