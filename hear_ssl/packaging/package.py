"""Export a checkpoint as a wheel and a source tree that install anywhere and have the HEAR API."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hear_ssl.addresses import redacted_text, redacted_values
from hear_ssl.checkpoint import has_average, load_checkpoint
from hear_ssl.data.options import DataConfig
from hear_ssl.files import atomic_write, read_json, read_metrics
from hear_ssl.folder_lock import OUT_BUSY, folder_lock
from hear_ssl.model import Embedder
from hear_ssl.model.manifest import FORMAT, parse_manifest
from hear_ssl.model.options import to_mapping
from hear_ssl.model.weights import serialise_tensors
from hear_ssl.packaging import compliance
from hear_ssl.packaging import templates as texts
from hear_ssl.packaging.composition import compose
from hear_ssl.packaging.golden_tensors import golden_tensors
from hear_ssl.packaging.licenses import with_licenses
from hear_ssl.packaging.linear_export import LinearExport
from hear_ssl.packaging.model_card import class_name, model_card, training_record
from hear_ssl.packaging.own_parts import OwnPart, own_parts, part_files, required_python
from hear_ssl.packaging.request import PackageRequest
from hear_ssl.packaging.url_check import check_published
from hear_ssl.packaging.wheel_rules import check_training_data, license_row
from hear_ssl.packaging.writer import WRITING_SECONDS, check_place, write_export
from hear_ssl.part_files import is_reference
from hear_ssl.progress import report as report_progress

MODEL = Path(__file__).resolve().parents[1] / "model"
UNPUBLISHED = "to upload them package with --allow-unpublished first, then run hear-ssl publish"
OF_SHARDS = (
    "worker_timeout",
    "license",
    "split",
    "not_test",
    "audio",
    "shuffle_mb",
    "interleave",
    "stream_cache",
)  # keys of a config's section data


def package(request: PackageRequest, out: Path) -> Path:
    """Write wheel, source tree and weights into `out` and return the wheel's path.

    Raises ValueError when the checkpoint or its training data must not be shipped, when a rule of the HEAR API is broken, or when the
    weights are not at their URL and the request does not allow that; OSError when `out` cannot be written. On an error nothing is
    written.
    """
    check_place(out, request.name)
    checkpoint, linear = load_checkpoint(request.checkpoint), None
    if request.linear:
        linear = LinearExport(request, checkpoint, out / weights_file(request, ".fit"))
        checkpoint = linear.with_card(checkpoint)
    checkpoint = with_licenses(checkpoint, request.data_licenses)
    check_training_data(checkpoint.get("data_card"))
    check_licenses(texts.licenses())
    model = compose(request, checkpoint)
    if linear:
        check_training_data(checkpoint["fitted"]["data"])
        model, record = linear.fit(model)
        checkpoint = with_licenses({**checkpoint, "fitted": record}, request.data_licenses)
    parts = own_parts(model.config)
    weights = serialise_tensors(halved(model) if request.half else model.state_dict(), {"format": "pt"})
    try:
        if "data" in checkpoint.get("fitted", {}):
            check_training_data(checkpoint["fitted"]["data"])
        manifest = build_manifest(request, checkpoint, model, weights, parts)
    except (KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{request.checkpoint} does not record how it was trained ({reason}); use a checkpoint written by hear-ssl fit"
        ) from None
    parse_manifest(json.loads(json.dumps(manifest)), "manifest")
    golden = serialise_tensors(golden_tensors(model), {"format": "pt"})
    files = package_files(request, manifest, golden, weights) | part_files(parts, request.name)
    if not request.allow_unpublished:
        check_published(request.weights_url, manifest["weights"]["sha256"], len(weights), UNPUBLISHED)
    report_progress("measuring the rules of the HEAR API on 20 minutes of audio (about a minute) ...", aside=True)
    rows = compliance.measure(files, request.name, weights, ("hop at most 50 ms",) if request.allow_long_hop else ())
    report = compliance.report(rows, manifest, published=not request.allow_unpublished)
    files[f"{request.name}/COMPLIANCE.md"] = report.encode()
    tree = source_tree_files(request, files, manifest)
    with folder_lock(out, OUT_BUSY, wait_seconds=WRITING_SECONDS):
        atomic_write(out / weights_file(request), weights)
        atomic_write(out / weights_file(request, ".json"), files[f"{request.name}/manifest.json"])
        wheel = write_export(out / request.name, request.version, tree, manifest["requires_python"])
    if linear:
        linear.file.unlink(missing_ok=True)
    return wheel


@torch.no_grad()
def halved(model: Embedder) -> dict[str, torch.Tensor]:
    """Round a model's parameters to float16 in place; return its state with parameters in float16 and unchanged statistics.

    Raises ValueError when a parameter is too large for float16.
    """
    state = model.state_dict()
    for name, parameter in model.named_parameters():
        state[name] = parameter.half()
        if not torch.isfinite(state[name]).all():
            raise ValueError(f"--half cannot hold {name}, which reaches {float(parameter.abs().max()):.3g}; leave --half out")
        parameter.copy_(state[name])
    return state


def check_licenses(licenses: dict[str, bytes]) -> None:
    """Raise ValueError unless the licences of code and weights are those required by the HEAR rules."""
    for name, what in (("LICENSE", "code"), ("LICENSE-weights", "weights")):
        row = license_row(licenses, "", name, what)
        if not row.passed:
            raise ValueError(f"{name} is not compatible ({row.measured}); HEAR rule: {row.rule}")


def build_manifest(
    request: PackageRequest, checkpoint: dict[str, Any], model: Embedder, weights: bytes, parts: Sequence[OwnPart] = ()
) -> dict[str, Any]:
    """Return the manifest: everything needed to rebuild the model, and its origin."""
    config = checkpoint["config"]
    return {
        "format": FORMAT,
        "name": request.name,
        "version": request.version,
        "embedder": with_short_names(to_mapping(model.config)),
        "parts": {part.name: part.record() for part in parts},
        "requires_python": required_python(parts),
        "weights": {
            "url": request.weights_url,
            "file": "weights.safetensors",
            "sha256": hashlib.sha256(weights).hexdigest(),
            "bytes": len(weights),
        },
        "sizes": {
            "sample_rate": model.sample_rate,
            "scene_embedding_size": model.scene_embedding_size,
            "timestamp_embedding_size": model.timestamp_embedding_size,
            "hop_ms": model.hop_samples * 1000.0 / model.sample_rate,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        },
        "training": {
            "steps": 0 if request.untrained else checkpoint.get("global_step", 0),
            "batch_size": config["data"]["batch_size"],
            "config": without_places(config),
            "trainings": trainings(checkpoint, to_mapping(model.config), request.untrained),
            "notes": texts_of([*checkpoint.get("notes", []), *averaging(request, checkpoint)]),
            "stored_in": "float16" if request.half else "float32",
            "fitted": fitted_record(checkpoint.get("fitted", {})),
            "data": redacted_values(checkpoint["data_card"]),
            "git_revision": run_record(request.checkpoint, "environment.json").get("git_revision", "unknown"),
            "torch": torch.__version__.partition("+")[0],
            "cuda": torch.version.cuda or "none",
            "cudnn": cudnn_version(),
        },
        "metrics": {} if request.untrained else last_metrics(request.checkpoint, checkpoint.get("global_step", 0)),
        "licenses": {"code": "Apache-2.0", "weights": "CC-BY-4.0"},
    }


def trainings(checkpoint: dict[str, Any], embedder: dict[str, Any], untrained: bool) -> list[dict[str, Any]]:
    """Return the training of each encoder for the model card. Raises TypeError when a checkpoint lists them in another form."""
    config = checkpoint["config"]
    if untrained or not checkpoint.get("trainings"):
        steps = 0 if untrained else checkpoint.get("global_step", 0)
        return [training_record(config, with_short_names(embedder), steps, config["data"]["batch_size"])]
    return [
        {
            "encoder": class_name(one["encoder"]),
            "objectives": list(map(class_name, texts_of(one["objectives"]))),
            "steps": one["steps"] + 0,
            "batch_size": one["batch_size"] + 0,
        }
        for one in checkpoint["trainings"]
    ]


def averaging(request: PackageRequest, checkpoint: dict[str, Any]) -> list[str]:
    """Return a note on the exported weights of a checkpoint with averaged weights, [] for other checkpoints."""
    if request.untrained or not has_average(checkpoint):
        return []
    if request.weights == "trained":
        return ["weights of the last step, not their exponential moving average"]
    return [f"exponential moving average of the weights, decay {checkpoint['config']['trainer']['ema']}"]


def fitted_record(fitted: dict[str, Any]) -> dict[str, Any]:
    """Return the record of the fit of linear maps by `fit_maps`. Raises TypeError when it has another form."""
    fitted = without_paths(fitted)
    return {**fitted, **({"clips": fitted["clips"] + 0} if fitted else {})}


def texts_of(notes: list[str]) -> list[str]:
    """Return the notes on changes to a model after training. Raises TypeError when one is not text."""
    return [note + "" for note in notes]


def without_places(config: dict[str, Any]) -> dict[str, Any]:
    """Return a run's config without the paths and addresses of its machine, and without settings that only its machine needed.

    These keys have their defaults.
    """
    kept = {key: value for key, value in config.items() if key not in ("run", "output") and (key != "init" or value)}
    probe = {"probe": {**kept["probe"], "tasks": []}} if isinstance(kept.get("probe"), dict) else {}
    cache = {"cache": DataConfig.cache} if "cache" in kept["data"] else {}
    data = {key: value for key, value in kept["data"].items() if key not in OF_SHARDS} | cache | {"shards": []}
    own = {"keep_checkpoints", "keep_every"} | ({"ema"} if not kept.get("trainer", {}).get("ema") else set())
    trainer = {key: value for key, value in kept.get("trainer", {}).items() if key not in own}
    whole = {**kept, **probe, "data": data, **({"trainer": trainer} if trainer else {})}
    named: dict[str, Any] = without_paths(with_short_names(whole))
    return named


def without_paths(value: Any) -> Any:
    """Return plain data in which absolute paths, and addresses with credentials, are replaced by their last parts."""
    if isinstance(value, dict):
        return {key: without_paths(element) for key, element in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(without_paths(element) for element in value)
    if not isinstance(value, str):
        return value
    home = os.path.expanduser("~")
    local = value.startswith("/") or (len(home) > 1 and home in value)
    return value.rstrip("/").rpartition("/")[2] if local else redacted_text(value)


def with_short_names(config: Any) -> Any:
    """Return a config in which references to a user's classes are replaced by the class names."""
    if isinstance(config, dict):
        return {key.rpartition(":")[2] if is_reference(str(key)) else key: with_short_names(value) for key, value in config.items()}
    return [with_short_names(value) for value in config] if isinstance(config, list) else config


