"""Log-mel statistics as a HEAR module: the baseline for trained models.

Scene: mean, standard deviation and maximum over time of 64 log-mel bands. Timestamps: five neighbouring frames, 20 ms
apart, every 20 ms. The module follows the HEAR API, so the official kit can run it by its name.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_ssl.model.frontend import LogMel
from hear_ssl.model.options import FrontendConfig

CONTEXT_FRAMES = 5
HOP_FRAMES = 2


class LogMelStatistics(nn.Module):
    """The baseline; it has no weights."""

    def __init__(self, config: FrontendConfig) -> None:
        super().__init__()
        self.frontend = LogMel(config, time_stride=1)
        self.hop_samples = HOP_FRAMES * config.hop_length
        self.sample_rate = config.sample_rate
        self.scene_embedding_size = 3 * config.n_mels
        self.timestamp_embedding_size = CONTEXT_FRAMES * config.n_mels


def load_model(model_file_path: str = "") -> LogMelStatistics:
    """Return the baseline at 16 kHz; it has no weights file."""
    return LogMelStatistics(FrontendConfig())


def get_scene_embeddings(audio: Tensor, model: LogMelStatistics) -> Tensor:
    """Return (n_sounds, 3 * n_mels) of audio (n_sounds, n_samples)."""
    with torch.no_grad():
        features = model.frontend(audio)  # (batch, n_mels, frames)
        return torch.cat([features.mean(2), features.std(2, unbiased=False), features.amax(2)], 1)


def get_timestamp_embeddings(audio: Tensor, model: LogMelStatistics) -> tuple[Tensor, Tensor]:
    """Return (n_sounds, n_timestamps, 5 * n_mels) and the centres in ms of audio (n_sounds, n_samples)."""
    with torch.no_grad():
        features = model.frontend(audio)[:, :, ::HOP_FRAMES]  # (batch, n_mels, n_timestamps)
        reach = CONTEXT_FRAMES // 2
        padded = F.pad(features, (reach, reach), mode="replicate" if features.shape[2] > 1 else "constant")
        count = features.shape[2]
        stacked = torch.cat([padded[:, :, shift : shift + count] for shift in range(CONTEXT_FRAMES)], 1)
        ticks = torch.arange(count, dtype=torch.float64) * model.hop_samples * 1000.0 / model.sample_rate
        return stacked.transpose(1, 2).contiguous(), ticks.float().to(audio.device).expand(audio.shape[0], -1).contiguous()
