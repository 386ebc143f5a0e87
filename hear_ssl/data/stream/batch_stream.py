"""The stream of batches: position -> clip -> crops; its only state is the next step.

A worker computes every `workers`-th batch of its rank and returns finished tensors. An unreadable clip is replaced by a clip drawn
by the hash of its position, so that all other positions are unchanged; the batch lists the unreadable clip.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from hear_ssl.data.options import DataConfig
from hear_ssl.data.shards.clip_offsets import Clip
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.stream.batch import Batch, UnreadableClip
from hear_ssl.data.stream.decode import Waveform, decode_into
from hear_ssl.data.stream.partners import Partners
from hear_ssl.data.stream.sample_order import MixedOrder, SampleOrder, hash_integers

REPLACEMENTS = 20


def sample_order(shards: ShardSet, config: DataConfig, seed: int) -> SampleOrder:
    """Return the order for a config. Raises ValueError when weights do not fit the sources."""
    counts = [[record.clips for record in source.index.shards] for source in shards.sources]
    if config.weights:
        return MixedOrder(counts, config.weights, seed, config.window_shards)
    return SampleOrder([count for source in counts for count in source], seed, config.window_shards)


class OrderedStream(IterableDataset[Batch]):
    """Endless batches of one rank from global step `first_step` on, of clips in a given order."""

    def __init__(self, order: SampleOrder, config: DataConfig, sample_rate: int, seed: int, rank: int = 0, ranks: int = 1) -> None:
        """Prepare the stream. Raises ValueError when ranks do not divide the batch."""
        super().__init__()
        self.order, self.config, self.sample_rate, self.seed, self.first_step = order, config, sample_rate, seed, 0
        self.share(rank, ranks)
        self.times = [round(crops.seconds * sample_rate) for crops in config.crops]
        self.read_seconds = 0.0

    def share(self, rank: int, ranks: int) -> None:
        """Select the batches of one rank. Raises ValueError when ranks do not divide the batch."""
        check_ranks(self.config.batch_size, ranks)
        self.rank, self.ranks = rank, ranks

    def __iter__(self) -> Iterator[Batch]:
        """Yield this worker's batches: steps first_step + worker, + workers, and so on."""
        worker = get_worker_info()
        step, stride = (self.first_step + worker.id, worker.num_workers) if worker else (self.first_step, 1)
        prepare = self.preparation(worker.id if worker else 0)
        while True:
            prepare(self.order.batch(step, self.config.batch_size, self.rank, self.ranks)[-1])
            yield self.batch(step)
            step += stride

    def preparation(self, worker: int) -> Callable[[int], None]:
        """Return a function that a worker calls with the last position of each batch before reading the batch."""
        return lambda position: None

    def batch(self, step: int) -> Batch:
        """Return this rank's rows of the global batch of a step."""
        began, self.read_seconds = time.perf_counter(), 0.0
        rows = self.order.batch(step, self.config.batch_size, self.rank, self.ranks)
        shapes = [(len(rows), crops.count, time) for crops, time in zip(self.config.crops, self.times, strict=True)]
        waveforms = [shared_tensor(shape) if get_worker_info() else torch.empty(shape) for shape in shapes]
        crops = [waveform.numpy() for waveform in waveforms]
        seeds: list[int] = []
        keys: list[str] = []
        lost: list[UnreadableClip] = []
        for row, position in enumerate(rows):
            place = self.order.at(position)
            seed = hash_integers(self.seed, 2, place.pass_number, place.clip)
            seeds.append(seed)
            keys.append(self._read([group[row] for group in crops], place.clip, position, seed, lost))
        seconds = {"read": self.read_seconds, "decode": time.perf_counter() - began - self.read_seconds}
        return Batch(waveforms, torch.tensor(seeds), keys, lost, seconds)

    def _read(self, crops: list[Waveform], number: int, position: int, seed: int, lost: list[UnreadableClip]) -> str:
        """Fill the crops of each length (crops, time) from a clip or a replacement; return the key of the clip that was read."""
        for attempt in range(REPLACEMENTS):
            try:
                return self.fill(crops, number, seed)
            except (ValueError, OSError) as error:
                lost.append(UnreadableClip(*self.place(number), " ".join(str(error).split())))
                number = self.order.substitute(position, hash_integers(seed, 3, attempt))
        raise ValueError(f"{REPLACEMENTS} clips in a row cannot be read; the first: {lost[-REPLACEMENTS]}")

    def fill(self, crops: list[Waveform], number: int, seed: int) -> str:
        """Fill the crops of each length (crops, time) from a clip; return its key. Raises ValueError or OSError when it cannot be read."""
        raise NotImplementedError

    def place(self, number: int) -> tuple[str, str]:
        """Return a clip's shard and key for a report."""
        raise NotImplementedError


