"""The options of the views."""

from __future__ import annotations

from dataclasses import dataclass

from hear_ssl.model.options import option


@dataclass(frozen=True)
class ViewsConfig:
    """Augmentations; each is off at 0."""

    gain_db: float = option(6.0, "waveform: random gain, uniform within plus and minus", "dB", 0.0, 60.0)
    polarity: float = option(0.5, "waveform: chance of a sign flip", "probability", 0.0, 1.0)
    noise_std: float = option(0.001, "waveform: white noise added to the second view", "full scale", 0.0, 1.0)
    mixup: float = option(0.2, "spectrogram: largest share of an earlier input mixed in (log-mixup-exp)", "share", 0.0, 1.0)
    mixup_memory: int = option(512, "spectrogram: earlier inputs kept for mixup", "clips", 1, 65536)
    crop_time: float = option(0.0, "spectrogram: random resize crop, largest change of the time scale", "share", 0.0, 0.9)
    crop_frequency: float = option(0.0, "spectrogram: random resize crop, largest change of the frequency scale", "share", 0.0, 0.9)
    fader: float = option(0.0, "spectrogram: random linear fader, largest slope of the level over the crop", "ln power", 0.0, 20.0)
    time_masks: int = option(1, "spectrogram: masks over time", "masks", 0, 16)
    time_mask_frames: int = option(20, "spectrogram: longest time mask", "frames", 0, 100000)
    frequency_masks: int = option(1, "spectrogram: masks over frequency", "masks", 0, 16)
    frequency_mask_bands: int = option(8, "spectrogram: widest frequency mask", "mel bands", 0, 1024)
    drop_time: float = option(0.0, "share of the token times dropped from the first view (AudioMosaic: 0.6)", "share", 0.0, 0.95)
    drop_frequency: float = option(0.0, "share of the mel bands dropped from the second view (AudioMosaic: 0.4)", "share", 0.0, 0.95)
    keep: float = option(
        1.0, "share of the time steps that training encodes, drawn for each view; the encoder must be able to drop", "share", 0.01, 1.0
    )
