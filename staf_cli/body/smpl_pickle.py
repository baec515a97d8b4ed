"""Read arrays from the pickles in which SMPL and 3DPW are distributed, without running their code.

A pickle is a little program that may call anything by name. This reader knows the few names
that the official files use (numpy arrays, scipy's sparse matrices, chumpy's arrays) and calls
a stand-in for each, which only keeps its arguments; every other name is refused. Neither
chumpy nor numpy's or scipy's own unpickling is used.
"""

import math
import pickle
import re
import struct
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from staf_cli.core.errors import BodyError

LARGEST_FILE = 320 * 2**20  # bytes; the largest official file is about three quarters of it
LARGEST_PIECE = 150 * 10**6  # bytes; its largest array, 300 betas in float64, is 50 MB, 145 as text
MOST_STEPS = 50_000  # of the pickle's program; an array is one step, so no file needs many
MOST_NUMBERS = 2**22  # of a dense matrix; the joint regressor has 24 * 6890
NUMBERS = re.compile(r"[<>=|]?(b1|i[1248]|u[1248]|f[248])")

Array = NDArray[np.generic]
Nested = Array | str | list[Array | str]


def read_pickle(stream: IO[bytes], path: Path, names: Collection[str]) -> dict[str, Array]:
    """Read some arrays of a pickled dictionary; others in it are ignored.

    Args:
        stream: A pickle of Python 2 (read as latin-1) or 3.
        path: Names the file in messages only.
        names: Of the arrays; one that is not there is left out of the result.

    Returns:
        The arrays that are there, by name, dense.

    Raises:
        BodyError: The pickle is damaged, needs anything but arrays, or an array cannot be made.
    """
    content = load_dictionary(ArraysOnly(stream), path, "SMPL")
    try:
        return {name: _array(content[name]) for name in names if name in content}
    except (ValueError, TypeError, OverflowError) as error:
        raise BodyError(f"{path}: {error}; get the original SMPL file") from error


def read_nested_pickle(
    stream: IO[bytes], path: Path, names: Collection[str], kind: str
) -> dict[str, Nested]:
    """Read arrays, texts and flat lists of these from a pickled dictionary; others are ignored.

    Args:
        stream: A pickle of Python 2 (read as latin-1) or 3.
        path: Names the file in messages only.
        names: Of the entries; one that is not there is left out of the result.
        kind: Of file, as messages name it.

    Returns:
        The entries that are there, by name.

    Raises:
        BodyError: The pickle is damaged, needs anything but arrays, or an array cannot be made.
    """
    content = load_dictionary(ArraysOnly(stream), path, kind)
    try:
        return _nested({name: content[name] for name in names if name in content})
    except (ValueError, TypeError, OverflowError) as error:
        raise BodyError(f"{path}: {error}; get the original {kind} file") from error


def load_dictionary(unpickler: "ArraysOnly", path: Path, kind: str) -> dict[Any, Any]:
    """Load a pickled dictionary whose arrays are stand-ins.

    Args:
        unpickler: Of the file's stream.
        path: Names the file in messages only.
        kind: Of file, as messages name it.

    Returns:
        The dictionary.

    Raises:
        BodyError: The pickle is damaged, or needs anything but arrays.
    """
    try:
        content = unpickler.load()
    except _UnknownName as error:
        raise BodyError(
            f"{path}: asks for {error}, which no {kind} file needs; nothing was run. "
            "Get the file from its original source"
        ) from error
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RuntimeError,
        OverflowError,
        MemoryError,
        struct.error,
    ) as error:
        raise BodyError(f"{path}: is damaged or no {kind} pickle; get the file again") from error
    if not isinstance(content, dict):
        raise BodyError(f"{path}: holds no named arrays; it is no {kind} file")
    return content


class _UnknownName(Exception):
    """The pickle names something that is not in `_known`."""


class _Sealed(type):
    """Makes a class that a pickle can call but not change."""

    def __setattr__(cls, name: str, value: object) -> NoReturn:
        raise pickle.UnpicklingError("a pickle may not change classes")


