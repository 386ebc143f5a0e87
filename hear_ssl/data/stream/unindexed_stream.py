"""Batches from shards without an index. Every worker of every rank is a reader that fills its share of the rows of each batch.

A rank joins the parts of its workers, so that a batch contains clips of all open shards. A part includes the state of its reader; with the
states of all readers a run resumes with the next batch. The order depends on the seed, the shards, and the numbers of ranks and workers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from hear_ssl.addresses import redacted
from hear_ssl.data.options import DataConfig
from hear_ssl.data.shards.unindexed import ShardList
from hear_ssl.data.stream.batch import Batch, UnreadableClip
from hear_ssl.data.stream.batch_stream import REPLACEMENTS, check_ranks, shared_tensor
from hear_ssl.data.stream.resample import decode_any_rate
from hear_ssl.data.stream.sample_order import MIX_BLOCK, apportioned, hash_integers
from hear_ssl.data.stream.shard_copies import ShardCopies
from hear_ssl.data.stream.shuffle_windows import Drawn, WindowReader
from hear_ssl.data.stream.tar_samples import Sample, read_samples
from hear_ssl.data.stream.workers import WorkerLoader
from hear_ssl.machine import keep_memory
from hear_ssl.progress import counted


class Reader:
    """One reader: draw clips of its sources by weight, and count them."""

    def __init__(self, sources: list[WindowReader], weights: list[float], seed: int) -> None:
        self.sources, self.seed, self.position = sources, seed, 0
        self.shares = apportioned(weights, MIX_BLOCK) if weights else [MIX_BLOCK]
        self.slots: tuple[int, Any] = (-1, None)

    def next_source(self) -> int:
        """Return the source of the next row."""
        if len(self.sources) == 1:
            return 0
        block, place = divmod(self.position, MIX_BLOCK)
        if self.slots[0] != block:
            slots = np.repeat(np.arange(len(self.shares)), self.shares)
            self.slots = (block, np.random.default_rng(hash_integers(self.seed, 8, block)).permutation(slots))
        self.position += 1
        return int(self.slots[1][place])

    def state(self) -> dict[str, Any]:
        """Return plain data from which `load` restores the position."""
        return {"position": self.position, "sources": [source.state() for source in self.sources]}

    def load(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self.position = int(state["position"])
        for source, saved in zip(self.sources, state["sources"], strict=True):
            source.load(saved)


class UnindexedStream(IterableDataset[Batch]):
    """Endless parts of the batches of one rank; each worker yields its own part of every batch."""

    def __init__(self, lists: list[ShardList], config: DataConfig, sample_rate: int, seed: int) -> None:
        """Prepare the stream. Raises ValueError when weights do not fit the entries, and for pairs or windows of shards."""
        super().__init__()
        if config.positives == "pairs":
            raise ValueError("data.positives=pairs needs shards with an index; make one with hear_ssl.data.reindex, or set positives=crops")
        if config.window_shards:
            raise ValueError("data.window_shards is for shards with an index; shards without one are shuffled by data.shuffle_mb")
        self.lists, self.config, self.sample_rate, self.seed = lists, config, sample_rate, seed
        self.shards = [shard for listed in lists for shard in listed.shards]
        self.list_of = [number for number, listed in enumerate(lists) for _ in listed.shards]
        check_weights(config.weights, len(lists))
        self.copies = ShardCopies(config.stream_cache) if config.stream_cache else None
        self.times = [round(crops.seconds * sample_rate) for crops in config.crops]
        self.states: dict[int, Any] = {}
        self.share(0, 1)

    def share(self, rank: int, ranks: int) -> None:
        """Select the parts of one rank. Raises ValueError when ranks do not divide the batch."""
        check_ranks(self.config.batch_size, ranks)
        self.rank, self.ranks, self.rows = rank, ranks, self.config.batch_size // ranks
        self.workers = min(self.config.workers, self.rows)
        self.parts = max(1, self.workers)
        counts = torch.zeros(self.parts, dtype=torch.int64)
        self.progress: Tensor = counts.share_memory_()  # type: ignore[no-untyped-call] # samples read, for whoever waits for a batch

    def __iter__(self) -> Iterator[Batch]:
        """Yield this worker's part of every batch, starting at the state of its reader."""
        worker = get_worker_info()
        part = worker.id if worker else 0
        if worker:
            keep_memory()  # so that the next window reuses it; in the training process `speed.allocator` decides
        number = self.rank * self.parts + part
        reader = self.reader(number, part)
        if number in self.states:
            reader.load(self.states[number])
        rows = self.rows * (part + 1) // self.parts - self.rows * part // self.parts
        while True:
            yield self.part(reader, number, rows, worker is not None)

    def reader(self, number: int, part: int = 0) -> Reader:
        """Return a reader at its start."""
        readers, config = self.ranks * self.parts, self.config
        groups = [list(range(len(self.shards)))]
        if config.weights:
            groups = [[shard for shard, of in enumerate(self.list_of) if of == place] for place in range(len(self.lists))]
        window = max(1, round(config.shuffle_mb * 1e6 / 2 / self.parts / len(groups)))  # two windows: one is used while the next is read
        interleave = max(1, config.interleave // (self.parts * len(groups)))
        sources = [
            WindowReader(len(group), self._read(group, part), hash_integers(self.seed, 11, place), number, readers, interleave, window)
            for place, group in enumerate(groups)
        ]
        self.groups = groups
        return Reader(sources, config.weights, hash_integers(self.seed, 12, number))

    def _read(self, group: list[int], part: int) -> Callable[[int], Iterator[Sample]]:
        def read(shard: int) -> Iterator[Sample]:
            url = self.shards[group[shard]]
            try:
                path = self.copies.path(url) if self.copies else url
            except (OSError, ValueError) as error:
                yield Sample("", b"", f"cannot be fetched: {error}")
                return
            for sample in read_samples(path, self.config.audio):
                self.progress[part] += 1
                yield sample

        return read

    def part(self, reader: Reader, number: int, rows: int, shared: bool) -> Batch:
        """Return the next rows of a reader, with its state after them."""
        began = time.perf_counter()
        shapes = [(rows, crops.count, samples) for crops, samples in zip(self.config.crops, self.times, strict=True)]
        waveforms = [shared_tensor(shape) if shared else torch.empty(shape) for shape in shapes]
        crops = [waveform.numpy() for waveform in waveforms]
        batch = Batch(waveforms, torch.empty(0), [])
        seeds, reading = [], 0.0
        for row in range(rows):
            source = reader.next_source()
            for _ in range(REPLACEMENTS):
                waited = time.perf_counter()
                drawn = reader.sources[source].draw()
                reading += time.perf_counter() - waited
                shard = self.groups[source][drawn.shard]
                seed = hash_integers(self.seed, 2, drawn.pass_number, shard, drawn.place)
                if self._decode([group[row] for group in crops], drawn, shard, seed, batch):
                    break
            else:
                raise ValueError(f"{REPLACEMENTS} clips in a row cannot be read; the first: {batch.lost[-REPLACEMENTS]}")
            seeds.append(seed)
            batch.keys.append(drawn.sample.key)
        batch.seeds = torch.tensor(seeds)
        batch.readers = {number: reader.state()}
        batch.seconds = {"read": reading, "decode": time.perf_counter() - began - reading}
        return batch

    def _decode(self, crops: list[Any], drawn: Drawn, shard: int, seed: int, batch: Batch) -> bool:
        """Fill the crops of each length (crops, time) and return True; record an unreadable clip in the batch and return False."""
        reason, first = drawn.sample.reason, 0
        try:
            for group in crops if not reason else ():
                starts = [hash_integers(seed, 4, first + crop) / 2**63 for crop in range(len(group))]
                seconds = decode_any_rate(group, drawn.sample.audio, starts, self.sample_rate)
                first += len(group)
        except (ValueError, OSError) as error:
            reason = " ".join(str(error).split())
        if reason:
            batch.lost.append(UnreadableClip(redacted(self.shards[shard]), drawn.sample.key or "the shard", reason))
            return False
        if drawn.pass_number == 0:  # so that every clip is counted once
            clips, total = batch.streamed.get(self.list_of[shard], (0, 0.0))
            batch.streamed[self.list_of[shard]] = (clips + 1, total + seconds)
        return True


def check_weights(weights: list[float], entries: int) -> None:
    """Raise ValueError when weights do not fit the entries of data.shards."""
    if weights and (len(weights) != entries or not all(0 < weight < float("inf") for weight in weights)):
        given = f"data.weights has {counted(len(weights), 'number')} for {counted(entries, 'source')}"
        raise ValueError(f"{given}; give a finite one above 0 for each of data.shards")
    if weights and min(apportioned(weights, MIX_BLOCK)) < 1:
        raise ValueError(f"data.weights holds one below a {MIX_BLOCK}th of the sum; leave that source out, or weigh it more")


class JoinedLoader(WorkerLoader):
    """A loader that joins the parts of all workers to batches."""

    def __init__(self, stream: UnindexedStream, **options: Any) -> None:
        super().__init__(stream, batch_size=None, num_workers=stream.workers, **options)
        self.parts = stream.parts

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Yield complete batches; see WorkerLoader."""
        parts = super().__iter__()
        for batch in zip(*[parts] * self.parts, strict=False):
            yield joined_batch(list(batch))


def joined_batch(parts: list[Batch]) -> Batch:
    """Return a batch with the rows of its parts in order, in page-locked memory if there is a GPU."""
    if len(parts) == 1:
        return parts[0].pin_memory() if torch.cuda.is_available() else parts[0]
    waveforms = []
    for group in zip(*(part.waveforms for part in parts), strict=True):
        rows = sum(len(waveform) for waveform in group)
        out = torch.empty((rows, *group[0].shape[1:]), pin_memory=torch.cuda.is_available())
        waveforms.append(torch.cat(group, out=out))
    streamed: dict[int, tuple[int, float]] = {}
    for number, (clips, seconds) in (item for part in parts for item in part.streamed.items()):
        before = streamed.get(number, (0, 0.0))
        streamed[number] = (before[0] + clips, before[1] + seconds)
    return Batch(
        waveforms,
        torch.cat([part.seeds for part in parts]),
        [key for part in parts for key in part.keys],
        [loss for part in parts for loss in part.lost],
        {name: sum(part.seconds[name] for part in parts) for name in parts[0].seconds},
        {number: state for part in parts for number, state in part.readers.items()},
        streamed,
    )
