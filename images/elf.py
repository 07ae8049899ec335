"""Linux' shared libraries (ELF, 64 bits, little-endian), as far as they can be made smaller without a linker."""

import struct

# elf(5), of the header: where the program headers start; where the section headers do; how many and how large each are.
_PROGRAM_HEADERS = struct.Struct("<32xQ14xHH")
_SECTION_HEADERS = (struct.Struct("<Q"), 40), (struct.Struct("<HH"), 60)
# Of a program header: where its segment starts in the file, and how long it is there.
_SEGMENT = struct.Struct("<8xQ16xQ")
_MAGIC = b"\x7fELF\x02\x01"


def loaded(library: bytes) -> bytes:
    """The library without what no loader reads: symbols for debuggers and linkers, behind the last of its segments."""
    if not library.startswith(_MAGIC):
        return library
    start, width, count = _PROGRAM_HEADERS.unpack_from(library)
    segments = (_SEGMENT.unpack_from(library, start + width * index) for index in range(count))
    kept = bytearray(library[: max(offset + length for offset, length in segments)])
    # It has no sections any more, nor a table of them.
    for field, place in _SECTION_HEADERS:
        field.pack_into(kept, place, *[0] * len(field.format.lstrip("<")))
    return bytes(kept)


def renamed(library: bytes, needed: str, instead: str) -> bytes:
    """The library asking the loader for `instead`, a name that isn't longer, where it asked for `needed`."""
    old, new = f"\0{needed}\0".encode(), f"\0{instead}\0".encode()
    return library.replace(old, new.ljust(len(old), b"\0"))
