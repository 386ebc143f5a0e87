"""Linear maps fitted at export, on clips of the training shards or of other shards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hear_ssl.checkpoint import embedder_config_of
from hear_ssl.data.options import DataConfig
from hear_ssl.errors import one_line
from hear_ssl.files import sha256_of
from hear_ssl.model import Embedder
from hear_ssl.model.embedder_config import KINDS
from hear_ssl.model.options import from_mapping, to_mapping
from hear_ssl.packaging.request import PackageRequest

SECONDS = 2.0  # of a clip


class LinearExport:
    """The fit of the linear maps of a request, and its clips; `file` stores the state of an interrupted fit."""

    def __init__(self, request: PackageRequest, checkpoint: dict[str, Any], file: Path) -> None:
        """Open the shards. Raises ValueError when there are none, they do not fit the model, or there are too few clips to fit on."""
        from hear_ssl.training.fit_linear import clips_to_fit_on  # loads Lightning

        if request.linear_clips < 2:
            raise ValueError(f"--linear-clips is {request.linear_clips}; fit on at least 2 clips")
        self.request, self.file = request, file
        self.data = clips_to_fit_on(data_config(request, checkpoint), embedder_config_of(checkpoint).frontend.sample_rate, SECONDS)

    def with_card(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """Return the checkpoint with the data card of these clips as the data of its linear map."""
        return {**checkpoint, "fitted": {"data": self.data.data_card()}}

    def fit(self, model: Embedder) -> tuple[Embedder, dict[str, Any]]:
        """Return the model with fitted maps after its readouts, and the record of the fit.

        Raises ValueError when a list has a fitted map already, or fewer dimensions vary than requested.
        """
        from hear_ssl.training.fit_linear import Pass, fit_maps

        for kind in KINDS:
            if any(part.kind.maps_before for part in getattr(model.config, kind)):
                raise ValueError(f"{kind} has a linear map already; package a checkpoint without one, or leave --linear out")
        asked = {
            "checkpoint": sha256_of(self.request.checkpoint),
            "untrained": self.request.untrained,
            "weights": self.request.weights,
            "embedder": to_mapping(model.config),
        }
        gathered = Pass(model, self.data, sorted(self.request.linear), self.file, asked)
        return fit_maps(model, self.request.linear, gathered, self.request.linear_clips)


def data_config(request: PackageRequest, checkpoint: dict[str, Any]) -> DataConfig:
    """Return the data config of the training, with the shards of the request if it has some. Raises ValueError without shards."""
    other = "give those to fit the linear map on by --linear-shards"
    try:
        config = from_mapping(DataConfig, dict(checkpoint["config"]["data"]), "the checkpoint's data")
    except (KeyError, TypeError, ValueError) as error:
        if not request.linear_shards:
            raise ValueError(f"the checkpoint does not name its shards ({one_line(error)[:80]}); {other}") from None
        config = DataConfig()
    if request.linear_shards:
        return replace(config, shards=list(request.linear_shards), weights=[])
    if not config.shards:
        raise ValueError(f"the run was not trained on shards; {other}")
    return config
