"""Archives as an attacker writes them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from pathlib import Path

COMPRESS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def header(name: bytes, size: int | bytes, kind: bytes = b"0", extended: bool = False) -> bytes:
    """Return a tar header with a right checksum; a size as bytes is written as it is, one beyond octal digits in base 256.

    extended: the map of a sparse file continues in the next block.
    """
    field = (
        size if isinstance(size, bytes) else b"%011o\0" % size if 0 <= size < 8**11 else (size % 256**12 | 0x80 << 88).to_bytes(12, "big")
    )
    block = bytearray(512)
    block[0 : len(name)] = name
    block[100:108], block[108:116], block[116:124] = b"0000644\0", b"0000000\0", b"0000000\0"
    block[124:136], block[136:148], block[156:157] = field.ljust(12, b"\0"), b"00000000000\0", kind
    block[257:265], block[148:156] = b"ustar\00000", b" " * 8
    block[482] = extended
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(content: bytes) -> bytes:
    """Return content filled up to whole blocks."""
    return content + bytes(-len(content) % 512)


def record(key: bytes, value: bytes) -> bytes:
    """Return a record of a pax header."""
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + 1
    while len(b"%d" % length) + len(body) != length:
        length += 1
    return b"%d" % length + body


def pax(content: bytes, kind: bytes = b"x") -> bytes:
    """Return a pax header with such content."""
    return header(b"pax", len(content), kind) + padded(content)


END = bytes(1024)
CLIP = header(b"a/a.wav", 4) + padded(b"RIFF")
DIGITS = b"2 " * 8000
HOSTILE = {
    "negative size, base 256": CLIP + header(b"a/b.wav", -512) + END,
    "negative size back to the start": CLIP + header(b"a/b.wav", -1536) + END,
    "negative size in octal": CLIP + header(b"a/b.wav", b"-0000001000") + END,
    "negative size first": header(b"a/b.wav", -1024) + END,
    "negative size of a directory": CLIP + header(b"b", -1024, b"5") + END,
    "negative size in a pax header": CLIP + pax(record(b"size", b"-1024")) + header(b"a/b.wav", 4) + padded(b"RIFF") + END,
    "absurd size": CLIP + header(b"a/b.wav", 2**62) + END,
    "absurd size beyond a file's": CLIP + header(b"a/b.wav", 2**80) + END,
    "absurd size in a pax header": CLIP + pax(record(b"size", b"9" * 30)) + header(b"a/b.wav", 4) + END,
    "negative long name": CLIP + header(b"././@LongLink", -1024, b"L") + END,
    "absurd long name": CLIP + header(b"././@LongLink", 2**40, b"L") + END,
    "absurd pax header": CLIP + header(b"pax", 2**40, b"x") + END,
    "negative pax header": CLIP + header(b"pax", -1024, b"x") + END,
    "large pax header": CLIP + pax(record(b"comment", b"x" * (4 << 20))) + CLIP + END,
    "large global header": CLIP + pax(record(b"comment", b"x" * (4 << 20)), b"g") + CLIP + END,
    "large long name": CLIP + header(b"././@LongLink", 4 << 20, b"L") + padded(b"x" * (4 << 20)) + CLIP + END,
    "many pax headers": CLIP + pax(record(b"comment", b"x")) * 3000 + CLIP + END,
    "many large pax headers": CLIP + pax(record(b"comment", b"x" * 60000)) * 100 + CLIP + END,
    "many long names": CLIP + (header(b"././@LongLink", 9, b"L") + padded(b"x" * 9)) * 3000 + CLIP + END,
    "overlapping pax records": CLIP + pax(DIGITS + b"=") + CLIP + END,
    "pax record of no length": CLIP + pax(b"0 a=b\n") + CLIP + END,
    "pax record of many digits": CLIP + pax(b"9" * 9000 + b" a=b\n") + CLIP + END,
    "endless sparse map": CLIP
    + pax(record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0"))
    + header(b"a/b.wav", 1024)
    + padded(b"1000000000\n" + b"1\n" * 2_000_000)
    + END,
    "cut off sparse map": CLIP
    + pax(record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0"))
    + header(b"a/b.wav", 512)
    + padded(b"9\n1"),
    "endless old sparse map": CLIP + header(b"a/b.wav", 512, b"S", extended=True) + (bytes(504) + b"\1" + bytes(7)) * 9000,
}


def zeros_as_headers(count: int) -> bytes:
    """Return a tar of so many empty files."""
    return header(b"a/a.wav", 0) * count + END


def bomb(path: Path, content: bytes) -> Path:
    """Write content, compressed as the name says."""
    path.write_bytes(COMPRESS[next((end for end in COMPRESS if end and path.name.endswith(end)), "")](content))
    return path


def whole_tar(names: list[str]) -> bytes:
    """Return a tar in GNU, pax and ustar parts as real tools write it, with long names and attributes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = 4, {"SCHILY.xattr.user.note": "ä" * 2000, "mtime": "1700000000.25"}
            tar.addfile(member, io.BytesIO(b"RIFF"))
    return buffer.getvalue()
