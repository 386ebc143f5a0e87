"""Augmentations of waveforms and log-mel features; a view is a crop with a list of augmentations."""

from __future__ import annotations

from hear_ssl.model.options import option
from hear_ssl.views.background import Background, OtherClips
from hear_ssl.views.base import Augmentation, ViewConfig
from hear_ssl.views.filters import Equaliser, HighPass, LowPass, LowRate
from hear_ssl.views.masks import DropFrequency, DropTime, FrequencyMasks, Keep, TimeMasks
from hear_ssl.views.mixup import Mixup
from hear_ssl.views.resampled import PitchShift, Speed
from hear_ssl.views.reverb import Reverb
from hear_ssl.views.spectrogram import Fader, ResizeCrop
from hear_ssl.views.telephone import Telephone
from hear_ssl.views.waveform import Clipping, Gain, Noise, Polarity, TimeShift

AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "gain": Gain,
    "polarity": Polarity,
    "noise": Noise,
    "background": Background,
    "other_clips": OtherClips,
    "reverb": Reverb,
    "equaliser": Equaliser,
    "low_pass": LowPass,
    "high_pass": HighPass,
    "low_rate": LowRate,
    "telephone": Telephone,
    "clipping": Clipping,
    "speed": Speed,
    "pitch_shift": PitchShift,
    "time_shift": TimeShift,
    "mixup": Mixup,
    "resize_crop": ResizeCrop,
    "fader": Fader,
    "time_masks": TimeMasks,
    "frequency_masks": FrequencyMasks,
    "drop_time": DropTime,
    "drop_frequency": DropFrequency,
    "keep": Keep,
}

__all__ = ["AUGMENTATIONS", "Augmentation", "ViewConfig", "option"]