class StandIn(metaclass=_Sealed):
    """Keeps the arguments of the pickle's constructor and of `__setstate__`."""

    __slots__ = ("arguments", "state")

    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: object) -> "StandIn":
        """Keep the arguments: all that NEWOBJ calls."""
        made = super().__new__(cls)
        made.arguments = arguments
        made.state = None
        return made

    def __setstate__(self, state: object) -> None:
        self.state = state


class DType(StandIn):
    """numpy's dtype. Arguments: ("f8", False, True); state: (3, "<", None, ...)."""

    __slots__ = ()


class _NDArray(StandIn):  # state: (1, shape, dtype, is Fortran-ordered, data)
    __slots__ = ()


class _Csc(StandIn):  # state: {"data", "indices", "indptr", "_shape" or "shape"}
    __slots__ = ()


class _Ch(StandIn):  # state: {"x": array, ...}
    __slots__ = ()


class _Select(StandIn):  # state: {"a": _Ch, "idxs": array, "preferred_shape": tuple, ...}
    __slots__ = ()


class _Ignored(StandIn):  # can be loaded, so that arrays beside it can; is no array itself
    __slots__ = ()


class _Reconstructor(metaclass=_Sealed):
    """What copyreg calls to make an object in protocols 0 and 1: class, base, the base's state."""

    def __new__(cls, made: Any, base: object = None, state: object = None) -> Any:
        if not (isinstance(made, _Sealed) and issubclass(made, StandIn)):
            raise pickle.UnpicklingError("an object of an unexpected class")
        return made()


class _Latin1(metaclass=_Sealed):
    """_codecs.encode, with which Python 3 writes bytes in old protocols."""

    def __new__(cls, text: str, encoding: str = "latin1") -> Any:
        return text.encode("latin1")


def _known() -> dict[tuple[str, str], type]:
    known: dict[tuple[str, str], type] = {
        ("numpy", "ndarray"): _Ignored,
        ("numpy", "dtype"): DType,
        ("scipy.sparse.csc", "csc_matrix"): _Csc,
        ("scipy.sparse._csc", "csc_matrix"): _Csc,
        ("chumpy.ch", "Ch"): _Ch,
        ("chumpy.reordering", "Select"): _Select,
        ("chumpy.ch", "MatVecMult"): _Ignored,
        ("chumpy.reordering", "transpose"): _Ignored,
        ("chumpy.reordering", "reshape"): _Ignored,
        ("copyreg", "_reconstructor"): _Reconstructor,
        ("copy_reg", "_reconstructor"): _Reconstructor,
        ("_codecs", "encode"): _Latin1,
    }
    for builtins in ("builtins", "__builtin__"):
        known[builtins, "object"] = _Ignored
        known[builtins, "set"] = _Ignored
    for numpy in ("numpy.core", "numpy._core"):
        known[f"{numpy}.multiarray", "_reconstruct"] = _NDArray
        known[f"{numpy}.multiarray", "scalar"] = _Ignored
    return known


