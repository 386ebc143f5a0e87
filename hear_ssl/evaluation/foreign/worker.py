"""Embed with a HEAR module in another Python environment, on requests from hear_ssl.evaluation.foreign.process.

This file is run by its path, in any Python from 3.7 on. It needs numpy and what the module imports; hear_ssl need not be installed
there. Requests and answers use one socket: the length of a header (4 bytes, big endian), the header as JSON, then the arrays listed in
its key `arrays` as [dtype, shape], raw and in C order. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import platform
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

FUNCTIONS = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")
ATTRIBUTES = ("sample_rate", "scene_embedding_size", "timestamp_embedding_size")
DTYPES = ("float16", "float32", "float64", "int32", "int64")


class Subject:
    """A module, its model and its device. kind: torch or tensorflow, by the class of the model, as heareval decides."""

    def __init__(self, name: str, weights: str, device: str) -> None:
        self.module = imported(name)
        missing = [function for function in FUNCTIONS if not callable(getattr(self.module, function, None))]
        if missing:
            raise Refused("module %s has no %s; it does not follow the HEAR API" % (name, missing[0]))
        self.model = self.module.load_model(weights) if weights else self.module.load_model()
        self.kind, self.library = kind_of(self.model)
        absent = [attribute for attribute in ATTRIBUTES if not isinstance(getattr(self.model, attribute, None), int)]
        if absent:
            raise Refused("the model of %s has no int %s; it does not follow the HEAR API" % (name, absent[0]))
        self.state = state_hash(self.kind, self.model)
        self.fall_back, self.moved, self.device = device == "auto", "", "cpu"
        self.device = self.place(device)

    def place(self, device: str) -> str:
        """Move the model to a device and return its name; `auto` is a GPU if the library finds one. Raises Refused when it is missing."""
        if self.kind == "tensorflow":
            found = [gpu.name.replace("/physical_device:", "").lower() for gpu in self.library.config.list_physical_devices("GPU")]
            name = device.replace("cuda", "gpu") + (":0" if device == "cuda" else "")
            if device.startswith("cuda") and name not in found:
                raise Refused("tensorflow finds no %s there; give --device auto or cpu" % device)
            return "cpu" if device == "cpu" or not found else found[0] if device == "auto" else name
        cuda = self.library.cuda
        backends: list[Any] = [self.library.backends.cudnn, getattr(self.library.backends.cuda, "matmul", None)]
        for backend in backends:
            if hasattr(backend, "allow_tf32"):
                backend.allow_tf32 = False  # so that embeddings on a GPU and on a CPU differ only by rounding
        if device.startswith("cuda") and int((device + ":0").split(":")[1]) >= (cuda.device_count() if cuda.is_available() else 0):
            raise Refused("torch finds no %s there; give --device auto or cpu" % device)
        chosen = ("cuda" if cuda.is_available() else "cpu") if device == "auto" else device
        try:
            self.move(chosen)
        except Exception:
            if not self.fall_back or chosen == "cpu":
                raise
            self.return_to_cpu()
            return "cpu"
        return chosen

    def move(self, device: str) -> None:
        """Move the model by `to` of torch.nn.Module, which returns it."""
        moved = self.model.to(device)
        self.model = self.model if moved is None else moved

    def return_to_cpu(self) -> None:
        """Move the model to the CPU after it failed on another device; the next answer contains the reason."""
        traceback.print_exc()
        self.moved, self.device = last_line(sys.exc_info()[1]), "cpu"
        self.move("cpu")

    def embed(self, function: str, audio: Any, threads: int) -> list[Any]:
        """Return arrays: scene embeddings, or timestamp embeddings and timestamps; embeddings are float32."""
        try:
            returned = self.call(function, audio, threads)
        except Exception:
            if not self.fall_back or self.device == "cpu" or self.kind != "torch":
                raise
            self.return_to_cpu()
            returned = self.call(function, audio, threads)
        if function == "get_scene_embeddings":
            return [self.as_array(returned, floating=True)]
        embeddings, timestamps_ms = returned
        return [self.as_array(embeddings, floating=True), self.as_array(timestamps_ms, floating=False)]

    def call(self, function: str, audio: Any, threads: int) -> Any:
        """Call a function of the module with a tensor of its library and return its result."""
        if self.kind == "tensorflow":
            with self.library.device("/" + self.device.upper()):
                return getattr(self.module, function)(self.library.convert_to_tensor(audio), self.model)
        if self.library.get_num_threads() != threads:
            self.library.set_num_threads(threads)
        with self.library.no_grad():
            return getattr(self.module, function)(self.library.from_numpy(audio).to(self.device), self.model)

    def as_array(self, tensor: Any, floating: bool) -> Any:
        """Return a tensor as an array, float32 if `floating`. Raises TypeError for anything but a tensor of the model's library."""
        if not isinstance(tensor, self.library.Tensor):
            name = "torch.Tensor" if self.kind == "torch" else "tf.Tensor"
            raise TypeError("it returned %s, not a %s" % (type(tensor).__name__, name))
        if self.kind == "torch":
            tensor = tensor.detach().cpu()
            tensor = tensor.float() if floating or str(tensor.dtype).split(".")[-1] not in DTYPES else tensor
        array = tensor.numpy()
        return np.ascontiguousarray(array.astype(np.float32) if floating or array.dtype.name not in DTYPES else array)


class Refused(Exception):
    """A mistake, described in one line for the user."""