class BatchStream(OrderedStream):
    """Batches from packed shards."""

    def __init__(self, shards: ShardSet, config: DataConfig, sample_rate: int, seed: int, rank: int = 0, ranks: int = 1) -> None:
        """Prepare the stream. Raises ValueError when ranks do not divide the batch, or pairs are configured and no source has any."""
        check_ranks(config.batch_size, ranks)
        super().__init__(sample_order(shards, config, seed), config, sample_rate, seed, rank, ranks)
        self.shards = shards
        if config.positives == "pairs" and sum(crops.count for crops in config.crops) < 2:
            raise ValueError("data.positives=pairs cuts one crop from each clip of a pair; set data.crops to two crops or more")
        self.partners = Partners(shards, config.window_shards) if config.positives == "pairs" else None

    def preparation(self, worker: int) -> Callable[[int], None]:
        """Return a function that downloads the shards of the next window in the background."""
        ahead = FetchAhead(self.shards, worker)
        return lambda position: ahead.want(self.order.upcoming(position))

    def place(self, number: int) -> tuple[str, str]:
        """Return a clip's shard and key for a report."""
        return self.shards.place(number)

    def fill(self, crops: list[Waveform], number: int, seed: int) -> str:
        """Fill the crops of each length (crops, time) and return the clip's key; try again if only the cached shard was damaged."""
        clip = self.shards.clip(number)
        try:
            self._decode(crops, clip, number, seed)
        except (ValueError, OSError):
            if not self._mend(clip, number):
                raise
            self._decode(crops, clip, number, seed)
        return clip.key

    def _mend(self, clip: Clip, number: int) -> bool:
        mended = self.shards.mend(clip)
        with suppress(ValueError, OSError):
            partner = self._partner(clip, number)
            mended = (partner is not None and self.shards.mend(partner)) or mended
        return mended

    def _partner(self, clip: Clip, number: int) -> Clip | None:
        """Return the other clip of a clip's pair; None if pairs are not configured or the clip has none."""
        partner: Any = self.shards.record(clip).get("pair") if self.partners else None
        return None if not self.partners or partner is None else self.shards.clip(self.partners.number(number, partner))

    def _decode(self, crops: list[Waveform], clip: Clip, number: int, seed: int) -> None:
        clips = [clip, *([partner] if (partner := self._partner(clip, number)) is not None else [])]
        for turn, one in enumerate(
            clips
        ):  # crops alternate between the clips of a pair, at the same relative position, so that their events match
            audio, first = self._audio(one), 0
            for group in crops:
                own = range((turn - first) % len(clips), len(group), len(clips))
                places = [first + crop - (first + crop) % len(clips) for crop in own]
                starts = [hash_integers(seed, 4, place) / 2**63 for place in places]
                decode_into(group[own.start :: len(clips)], audio, starts, self.sample_rate)
                first += len(group)

    def _audio(self, clip: Clip) -> bytes:
        began = time.perf_counter()
        content = self.shards.audio(clip)
        self.read_seconds += time.perf_counter() - began
        return content


def check_ranks(batch_size: int, ranks: int) -> None:
    """Raise ValueError when this number of ranks cannot share a batch evenly."""
    if batch_size % ranks:
        raise ValueError(f"data.batch_size is {batch_size}; it must be a multiple of the {ranks} ranks")


def shared_tensor(shape: tuple[int, ...]) -> Tensor:
    """Return an empty float32 tensor in shared memory, so that a worker's batch is not copied to the training process."""
    storage: Any = torch.UntypedStorage._new_shared(4 * math.prod(shape))  # type: ignore[no-untyped-call]
    return torch.empty(0).set_(storage, 0, shape, torch.empty(shape, device="meta").stride())


class FetchAhead:
    """Download the shards of the next window in the background, so that the stream does not wait for them.

    Each worker begins with another shard; the locks of the cache keep two workers from downloading the same one.
    """

    def __init__(self, shards: ShardSet, worker: int) -> None:
        self.shards, self.worker = shards, worker
        self.wanted: tuple[int, ...] = ()
        self.thread: threading.Thread | None = None

    def want(self, wanted: tuple[int, ...]) -> None:
        """Start to download these shards unless they were requested before."""
        if not wanted or wanted == self.wanted or (self.thread and self.thread.is_alive()):
            return
        self.wanted = wanted
        start = self.worker % len(wanted)
        self.thread = threading.Thread(target=self._fetch, args=(wanted[start:] + wanted[:start],), daemon=True)
        self.thread.start()

    def _fetch(self, wanted: tuple[int, ...]) -> None:
        for number in wanted:
            source, record = self.shards.shards[number]
            try:
                source.path(record)
            except (ValueError, OSError):
                continue  # the stream fails on it again and counts the unreadable clips
