"""Translate what version 0.1.0 wrote (checkpoints, configs, manifests of packages) to the names of this version.

Checkpoints and manifests are plain data that was read from a file; a mapping of this version comes back as it is, one of an
unexpected form too: its reader says what is wrong with it. Runs are translated to be evaluated and packaged, not to be resumed.
"""

from __future__ import annotations

from typing import Any

MANIFEST_OF_0_1 = "hear_ssl.manifest/1"
MANIFEST = "hear_ssl.manifest/2"
VERSION_KEY = "hear_ssl_version"  # in a checkpoint; version 0.1.0 wrote none
TENSORS = {f"embedder.{part}_projection.": f"embedder.{part}_reduction." for part in ("scene", "timestamp")}


def current_config(config: Any) -> Any:
    """Return the config of a run of version 0.1.0, a nested mapping, with the names of this version."""
    if not isinstance(config, dict):
        return config
    data = config.get("data")
    if isinstance(data, dict) and data.get("positives") == "doppelgaenger":
        config = {**config, "data": {**data, "positives": "pairs"}}
    return {**config, "embedder": current_embedder(config["embedder"])} if "embedder" in config else config


def current_embedder(embedder: Any) -> Any:
    """Return the `embedder` of a config or manifest of version 0.1.0 with the names of this version."""
    if not isinstance(embedder, dict):
        return embedder
    parts = {part: _renamed(embedder[part], "projection", "reduction") for part in ("scene", "timestamp") if part in embedder}
    return {**embedder, **parts}


def current_checkpoint(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint with the names of this version: config, names of tensors, and records of how it was made."""
    if VERSION_KEY in checkpoint:
        return checkpoint
    return {**_training(checkpoint), "state_dict": {_tensor(name): tensor for name, tensor in checkpoint["state_dict"].items()}}


def current_manifest(manifest: Any) -> Any:
    """Return a package's manifest with the names of this version; the package itself keeps the one that it has."""
    if not isinstance(manifest, dict) or manifest.get("format") != MANIFEST_OF_0_1:
        return manifest
    translated = {**manifest, "format": MANIFEST}
    if "embedder" in manifest:
        translated["embedder"] = current_embedder(manifest["embedder"])
    if "training" in manifest:
        translated["training"] = _training(manifest["training"])
    return translated


def _training(record: Any) -> Any:
    """Translate what a checkpoint and the `training` of a manifest have in common: config, reduction, other encoders."""
    record = _renamed(record, "projection", "reduction")
    if not isinstance(record, dict):
        return record
    if "config" in record:
        record = {**record, "config": current_config(record["config"])}
    if isinstance(record.get("other_towers"), list):
        record = {**record, "other_towers": [_training(other) for other in record["other_towers"]]}
    return record


def _renamed(mapping: Any, old: str, new: str) -> Any:
    if not isinstance(mapping, dict) or old not in mapping:
        return mapping
    return {new if name == old else name: value for name, value in mapping.items()}


def _tensor(name: Any) -> Any:
    prefix = next((prefix for prefix in TENSORS if isinstance(name, str) and name.startswith(prefix)), "")
    return TENSORS[prefix] + name[len(prefix) :] if prefix else name
