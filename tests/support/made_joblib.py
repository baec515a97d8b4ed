"""Files as joblib writes them: pickles with the bytes of arrays between them."""

import io
import pickle
from typing import Any

import numpy as np

PythonPickler: Any = pickle._Pickler


class NumpyArrayWrapper:
    """Stands for joblib.numpy_pickle's."""

    def __init__(self, array: np.ndarray, aligned: bool) -> None:
        self.subclass = np.ndarray
        self.shape = array.shape
        self.order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        self.dtype = array.dtype
        self.allow_mmap = not array.dtype.hasobject
        if aligned:  # since joblib 1.1
            self.numpy_array_alignment_bytes = 16


class JoblibPickler(PythonPickler):  # type: ignore[misc]
    """Writes uncompressed files of joblib."""

    def __init__(self, stream: io.BytesIO, protocol: int, aligned: bool) -> None:
        super().__init__(stream, protocol)
        self.stream = stream
        self.aligned = aligned

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if type(obj) is not np.ndarray:
            super().save(obj, save_persistent_id)
            return
        wrapper = NumpyArrayWrapper(obj, self.aligned)
        super().save(wrapper)
        if self.proto >= 4:
            self.framer.commit_frame(force=True)
        if obj.dtype.hasobject:
            pickle.dump(obj, self.stream, protocol=2)
            return
        if self.aligned:
            padding = 16 - (self.stream.tell() + 1) % 16
            self.stream.write(bytes([padding]) + b"\xff" * padding)
        self.stream.write(obj.tobytes("F" if wrapper.order == "F" else "C"))

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if obj is not NumpyArrayWrapper:
            super().save_global(obj, name)
            return
        self.write(pickle.GLOBAL + b"joblib.numpy_pickle\nNumpyArrayWrapper\n")
        self.memoize(obj)

    dispatch = dict(PythonPickler.dispatch)  # noqa: RUF012
    dispatch[type] = save_global


def joblib_file(value: object, protocol: int = 4, aligned: bool = True) -> bytes:
    """The file's content."""
    stream = io.BytesIO()
    JoblibPickler(stream, protocol, aligned).dump(value)
    return stream.getvalue()
