"""The stream of batches: position -> clip -> crops, with no state but the next step.

A worker computes every `workers`-th batch of its rank whole and hands over one finished tensor. A clip that cannot be
read keeps its position: a clip drawn by the position's hash takes its place, and the loss is named in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from hear_ssl.config import DataConfig
from hear_ssl.data.batch import Batch
from hear_ssl.data.decode import Waveform, decode_crops
from hear_ssl.data.order import SampleOrder, mix
from hear_ssl.data.shards import Clip, ShardSet

REPLACEMENTS = 20


class BatchStream(IterableDataset[Batch]):
    """Endless batches of one rank from global step `first_step` on."""

    def __init__(self, shards: ShardSet, config: DataConfig, sample_rate: int, seed: int, rank: int = 0, ranks: int = 1) -> None:
        """Prepare the stream. Raises ValueError when ranks do not divide the batch or pairs are asked for and absent."""
        super().__init__()
        if config.batch_size % ranks:
            raise ValueError(f"data.batch_size is {config.batch_size}; it must be a multiple of the {ranks} ranks")
        self.shards, self.config, self.sample_rate = shards, config, sample_rate
        self.seed, self.rank, self.ranks, self.first_step = seed, rank, ranks, 0
        self.order = SampleOrder(len(shards.clips), seed)
        self.time = round(config.crop_seconds * sample_rate)
        self.partners: dict[str, int] = {}
        if config.positives == "doppelgaenger":
            self.partners = {clip.key: number for number, clip in enumerate(shards.clips)}
            if "pair" not in shards.record(shards.clips[0]):
                raise ValueError("data.positives is doppelgaenger, but these shards hold no pairs; make some with hear_ssl.data.synthetic")

    def __iter__(self) -> Iterator[Batch]:
        """Yield this worker's batches: steps first_step + worker, + workers, and so on."""
        worker = get_worker_info()
        step, stride = (self.first_step + worker.id, worker.num_workers) if worker else (self.first_step, 1)
        while True:
            yield self.batch(step)
            step += stride

    def batch(self, step: int) -> Batch:
        """Return this rank's rows of the global batch of a step."""
        rows = self.order.batch(step, self.config.batch_size, self.rank, self.ranks)
        waveform = np.empty((len(rows), self.config.crops if not self.partners else 2, self.time), np.float32)
        seeds, indices = [], []
        keys: list[str] = []
        lost: list[str] = []
        for row, (pass_number, number) in enumerate(rows):
            seed = mix(self.seed, 2, pass_number, number)
            number, crops = self._read(number, seed, lost)
            waveform[row] = crops
            seeds.append(seed)
            indices.append(number)
            keys.append(self.shards.clips[number].key)
        return Batch(torch.from_numpy(waveform), torch.tensor(seeds), torch.tensor(indices), keys, lost)

    def _read(self, number: int, seed: int, lost: list[str]) -> tuple[int, list[Waveform]]:
        for attempt in range(REPLACEMENTS):
            clip = self.shards.clips[number]
            try:
                return number, self._crops(clip, seed)
            except (ValueError, OSError) as error:
                lost.append(f"{clip.shard}/{clip.key}: {' '.join(str(error).split())}")
                number = mix(seed, 3, attempt) % len(self.shards.clips)
        raise ValueError(f"{REPLACEMENTS} clips in a row cannot be read; the first: {lost[-REPLACEMENTS]}")

    def _crops(self, clip: Clip, seed: int) -> list[Waveform]:
        if not self.partners:
            shares = [mix(seed, 4, crop) / 2**63 for crop in range(self.config.crops)]
            return decode_crops(self.shards.audio(clip), shares, self.time, self.sample_rate)
        partner: Any = self.shards.record(clip).get("pair")
        if partner not in self.partners:
            raise ValueError(f"its partner {str(partner)[:60]!r} is not in the shards")
        share = mix(seed, 4, 0) / 2**63  # the same place in both, so that events meet
        clips = (clip, self.shards.clips[self.partners[partner]])
        return [crop for one in clips for crop in decode_crops(self.shards.audio(one), [share], self.time, self.sample_rate)]
