"""PyTorch's files (.pth, .pt, .pyth, .bin), read without PyTorch and without running anything.

Such a file is a pickle beside the raw numbers of its tensors. Since 1.6 both lie in a zip archive;
before, and still on demand, several pickles and then the numbers follow one another. The pickle is
read by inert_pickle.py: it may ask for tensors, plain containers and a few plain values of the
command line and of NumPy. Arrays are views of the file as it lies on disk, so what nobody asks for,
such as an optimiser's state, is never read.
"""

import io
import math
import pathlib
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from vivit_jax.errors import InputError
from vivit_jax.pretrained import inert_pickle
from vivit_jax.pretrained.inert_pickle import Built, Fresh, Given, Named, hashable

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the older form
DTYPES = {
    "torch.FloatStorage": np.dtype(np.float32),
    "torch.DoubleStorage": np.dtype(np.float64),
    "torch.HalfStorage": np.dtype(np.float16),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.LongStorage": np.dtype(np.int64),
    "torch.IntStorage": np.dtype(np.int32),
    "torch.ShortStorage": np.dtype(np.int16),
    "torch.CharStorage": np.dtype(np.int8),
    "torch.ByteStorage": np.dtype(np.uint8),
    "torch.BoolStorage": np.dtype(np.bool_),
    "torch.ComplexFloatStorage": np.dtype(np.complex64),
    "torch.ComplexDoubleStorage": np.dtype(np.complex128),
}
Storages = Callable[["Storage"], np.ndarray]


class Storage(NamedTuple):
    """Where a tensor's numbers lie, as a pickle tells it.

    Attributes:
      key: number of the storage.
      dtype: of the numbers.
      length: how many there are.
    """

    key: str
    dtype: np.dtype
    length: int


def read_torch(file: pathlib.Path) -> Any:
    """Returns what a file of PyTorch's holds: containers of read-only arrays and plain values.

    Raises:
      InputError: the file is missing, truncated, none such, or asks for anything else.
    """
    try:
        with file.open("rb") as opened:
            if not opened.seek(0, io.SEEK_END):
                raise InputError(f"{file} is empty.")
            # One map for all arrays, which stays as long as one of them does.
            content = np.memmap(opened, np.uint8, "r")
            opened.seek(0)
            if bytes(content[:4]) == b"PK\x03\x04":
                return read_zip(opened, content, str(file))
            return read_legacy(opened, content, str(file))
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror or error}).") from error


def state_dict(content: Any, where: str) -> dict[str, np.ndarray]:
    """Returns a value of a file as arrays by name.

    Raises:
      InputError: it is something else.
    """
    if not isinstance(content, dict):
        raise InputError(f"{where} holds {type(content).__name__}; expected tensors by name.")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise InputError(
                f"{where}: {name!r} is of type {type(value).__name__}; expected a tensor."
            )
    return content


