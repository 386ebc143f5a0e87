"""The LightningDataModule of shards without an index: it saves the state of every reader, so that a run resumes with the next batch."""

from __future__ import annotations

from copy import copy
from dataclasses import asdict
from typing import Any

import torch.distributed as dist
from torch.utils.data import DataLoader

from hear_ssl.data.options import DataConfig
from hear_ssl.data.shards.shard_index import SourceRecord, each_once
from hear_ssl.data.shards.unindexed import ShardList, fingerprint, is_unindexed, shard_lists
from hear_ssl.data.stream.batch import Batch
from hear_ssl.data.stream.forkserver import worker_context
from hear_ssl.data.stream.unindexed_stream import JoinedLoader, UnindexedStream
from hear_ssl.data.stream.worker_watch import Patience
from hear_ssl.data.stream.workers import start_worker
from hear_ssl.training.batch_datamodule import BatchDataModule
from hear_ssl.training.datamodule import ShardDataModule

ORDER_KEYS = ("batch_size", "weights", "workers", "shuffle_mb", "interleave", "audio")


class StreamDataModule(BatchDataModule):
    """Batches from shards that are read in sequence. Its state is that of all ranks' readers after the last batch trained on."""

    def __init__(self, config: DataConfig, sample_rate: int, seed: int, unindexed: list[str]) -> None:
        """List the shards; entries of data.shards that are not in `unindexed` have an index.

        Raises ValueError when there are none, a name marks test data, or the weights, licences or splits do not fit the entries.
        """
        super().__init__(config, sample_rate, seed)
        self.lists = shard_lists(config, unindexed)
        self.stream = UnindexedStream(self.lists, config, sample_rate, seed)
        self.readers: dict[int, Any] = {}
        self.streamed: dict[int, tuple[int, float]] = {}
        self.card: dict[str, Any] = {}
        self.fill_card({})

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return this rank's loader, starting at the next batch."""
        stream = copy(self.stream)
        stream.share(*self.rank_and_ranks())
        stream.states = dict(self.readers)
        return JoinedLoader(
            stream,
            multiprocessing_context=worker_context() if stream.workers else None,
            worker_init_fn=start_worker if stream.workers else None,
            prefetch_factor=2 if stream.workers else None,
            patience=Patience(self.config.worker_timeout, stream.progress.tolist, self.stopping),
        )

    def count(self, batch: Batch) -> None:
        """Count a batch's unreadable clips and keep the state of its readers. Raises ValueError as `BatchDataModule.count` does."""
        super().count(batch)
        self.readers.update(batch.readers)
        self.streamed = added([self.streamed, batch.streamed])

    def data_card(self) -> dict[str, Any]:
        """Return hours, split and sources with licences; hours and clips of sources without an index are those of the first pass so far.

        The mapping is updated whenever the state is saved.
        """
        return self.card

    def pass_line(self) -> str:
        """Return a sentence on the number of shards read in sequence, and of readers."""
        ranks = self.rank_and_ranks()[1]
        readers = ranks * max(1, min(self.config.workers, self.config.batch_size // ranks))
        bare = sum(len(listed.shards) for listed in self.lists if not listed.index)
        return f"shards read in sequence: {len(self.stream.shards)} ({bare} without an index); readers: {readers}"

    def order_card(self) -> dict[str, Any]:
        """Return as plain data everything that determines the order of the clips."""
        values = {f"data.{key}": getattr(self.config, key) for key in ORDER_KEYS}
        return {"seed": self.seed, "the number of ranks": self.rank_and_ranks()[1], **values, "data.shards": fingerprint(self.lists)}

    def position(self, batches: int) -> dict[str, Any]:
        """Return the state, including that of all ranks' readers and the clips streamed so far. All ranks must call it."""
        readers, streamed = dict(self.readers), dict(self.streamed)
        if dist.is_available() and dist.is_initialized():
            parts: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(parts, (self.readers, self.streamed))
            readers = {number: state for part, _ in parts for number, state in part.items()}
            streamed = added(part for _, part in parts)
        self.fill_card(streamed)
        kept = {number: list(counts) for number, counts in streamed.items()}
        return {**super().position(batches), "readers": readers, "streamed": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume after the batches trained on so far. Raises ValueError when the order would differ."""
        self.check_order(state)
        rank, ranks = self.rank_and_ranks()
        share = len(state["readers"]) // ranks
        self.readers = {int(number): reader for number, reader in state["readers"].items() if int(number) // share == rank}
        if rank == 0:  # which adds what the other ranks stream from now on
            self.streamed = {int(number): (int(clips), float(seconds)) for number, (clips, seconds) in state["streamed"].items()}
        self.unreadable.load(state)

    def fill_card(self, streamed: dict[int, tuple[int, float]]) -> None:
        """Update the data card with the clips and seconds streamed from each entry of data.shards."""
        sources: list[dict[str, Any]] = []
        for number, listed in enumerate(self.lists):
            sources += _sources(listed, *streamed.get(number, (0, 0.0)))
        self.card["hours"] = sum(source["hours"] for source in sources)
        self.card["split"] = ", ".join(sorted({listed.split for listed in self.lists}))
        self.card["sources"] = each_once(sources)


def _sources(listed: ShardList, clips: int, seconds: float) -> list[dict[str, Any]]:
    if listed.index:
        return [asdict(source) for source in listed.index.sources]
    return [asdict(SourceRecord(listed.name, listed.license, round(seconds / 3600, 6), clips, listed.not_test))]


def added(parts: Any) -> dict[int, tuple[int, float]]:
    """Return clips and seconds of each entry of data.shards, summed over parts."""
    total: dict[int, tuple[int, float]] = {}
    for number, (clips, seconds) in (item for part in parts for item in part.items()):
        before = total.get(number, (0, 0.0))
        total[number] = (before[0] + clips, before[1] + seconds)
    return total


def data_module(config: DataConfig, sample_rate: int, seed: int) -> ShardDataModule | StreamDataModule:
    """Return the data module for data.shards; if an entry has no index, all entries are read in sequence.

    Raises ValueError as the two classes do.
    """
    unindexed = [entry for entry in config.shards if is_unindexed(entry)]
    if unindexed:
        return StreamDataModule(config, sample_rate, seed, unindexed)
    return ShardDataModule(config, sample_rate, seed)
