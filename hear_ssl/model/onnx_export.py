"""python -m PACKAGE onnx OUT.onnx: write the model as one ONNX file, from waveforms to embeddings, and compare it with torch.

Needs torch >= 2.6, onnx and onnxscript (the extra `onnx`). If onnxruntime is installed, the model is run with it before the file is
written. ONNX: https://onnx.ai/onnx/repo-docs/IR.html. Files of 2 GB and more, which ONNX splits, are not supported.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import math
import warnings
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import torch
from torch import Tensor

from .embedder import Embedder
from .manifest import Manifest
from .onnx_graph import KINDS, Graph
from .output import one_line, whole_file

OLDEST = (2, 6)  # the first torch.export that handles sizes computed in the graph
INSTALL = "python3 -m pip install onnx onnxscript onnxruntime"
OUTPUTS = {"scene": ("scene_embeddings",), "timestamp": ("timestamp_embeddings", "timestamps_ms")}
SHAPES = {
    "scene_embeddings": ("batch", "dim"),
    "timestamp_embeddings": ("batch", "timestamps", "dim"),
    "timestamps_ms": ("batch", "timestamps"),
}
TRACED_SECONDS = 3.7  # length of the two traced clips beyond the longest window of the encoder
NOISE_TOLERANCE, TOLERANCE = 1e-4, 1e-3  # relative to the largest value; with tones and silence some bands contain only rounding errors
LARGEST_BYTES = 2**31 - 1


def export_file(model: Embedder, manifest: Manifest, out: Path, kinds: Tuple[str, ...] = KINDS) -> str:
    """Write the ONNX file of a model in evaluation mode and return a line about it for the user.

    Raises ValueError when torch is too old, a package is missing, or a part of the model cannot be exported or differs in ONNX;
    then nothing is written. Raises OSError when `out` cannot be written.
    """
    check_packages()
    content = export(model, kinds, described(model, manifest))
    try:
        importlib.import_module("onnxruntime")
    except (ImportError, OSError) as error:
        compared = f"not compared with torch, which needs onnxruntime ({one_line(error)})"
    else:
        differences = compare(model, content, kinds)
        worst = max(differences.values())
        compared = f"largest difference from torch {worst:.1e} ({', '.join(f'{name} {value:.1e}' for name, value in differences.items())})"
    with whole_file(out) as file:
        file.write(content)
    return f"{out}: {len(content) / 1e6:.1f} MB, {', '.join(names_of(kinds))}; {compared}"


def check_packages() -> None:
    """Raise ValueError with the install command when torch is too old, or onnx or onnxscript is missing."""
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST:
        raise ValueError(f"torch is {torch.__version__}; to export to ONNX install torch >= 2.6")
    try:
        list(map(importlib.import_module, ("onnx", "onnxscript")))
    except (ImportError, OSError) as error:
        raise ValueError(f"to export to ONNX run: {INSTALL} ({one_line(error)})") from None


def names_of(kinds: Tuple[str, ...]) -> List[str]:
    """Return the names of the outputs of a file, in their order."""
    return [name for kind in kinds for name in OUTPUTS[kind]]


def described(model: Embedder, manifest: Manifest) -> Dict[str, str]:
    """Return the metadata of the file about the model."""
    return {
        "name": manifest.name,
        "version": manifest.version,
        "weights_sha256": manifest.weights.sha256,
        "sample_rate": str(model.sample_rate),
        "hop_ms": f"{model.hop_samples * 1000.0 / model.sample_rate:g}",
        "scene_embedding_size": str(model.scene_embedding_size),
        "timestamp_embedding_size": str(model.timestamp_embedding_size),
        **{f"license_{what}": str(name) for what, name in sorted(manifest.licenses.items())},
    }


def export(model: Embedder, kinds: Tuple[str, ...], facts: Dict[str, str]) -> bytes:
    """Return the bytes of the ONNX file. Raises ValueError when a part of the model cannot be exported."""
    graph = Graph(model, kinds).eval()
    window_seconds = model.encoder.chunk_frames * model.config.frontend.hop_length / model.sample_rate
    waveform = torch.zeros(2, int((2.0 * window_seconds + TRACED_SECONDS) * model.sample_rate))
    dynamic: Any = torch.export.Dim.AUTO
    try:
        with torch.no_grad(), quiet():
            traced = torch.export.export(graph, (waveform,), dynamic_shapes={"waveform": {0: dynamic, 1: dynamic}}, strict=False)
            options: Dict[str, Any] = {"optimize": False} if "optimize" in inspect.signature(torch.onnx.export).parameters else {}
            program: Any = torch.onnx.export(  # its optimiser would remove + 1e-8 before a logarithm as + 0
                traced, (), dynamo=True, input_names=["waveform"], output_names=names_of(kinds), verbose=False, **options
            )
            content = finished(program.model_proto, facts)
    except Exception as error:  # torch, onnxscript and a user's class raise errors of any class
        raise ValueError(f"the model cannot be exported to ONNX{own_parts(model)}: {one_line(first_cause(error))}") from None
    return content


def first_cause(error: BaseException) -> BaseException:
    """Return the first error of a chain; each later one of torch's exporter names only its own step."""
    return first_cause(error.__cause__) if error.__cause__ else error


