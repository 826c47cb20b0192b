"""Arrays that must not change: put into sealed memory, in place, inside the model that has them."""

from __future__ import annotations

import hashlib
import sys
from typing import Any, NamedTuple

from ._arrays import Found, Held, part_of_others, walk
from ._sealed import Piece, Store, make, root_of, storage_over, store_of, teach_torch

_OTHERS = "others hold it, or writable views of it: drop those, or freeze a copy.deepcopy()"
_ALIGN = 64


class FrozenArray(NamedTuple):
    """What is frozen: one block of memory, with all arrays that share it.

    name: where the first of them is in the object.  also: where others are.  bytes, sha256 (hexadecimal): of the block.
    """

    name: str
    bytes: int
    sha256: str
    also: tuple[str, ...] = ()


class LeftArray(NamedTuple):
    """What is not, and may still be written to.  name: where it is.  bytes: its size.  reason: why it was left."""

    name: str
    bytes: int
    reason: str


class Freeze:
    """What freeze() did: frozen and left, each in the order of the object; frozen_bytes and left_bytes, their sums.

    Memory that several arrays share is frozen once.  str() of it is a table.
    """

    def __init__(self, what: Any, frozen: list[FrozenArray], left: list[LeftArray]) -> None:
        self.frozen = frozen
        self.left = left
        self.frozen_bytes = sum(one.bytes for one in frozen)
        self.left_bytes = sum(one.bytes for one in left)
        self._what = what

    def verify(self) -> int:
        """As bursar.verify() of the object, and that everything frozen is still in its place.  Returns bytes."""
        now = {one.name: one.sha256 for one in _named(_walk(self._what, "verify"))}
        for one in self.frozen:
            if now.get(one.name) != one.sha256:
                raise ValueError(f"{one.name} is not what was frozen: another has been put in its place")
        return sum(one.bytes for one in self.frozen)

    def __str__(self) -> str:
        lines = [f"frozen: {len(self.frozen)} arrays, {self.frozen_bytes} bytes"]
        lines += [f"  {one.bytes:>14}  {', '.join((one.name, *one.also))}" for one in self.frozen]
        if self.left:
            lines.append(f"left: {len(self.left)} arrays, {self.left_bytes} bytes")
            lines += [f"  {one.bytes:>14}  {one.name}: {one.reason}" for one in self.left]
        return "\n".join(line if line.isprintable() else ascii(line)[1:-1] for line in lines)

    def __repr__(self) -> str:
        return f"<Freeze frozen_bytes={self.frozen_bytes} left_bytes={self.left_bytes}>"


class _Group:
    """Arrays (or tensors) that share one block of memory: it is frozen whole, once, or left.

    root: what owns the memory.  address, size: of it.  links: what refers to it on the way there, whose holders must
    all be known.
    """

    def __init__(self, root: Any) -> None:
        self.root = root
        self.members: list[Held] = []
        self.links: dict[int, Held] = {}
        self.address = 0
        self.size = 0
        self.name = ""

    def data(self) -> Any:
        """The bytes themselves."""
        numpy = sys.modules["numpy"]
        if not self.size:
            return b""
        if isinstance(self.root, numpy.ndarray):
            return self.root.reshape(-1, order="A").view(numpy.uint8)
        return self.root


def _address(array: Any) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _link(group: _Group, found: Found, held: Held) -> None:
    """Notes the way from an array to what owns its memory: each link is known to be held by the one before."""
    if group.links.get(id(held.object)) is held:
        return
    group.links[id(held.object)] = held
    at = held
    while True:
        base: Any = None
        if isinstance(at.object, memoryview):
            base = at.object.obj
        elif isinstance(at.object, sys.modules["numpy"].ndarray):
            base = at.object.base
        if base is None:
            return
        known = group.links.get(id(base)) or found.arrays.get(id(base)) or Held(base, "")
        first = id(base) not in group.links
        group.links[id(base)] = known
        known.inside += 1
        at = known
        if not first:
            return


