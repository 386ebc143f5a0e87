"""XARES-LLM (https://github.com/xiaomi-research/xares-llm): timestamp embeddings as the input of a language model.

python -m xares_llm.run PACKAGE.suites.xares_llm.AudioEncoder task1 task1. Its audio is at 16 kHz.
"""

from __future__ import annotations

from typing import Any, Optional, Tuple

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ..hear import get_timestamp_embeddings
from .clips import embed_by_length, loaded

GIVEN_RATE = 16000


class AudioEncoder(nn.Module):
    """Return embeddings and a mask: 1 for embeddings of the clip, 0 for padding."""

    def __init__(self, **kwargs: Any) -> None:
        """Load the weights of this package."""
        super().__init__()
        self.model = loaded()
        self.output_dim = self.model.timestamp_embedding_size

    def forward(self, audio: Tensor, audio_attention_mask: Optional[Tensor] = None) -> Tuple[Tensor, Optional[Tensor]]:
        """Return embeddings (n_sounds, n_timestamps, output_dim) of 16 kHz audio (n_sounds, n_samples), and their mask or None.

        With a mask of the samples, each clip is embedded at its own length and its embeddings are padded with zeros.
        """
        audio = audio.to(torch.float32)
        if audio_attention_mask is None:
            return self._embed(audio), None
        lengths = audio_attention_mask.sum(dim=-1).long().tolist()
        embeddings = embed_by_length([audio[row, :length] for row, length in enumerate(lengths)], self._embed)
        mask = pad_sequence([torch.ones(len(one), dtype=torch.long, device=audio.device) for one in embeddings], batch_first=True)
        return pad_sequence(embeddings, batch_first=True), mask

    def _embed(self, audio: Tensor) -> Tensor:
        if self.model.sample_rate != GIVEN_RATE:
            audio = torchaudio.functional.resample(audio, GIVEN_RATE, self.model.sample_rate)
        return get_timestamp_embeddings(audio, self.model)[0].to(audio.device)
