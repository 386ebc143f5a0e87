"""Fit linear maps of a model's embeddings over clips of shards, in one pass that resumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hear_ssl.checkpoint import load_tensors, save_tensors
from hear_ssl.data.options import CropConfig, DataConfig
from hear_ssl.model import Embedder
from hear_ssl.model.embedder_config import KINDS, readout
from hear_ssl.model.options import check_ranges
from hear_ssl.packaging.linear_map import LinearMap, Moments
from hear_ssl.progress import report
from hear_ssl.training.datamodule import ShardDataModule
from hear_ssl.training.stream_datamodule import StreamDataModule, data_module

CLIPS_AT_ONCE = 16
TIMESTAMPS = 16  # of a clip
BATCHES_AT_ONCE = 16  # between two lines of progress
BATCHES_TO_SAVE = 64  # a multiple of BATCHES_AT_ONCE; writing a file of a gigabyte takes seconds
SEED = 0


def clips_to_fit_on(config: DataConfig, sample_rate: int, seconds: float) -> ShardDataModule | StreamDataModule:
    """Return the data module of the clips to fit on, one crop of `seconds` per clip, in the order of a fixed seed.

    Raises ValueError when the shards are missing or do not fit the model.
    """
    options = replace(config, batch_size=CLIPS_AT_ONCE, crops=[CropConfig(seconds, 1)], workers=0, positives="crops")
    check_ranges(options, "data.")
    return data_module(options, sample_rate, SEED)


class Pass:
    """A pass over the first clips of a stream that sums moments by name ("scene", "timestamp") and saves its state to a file."""

    def __init__(
        self, embedder: Embedder, data: ShardDataModule | StreamDataModule, names: list[str], file: Path, asked: dict[str, Any]
    ) -> None:
        """Begin a pass, or resume it from `file` if that exists.

        asked: plain data that, with the order of the clips, determines the moments. Raises ValueError when the file belongs to another
        pass or is damaged.
        """
        self.embedder, self.data, self.file, self.batches = embedder, data, file, 0
        sizes = {"scene": embedder.scene_embedding_size, "timestamp": embedder.timestamp_embedding_size}
        self.moments = {name: Moments(sizes[name]) for name in names}
        self.asked = {**asked, "names": sorted(names), "order": data.order_card(), "seconds": data.config.crops[0].seconds}
        if file.exists():
            self._load()

    def _load(self) -> None:
        fix = "remove it to start over"
        try:
            state = load_tensors(self.file)
            asked, self.batches, position = state["asked"], int(state["batches"]), state["data"]
            kept = {name: {key: values[key] for key in vars(Moments(0))} for name, values in state["moments"].items()}
        except Exception as error:  # which errors a damaged file raises is not documented
            raise ValueError(f"{self.file}, where a fit was stopped, is damaged: {fix}") from error
        if asked != self.asked:
            raise ValueError(f"{self.file} is of a stopped fit to other clips or of another checkpoint: {fix}, or give another --out")
        self.data.load_state_dict(position)
        for name, moments in self.moments.items():
            vars(moments).update(kept[name])
        report(f"resume the fit after the {self.batches * CLIPS_AT_ONCE} clips of {self.file}")

    def _save(self) -> None:
        moments = {name: vars(one) for name, one in self.moments.items()}
        position = self.data.position(self.batches)
        save_tensors({"asked": self.asked, "batches": self.batches, "data": position, "moments": moments}, self.file)

    @torch.no_grad()
    def run(self, clips: int) -> dict[str, Moments]:
        """Return the moments over this number of clips and report progress.

        Raises ValueError when the file has more clips already, or when more clips were unreadable than the config allows.
        """
        if self.batches * CLIPS_AT_ONCE > clips:
            raise ValueError(f"{self.file} has {self.batches * CLIPS_AT_ONCE} clips already; fit on at least that many, or remove it")
        rows: dict[str, list[Tensor]] = {name: [] for name in self.moments}
        batches, coming = -(-clips // CLIPS_AT_ONCE), iter(self.data.train_dataloader())
        while self.batches < batches:
            batch = next(coming)
            self.data.count(batch)
            for clip in batch.waveform[: clips - self.batches * CLIPS_AT_ONCE, 0]:
                self._embed(unpadded(clip)[None], rows)
            self.batches += 1
            if self.batches % BATCHES_AT_ONCE == 0 or self.batches == batches:
                for name, gathered in rows.items():
                    self.moments[name].add(torch.cat(gathered))
                    gathered.clear()
                report(f"{min(clips, self.batches * CLIPS_AT_ONCE)} of {clips} clips for the linear map")
                if self.batches % BATCHES_TO_SAVE == 0 and self.batches < batches:
                    self._save()
        if isinstance(self.data, StreamDataModule):
            self.data.fill_card(self.data.streamed)
        return self.moments

    def _embed(self, audio: Tensor, rows: dict[str, list[Tensor]]) -> None:
        if "scene" in rows:
            rows["scene"].append(self.embedder.scene(audio))
        if "timestamp" in rows:
            embeddings = self.embedder.timestamps(audio)[0][0]
            rows["timestamp"].append(embeddings[:: max(1, len(embeddings) // TIMESTAMPS)])


def unpadded(clip: Tensor) -> Tensor:
    """Return a clip (time,) without the zeros before and after it, with which the stream pads clips shorter than a crop."""
    sound = clip.nonzero().flatten()
    return clip[int(sound[0]) : int(sound[-1]) + 1] if len(sound) else clip


def with_maps(embedder: Embedder, fitted: Mapping[str, nn.Linear]) -> Embedder:
    """Return the embedder with fitted maps of its scene or timestamp embeddings, as the readout `linear` after its own readouts."""
    lists = {kind: (*getattr(embedder.config, kind), readout("linear", dims=one.out_features)) for kind, one in fitted.items()}
    mapped = Embedder(replace(embedder.config, **lists))  # type: ignore[arg-type]
    mapped.encoder.load_state_dict(embedder.encoder.state_dict())
    for kind in KINDS:
        before, after = embedder.get_submodule(f"{kind}_readout"), mapped.get_submodule(f"{kind}_readout")
        if kind not in fitted:
            after.load_state_dict(before.state_dict())
            continue
        after.get_submodule("readouts.0.before").load_state_dict(before.state_dict())
        after.get_submodule("readouts.0.map").load_state_dict(fitted[kind].state_dict())
    return mapped.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def fit_maps(
    embedder: Embedder, maps: Mapping[str, LinearMap], gathered: Pass, clips: int, scales: Mapping[str, Tensor] | None = None
) -> tuple[Embedder, dict[str, Any]]:
    """Return the embedder with a map of each kind ("scene", "timestamp") in `maps`, and the record of the fit for a checkpoint's `fitted`.

    scales: for a kind, a factor for each of its dimensions. Raises ValueError when there are too few components.
    """
    moments = gathered.run(clips)
    fitted = {kind: one.fit(moments[kind], (scales or {}).get(kind)) for kind, one in maps.items()}
    records = {kind: one.record(fitted[kind].in_features, fitted[kind].out_features) for kind, one in maps.items()}
    seconds = gathered.data.config.crops[0].seconds
    return with_maps(embedder, fitted), {"clips": clips, "seconds": seconds, "maps": records, "data": gathered.data.data_card()}
