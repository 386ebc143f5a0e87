"""The embedder as one ONNX graph: waveforms to embeddings without chunks, in operations that every ONNX runtime has.

The Fourier transform is a convolution with windowed cosines and sines, since runtimes in browsers have no STFT. A clip is encoded as
a whole; where an encoder cuts long clips into windows, all full windows are one batch and the last one another. Unlike in the
package, memory grows with the length of the clip.
"""

from __future__ import annotations

import math
from copy import deepcopy
from typing import List, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .embedder import Embedder
from .encoders import Encoder
from .encoders.audio_ntt import ConvolutionBlock
from .encoders.vit import Attention
from .frontend import LogMel
from .pooling import exact
from .readouts import Around, Chunk, Concatenated, Contexts, Frames, Linear, Readout, Tokens
from .readouts.bands import frames_of

KINDS = ("scene", "timestamp")


class Graph(nn.Module):
    """Map waveforms (batch, time) to scene embeddings (batch, width) and timestamp embeddings (batch, timestamps, width) with their ms.

    kinds: which of scene and timestamp embeddings to return.
    """

    def __init__(self, model: Embedder, kinds: Tuple[str, ...] = KINDS) -> None:
        """Build from a model in evaluation mode. Raises ValueError when its encoder has both windows and halo frames."""
        super().__init__()
        encoder = deepcopy(model.encoder)
        encoder.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        if encoder.chunk_frames and encoder.halo_frames:
            raise ValueError(
                f"the encoder {type(encoder).__name__} cuts clips into windows with frames to either side, which the ONNX graph does not"
                f" have; its chunk_frames is {encoder.chunk_frames}, its halo_frames {encoder.halo_frames}: one of them must be 0"
            )
        self.kinds, self.encoder, self.per_token = kinds, encoder, model.config.timestamps_per_token
        self.frontend = Transform(model.frontend)
        self.readouts = nn.ModuleDict({kind: getattr(model, f"{kind}_readout") for kind in kinds})
        self.widths = {"scene": model.scene_embedding_size, "timestamp": model.timestamp_embedding_size}
        self.hop_samples, self.hop_ms = model.hop_samples, model.hop_samples * 1000.0 / model.sample_rate
        for module in encoder.modules():
            if isinstance(module, Attention):
                module.explicit_tokens = -1  # one graph for any number of tokens
            elif isinstance(module, ConvolutionBlock):
                module.slices = False

    def forward(self, waveform: Tensor) -> Tuple[Tensor, ...]:
        """Return the scene embeddings, or the timestamp embeddings and their centres in ms (batch, timestamps), or all three."""
        layers, features = self.encode(waveform, 0)
        batch, count = waveform.shape[0], waveform.shape[1] // self.hop_samples + 1
        found: List[Tensor] = []
        if "scene" in self.kinds:
            chunk = Chunk(layers, features, slice(0, layers[0].shape[1], 1))
            found.append(embedding(self.readouts["scene"], chunk, (batch, self.widths["scene"])))
        if "timestamp" in self.kinds:
            layers, features = self.between_tokens(waveform, layers, features, count)
            chunk = Chunk(layers, features, slice(0, count, 1))
            found.append(embedding(self.readouts["timestamp"], chunk, (batch, count, self.widths["timestamp"])))
            ticks = torch.arange(count, dtype=torch.float64) * self.hop_ms
            found.append(ticks.float().expand(batch, -1))
        return tuple(found)

    def encode(self, waveform: Tensor, place: int) -> Tuple[List[Tensor], Tensor]:
        """Return the tokens of every layer and the features of a clip, starting at timestamp `place` of the first token hop."""
        features = self.frontend(waveform, place * self.encoder.time_stride // self.per_token)
        window = self.encoder.chunk_frames
        layers = in_windows(self.encoder, features, window) if window else self.encoder(features)
        return [layer.float() for layer in layers], features

    def between_tokens(self, waveform: Tensor, layers: List[Tensor], features: Tensor, count: int) -> Tuple[List[Tensor], Tensor]:
        """Return the tokens and features of all timestamps in order; each timestamp of a token hop is encoded in a pass of its own."""
        if self.per_token == 1:
            return layers, features
        stride = self.encoder.time_stride
        places = [(layers, features), *(self.encode(waveform, place) for place in range(1, self.per_token))]
        rows, first = [], 0
        for own, _ in places:  # the rows of each pass are contiguous
            rows.append(first)
            first = first + own[0].shape[1]
        tokens = torch.arange(layers[0].shape[1])
        order = torch.stack([tokens + row for row in rows], 1).flatten()[:count]  # the row of each timestamp
        merged = [torch.cat(parts, 1).index_select(1, order) for parts in zip(*(own for own, _ in places))]
        frames = torch.cat([own.reshape(*own.shape[:2], -1, stride) for _, own in places], 2).index_select(2, order)
        return merged, frames.flatten(2)


class Transform(nn.Module):
    """The features of a `LogMel`, by convolutions with the rows of its Fourier transforms that its bands use."""

    def __init__(self, frontend: LogMel) -> None:
        super().__init__()
        config = self.config = frontend.config
        self.hop_length, self.time_stride, self.lead = config.hop_length, frontend.time_stride, frontend.lead
        self.rest = max(0, self.time_stride * config.hop_length + config.n_fft - self.lead)  # the latest end of the last frame
        self.margins: List[int] = []
        for length, first_bin in frontend.groups or [(config.n_fft, 0)]:
            name = str(length) if frontend.groups else ""
            window, filters = getattr(frontend, f"window{name}"), getattr(frontend, f"filters{name}")
            used = filters.sum(1).nonzero().flatten()
            low, high = int(used[0]), int(used[-1]) + 1
            place = len(self.margins)
            self.register_buffer(f"basis{place}", fourier_basis(window, first_bin + low, first_bin + high))
            self.register_buffer(f"filters{place}", filters[low:high].T.unsqueeze(2).contiguous())
            self.margins.append((config.n_fft - length) // 2)

    def forward(self, waveform: Tensor, first: int) -> Tensor:
        """Return features (batch, n_mels, frames) of waveforms (batch, time) from frame `first` on, for whole tokens."""
        skipped = first * self.hop_length
        tokens = torch.sym_max((waveform.shape[1] - skipped) // (self.time_stride * self.hop_length) + 1, 1)  # type: ignore[no-untyped-call]
        padded = F.pad(waveform, (self.lead, self.rest + skipped)).unsqueeze(1)[:, :, skipped:]  # (batch, 1, time)
        power = []
        for place, margin in enumerate(self.margins):
            basis, filters = getattr(self, f"basis{place}"), getattr(self, f"filters{place}")
            spectrum = F.conv1d(padded[:, :, margin:], basis, stride=self.hop_length)[:, :, : tokens * self.time_stride]
            bins, squares = basis.shape[0] // 2, spectrum.square()
            power.append(F.conv1d(squares[:, :bins] + squares[:, bins:], filters))  # (batch, bands, frames)
        return (torch.log(torch.cat(power, 1) + self.config.log_offset) - self.config.mean) / self.config.std


def fourier_basis(window: Tensor, first: int, stop: int) -> Tensor:
    """Return windowed cosines, then sines (2 * bins, 1, length), of the bins from `first` to before `stop`."""
    length = window.shape[0]
    turns = torch.outer(torch.arange(first, stop), torch.arange(length)) % length  # integers remove whole periods exactly
    angles = turns.double() * (2.0 * math.pi / length)
    return (torch.cat([angles.cos(), angles.sin()]) * window.double()).float().unsqueeze(1)


def in_windows(encoder: Encoder, features: Tensor, window: int) -> List[Tensor]:
    """Return the tokens of features encoded in windows of `window` frames; the last one has 1 to `window`."""
    batch, n_mels, frames = features.shape
    whole = (frames - 1) // window
    cut = whole * window
    full = features[:, :, :cut].reshape(batch, n_mels, whole, window).transpose(1, 2).reshape(batch * whole, n_mels, window)
    layers = []
    for first, last in zip(encoder(full), encoder(features[:, :, cut:])):
        layers.append(torch.cat([first.reshape(batch, whole * (window // encoder.time_stride), last.shape[2]), last], 1))
    return layers


def embedding(readout: nn.Module, chunk: Chunk, shape: Tuple[int, ...]) -> Tensor:
    """Return a readout's embedding of whole clips; `shape` is (batch, width) for scenes, (batch, timestamps, width) for timestamps."""
    if isinstance(readout, Concatenated):
        parts = [embedding(part, chunk, (*shape[:-1], part.width)) for part in readout.readouts]  # type: ignore[arg-type]
        return torch.cat(parts, -1)
    if isinstance(readout, Linear):
        mapped: Tensor = readout.map(embedding(readout.before, chunk, (*shape[:-1], readout.before.width)))
        return mapped
    if isinstance(readout, Tokens):
        return torch.cat(readout.layers.of(chunk.layers), -1)
    if isinstance(readout, Frames):
        return frames_of(chunk.features, readout.time_stride).flatten(2)
    if isinstance(readout, Contexts):
        return contexts(readout, torch.cat(readout.layers.of(chunk.layers), -1))
    if isinstance(readout, Around):
        return around(readout, frames_of(chunk.features, readout.time_stride).mean(2))
    assert isinstance(readout, Readout)
    state = readout.start(chunk.features.new_empty(shape))
    readout.add(state, chunk)
    return readout.result(state)


def contexts(readout: Contexts, tokens: Tensor) -> Tensor:
    """Return the means (batch, timestamps, windows * width) of tokens (batch, timestamps, width), as `Contexts.result` does."""
    rows = tokens.transpose(1, 2)
    means = [F.avg_pool1d(rows, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False) for reach in readout.reaches]
    return torch.cat(means, 1).transpose(1, 2)


def around(readout: Around, bands: Tensor) -> Tensor:
    """Return the means (batch, timestamps, windows * n_mels) of bands (batch, timestamps, n_mels), as `Around.result` does."""
    count = bands.shape[1]
    sums = F.pad(exact(bands).cumsum(1), (0, 0, 1, 0))
    places, means = torch.arange(count), []
    for first, last in readout.windows:
        begin, end = (places + first).clamp(0, count - 1), (places + last).clamp(0, count - 1) + 1
        means.append(((sums.index_select(1, end) - sums.index_select(1, begin)) / (end - begin).unsqueeze(1)).float())
    return torch.cat(means, -1)
