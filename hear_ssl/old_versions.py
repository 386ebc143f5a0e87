"""Translate what versions 0.1.0 and 0.2.0 wrote (checkpoints, configs, manifests of packages) to the names of this version.

Checkpoints and manifests are plain data that was read from a file. A mapping of this version is returned as it is, and so is one of an
unexpected form: its reader reports what is wrong with it. Runs are translated to be evaluated and packaged, not to be resumed. A model
of several encoders, which only these versions combined, keeps its key `beside`, which no reader accepts.
"""

from __future__ import annotations

from typing import Any

import torch

MANIFESTS = ("hear_ssl.manifest/1", "hear_ssl.manifest/2")  # of 0.1.0, of 0.2.0
MANIFEST = "hear_ssl.manifest/3"
VERSION_KEY = "hear_ssl_version"  # in a checkpoint; version 0.1.0 wrote none
OLD = (None, "0.2.0")  # its values in checkpoints to translate
KINDS = ("scene", "timestamp")
MAP = "embedder.{}_readout.readouts.0.map"
MAPS = ("projection", "reduction")  # what 0.1.0 and 0.2.0 called a linear map in two stages
EMBEDDER = ("frontend", "encoder", "scene", "timestamp", "timestamps_per_token", "chunk_frames")
SEVERAL = "beside"  # the encoders after the first
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
    current = {key: value for key, value in embedder.items() if key != SEVERAL}
    for kind in KINDS:
        if isinstance(composition := embedder.get(kind), dict):
            current[kind] = _readouts(kind, composition)
            if kind == "timestamp":
                current["timestamps_per_token"] = composition.get("per_token", 1)
    encoder, others = embedder.get("encoder"), embedder.get(SEVERAL, [])
    if isinstance(encoder, dict) and isinstance(others, (list, tuple)):
        first, *others = [one for old in (encoder, *others) for one in _encoders(old)]
        current["encoder"] = first
    return {**current, **({SEVERAL: others} if others else {})}


def _readouts(kind: str, old: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the composition of a scene or timestamp embedding as a list of readouts; an unknown key stays an option of the first."""
    layers = old.get("layers", "concat")
    layers = {"layers": "all" if layers == "concat" else layers}
    known = {"layers", "towers", "pooling", "raw_mel", "per_token", "contexts_ms", "around_ms", *MAPS}
    unknown = {key: value for key, value in old.items() if key not in known}
    if kind == "scene":
        found = [{"pooled": {**layers, "how": old.get("pooling", "mean+max"), **unknown}}]
        found += [{"bands": {}}] if old.get("raw_mel") else []
    else:
        found = [{"tokens": {**layers, **unknown}}]
        found += [{"contexts": {**layers, "ms": old["contexts_ms"]}}] if old.get("contexts_ms") else []
        found += [{"frames": {}}] if old.get("raw_mel") else []
        found += [{"around": {"ms": old["around_ms"]}}] if old.get("around_ms") else []
    ranks = next((old[name] for name in MAPS if old.get(name)), None)
    return [*found, {"linear": {"dims": ranks[-1] if isinstance(ranks, (list, tuple)) else ranks}}] if ranks else found


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
    return {**_training(checkpoint), "state_dict": _tensors(checkpoint["state_dict"])}


def _tensors(state: dict[Any, Any]) -> dict[Any, Any]:
    """Return a state with the two stages of each linear map multiplied out to one matrix: the same map but for rounding."""
    current = dict(state)
    for kind, name in ((kind, f"embedder.{kind}_{name}.") for kind in KINDS for name in MAPS):
        own = {str(key)[len(name) :]: current.pop(key) for key in list(current) if isinstance(key, str) and key.startswith(name)}
        if not own:
            continue
        try:
            parts = [own[f"parts.{place}.weight"].double() for place in range(len(own) - 2)]
            blocks: torch.Tensor = torch.block_diag(*parts)  # type: ignore[no-untyped-call]
            current[f"{MAP.format(kind)}.weight"] = (own["joint.weight"].double() @ blocks).float()
            current[f"{MAP.format(kind)}.bias"] = own["joint.bias"]
        except (KeyError, AttributeError, RuntimeError):  # a tensor is missing or of another shape
            return state
    return current


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
    """Translate what a checkpoint and the `training` of a manifest have in common: config, linear maps, other encoders."""
    if not isinstance(record, dict):
        return record
    current = {key: value for key, value in record.items() if key not in MAPS}
    if "config" in record:
        current["config"] = current_config(record["config"])
    fitted = next((record[name] for name in MAPS if record.get(name)), None)
    if isinstance(fitted, dict):
        current["fitted"] = {key: fitted[key] for key in ("clips", "data") if key in fitted}
    if isinstance(record.get("other_towers"), list) and "steps" in record:
        current["trainings"] = _trainings(record)
    if isinstance(levels := record.get("tower_levels"), list) and levels:
        current["notes"] = [f"RMS scales of the last layers of the encoders: {' : '.join(f'{level:g}' for level in map(float, levels))}"]
    return current


def _trainings(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the trainings of the encoders that a manifest's model concatenates, as `hear_ssl.packaging.model_card` lists them."""
    random = [{"encoder": "audio_ntt", "objectives": [], "steps": 0, "batch_size": 0}] if record.get("random_tower") is True else []
    found = []
    for one in [record, *record["other_towers"]]:
        config = one.get("config") if isinstance(one, dict) else None
        config = config if isinstance(config, dict) else {}
        embedder, data, objectives = (
            value if isinstance(value, dict) else {} for value in map(config.get, ("embedder", "data", "objective"))
        )
        weights = {name: options.get("weight", 0.0) for name, options in objectives.items() if isinstance(options, dict)}
        found.append(
            {
                "encoder": str((embedder.get("encoder") or {}).get("name", "audio_ntt")),
                "objectives": [str(name) for name, weight in weights.items() if weight],
                "steps": one.get("steps", 0) if isinstance(one, dict) else 0,
                "batch_size": data.get("batch_size", 0),
            }
        )
    return random + found
