"""The LightningDataModule of packed shards: decoded in worker processes, in an exact order that resumes with the next batch."""

from __future__ import annotations

import hashlib
from typing import Any

from torch.utils.data import DataLoader

from hear_ssl.data.options import DataConfig
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.stream.batch import Batch
from hear_ssl.data.stream.batch_stream import BatchStream
from hear_ssl.data.stream.worker_watch import Patience
from hear_ssl.progress import warn
from hear_ssl.training.batch_datamodule import BatchDataModule, process_rank
from hear_ssl.training.start_checks import different_sounds


class ShardDataModule(BatchDataModule):
    """Batches from packed shards. Its state is one number: the batches trained on so far."""

    def __init__(self, config: DataConfig, sample_rate: int, seed: int) -> None:
        """Open the shards.

        Raises ValueError when there are none, they have another sample rate or are marked as test, more of them are missing or
        damaged than `max_lost_fraction` allows, they do not fit in the cache, the number of weights is wrong, or pairs are required
        and there are none.
        """
        super().__init__(config, sample_rate, seed)
        self.shards = ShardSet(config.shards, config.cache, config.cache_gb, 4 * config.window_shards * max(1, len(config.weights)))
        if self.shards.sample_rates != {sample_rate}:
            rates = ", ".join(map(str, sorted(self.shards.sample_rates)))
            raise ValueError(f"the shards have {rates} Hz, the model wants {sample_rate} Hz; pack again with --sample-rate {sample_rate}")
        check_cache(self.shards, config)
        report_damage(self.shards, config.max_lost_fraction)
        for source in self.shards.sources:
            if source.cache and not config.window_shards:
                source.cache.fetch_all(source.index, config.max_lost_fraction)
        self.stream = BatchStream(self.shards, config, sample_rate, seed)  # raises before a run folder exists
        self.first_step = 0

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return this rank's loader, starting at the next batch."""
        return self.ordered_loader(self.stream, self.first_step, Patience(self.config.worker_timeout, self.shards.fetched, self.stopping))

    def different_sounds(self) -> list[tuple[int, str]]:
        """Return the number of clips of each entry of data.shards, or of pairs when the views are the two clips of a pair."""
        return different_sounds(self.shards, self.config)

    def data_card(self) -> dict[str, Any]:
        """Return hours, split and sources with licences."""
        return self.shards.data_card()

    def passes(self, step: int) -> dict[str, float]:
        """Return {"pass": passes over the clips done after `step` steps}; {} for a mixture, since each source has its own passes."""
        return {} if self.config.weights else {"pass": step * self.config.batch_size / len(self.shards)}

    def pass_line(self) -> str:
        """Return a sentence on the length of a pass and on its last, partial batch."""
        clips, batch = len(self.shards), self.config.batch_size
        if self.config.weights:
            return f"{clips} clips of {len(self.config.weights)} sources mixed by weight, each in passes of its own"
        rest = f"; the {clips % batch} clips left over begin a batch that the next pass completes" if clips % batch else ""
        return f"a pass is {clips} clips, {clips // batch} batches{rest}"

    def order_card(self) -> dict[str, Any]:
        """Return as plain data everything that determines the order of the clips."""
        shards = hashlib.sha256("".join(record.sha256 for _, record in self.shards.shards).encode()).hexdigest()
        values = {f"data.{key}": getattr(self.config, key) for key in ("batch_size", "window_shards", "weights")}
        return {"seed": self.seed, **values, "data.shards": shards}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume after the batches trained on so far. Raises ValueError when the order would differ."""
        self.check_order(state)
        self.first_step = int(state["batches"])
        self.unreadable.load(state)


def check_cache(shards: ShardSet, config: DataConfig) -> None:
    """Raise ValueError when the remote shards, or two windows of them, exceed the size limit of the cache."""
    remote = [[record.bytes for record in source.index.shards] for source in shards.sources if source.cache]
    limit = config.cache_gb * 1e9
    if not limit or not remote or sum(map(sum, remote)) <= limit:
        return
    largest = max(map(max, remote)) * max(1, len(config.weights))
    window = int(limit / largest / 2)
    if not 0 < config.window_shards <= window:
        raise ValueError(
            f"the shards take {sum(map(sum, remote)) / 1e9:.2f} GB, data.cache_gb allows {config.cache_gb:g}: "
            + (f"set data.window_shards to 1 to {window}" if window else f"it must hold two shards, {2 * largest / 1e9:.2f} GB")
        )


def report_damage(shards: ShardSet, allowed: float) -> None:
    """Warn about shards that are missing or have another size. Raises ValueError when they contain more of the clips than allowed."""
    damage = shards.damage()
    lines = []
    for number, reason in damage.items():
        source, record = shards.shards[number]
        lines.append(f"shard {source.address}/{record.name} is damaged: {reason}; {record.clips} clips")
    clips = sum(shards.shards[number][1].clips for number in damage)
    if clips > allowed * len(shards):
        raise ValueError(f"{'; '.join(lines[:10])}: restore them or pack again (data.max_lost_fraction allows {allowed:.0%} of the clips)")
    for line in lines if process_rank() == 0 else ():
        warn(f"{line} are lost as far as they cannot be read")
