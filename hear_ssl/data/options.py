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
        "folders of shards, their http(s)://, s3://, gs:// or hf:// addresses, some of one's shards: FOLDER/train-{000000..000007}.tar,"
        " or commands that write a shard: pipe:COMMAND. Shards without index.json are read in sequence",
    )
    weights: list[float] = option([], "share of a batch for each entry of shards; empty: every clip of all entries once per pass")
    window_shards: int = option(0, "shards shuffled together, for data larger than the cache; 0: all together", "shards", 0)
    cache: str = option("~/.cache/hear_ssl/shards", "folder for downloaded shards")
    cache_gb: float = option(0.0, "size limit of the cache, in which two windows must fit; 0: no limit", "GB", 0.0)
    batch_size: int = option(64, "clips in a batch, over all ranks", "clips", 2, 1048576)
    crops: list[CropConfig] = option(
        [CropConfig()],
        "crops cut from each clip, with length and number, such as [{seconds: 4, count: 2}, {seconds: 1, count: 4}]",
    )
    workers: int = option(1, "decoding processes per rank; 0 decodes in the training process", "processes", 0, 256)
    worker_timeout: float = option(
        600.0,
        "end the run when a decoding process is stopped, or returns no batch while no shard is downloading, for this long; 0: never",
        "s",
        0.0,
    )
    positives: str = option(
        "crops",
        "crops of one clip (crops), or alternately of the two clips of a pair if the shards name one (pairs)",
        choices=("crops", "pairs"),
    )
    license: list[str] = option(
        [], "shards without an index: licence of the audio (SPDX, such as CC-BY-4.0), one for all such entries of shards or one for each"
    )
    split: list[str] = option(["train"], "shards without an index: split of the audio, one for all such entries or one for each")
    not_test: list[str] = option([], "shards without an index: sources that are not test data although a name in their address suggests it")
    audio: str = option("", "shards without an index: suffix of the audio member, such as mic1.flac, if a sample has several")
    shuffle_mb: float = option(256.0, "shards without an index: buffer of encoded clips to shuffle, per rank", "MB", 1.0, 1e6)
    interleave: int = option(32, "shards without an index: shards that each rank reads at once", "shards", 1, 4096)
    stream_cache: str = option("", "shards without an index: folder for downloaded shards; empty: no copies on disk")
    max_lost_fraction: float = option(0.01, "end the run when more than this share of the clips read was unreadable", "share", 0.0, 1.0)
