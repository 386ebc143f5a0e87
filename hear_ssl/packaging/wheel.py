"""Write a wheel without a build tool, so that the same files give the same bytes (PEP 427; binary distribution format 1.0)."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile

EPOCH = (1980, 1, 1, 0, 0, 0)


def wheel_name(name: str, version: str) -> str:
    """Return the file name of a pure-Python wheel."""
    return f"{name}-{version}-py3-none-any.whl"


def build_wheel(name: str, version: str, files: dict[str, bytes], metadata: bytes, licenses: dict[str, bytes]) -> bytes:
    """Return the bytes of a wheel with `files` (by path inside the wheel), METADATA and licence files."""
    info = f"{name}-{version}.dist-info"
    content = dict(files)
    content[f"{info}/METADATA"] = metadata
    content[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: hear_ssl\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content.update({f"{info}/licenses/{file}": text for file, text in licenses.items()})
    record = "".join(f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in sorted(content.items()))
    content[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in sorted(content.items(), key=lambda item: (item[0].startswith(info), item[0])):
            entry = zipfile.ZipInfo(path, EPOCH)
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3
            entry.compress_type = zipfile.ZIP_STORED if path.endswith(".safetensors") else zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return buffer.getvalue()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
