"""The base class of the data modules: move batches to the device, count unreadable clips, and refuse to resume in another order."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.data import DataLoader

from hear_ssl.data.options import DataConfig
from hear_ssl.data.stream.batch import Batch, Copier
from hear_ssl.data.stream.batch_stream import OrderedStream
from hear_ssl.data.stream.forkserver import worker_context
from hear_ssl.data.stream.unreadable import UnreadableClips
from hear_ssl.data.stream.worker_watch import Patience
from hear_ssl.data.stream.workers import WorkerLoader, start_worker

OTHERS = "holds other shards, or in another order"


class BatchDataModule(pl.LightningDataModule):
    """The part of a data module that does not depend on where the clips come from."""

    def __init__(self, config: DataConfig, sample_rate: int, seed: int) -> None:
        super().__init__()
        self.config, self.sample_rate, self.seed = config, sample_rate, seed
        self.unreadable = UnreadableClips(config.max_lost_fraction)
        self.copier = Copier()
        self.stopping: Callable[[], bool] = lambda: False  # whether the run is to end, with or without its next batch

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move the batch without waiting for the copy."""
        return self.copier(batch, device)

    def count(self, batch: Batch) -> None:
        """Count the unreadable clips of a batch. Raises ValueError with their list when they exceed `max_lost_fraction` of the clips."""
        self.unreadable.count(len(batch.keys), batch.lost)

    def rank_and_ranks(self) -> tuple[int, int]:
        """Return the rank of this process and the number of ranks; (0, 1) without a trainer."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def ordered_loader(self, stream: OrderedStream, first_step: int, patience: Patience) -> DataLoader[Batch]:
        """Return this rank's loader of a stream in exact order, starting at the batch of `first_step`."""
        own = copy(stream)
        own.share(*self.rank_and_ranks())
        own.first_step = first_step
        workers = self.config.workers
        return WorkerLoader(
            own,
            batch_size=None,
            num_workers=workers,
            multiprocessing_context=worker_context() if workers else None,
            worker_init_fn=start_worker if workers else None,
            pin_memory=torch.cuda.is_available(),
            prefetch_factor=2 if workers else None,
            patience=patience,
        )

    def different_sounds(self) -> list[tuple[int, str]]:
        """Return the number of different sounds in each entry of the data, and what they are called; [] where they are not counted."""
        return []

    def data_card(self) -> dict[str, Any]:
        """Return hours, split and sources with licences."""
        raise NotImplementedError

    def passes(self, step: int) -> dict[str, float]:
        """Return {"pass": passes over the clips done after `step` steps}; {} where the clips are not counted together."""
        return {}

    def pass_line(self) -> str:
        """Return a sentence on the length of a pass."""
        raise NotImplementedError

    def order_card(self) -> dict[str, Any]:
        """Return as plain data everything that determines the order of the clips."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return the state after the batches that were trained on, without prefetched ones. All ranks must call it."""
        assert self.trainer is not None
        return self.position(self.trainer.global_step)

    def position(self, batches: int) -> dict[str, Any]:
        """Return the state after this many batches, for `load_state_dict`. All ranks must call it."""
        return {"batches": batches, "order": self.order_card(), **self.unreadable.state()}

    def check_kind(self, checkpoint: dict[str, Any]) -> None:
        """Raise ValueError when a checkpoint has no state of this class, because the run used another kind of data."""
        if type(self).__qualname__ not in checkpoint:
            raise ValueError(f"data.shards {OTHERS}: the run cannot resume with its next batch; set it as it was, or start a new run")

    def check_order(self, state: dict[str, Any]) -> None:
        """Raise ValueError when the order of the clips would differ from that of a saved state."""
        now = self.order_card()
        for key, before in state.get("order", now).items():
            if now.get(key) != before:
                change = f"was {before} and is {now[key]} now"
                if key == "data.shards" or key not in now:
                    key, change = "data.shards", OTHERS
                raise ValueError(f"{key} {change}: the run cannot resume with its next batch; set it as it was, or start a new run")


def process_rank() -> int:
    """Return this process's rank from the variables of torchrun, srun or Lightning, before the process group exists."""
    return int(getattr(rank_zero_only, "rank", 0))
