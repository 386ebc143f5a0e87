"""What an embedding model is made of: the frozen dataclasses that the manifest in the wheel records.

Each field is declared with `option`, which keeps its unit, its meaning and its allowed range beside the default, so
that the training config, its help page and the manifest reader all check the same rules.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Dict, Iterator, Optional, Tuple, get_type_hints

SAMPLE_RATES = (16000, 22050, 32000, 44100, 48000)


def option(
    default: Any,
    help: str,
    unit: str = "",
    low: Optional[float] = None,
    high: Optional[float] = None,
    choices: Tuple[Any, ...] = (),
) -> Any:
    """Declare a config field and return the dataclass field.

    low and high are inclusive bounds in `unit`; a list is checked element by element.
    """
    metadata = {"help": help, "unit": unit, "low": low, "high": high, "choices": choices}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: default.copy(), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class FrontendConfig:
    """Log-mel spectrogram with fixed normalisation statistics."""

    sample_rate: int = option(16000, "rate the model expects; callers resample", "Hz", choices=SAMPLE_RATES)
    n_fft: int = option(1024, "length of the Fourier transform", "samples", 16, 65536)
    win_length: int = option(1024, "length of the Hann window, at most n_fft", "samples", 16, 65536)
    hop_length: int = option(160, "step between frames", "samples", 1, 65536)
    n_mels: int = option(64, "mel bands", "bands", 1, 1024)
    f_min: float = option(60.0, "lower edge of the lowest band", "Hz", 0.0)
    f_max: float = option(7800.0, "upper edge of the highest band, at most half the sample rate", "Hz", 1.0)
    log_offset: float = option(1e-6, "added to the mel power before the logarithm", "power", 1e-12, 1.0)
    mean: float = option(-5.0, "subtracted from the log-mel features", "ln power")
    std: float = option(4.0, "divides the log-mel features", "ln power", 1e-3)


@dataclass(frozen=True)
class EncoderConfig:
    """Network from log-mel features to tokens."""

    name: str = option("audio_ntt", "which encoder", choices=("audio_ntt",))
    channels: int = option(64, "audio_ntt: channels of the convolutions", "channels", 1, 4096)
    dim: int = option(1024, "width of the tokens", "dimensions", 1, 16384)
    dropout: float = option(0.3, "dropout inside the encoder while training", "probability", 0.0, 0.95)


@dataclass(frozen=True)
class CompositionConfig:
    """How tokens become an embedding; chosen at export, needs no retraining."""

    layers: str = option("concat", "which layers' tokens: the last, all concatenated, or their mean", choices=("last", "concat", "mean"))
    pooling: str = option("mean+max", "over time: terms joined by + are summed, groups joined by , are concatenated (mean, max, std)")


@dataclass(frozen=True)
class EmbedderConfig:
    """Frontend, encoder and compositions: all that is needed to rebuild the model beside its weights."""

    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    scene: CompositionConfig = field(default_factory=CompositionConfig)
    timestamp: CompositionConfig = field(default_factory=lambda: CompositionConfig(pooling="mean"))
    chunk_frames: int = option(800, "long audio is encoded in chunks of this many frames", "frames", 64, 1000000)
