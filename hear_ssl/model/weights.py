"""Read and write weights as a safetensors file: eight bytes of length, a JSON header, raw tensors.

Format: https://github.com/huggingface/safetensors (README, "Format"). Nothing in the file is executed. The header is checked
first: its size, names, types and shapes, and that the tensors fill the file without gaps or overlaps.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import struct
from pathlib import Path
from typing import Any, Dict, List, Tuple, Union

import torch
from torch import Tensor

MAX_HEADER_BYTES = 16 * 2**20
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
PathLike = Union[str, "os.PathLike[str]"]


def weights_sha256(path: PathLike) -> str:
    """Return the SHA-256 of a file as lower-case hex. Raises OSError when it cannot be read."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def serialise_tensors(tensors: Dict[str, Tensor], metadata: Dict[str, str]) -> bytes:
    """Return the bytes of a safetensors file; the same tensors and metadata give the same bytes."""
    header: Dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    blocks: List[bytes] = []
    offset = 0
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        block = _tensor_bytes(tensor)
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, offset + len(block)]}
        blocks.append(block)
        offset += len(block)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *blocks])


def _tensor_bytes(tensor: Tensor) -> bytes:
    return ctypes.string_at(tensor.data_ptr(), tensor.numel() * tensor.element_size()) if tensor.numel() else b""


def read_tensors(path: PathLike) -> Dict[str, Tensor]:
    """Read every tensor of a safetensors file onto the CPU.

    Raises ValueError when the file is truncated, its header is invalid or its tensors do not fit; OSError when it cannot be read.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        header, start = _read_header(file.read(8), file, size, path)
        data = bytearray(file.read())
    tensors = {}
    for name, (dtype, shape, begin, end) in _check_layout(header, size - start, path).items():
        flat = torch.frombuffer(data, dtype=dtype, count=math.prod(shape), offset=begin) if end > begin else torch.empty(0, dtype=dtype)
        tensors[name] = flat.reshape(shape).clone()
    return tensors


def _read_header(prefix: bytes, file: Any, size: int, path: PathLike) -> Tuple[Dict[str, Any], int]:
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else -1
    if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
        raise ValueError(f"{path} is not a whole safetensors file: its header claims {length} bytes of {size}; download or export it again")
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is not a safetensors file: its header is not JSON; download or export it again") from None
    if not isinstance(header, dict):
        raise ValueError(f"{path} is not a safetensors file: its header is not an object; download or export it again")
    header.pop("__metadata__", None)
    return header, 8 + length


Layout = Dict[str, Tuple[torch.dtype, List[int], int, int]]


def _check_layout(header: Dict[str, Any], data_bytes: int, path: PathLike) -> Layout:
    layout: Layout = {}
    for name, entry in header.items():
        try:
            dtype, shape, (begin, end) = DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
            whole = isinstance(shape, list) and all(type(number) is int and 0 <= number < 2**63 for number in [*shape, begin, end])
        except (KeyError, TypeError, ValueError):
            whole = False
        if not whole or end - begin != math.prod(shape) * torch.empty(0, dtype=dtype).element_size():
            raise ValueError(f"{path}: tensor {name[:80]!r} has an impossible type, shape or offset; download or export the weights again")
        layout[name] = (dtype, shape, begin, end)
    expected = 0
    for name, (_, _, begin, end) in sorted(layout.items(), key=lambda item: (item[1][2], item[1][3])):
        if begin != expected:
            raise ValueError(f"{path}: tensor {name[:80]!r} leaves a gap or overlaps another; download or export the weights again")
        expected = end
    if expected != data_bytes:
        raise ValueError(
            f"{path} holds {data_bytes} bytes of tensors, its header states {expected}: truncated or damaged; download it again"
        )
    return layout


def load_weights(module: torch.nn.Module, path: PathLike) -> None:
    """Load a safetensors file into a module; its tensors must be exactly those of the module.

    Raises ValueError that names the first missing or unknown tensor, or the first of another shape.
    """
    tensors, wanted = read_tensors(path), module.state_dict()
    check_names(set(tensors), set(wanted), str(Path(path)))
    for name, tensor in wanted.items():
        if tensor.shape != tensors[name].shape:
            raise ValueError(f"{path}: {name} has shape {list(tensors[name].shape)}; this model needs {list(tensor.shape)}: other settings")
    module.load_state_dict(tensors)


def check_names(given: "set[str]", wanted: "set[str]", where: str) -> None:
    """Raise ValueError that names a missing or an unknown tensor when two sets of tensor names differ."""
    for kind, names in (("lacks", wanted - given), ("has the unknown tensor", given - wanted)):
        if names:
            raise ValueError(f"{where} {kind} {min(names)} ({len(names)} such in all): it belongs to another architecture or version")
