"""The LightningDataModule of a Python dataset. Its state is the number of batches trained on so far."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch.utils.data import DataLoader

from hear_ssl.data.options import DataConfig
from hear_ssl.data.stream.batch import Batch
from hear_ssl.data.stream.dataset_worker import check_loads
from hear_ssl.data.stream.torch_dataset import DatasetClips, DatasetStream
from hear_ssl.data.stream.worker_watch import Patience
from hear_ssl.training.batch_datamodule import BatchDataModule
from hear_ssl.training.stream_datamodule import added


class DatasetDataModule(BatchDataModule):
    """Batches from a map-style torch dataset of waveforms, or from a Hugging Face dataset with an Audio column."""

    def __init__(self, config: DataConfig, sample_rate: int, seed: int, dataset: Any) -> None:
        """Check the dataset.

        Raises ValueError when it is unusable for training, is marked as test data, cannot be loaded by a worker, or shards are given too.
        """
        super().__init__(config, sample_rate, seed)
        self.clips = DatasetClips(dataset)
        self.stream = DatasetStream(self.clips, config, sample_rate, seed)
        if config.workers:
            check_loads(self.clips)
        self.first_step = 0
        self.streamed: dict[int, tuple[int, float]] = {}
        self.card: dict[str, Any] = {}
        self._fill_card({})

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return this rank's loader, starting at the next batch."""
        return self.ordered_loader(self.stream, self.first_step, Patience(self.config.worker_timeout, stopping=self.stopping))

    def different_sounds(self) -> list[tuple[int, str]]:
        """Return the number of clips in the dataset."""
        return [(len(self.clips), "clips")]

    def count(self, batch: Batch) -> None:
        """Count a batch's unreadable clips, and clips and hours of the first pass. Raises ValueError as `BatchDataModule.count` does."""
        super().count(batch)
        self.streamed = added([self.streamed, batch.streamed])

    def data_card(self) -> dict[str, Any]:
        """Return hours, split and source with its licence; hours and clips are those read in the first pass so far.

        The mapping is updated whenever the state is saved.
        """
        return self.card

    def passes(self, step: int) -> dict[str, float]:
        """Return {"pass": passes over the clips done after `step` steps}."""
        return {"pass": step * self.config.batch_size / len(self.clips)}

    def pass_line(self) -> str:
        """Return a sentence on the length of a pass."""
        return f"a pass over {self.clips.name} is {len(self.clips)} clips, {len(self.clips) // self.config.batch_size} batches"

    def order_card(self) -> dict[str, Any]:
        """Return as plain data everything that determines the order of the clips."""
        return {"seed": self.seed, "data.batch_size": self.config.batch_size, "the number of clips": len(self.clips)}

    def position(self, batches: int) -> dict[str, Any]:
        """Return the state, with the clips that all ranks have read of the first pass. All ranks must call it."""
        parts: list[Any] = [self.streamed]
        if dist.is_available() and dist.is_initialized():
            parts = [None] * dist.get_world_size()
            dist.all_gather_object(parts, self.streamed)
        streamed = added(parts)
        self._fill_card(streamed)
        return {**super().position(batches), "streamed": {number: list(counts) for number, counts in streamed.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume after the batches trained on so far. Raises ValueError when the order would differ."""
        self.check_order(state)
        self.first_step = int(state["batches"])
        if not (self.trainer and self.trainer.global_rank):  # rank 0 adds what the other ranks read from now on
            self.streamed = {int(number): (int(clips), float(seconds)) for number, (clips, seconds) in state["streamed"].items()}
        self.unreadable.load(state)

    def _fill_card(self, streamed: dict[int, tuple[int, float]]) -> None:
        clips, seconds = streamed.get(0, (0, 0.0))
        license = self.config.license[0] if self.config.license else "unknown"
        source = {"name": self.clips.name, "license": license, "hours": round(seconds / 3600, 6), "clips": clips}
        self.card |= {"hours": source["hours"], "split": self.clips.split, "sources": [source]}


def check_given(dataset: Any, saved: dict[str, Any]) -> None:
    """Raise ValueError when a resumed run had a dataset and is given none, or the reverse. saved: its checkpoint."""
    if not saved:
        return
    had = DatasetDataModule.__qualname__ in saved
    if had and dataset is None:
        raise ValueError("the run was trained on a dataset in Python; resume it with hear_ssl.fit(resume=RUN, data=dataset)")
    if dataset is not None and not had:
        raise ValueError("the run was trained on data.shards, not on a dataset; resume it without data=")
