"""The model that a run starts from: its encoder is loaded before training, and its training data is added to the run's data card.

Heads, optimizer and schedule start new. Only tensors and plain data are read from a checkpoint or an address; an installed wheel is
imported, as by `hear_ssl.load`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from hear_ssl.addresses import redacted
from hear_ssl.checkpoint import embedder_tensors, find_checkpoint, load_checkpoint
from hear_ssl.evaluation.model_under_test import is_ours, load_model_under_test, manifest_of
from hear_ssl.loading import MANIFEST, WEIGHTS, exported_files, published_files
from hear_ssl.model.manifest import Manifest
from hear_ssl.model.options import to_mapping
from hear_ssl.model.weights import read_tensors
from hear_ssl.training.dotted_keys import dotted_keys
from hear_ssl.training.settings import Config

ENCODER = "encoder."
SECTIONS = ("frontend", "encoder")


@dataclass(frozen=True)
class InitialModel:
    """A trained encoder: its origin, its tensors by their names in the encoder, and the data card of its training."""

    name: str
    tensors: dict[str, Tensor]
    data_card: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return its record for checkpoints."""
        return {"name": self.name, "data_card": self.data_card}


def initial_model(config: Config) -> InitialModel:
    """Return the model given as `init`: a run, a checkpoint, an installed wheel, or an address or file of weights with a manifest.

    Averaged weights (trainer.ema) are used if a checkpoint has them. Raises ValueError when there is no such model, when it has no
    manifest, or, with the differing keys, when its frontend or encoder differs; OSError when an address cannot be reached.
    """
    name = config.init
    if is_ours(name) and not name.endswith((WEIGHTS, MANIFEST)):
        saved = load_checkpoint(find_checkpoint(name))
        check_same(config, saved["config"], saved.get("parts") or {}, name)
        card = saved.get("data_card") or {}
        tensors = embedder_tensors(saved, name)
    else:
        manifest, tensors = exported_model(name)
        parts = {f"encoder.{part}": record.get("sha256") for part, record in manifest.parts.items()}
        check_same(config, manifest.embedder, parts, redacted(name))
        card = manifest.training.get("data") or {}
    encoder = {key[len(ENCODER) :]: value for key, value in tensors.items() if key.startswith(ENCODER)}
    return InitialModel(redacted(name), encoder, card)


def exported_model(name: str) -> tuple[Manifest, dict[str, Tensor]]:
    """Return manifest and tensors of published weights, of a local weights file, or of an installed wheel; see `initial_model`."""
    if "://" in name or name.endswith((WEIGHTS, MANIFEST)):
        manifest, file = published_files(name) if "://" in name else exported_files(name)
        return manifest, read_tensors(file)
    loaded = load_model_under_test(name, "")
    found = manifest_of(loaded.module)
    if found is None:
        raise ValueError(
            f"init={name} is not a model of hear_ssl; give a run, a checkpoint, a wheel of hear_ssl, or an address of its weights"
        )
    return found, {key: value.detach() for key, value in loaded.model.state_dict().items()}


def check_same(config: Config, given: dict[str, Any], parts: dict[str, Any], name: str) -> None:
    """Raise ValueError with the differing keys unless a model has a config's frontend and encoder, with the same file of a user's class."""
    sha256 = config.own_parts().get(f"encoder.{config.encoder.name}")
    here, there = dotted_keys(to_mapping(config), SECTIONS), dotted_keys(given, [section for section in SECTIONS if section in given])
    differing = [key for key in {**here, **there} if here.get(key, "none") != there.get(key, here.get(key, "none"))]
    lines = [f"{key} {there.get(key)} instead of {here.get(key, 'none')}" for key in differing]
    if not lines and sha256 and parts.get(f"encoder.{config.encoder.name}") != sha256:
        lines = [f"another version of the file of {config.encoder.name}"]
    if lines:
        raise ValueError(f"init={name} has {', '.join(lines[:8])}; give a model with the frontend and the encoder of this config")


def joined_card(card: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """Return a data card with the sources of an earlier training added; a source that is complete in both counts once."""
    own, before = card.get("sources") or [], earlier.get("sources") or []
    added = [source for source in before if source not in own]
    if not added:
        return card
    hours = float(card.get("hours", 0.0)) + sum(float(source.get("hours", 0.0)) for source in added)
    splits = sorted({str(one.get("split", "unknown")) for one in (card, earlier)})
    return {**card, "hours": round(hours, 6), "split": splits[0] if len(splits) == 1 else ", ".join(splits), "sources": [*own, *added]}