def _why_not(group: _Group) -> str | None:
    """Why this memory cannot be frozen, whoever holds it; None: it can."""
    numpy = sys.modules["numpy"]
    root = group.root
    for held in group.members:
        array = held.object
        if type(array) is not numpy.ndarray:
            return f"it is a {type(array).__name__}, not a plain array"
        if array.dtype.kind == "T":
            return "its strings are kept elsewhere"
        if array.dtype.hasobject:
            return "it holds Python objects (its dtype has object)"
    if isinstance(root, numpy.ndarray):
        if type(root) is not numpy.ndarray:
            return f"its memory belongs to a {type(root).__name__}"
        if not (root.flags.c_contiguous or root.flags.f_contiguous):
            return "its memory is in no order that can be kept"
        group.address, group.size = _address(root), root.nbytes
    elif isinstance(root, (bytes, bytearray)):
        group.address, group.size = _address(numpy.frombuffer(root, numpy.uint8)) if root else 0, len(root)
    else:
        return f"its memory belongs to a {type(root).__name__}"
    for held in group.members:
        if held.object.nbytes:
            low, high = _bounds(held.object)
            if low < group.address or high > group.address + group.size:
                return "it reaches beyond the memory that it is a view of"
    return None


def _is_others(group: _Group) -> bool:
    """Whether anybody else holds it; no array may have a name of ours now."""
    return any(link.others() for link in group.links.values()) or any(
        part_of_others(place) for held in group.members for place in held.places
    )


def _bounds(array: Any) -> tuple[int, int]:
    low = high = _address(array)
    for length, stride in zip(array.shape, array.strides, strict=True):
        low += min(0, stride * (length - 1))
        high += max(0, stride * (length - 1))
    return low, high + array.itemsize


def _owner(array: Any) -> Any:
    """As root_of, through a view of bytes too."""
    root = root_of(array)
    return root.obj if isinstance(root, memoryview) and isinstance(root.obj, (bytes, bytearray)) else root


def _groups(found: Found) -> list[_Group]:
    """Of what is not frozen yet."""
    groups: dict[int, _Group] = {}
    for held in found.arrays.values():
        root = _owner(held.object)
        if isinstance(root, Store):
            continue
        group = groups.setdefault(id(root), _Group(root))
        group.members.append(held)
        group.name = group.name or held.name
    for group in groups.values():
        for held in group.members:
            _link(group, found, held)
        group.links[id(group.root)].inside += 1  # the group's own
    return list(groups.values())


def _views_anew(members: list[Held], was: int, base: Any, offset: int) -> None:
    """Puts arrays over base's memory, from offset on, in place of those over the memory that was at that address."""
    numpy = sys.modules["numpy"]
    for held in members:
        old = held.object
        at = offset + (_address(old) - was if old.nbytes else 0)
        new = numpy.ndarray(old.shape, old.dtype, base, at, old.strides)
        held.put(new)
        held.object = new


# --- tensors ----------------------------------------------------------------------------------------------------------


class _Storage:
    """Tensors that share one storage of torch's."""

    def __init__(self, name: str, storage: Any) -> None:
        self.name = name
        self.size: int = storage.nbytes()
        self.members: list[Held] = []

    def data(self) -> Any:
        return _bytes_of(self.members[0].object.untyped_storage())


def _bytes_of(storage: Any) -> Any:
    """A storage as an array of bytes."""
    torch = sys.modules["torch"]
    return torch.empty(0, dtype=torch.uint8).set_(storage).numpy()


def _why_not_tensor(tensor: Any) -> str | None:
    torch = sys.modules["torch"]
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return f"it is a {type(tensor).__name__}, not a plain tensor"
    if tensor.device.type != "cpu":
        return f"it is on {tensor.device}"
    if tensor.layout != torch.strided or tensor.is_quantized:
        return "it is sparse or quantized"
    if tensor.is_conj() or tensor.is_neg() or tensor.is_inference() or (tensor.grad_fn is not None):
        return "it is a view that torch keeps track of"
    if not tensor.untyped_storage().resizable():
        return "its memory is not torch's own"
    return None


def _tensor_bytes(tensor: Any) -> int:
    torch = sys.modules["torch"]
    if tensor.layout == torch.strided:
        return int(tensor.nbytes)
    parts = ("_indices", "_values") if tensor.layout == torch.sparse_coo else ("values", *_INDICES[str(tensor.layout)])
    return sum(getattr(tensor, part)().nbytes for part in parts)


