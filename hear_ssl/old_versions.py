"""Translate what versions 0.1.0 and 0.2.0 wrote (checkpoints, configs, manifests of packages) to the names of this version.

Checkpoints and manifests are plain data that was read from a file. A mapping of this version is returned as it is, and so is one of an
unexpected form: its reader reports what is wrong with it. Runs are translated to be evaluated and packaged, not to be resumed.
"""

from __future__ import annotations

from typing import Any

MANIFESTS = ("hear_ssl.manifest/1", "hear_ssl.manifest/2")  # of 0.1.0, of 0.2.0
MANIFEST = "hear_ssl.manifest/3"
VERSION_KEY = "hear_ssl_version"  # in a checkpoint; version 0.1.0 wrote none
OLD = (None, "0.2.0")  # its values in checkpoints to translate
TENSORS = {f"embedder.{part}_projection.": f"embedder.{part}_reduction." for part in ("scene", "timestamp")}
EMBEDDER = ("frontend", "encoder", "beside", "scene", "timestamp", "chunk_frames")
ENCODER_OPTIONS = {  # of the one list of options that all encoders shared
    "audio_ntt": ("channels", "dim", "context", "band_pool", "dropout"),
    "convnext": ("channels", "dim", "depth", "dropout"),
    "vit": ("dim", "depth", "heads", "window_frames"),
}


def current_config(config: Any) -> Any:
    """Return the config of a run of an earlier version, a nested mapping, with the names of this version."""
    if not isinstance(config, dict):
        return config
    current = {key: value for key, value in config.items() if key != "embedder"}
    data, objective, embedder = (config.get(key) for key in ("data", "objective", "embedder"))
    if isinstance(data, dict) and data.get("positives") == "doppelgaenger":
        current["data"] = {**data, "positives": "pairs"}
    if isinstance(objective, dict) and "embedder" in config:
        current["objective"] = {name: term for name, term in objective.items() if not (isinstance(term, dict) and term.get("weight") == 0)}
    if isinstance(embedder, dict):
        current |= current_embedder(embedder)
    elif "embedder" in config:
        current["embedder"] = embedder
    return current


def current_embedder(embedder: Any) -> Any:
    """Return the `embedder` of a config or manifest of an earlier version with the names of this version."""
    if not isinstance(embedder, dict):
        return embedder
    current = {
        **embedder,
        **{part: _renamed(embedder[part], "projection", "reduction") for part in ("scene", "timestamp") if part in embedder},
    }
    encoder, others = embedder.get("encoder"), embedder.get("beside", [])
    if isinstance(encoder, dict) and isinstance(others, (list, tuple)):
        encoders = [one for old in (encoder, *others) for one in _encoders(old)]
        current |= {"encoder": encoders[0], "beside": encoders[1:]}
    return current


def _encoders(old: Any) -> list[Any]:
    """Return an encoder of earlier versions as {name: options}, as often as its `towers` say."""
    if not isinstance(old, dict) or old.get("name", "audio_ntt") not in ENCODER_OPTIONS:
        return [old]
    name, towers = old.get("name", "audio_ntt"), old.get("towers", 1)
    options = {key: value for key, value in old.items() if key in ENCODER_OPTIONS[name]}
    unknown = {
        key: value for key, value in old.items() if key not in {"name", "towers", "keep"} | {k for o in ENCODER_OPTIONS.values() for k in o}
    }
    return [{name: {**options, **unknown}}] * (towers if isinstance(towers, int) and 1 <= towers <= 16 else 1)


def current_checkpoint(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint with the names of this version: config, names of tensors, and records of how it was made."""
    if checkpoint.get(VERSION_KEY) not in OLD:
        return checkpoint
    return {**_training(checkpoint), "state_dict": {_tensor(name): tensor for name, tensor in checkpoint["state_dict"].items()}}


def current_manifest(manifest: Any) -> Any:
    """Return a package's manifest with the names of this version; the package itself keeps the one that it has."""
    if not isinstance(manifest, dict) or manifest.get("format") not in MANIFESTS:
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