def imported(name: str) -> Any:
    """Import a module. Raises Refused when there is none of that name."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if error.name is None or not (name + ".").startswith(error.name + "."):  # another module is missing
            raise
        raise Refused("there is no module %s; install it there, or add its folder to PYTHONPATH" % name) from None


def kind_of(model: Any) -> tuple[str, Any]:
    """Return `torch` or `tensorflow` by the class of a model, and that library. Raises Refused for any other class."""
    torch, tensorflow = sys.modules.get("torch"), sys.modules.get("tensorflow")
    if torch is not None and isinstance(model, torch.nn.Module):
        return "torch", torch
    if tensorflow is not None and isinstance(model, tensorflow.Module):
        return "tensorflow", tensorflow
    raise Refused("load_model() returned %s, neither a torch.nn.Module nor a tf.Module" % type(model).__name__)


def state_hash(kind: str, model: Any) -> str:
    """Return a hash of a model's weights; for torch that of hear_ssl.evaluation.model_under_test."""
    digest = hashlib.sha256()
    if kind == "tensorflow":
        for variable in getattr(model, "variables", ()):
            array = np.ascontiguousarray(variable.numpy())
            digest.update(("%s %s %s\n" % (variable.name, array.dtype, list(array.shape))).encode())
            digest.update(array.tobytes())
        return digest.hexdigest()[:12]
    torch = sys.modules["torch"]
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, torch.Tensor):
            digest.update(("%s %s %s\n" % (name, tensor.dtype, list(tensor.shape))).encode())
            whole = tensor.detach().cpu().contiguous()
            whole = whole.view(torch.int16) if whole.dtype == torch.bfloat16 else whole  # numpy has no bfloat16
            digest.update(whole.numpy().tobytes())
    return digest.hexdigest()[:12]


def code_hash(file: Path) -> str:
    """Return the SHA-256 of the SHA-256 hashes of a module's files; of all files in the folder if it is a package."""
    files = [file]
    if file.name == "__init__.py":
        files = sorted(path for path in file.parent.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return hashlib.sha256("".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in files).encode()).hexdigest()


def environment_hash() -> str:
    """Return a hash of Python's version and of the names and versions of the packages that can be imported."""
    names = {platform.python_version()}
    for folder in sys.path:
        with contextlib.suppress(OSError):
            names.update(name for name in os.listdir(folder or ".") if name.endswith((".dist-info", ".egg-info", ".egg")))
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:12]


def description(subject: Subject) -> dict[str, Any]:
    """Return the description of a loaded model for the evaluating process."""
    file = subject.module.__file__ or ""
    versions = "Python %s, %s %s" % (platform.python_version(), subject.kind, subject.library.__version__)
    sizes = {attribute: int(getattr(subject.model, attribute)) for attribute in ATTRIBUTES}
    hashes = {"code": code_hash(Path(file)), "state": subject.state, "environment": environment_hash()}
    return dict(sizes, file=file, device=subject.device, versions=versions, **hashes)


def last_line(error: BaseException | None) -> str:
    """Return the last line of an error's traceback, shortened, and the innermost line of code outside this file."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__ if error else None) if os.path.isfile(frame.filename)]
    frames = [frame for frame in frames if not os.path.samefile(frame.filename, __file__)]
    place = " (%s, line %s)" % (os.path.basename(frames[-1].filename), frames[-1].lineno) if frames else ""
    return "%s: %s%s" % (type(error).__name__, " ".join(str(error).split())[:300], place)


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[Any]] | None:
    """Return the next request and its arrays, or None when the other process is gone."""
    length = read(channel, 4)
    if length is None:
        return None
    header = json.loads(bytes(read(channel, struct.unpack(">I", length)[0]) or b""))
    arrays = []
    for dtype, shape in header.get("arrays", ()):
        content = read(channel, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        if content is None:
            return None
        arrays.append(np.frombuffer(content, dtype).reshape(shape))
    return header, arrays


def read(channel: socket.socket, count: int) -> bytearray | None:
    """Return `count` bytes from the socket, or None when it ends before that."""
    content = bytearray(count)
    view = memoryview(content)
    while view:
        got = channel.recv_into(view)
        if not got:
            return None
        view = view[got:]
    return content


def send(channel: socket.socket, header: dict[str, Any], arrays: list[Any]) -> None:
    """Send an answer and its arrays."""
    header = dict(header, arrays=[[array.dtype.name, list(array.shape)] for array in arrays])
    text = json.dumps(header).encode()
    channel.sendall(struct.pack(">I", len(text)) + text)
    for array in arrays:
        if array.nbytes:
            channel.sendall(memoryview(array).cast("B"))


def end_with(parent: int) -> None:
    """End this process and its child processes when its parent is gone, also during a batch."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Answer requests until the other process is gone: first `load`, then names of functions of the HEAR API."""
    channel = socket.socket(fileno=int(sys.argv.pop()))
    channel.set_inheritable(False)
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    subject: Any = None
    while True:
        received = receive(channel)
        if received is None:
            return
        request, arrays = received
        answer: dict[str, Any] = {}
        results: list[Any] = []
        try:
            if request["do"] == "load":
                subject = Subject(request["module"], request["weights"], request["device"])
                answer = description(subject)
            else:
                results = subject.embed(request["do"], arrays[0], request["threads"])
            answer["moved"], subject.moved = subject.moved, ""
        except Refused as error:
            answer = {"refused": str(error)}
        except (Exception, SystemExit) as error:  # a foreign module may raise anything
            traceback.print_exc()
            answer = {"error": last_line(error)}
        sys.stdout.flush()
        send(channel, answer, results)


if __name__ == "__main__":
    main()
