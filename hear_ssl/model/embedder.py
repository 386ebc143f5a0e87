"""The embedder: frontend, encoder and readouts; what training optimises and what the wheel ships.

Long clips are encoded in chunks, each with the frames on either side that the receptive field of its tokens covers. The result
equals that of the whole clip, and memory does not grow with the length of the clip.
"""

from __future__ import annotations

from typing import Any, Iterator, List, Tuple

import torch
from torch import Tensor, nn

from .embedder_config import EmbedderConfig
from .encoders import build_encoder
from .frontend import LogMel
from .readouts import Chunk, build_readout

GPU_BATCH = 16  # a GPU encodes this many times as many frames at once as a CPU


class Embedder(nn.Module):
    """Waveforms in, scene and timestamp embeddings out.

    sample_rate (Hz), scene_embedding_size and timestamp_embedding_size are the attributes that the HEAR API asks for.
    """

    sample_rate: int
    scene_embedding_size: int
    timestamp_embedding_size: int

    def __init__(self, config: EmbedderConfig) -> None:
        """Build with random weights. Raises ValueError when frontend, encoder and readouts do not fit together."""
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config.encoder, config.frontend.n_mels)
        self.frontend = LogMel(config.frontend, self.encoder.time_stride)
        self.sample_rate = config.frontend.sample_rate
        stride, per_token = self.encoder.time_stride, config.timestamps_per_token
        if stride % per_token:
            raise ValueError(f"timestamps_per_token is {per_token}; it must divide the {stride} frames of a token")
        offered = {
            "layer_dims": tuple(self.encoder.layer_dims),
            "layer_names": tuple(self.encoder.layer_names),
            "n_mels": config.frontend.n_mels,
            "time_stride": stride,
            "hop_samples": self.hop_samples,
            "sample_rate": self.sample_rate,
        }
        self.scene_readout = build_readout(config.scene, "scene", **offered)
        self.timestamp_readout = build_readout(config.timestamp, "timestamp", **offered)
        self.scene_readout.requires_grad_(False)  # an objective trains the encoder alone
        self.timestamp_readout.requires_grad_(False)
        self.scene_embedding_size = self.scene_readout.width
        self.timestamp_embedding_size = self.timestamp_readout.width

    @property
    def hop_samples(self) -> int:
        """Samples between two timestamps."""
        return self.encoder.time_stride * self.config.frontend.hop_length // self.config.timestamps_per_token

    def chunks(self, waveform: Tensor, begin: int = 0) -> Iterator[Tuple[int, List[Tensor], Tensor]]:
        """Yield (first token, tokens of every layer, features) of consecutive chunks of waveforms (batch, time) from frame `begin`."""
        stride, halo = self.encoder.time_stride, self.encoder.halo_frames
        end = self.frontend.token_count(waveform.shape[-1] - begin * self.config.frontend.hop_length) * stride
        step = self._chunk_length(end)
        for start in range(0, end, step):
            stop = min(start + step, end)
            first, last = max(start - halo, 0), min(stop + halo, end)
            features = self.frontend(waveform, begin + first, last - first)
            core = slice((start - first) // stride, (stop - first) // stride)
            tokens = [layer[:, core].float() for layer in self.encoder(features)]
            yield start // stride, tokens, features[:, :, start - first : stop - first]

    def _chunk_length(self, frames: int) -> int:
        """Return the frames of a chunk: chunks have equal lengths of about chunk_frames, so that none is much shorter than its halo."""
        stride = self.encoder.time_stride
        pieces = max(1, round(frames / max(self.config.chunk_frames, stride)))
        return self.encoder.chunk_frames or -(-frames // (pieces * stride)) * stride

    def forward(self, waveform: Tensor) -> Tensor:
        """Return scene embeddings (batch, scene_embedding_size) of waveforms (batch, time), for torch.export."""
        return self.scene(waveform)

    def scene(self, waveform: Tensor) -> Tensor:
        """Return scene embeddings (batch, scene_embedding_size) of waveforms (batch, time)."""
        return torch.cat([self._scene_rows(rows) for rows in self._row_slices(waveform)])

    def _row_slices(self, waveform: Tensor) -> Tuple[Tensor, ...]:
        total = self.frontend.token_count(waveform.shape[-1]) * self.encoder.time_stride
        frames = min(total, self._chunk_length(total))
        at_once = self.encoder.batch_frames * (1 if waveform.device.type == "cpu" else GPU_BATCH)
        return torch.split(waveform, max(1, at_once // frames))

    def _scene_rows(self, waveform: Tensor) -> Tensor:
        embeddings = waveform.new_empty((waveform.shape[0], self.scene_embedding_size), dtype=torch.float32)
        state = self.scene_readout.start(embeddings)
        self._read(waveform, self.scene_readout, state)
        return self.scene_readout.result(state)

    def _read(self, waveform: Tensor, readout: Any, state: Any, place: int = 0, per_token: int = 1) -> None:
        """Give a readout the chunks from timestamp `place` on; a token hop contains `per_token` timestamps."""
        for first, tokens, features in self.chunks(waveform, place * self.encoder.time_stride // per_token):
            last = first + tokens[0].shape[1]
            readout.add(state, Chunk(tokens, features, slice(place + first * per_token, place + last * per_token, per_token)))

    def timestamps(self, waveform: Tensor) -> Tuple[Tensor, Tensor]:
        """Return embeddings (batch, timestamps, timestamp_embedding_size) and their centres in ms (batch, timestamps).

        Timestamp j is centred on sample j * hop_samples; the last one is less than a hop from the end of the clip. With
        timestamps_per_token above 1, the clip is encoded again from later frames, whose tokens fill the times between tokens.
        """
        count, per_token = waveform.shape[-1] // self.hop_samples + 1, self.config.timestamps_per_token
        embeddings = waveform.new_empty((waveform.shape[0], count, self.timestamp_embedding_size), dtype=torch.float32)
        row = 0
        for rows in self._row_slices(waveform):
            own = embeddings[row : row + rows.shape[0]]
            state = self.timestamp_readout.start(own)
            for place in range(min(per_token, count)):
                self._read(rows, self.timestamp_readout, state, place, per_token)
            found = self.timestamp_readout.result(state)
            if found is not own:
                own.copy_(found)
            row += rows.shape[0]
        ticks = torch.arange(count, dtype=torch.float64) * self.hop_samples * 1000.0 / self.sample_rate
        return embeddings, ticks.float().to(waveform.device).expand(waveform.shape[0], -1).contiguous()
