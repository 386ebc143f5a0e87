"""The manifest: one JSON file in the wheel that says what the model is, where its weights lie and what it learned from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict

from .options import EmbedderConfig, from_mapping

FORMAT = "hear_ssl.manifest/2"


@dataclass(frozen=True)
class WeightsRecord:
    """Where the weights lie and how to know them."""

    url: str = ""
    file: str = "weights.safetensors"
    sha256: str = ""
    bytes: int = 0


@dataclass(frozen=True)
class Manifest:
    """What the wheel's manifest.json holds.

    training and metrics are free-form records for the model card; nothing is computed from them.
    """

    format: str
    name: str
    version: str
    embedder: EmbedderConfig
    weights: WeightsRecord
    sizes: Dict[str, Any] = field(default_factory=dict)
    training: Dict[str, Any] = field(default_factory=dict)
    metrics: Dict[str, Any] = field(default_factory=dict)
    licenses: Dict[str, Any] = field(default_factory=dict)


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest. Raises ValueError with one line when it is missing, not JSON, has a wrong type or an unknown key."""
    if not path.is_file():
        raise ValueError(
            f"{path.parent} is no exported model, it has no {path.name}; install a wheel of one, or load a checkpoint by hear_ssl"
        )
    try:
        mapping = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({str(error)[:80]}); install the package again") from None
    return parse_manifest(mapping, path.name)


def parse_manifest(mapping: Any, where: str) -> Manifest:
    """Build a Manifest from parsed JSON. Raises ValueError that names the key at fault in `where`."""
    if not isinstance(mapping, dict) or mapping.get("format") != FORMAT:
        raise ValueError(f"{where} is not a manifest of format {FORMAT}; install the package again")
    missing = {"name", "version", "embedder", "weights"} - set(mapping)
    if missing:
        raise ValueError(f"{where} lacks {min(missing)}; install the package again")
    manifest = from_mapping(Manifest, mapping, where)
    if not manifest.weights.file or Path(manifest.weights.file).name != manifest.weights.file:
        raise ValueError(f"{where}.weights.file is {manifest.weights.file!r}; it must be a plain file name")
    return manifest
