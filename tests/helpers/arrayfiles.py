"""The contents of NPY and NPZ files, good ones and such as lie."""

import struct
import zipfile
from io import BytesIO
from typing import Any

import numpy as np


def npy(array: Any) -> bytes:
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(**arrays: Any) -> bytes:
    file = BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def headed(header: bytes, data: bytes = bytes(8), version: tuple[int, int] = (1, 0)) -> bytes:
    """A file of this header, as https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html says."""
    size = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + size + header + data


def described(shape: str, descr: str = "'<f4'", data: bytes = bytes(8)) -> bytes:
    """A file whose header says so."""
    return headed(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode(), data)


def archived(name: str, content: bytes) -> bytes:
    """An archive of one file."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


# Headers that NumPy's own readers take, or fail at in their own ways, and what is wrong with each.
LIES = {
    "a negative length": (described("(1, -2)"), "names the shape (1, -2)"),
    "negative lengths": (described("(-1, -2)"), "names the shape (-1, -2)"),
    "a bool": (described("(True, 2)"), "names the shape (True, 2)"),
    "a length over 64 bits": (described(f"(1, {10**25})"), "names the shape (1, 1"),
    "a product over 64 bits": (described(f"({2**40}, {2**40})"), "names the shape"),
    "a product over 64 bits beside 0": (described(f"({2**40}, {2**40}, 0)"), "names the shape"),
    "too many axes": (described(repr((1,) * 65)), "names the shape"),
    "a list for a shape": (described("[1, 2]"), "is not an NPY file"),
    "more rows than there are": (described("(1000000000000, 2)"), "is cut off"),
    "fewer rows than there are": (described("(0, 2)"), "is longer than its header says"),
    "elements of no bytes": (described("(1000000000000, 2)", "'<U0'"), "names elements of <U0"),
    "elements that are arrays": (described("(1,)", "'(2,)<f4'"), "names elements of"),
    "an unknown type": (described("(1, 2)", "'garbage'"), "is not an NPY file"),
    "no type": (described("(1, 2)", "{'names': 1}"), "is not an NPY file"),
    "Python objects": (described("(1, 2)", "'|O'"), "holds Python objects"),
    "no tuple": (described("-" * 3000 + "1"), "is not an NPY file"),
    "deep nesting": (described("(" * 4000 + ")" * 4000), "is not an NPY file"),
    "a call": (headed(b"(lambda: 1)()\n"), "is not an NPY file"),
    "a list": (headed(b"[1, 2]\n"), "is not an NPY file"),
    "a null byte": (headed(b"{'descr': '<f4',\x00 }\n"), "is not an NPY file"),
    "no header": (b"\x93NUMPY\x01\x00\xff\xff", "is not an NPY file"),
    "an unknown version": (headed(b"", version=(9, 0)), "is not an NPY file"),
    "no array": (b"x" * 20, "is not an NPY file"),
    "nothing": (b"", "is not an NPY file"),
}