_INDICES = {
    f"torch.sparse_{kind}": ("crow_indices", "col_indices") if kind.endswith("r") else ("ccol_indices", "row_indices")
    for kind in ("csr", "bsr", "csc", "bsc")
}


def _users(tensor: Any) -> int:
    """How many have this tensor's storage, and who asks."""
    count: int = sys.modules["torch"]._C._storage_Use_Count(tensor.untyped_storage()._cdata)
    return count


def _storages(found: Found, left: list[LeftArray]) -> list[_Storage]:
    """Of what is not frozen yet; what cannot be is left."""
    storages: dict[int, _Storage] = {}
    for held in found.tensors.values():
        address = _tensor_address(held.object)
        if address and store_of(address):
            continue
        why = _why_not_tensor(held.object)
        if why:
            left.append(LeftArray(held.name, _tensor_bytes(held.object), why))
        elif address:
            storage = held.object.untyped_storage()
            storages.setdefault(address, _Storage(held.name, storage)).members.append(held)
    return list(storages.values())


def _tensor_address(tensor: Any) -> int:
    """Of its storage; 0 where it has no bytes, or none here."""
    here = tensor.device.type == "cpu" and tensor.layout == sys.modules["torch"].strided
    address: int = tensor.untyped_storage().data_ptr() if here else 0
    return address


def _tensors_anew(members: list[Held], storage: Any) -> None:
    """Gives the tensors, which stay themselves, another storage."""
    torch = sys.modules["torch"]
    for held in members:
        old = held.object
        new = torch.empty(0, dtype=old.dtype)
        old.data = new.set_(storage, old.storage_offset(), old.size(), old.stride())


# --- what is called ---------------------------------------------------------------------------------------------------


def _walk(what: Any, verb: str) -> Found:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        raise ValueError(f"there is no array in it: nothing to {verb}")
    if isinstance(what, (numpy.ndarray, tuple)) or hasattr(type(what), "_from_backing_data"):
        kind = type(what).__name__
        raise TypeError(f"nothing can be put in the place of the {kind} itself: put it in a list, {verb}([...])")
    found = walk(what)
    if not (found.arrays or found.tensors or found.opaque or found.left):
        raise ValueError(f"there is no array in it: nothing to {verb}")
    if found.tensors:
        teach_torch()
    return found


def freeze(what: Any) -> Freeze:
    """Put the arrays inside an object into sealed, read-only memory, in place; say what was frozen and what was left.

    Arrays of NumPy wherever attributes, dicts, lists, tuples, arrays of objects, DataFrames and Series lead to;
    parameters, buffers and other tensors of torch on the CPU.  Values, shape, dtype, byte order and strides stay.  From
    then on Python raises where it writes to one (ValueError), and cannot make it writable again; C code that writes to
    one (an in-place operation of torch's, an optimizer's step) faults: the program ends with SIGSEGV, after its stack
    was printed to stderr. Forked workers share the memory, and so do those of multiprocessing that are handed the
    object.

    Left, each with its reason: what others hold too, or may have writable views of; arrays of Python objects, of
    classes of their own, or over memory that is not Python's; what C code keeps in memory of its own, as scikit-learn's
    trees do. While it works, at most one array is in memory twice.  What is frozen already stays.

    TypeError: it is an array or a tuple itself, in whose place nothing can be put: freeze([array]).  ValueError: there
    is no array in it.  OSError: there can be no sealed memory.
    """
    found = _walk(what, "freeze")
    left = [LeftArray(*one) for one in found.left]
    chosen: list[_Group | _Storage] = []
    for group in _groups(found):
        why = _why_not(group) or (_OTHERS if _is_others(group) else None)
        if why:
            left.append(LeftArray(group.name, group.size or max(held.object.nbytes for held in group.members), why))
        else:
            chosen.append(group)
    left += [
        LeftArray(name, array.nbytes, why)
        for array, name, why in found.opaque.values()
        if not isinstance(root_of(array), Store)
    ]
    for storage in _storages(found, left):
        alone = _users(sys.modules["torch"].empty(1))
        if _users(storage.members[0].object) > alone + len(storage.members) - 1:
            left.append(LeftArray(storage.name, storage.size, _OTHERS))
        else:
            chosen.append(storage)
    if chosen:
        _seal(chosen, left)
    del chosen
    return Freeze(what, _named(found, check=False), left)