def cudnn_version() -> str:
    """Return the cuDNN version that torch was built with, as 9.19.0, or 'none'."""
    version: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}" if version else "none"


def run_record(checkpoint: Path, name: str) -> dict[str, Any]:
    """Return the content of a JSON file in the checkpoint's run folder, or {} when it is missing."""
    path = checkpoint.parent.parent / name
    try:
        record = read_json(path)
    except OSError:
        return {}
    return record if isinstance(record, dict) else {}


def last_metrics(checkpoint: Path, step: int) -> dict[str, Any]:
    """Return the run's last row of metrics.csv up to the checkpoint's step."""
    rows = [row for row in read_metrics(checkpoint.parent.parent / "metrics.csv")[1] if row.get("loss") and int(row["step"]) <= step]
    kept = ("step", "loss", "effective_rank", "alignment", "uniformity", "clips_lost")
    return {name: float(rows[-1][name]) for name in kept if rows and rows[-1].get(name)}


def package_files(request: PackageRequest, manifest: dict[str, Any], golden: bytes, weights: bytes) -> dict[str, bytes]:
    """Return the files of the importable package by their paths in the wheel: a copy of hear_ssl.model, and its data."""
    name = request.name
    files = {f"{name}/{path.relative_to(MODEL).as_posix()}": path.read_bytes() for path in sorted(MODEL.rglob("*.py"))}
    files[f"{name}/manifest.json"] = texts.manifest_text(manifest)
    files[f"{name}/golden.safetensors"] = golden
    if request.bundle_weights:
        files[f"{name}/{manifest['weights']['file']}"] = weights
    return files


def source_tree_files(request: PackageRequest, files: dict[str, bytes], manifest: dict[str, Any]) -> dict[str, bytes]:
    """Return the files of the source tree: the package, README, licences, model card and pyproject.toml."""
    return {
        **files,
        **texts.licenses(),
        "COMPLIANCE.md": files[f"{request.name}/COMPLIANCE.md"],
        "README.md": texts.readme(manifest, request.bundle_weights).encode(),
        "MODEL_CARD.md": model_card(manifest).encode(),
        "pyproject.toml": texts.pyproject(manifest).encode(),
        "MANIFEST.in": f"recursive-include {request.name} *.json *.md *.safetensors\n".encode(),
    }


def weights_file(request: PackageRequest, suffix: str = ".safetensors") -> str:
    """Return the name of the weights file next to the wheel; with the suffix .json, of its manifest."""
    return f"{request.name}-{request.version}{suffix}"
