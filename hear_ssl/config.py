"""The configuration of a run: dataclass defaults <- YAML file <- `key=value` arguments.

The dataclasses are the whole truth: type, default, unit, meaning and range of every key stand beside it. An unknown
key, a wrong type or a value out of range raises ValueError with the nearest valid name.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hear_ssl.runtime.settings import EmbedderConfig, option


@dataclass(frozen=True)
class DataConfig:
    """Where the shards are and how clips become crops."""

    shards: list[str] = option([], "folders of packed shards (each with index.json)")
    batch_size: int = option(64, "clips in a batch, over all ranks together", "clips", 2, 1048576)
    crops: int = option(2, "crops cut from each clip", "crops", 1, 16)
    crop_seconds: float = option(2.08, "length of a crop", "s", 0.05, 60.0)
    workers: int = option(1, "decoding processes per rank; 0 decodes in the training process", "processes", 0, 256)
    positives: str = option("crops", "the two views: two crops of a clip, or a doppelgänger pair", choices=("crops", "doppelgaenger"))
    max_lost_fraction: float = option(0.01, "a run ends when more than this share of the clips read was lost", "share", 0.0, 1.0)


@dataclass(frozen=True)
class ViewsConfig:
    """Augmentations; each is off at 0."""

    gain_db: float = option(6.0, "waveform: random gain, uniform within plus and minus", "dB", 0.0, 60.0)
    polarity: float = option(0.5, "waveform: chance of a sign flip", "probability", 0.0, 1.0)
    noise_std: float = option(0.001, "waveform: white noise added to the second view", "full scale", 0.0, 1.0)
    mixup: float = option(0.2, "spectrogram: largest share of an earlier input mixed in (log-mixup-exp)", "share", 0.0, 1.0)
    mixup_memory: int = option(512, "spectrogram: earlier inputs kept for mixup", "clips", 1, 65536)
    time_masks: int = option(1, "spectrogram: masks over time", "masks", 0, 16)
    time_mask_frames: int = option(20, "spectrogram: longest time mask", "frames", 0, 100000)
    frequency_masks: int = option(1, "spectrogram: masks over frequency", "masks", 0, 16)
    frequency_mask_bands: int = option(8, "spectrogram: widest frequency mask", "mel bands", 0, 1024)


@dataclass(frozen=True)
class ObjectiveConfig:
    """What the encoder learns by: a sum of terms, each with its weight."""

    nt_xent: float = option(1.0, "weight of NT-Xent (SimCLR)", "weight", 0.0)
    temperature: float = option(0.1, "temperature of the softmax over similarities", "cosine", 1e-3, 10.0)
    projection_dim: int = option(256, "width of the projection", "dimensions", 2, 65536)
    hidden_dim: int = option(1024, "width of the projection head's hidden layer", "dimensions", 2, 65536)
