"""The options of the data: the shards to read, and the crops to cut from clips."""

from __future__ import annotations

from dataclasses import dataclass

from hear_ssl.model.options import option


@dataclass(frozen=True)
class CropConfig:
    """Crops of one length, cut from each clip."""

    seconds: float = option(2.08, "length of a crop", "s", 0.05, 60.0)
    count: int = option(2, "crops of this length", "crops", 1, 64)


@dataclass(frozen=True)
class DataConfig:
    """The shards to read, and how crops are cut from clips."""

    shards: list[str] = option(
        [],
        "folders of shards, their http(s)://, s3://, gs:// or hf:// addresses, some shards of one, such as"
        " FOLDER/train-{000000..000007}.tar, or commands that print a shard, pipe:COMMAND. Shards without index.json are read in sequence",
    )
    weights: list[float] = option(
        [], "share of each entry of shards in a batch, such as [3,1]; empty: every clip of all entries once per pass"
    )
    window_shards: int = option(0, "shards that are shuffled together, for data larger than the cache; 0: all", "shards", 0)
    cache: str = option("~/.cache/hear_ssl/shards", "folder for downloaded shards")
    cache_gb: float = option(0.0, "largest size of the cache; two windows of data.window_shards must fit; 0: no limit", "GB", 0.0)
    batch_size: int = option(64, "clips in a batch, over all ranks together", "clips", 2, 1048576)
    crops: list[CropConfig] = option(
        [CropConfig()],
        "crops cut from each clip, with length and number, such as [{seconds: 4, count: 2}, {seconds: 1, count: 4}]",
    )
    workers: int = option(1, "decoding processes per rank; 0 decodes in the training process", "processes", 0, 256)
    worker_timeout: float = option(
        600.0,
        "a run ends when a decoding process delivers nothing for so long, downloads excepted; 0: never",
        "s",
        0.0,
    )
    positives: str = option(
        "crops",
        "crops: views of a clip are positives; pairs: views of the two clips of a pair, where the shards name pairs",
        choices=("crops", "pairs"),
    )
    license: list[str] = option(
        [], "shards without an index: licence of the audio (SPDX, such as CC-BY-4.0), one for all such entries of shards or one for each"
    )
    split: list[str] = option(["train"], "shards without an index: split of the audio, one for all such entries or one for each")
    not_test: list[str] = option([], "shards without an index: sources that are not test data although a name in their address suggests it")
    audio: str = option("", "shards without an index: suffix of the audio member, such as mic1.flac, where a sample has several")
    shuffle_mb: float = option(256.0, "shards without an index: encoded clips that each rank holds to shuffle them", "MB", 1.0, 1e6)
    interleave: int = option(32, "shards without an index: shards that each rank reads from at once", "shards", 1, 4096)
    stream_cache: str = option("", "shards without an index: folder where those of an address are kept; empty: no copy on disk")
    max_lost_fraction: float = option(0.01, "a run ends when more than this share of the clips cannot be read", "share", 0.0, 1.0)