class quiet:
    """Silence the warnings and log lines of torch's exporter about itself."""

    def __enter__(self) -> None:
        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.simplefilter("ignore")
        self.logger = logging.getLogger("torch.onnx")
        self.level = self.logger.level
        self.logger.setLevel(logging.ERROR)

    def __exit__(self, *error: Any) -> None:
        self.logger.setLevel(self.level)
        self.caught.__exit__(*error)


def own_parts(model: Embedder) -> str:
    """Return the names of a user's classes in a model, in brackets, since they are the likeliest cause of a failure."""
    parts = {part.name: part.kind.__module__ for part in model.config.own()}
    ours = __name__.rpartition(".")[0]
    own = [name for name, module in parts.items() if not module.startswith((f"{ours}.encoders.", f"{ours}.readouts."))]
    return f" (with the parts {', '.join(own)})" if own else ""


def finished(proto: Any, facts: Dict[str, str]) -> bytes:
    """Return the file's bytes with named dimensions and metadata, without traces of the exporting machine.

    Raises ValueError when a dimension of the input is fixed, or the content is too large for one file.
    """
    for dimension, name in zip(proto.graph.input[0].type.tensor_type.shape.dim, ("batch", "time")):
        if dimension.HasField("dim_value"):
            raise ValueError(f"a part of it computes for one {name} of {dimension.dim_value} alone; take sizes from tensors' shapes")
        dimension.dim_param = name
    for output in proto.graph.output:
        for dimension, name in zip(output.type.tensor_type.shape.dim, SHAPES[output.name]):
            if name != "dim":
                dimension.dim_param = name
    if proto.ByteSize() > LARGEST_BYTES:
        raise ValueError(f"it would be {proto.ByteSize() / 1e9:.1f} GB; an ONNX file of one piece has at most 2")
    plain_casts(proto)
    proto.graph.ClearField("value_info")
    described = [*all_nodes(proto.graph.node), *proto.graph.input, *proto.graph.output, *proto.graph.initializer, proto.graph]
    for element in described:  # torch writes the paths of source files there
        element.ClearField("metadata_props")
        element.ClearField("doc_string")
    proto.ClearField("metadata_props")
    for key, text in facts.items():
        proto.metadata_props.add(key=key, value=text)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def plain_casts(proto: Any) -> None:
    """Replace CastLike, for which runtimes have no kernel and warn, by Cast to the known type."""
    import onnx

    known = {value.name: value.type.tensor_type.elem_type for value in onnx.shape_inference.infer_shapes(proto).graph.value_info}
    for node in proto.graph.node:
        if node.op_type == "CastLike" and known.get(node.output[0]):
            node.op_type = "Cast"
            del node.input[1:], node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute("to", known[node.output[0]]))


def all_nodes(nodes: Any) -> Iterator[Any]:
    """Yield nodes and the nodes of the graphs nested in them, such as branches."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from all_nodes(attribute.g.node)


def compare(model: Embedder, content: bytes, kinds: Tuple[str, ...]) -> Dict[str, float]:
    """Run an ONNX file and torch on the same clips and return the largest difference of each output.

    Raises ValueError when a difference exceeds the tolerance of its clip, or the file does not run.
    """
    import onnxruntime

    largest = dict.fromkeys(names_of(kinds), 0.0)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for what, waveform, tolerance in clips(model):
            found = session.run(list(largest), {"waveform": waveform.numpy()})
            for name, array, expected in zip(largest, found, from_torch(model, waveform, kinds)):
                given = torch.from_numpy(array)
                if given.shape != expected.shape:
                    raise ValueError(f"{name} of {what} have the shape {tuple(given.shape)}; torch has {tuple(expected.shape)}")
                difference = float((given - expected).abs().max())
                if not difference <= tolerance * max(1.0, float(expected.abs().max())):
                    raise ValueError(f"{name} of {what} differ from torch by {difference:.2g}")
                largest[name] = max(largest[name], difference)
    except Exception as error:  # onnxruntime raises classes of its own
        raise ValueError(f"the ONNX file is not this model{own_parts(model)}: {one_line(error)}; nothing was written") from None
    return largest


def clips(model: Embedder) -> Iterator[Tuple[str, Tensor, float]]:
    """Yield names, clips (batch, time) and tolerances: noise of several lengths, one longer than the encoder's window; a tone; silence."""
    rate, hop_length = model.sample_rate, model.config.frontend.hop_length
    window_seconds = model.encoder.chunk_frames * hop_length / rate
    generator = torch.Generator().manual_seed(0)
    for batch, seconds in ((1, 0.1), (2, 1.13), (1, max(3.3, 2.3 * window_seconds))):
        yield f"{seconds:g} s of noise", 0.1 * torch.randn(batch, int(seconds * rate), generator=generator), NOISE_TOLERANCE
    yield "one second of a tone", 0.5 * torch.sin(torch.arange(rate) * (2.0 * math.pi * 440.0 / rate)).unsqueeze(0), TOLERANCE
    yield "one second of silence", torch.zeros(1, rate), TOLERANCE


@torch.no_grad()
def from_torch(model: Embedder, waveform: Tensor, kinds: Tuple[str, ...]) -> List[Tensor]:
    """Return torch's outputs for clips (batch, time), in the order of the file's outputs."""
    found: List[Tensor] = [model.scene(waveform)] if "scene" in kinds else []
    return [*found, *(model.timestamps(waveform) if "timestamp" in kinds else ())]
