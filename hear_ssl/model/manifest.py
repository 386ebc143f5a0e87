"""The manifest: a JSON file in the wheel that describes the model, its weights and its training data."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Dict, Type

from .options import from_mapping

FORMAT = "hear_ssl.manifest/3"


@dataclass(frozen=True)
class WeightsRecord:
    """Where the weights are, and their size and SHA-256."""

    url: str = ""
    file: str = "weights.safetensors"
    sha256: str = ""
    bytes: int = 0


@dataclass(frozen=True)
class Manifest:
    """The content of the wheel's manifest.json.

    embedder: see `embedder_config`. parts: a user's classes in the folder `own` of the package, by name: the module of each and
    the SHA-256 of the original file. training and metrics are free-form records for the model card; nothing is computed from them.
    """

    format: str
    name: str
    version: str
    embedder: Dict[str, Any]
    weights: WeightsRecord
    parts: Dict[str, Any] = field(default_factory=dict)
    requires_python: str = ">=3.8"
    sizes: Dict[str, Any] = field(default_factory=dict)
    training: Dict[str, Any] = field(default_factory=dict)
    metrics: Dict[str, Any] = field(default_factory=dict)
    licenses: Dict[str, Any] = field(default_factory=dict)

    @property
    def release(self) -> str:
        """Return version and SHA-256 as a name of exactly these weights, for benchmarks that store results by a model's name."""
        return f"{self.version}-{self.weights.sha256[:12]}"


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest. Raises ValueError with one line when it is missing, not JSON, has a wrong type or an unknown key."""
    if not path.is_file():
        raise ValueError(
            f"{path.parent} is not an exported model, it has no {path.name}; install a wheel of one, or load a checkpoint by hear_ssl"
        )
    try:
        mapping = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({str(error)[:80]}); install the package again") from None
    return parse_manifest(mapping, path.name)


def packaged_parts(manifest: Manifest, package: str) -> Dict[str, Type[Any]]:
    """Return a user's classes by name from the folder `own` of an installed package that has this manifest.

    Raises ValueError when the package does not have one.
    """
    classes: Dict[str, Type[Any]] = {}
    for name, record in manifest.parts.items():
        module = record.get("module") if isinstance(record, dict) else None
        if not isinstance(module, str) or not module.isidentifier():
            raise ValueError(f"manifest.json.parts.{name} names no module; install the package again")
        try:
            classes[name] = getattr(import_module(f"{package}.own.{module}"), name)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"{package} cannot load its class {name} ({str(error)[:80]}); install the package again") from None
    return classes


def parse_manifest(mapping: Any, where: str) -> Manifest:
    """Build a Manifest from parsed JSON. Raises ValueError that names the wrong key in `where`."""
    if not isinstance(mapping, dict) or mapping.get("format") != FORMAT:
        raise ValueError(f"{where} is not a manifest of format {FORMAT}; install the package again")
    missing = {"name", "version", "embedder", "weights"} - set(mapping)
    if missing:
        raise ValueError(f"{where} lacks {min(missing)}; install the package again")
    manifest = from_mapping(Manifest, mapping, where)
    if not manifest.weights.file or Path(manifest.weights.file).name != manifest.weights.file:
        raise ValueError(f"{where}.weights.file is {manifest.weights.file!r}; it must be a plain file name")
    return manifest