class _LimitedStream:
    """A stream that refuses reads of more bytes than an array of an official file takes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream

    def read(self, size: int) -> bytes:
        if size > LARGEST_PIECE:
            raise pickle.UnpicklingError("more bytes than any array has")
        return self.stream.read(size)

    def readline(self) -> bytes:
        line = self.stream.readline(LARGEST_PIECE)
        if len(line) == LARGEST_PIECE:
            raise pickle.UnpicklingError("a longer line than any array has")
        return line


def _counted(load: Callable[[Any], None]) -> Callable[[Any], None]:
    """Limit the number of steps: a structure nested so deeply that Python crashes needs many."""

    def step(unpickler: "ArraysOnly") -> None:
        unpickler.steps += 1
        if unpickler.steps > MOST_STEPS:
            raise pickle.UnpicklingError("more steps than any body model needs")
        load(unpickler)

    return step


class ArraysOnly(pickle._Unpickler):
    """Makes stand-ins of arrays, of Python 2's pickles and of later ones, and nothing else.

    It is Python's unpickler in Python: the one in C allocates memory for any memo index it reads.
    """

    known = _known()
    steps = 0
    # A bytearray of the stated length is allocated before it is read; no official file has one.
    dispatch = {  # noqa: RUF012
        opcode: _counted(load)
        for opcode, load in pickle._Unpickler.dispatch.items()
        if opcode != pickle.BYTEARRAY8[0]
    }

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(_LimitedStream(stream), encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        """Give the stand-in of a name; no other name is given."""
        if (module, name) not in self.known:
            # Quoted and cut: the name comes from the pickle and goes to a terminal.
            full_name = f"{module}.{name}"
            raise _UnknownName(f"{full_name!a:.80}")
        return self.known[module, name]


def _array(value: object) -> Array:
    """Make the dense array of a stand-in; ValueError where it is none."""
    match value:
        case _Ch(state={"x": inner}):
            return _plain(inner)
        case _Select(state={"a": _Ch(state={"x": source}), "idxs": chosen} as state):
            return _select(_plain(source), _plain(chosen), state.get("preferred_shape"))
        case _Csc(state=dict() as state):
            return _dense(state)
    return _plain(value)


def _nested(values: dict[str, object]) -> dict[str, Nested]:
    """Make the arrays of stand-ins and of flat lists of them; ValueError where they are none."""
    room = LARGEST_FILE  # bytes; a list may name one large array again and again
    made: dict[str, Nested] = {}
    for name, value in values.items():
        parts: list[Array | str] = []
        for one in value if isinstance(value, list) else [value]:
            part = one if isinstance(one, str) else _plain(one)
            room -= len(part) if isinstance(part, str) else part.nbytes
            if room < 0:
                raise ValueError("holds more bytes than its file can have")
            parts.append(part)
        made[name] = parts if isinstance(value, list) else parts[0]
    return made


def _plain(value: object) -> Array:
    match value:
        case _NDArray(state=(_, tuple() as shape, DType() as dtype, fortran, data)):
            return _numbers(data, dtype, shape, "F" if fortran else "C")
    raise ValueError("holds something in place of an array of numbers")


def _numbers(data: object, dtype: DType, shape: tuple[Any, ...], order: Literal["C", "F"]) -> Array:
    text = dtype.arguments[0] if dtype.arguments else None
    if not isinstance(text, str) or not NUMBERS.fullmatch(text):
        raise ValueError(f"holds an array of {text!a:.40}, not of numbers")
    kind = np.dtype(text)
    match dtype.state:
        case (_, "<" | ">" as endian, *_):
            kind = kind.newbyteorder(endian)
    if isinstance(data, str):  # Python 2's strings, read as latin-1
        data = data.encode("latin1")
    counts = all(type(n) is int and n >= 0 for n in shape)
    if not counts or not isinstance(data, bytes):
        raise ValueError("holds an array without its data")
    if len(data) != math.prod(shape) * kind.itemsize:
        raise ValueError("holds an array whose size does not fit its data")
    return np.frombuffer(data, kind).reshape(shape, order=order)


def _select(source: Array, chosen: Array, shape: object) -> Array:
    picked: Array = source.reshape(-1)[_indices(chosen, source.size)]
    if not isinstance(shape, tuple):
        return picked
    return picked.reshape(shape)


def _dense(state: dict[str, Any]) -> Array:
    """Make a compressed-column matrix dense, if it is not too large."""
    shape = state.get("_shape", state.get("shape"))
    match shape:
        case (int() as rows, int() as columns) if 0 < rows * columns <= MOST_NUMBERS and rows > 0:
            pass
        case _:
            raise ValueError("holds a sparse matrix of no sensible size")
    data, indices, indptr = (_plain(state.get(name)) for name in ("data", "indices", "indptr"))
    parts = (data, _indices(indices, rows), _indices(indptr, indices.size + 1))
    matrix = sparse.csc_matrix(parts, shape=(rows, columns))
    matrix.check_format(full_check=True)
    dense: Array = matrix.toarray()
    return dense


def _indices(index: Array, below: int) -> NDArray[np.int64]:
    """Check that all indices are in [0, below)."""
    if index.dtype.kind not in "iu" or (index.size and (index.min() < 0 or index.max() >= below)):
        raise ValueError("holds indices that point outside of their array")
    return index.astype(np.int64)