def read_state_dict(file: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a file that holds nothing but tensors by name.

    Raises:
      InputError: as of `read_torch`, or it holds something else.
    """
    return state_dict(read_torch(file), str(file))


def read_zip(opened: BinaryIO, content: np.ndarray, where: str) -> Any:
    """Returns what a zip archive holds."""
    try:
        archive = zipfile.ZipFile(opened)
    except zipfile.BadZipFile as error:
        raise InputError(f"{where} is truncated or damaged ({error}).") from error
    entries = {entry.filename: entry for entry in archive.infolist()}
    roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise InputError(
            f"{where} is a zip archive, but none of PyTorch's: it holds {len(roots)} data.pkl; "
            "expected one."
        )

    def part(name: str) -> np.ndarray:
        if name not in entries:
            raise InputError(f"{where} lacks its part {name}.")
        return stored(content, entries[name], where)

    if f"{roots[0]}byteorder" in entries and bytes(part(f"{roots[0]}byteorder")) != b"little":
        raise InputError(f"{where} has its bytes in big-endian order; expected little.")
    pickle = io.BytesIO(bytes(part(f"{roots[0]}data.pkl")))
    return inert_pickle.read(
        pickle, given(lambda storage: part(f"{roots[0]}data/{storage.key}"), where), where
    )


def stored(content: np.ndarray, entry: zipfile.ZipInfo, where: str) -> np.ndarray:
    """Returns the bytes of an archive's entry as they lie in the file."""
    if entry.compress_type != zipfile.ZIP_STORED:
        raise InputError(f"{where}: {entry.filename} is compressed; PyTorch's own files are not.")
    head = bytes(content[entry.header_offset : entry.header_offset + 30])
    if len(head) < 30 or head[:4] != b"PK\x03\x04":
        raise InputError(f"{where} is damaged: {entry.filename} is not where its index says.")
    name, extra = struct.unpack("<HH", head[26:30])
    start = entry.header_offset + 30 + name + extra
    return content[start : start + entry.file_size]


def read_legacy(opened: BinaryIO, content: np.ndarray, where: str) -> Any:
    """Returns what a file of the older form holds."""
    plain = Given({})
    if inert_pickle.read(opened, plain, where) != MAGIC:
        raise InputError(f"{where} is no file of PyTorch's: it does not begin as these do.")
    if inert_pickle.read(opened, plain, where) != PROTOCOL:
        raise InputError(f"{where} is of a form of PyTorch's that is not known here.")
    system = inert_pickle.read(opened, plain, where)
    if not isinstance(system, dict) or not system.get("little_endian", True):
        raise InputError(f"{where} has its bytes in big-endian order; expected little.")

    # Where storages lie is told behind the pickle, by what is in it: it is read twice.
    begin, seen = opened.tell(), {}

    def note(storage: Storage) -> np.ndarray:
        if seen.setdefault(storage.key, storage) != storage:
            raise InputError(f"{where} is damaged: storage {storage.key} is of two kinds.")
        return content[: storage.length * storage.dtype.itemsize]  # of that length, for now

    inert_pickle.read(opened, given(note, where), where)
    keys = inert_pickle.read(opened, plain, where)
    if not isinstance(keys, list) or set(hashable(keys)) != set(seen):
        raise InputError(f"{where} is damaged: its list of storages is not of those in use.")
    parts, start = {}, opened.tell()
    for key in keys:
        storage = seen[key]
        length = bytes(content[start : start + 8])
        if length != struct.pack("<q", storage.length):
            raise InputError(f"{where} is truncated or damaged at storage {key}.")
        start += 8 + storage.length * storage.dtype.itemsize
        parts[key] = content[start - storage.length * storage.dtype.itemsize : start]
    opened.seek(begin)
    return inert_pickle.read(opened, given(lambda storage: parts[storage.key], where), where)


def given(find: Storages, where: str) -> Given:
    """Returns what a pickle of PyTorch's may ask for.

    Args:
      find: returns the bytes of a storage.
      where: the pickle is, for messages.
    """

    def persistent(account: Any) -> np.ndarray:
        kind, asked, key, _, length, *view = account
        if kind != "storage" or type(asked) is not Named or asked.name not in DTYPES or any(view):
            raise ValueError("an account of something else than a storage")
        if type(key) is not str or type(length) is not int or length < 0:
            raise ValueError("a storage without a key or a length")
        storage = Storage(key, DTYPES[asked.name], length)
        found = find(storage)
        if found.nbytes != length * storage.dtype.itemsize:
            raise InputError(
                f"{where} is truncated or damaged: storage {key} has {found.nbytes} bytes; "
                f"expected {length} x {storage.dtype.itemsize}."
            )
        return found.view(storage.dtype)

    return Given(FUNCTIONS, frozenset(DTYPES), persistent)


def tensor(storage: Any, offset: int, shape: tuple, strides: tuple, *_: Any) -> np.ndarray:
    """Returns a tensor as a view of its storage."""
    numbers = (offset, *shape, *strides)
    if type(storage) is not np.ndarray and type(storage) is not np.memmap:
        raise ValueError("a tensor without a storage")
    if len(shape) != len(strides) or any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError("a tensor of impossible shape")
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if last >= storage.size or math.prod(shape) > storage.size:
        raise ValueError("a tensor that reaches beyond its storage")
    size = storage.dtype.itemsize
    return np.lib.stride_tricks.as_strided(
        np.asarray(storage)[offset:], shape, tuple(size * step for step in strides), writeable=False
    )


class Kind(Built):
    """NumPy's description of a number."""

    def __init__(self, code: str, *_: Any) -> None:
        if not re.fullmatch("[biufc][0-9]+", code):
            raise ValueError(f"NumPy's {code}")
        self.dtype = np.dtype(code)

    def take_state(self, state: Any) -> None:
        """Sets the order of its bytes."""
        self.dtype = self.dtype.newbyteorder(state[1])


def scalar(kind: Kind, content: bytes) -> Any:
    """Returns a number of NumPy's."""
    return np.frombuffer(content, kind.dtype, 1)[0].item()


def encoded(text: str, encoding: str) -> bytes:
    """Returns bytes, which old pickles hold as text."""
    if encoding != "latin1":
        raise ValueError(f"bytes as text in {encoding}")
    return text.encode("latin1")


def mapping(pairs: Any = ()) -> dict:
    """Returns a dictionary, from another or from pairs."""
    pairs = [tuple(pair) for pair in (pairs.items() if isinstance(pairs, Mapping) else pairs)]
    return dict(zip(hashable([k for k, _ in pairs]), [v for _, v in pairs], strict=True))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": tensor,
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_parameter": lambda value, *_: value,
    "torch.Size": tuple,
    "collections.OrderedDict": mapping,
    "collections.Counter": mapping,
    "argparse.Namespace": lambda: Fresh(),
    "numpy.dtype": Kind,
    "numpy.core.multiarray.scalar": scalar,
    "numpy._core.multiarray.scalar": scalar,
    "_codecs.encode": encoded,
} | {
    f"{module}.{kind.__name__}": lambda items=(), kind=kind: kind(hashable(list(items)))
    for module in ("builtins", "__builtin__")
    for kind in (set, frozenset)
}