def _seal(chosen: list[_Group | _Storage], left: list[LeftArray]) -> None:
    """Copies one after the other, and lets go of each at once."""
    store = make(sum((one.size + _ALIGN - 1) // _ALIGN * _ALIGN for one in chosen))
    done: list[tuple[int, int, str]] = []
    try:
        for one in chosen:
            try:
                offset = store.put(one.data(), one.name)
            except OSError as error:
                left.append(LeftArray(one.name, one.size, f"there is no room for it: {error.strerror}"))
                continue
            done.append((offset, one.size, one.name))
            if isinstance(one, _Group):
                one.root = None
                one.links.clear()
                _views_anew(one.members, one.address, store, offset)
            else:
                _tensors_anew(one.members, storage_over(store, offset, one.size))
    finally:  # interrupted or not: what is there by now is sealed
        store.close()
        store.pieces = tuple(Piece(at, size, store.digest(at, size), name) for at, size, name in done)


def _home(held: Held) -> tuple[Store, Piece] | None:
    """Where what is frozen is."""
    what = held.object
    if isinstance(what, sys.modules["numpy"].ndarray):
        root = root_of(what)
        store = root if isinstance(root, Store) else None
        address = _bounds(what)[0] if what.nbytes else 0
    else:
        address = _tensor_address(what)
        store = store_of(address) if address else None
    if store is None:
        return None
    return store, store.piece_at(address) if address else _EMPTY


_EMPTY = Piece(-1, 0, hashlib.sha256().hexdigest(), "")


def _frozen_in(found: Found) -> list[tuple[list[Held], Store, Piece]]:
    """The pieces that its arrays are of, each with those."""
    pieces: dict[tuple[int, int], tuple[list[Held], Store, Piece]] = {}
    for held in [*found.arrays.values(), *found.tensors.values()]:
        home = _home(held)
        if home:
            key = (id(home[0]), home[1].offset) if home[1].bytes else (0, id(held))
            pieces.setdefault(key, ([], *home))[0].append(held)
    return list(pieces.values())


def _named(found: Found, check: bool = True) -> list[FrozenArray]:
    named = []
    for members, store, piece in _frozen_in(found):
        name = members[0].name
        if check and piece.bytes and store.digest(piece.offset, piece.bytes) != piece.sha256:
            raise ValueError(f"{name} is not what was frozen: its bytes have changed")
        named.append(FrozenArray(name, piece.bytes, piece.sha256, tuple(held.name for held in members[1:])))
    return named


def _is_whole(array: Any, piece: Piece) -> bool:
    return bool(array.nbytes == piece.bytes and (array.flags.c_contiguous or array.flags.f_contiguous))


def thaw(what: Any) -> int:
    """Give an object writable copies of its own in place of what is frozen in it; returns their bytes.

    Others that hold the frozen arrays keep those.  The sealed memory goes when nobody has any of its arrays.

    TypeError, ValueError: as freeze().
    """
    pieces = _frozen_in(_walk(what, "thaw"))
    for members, store, piece in pieces:
        arrays = [held for held in members if isinstance(held.object, sys.modules["numpy"].ndarray)]
        tensors = [held for held in members if not isinstance(held.object, sys.modules["numpy"].ndarray)]
        if tensors:
            _tensors_anew(tensors, storage_over(store, piece.offset, piece.bytes).clone())
        if len(arrays) == 1 and _is_whole(arrays[0].object, piece):
            arrays[0].put(arrays[0].object.copy(order="A"))
        elif arrays:
            _views_anew(arrays, store.address + piece.offset, store.copy_of(piece), 0)
    return sum(piece.bytes for _, _, piece in pieces)


def verify(what: Any) -> int:
    """Compare what is frozen in an object with the SHA-256 that each array had when it was frozen.  Returns bytes.

    Works in a worker that was handed the object, too.

    ValueError: it differs, or nothing in it is frozen.  TypeError: as freeze().
    """
    frozen = _named(_walk(what, "verify"))
    if not frozen:
        raise ValueError("nothing in it is frozen: there is nothing to verify")
    return sum(one.bytes for one in frozen)
