"""The embedder: frontend, encoder and pooling; what training optimises and what the wheel ships.

Long clips run through the encoder in chunks with as many frames to either side as a token can see, so that the result
equals that of the whole clip and memory does not grow with its length.
"""

from __future__ import annotations

from typing import Iterator, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .embedder_config import EmbedderConfig
from .encoders import build_encoder
from .frontend import LogMel
from .options import CompositionConfig
from .pooling import TimePool, exact, parse_pooling
from .reduction import Reduction

GPU_BATCH = 16  # times as many frames at once as on a CPU
BANDS_AT_ONCE = 64  # of exact sums over the timestamps of a long clip


class Embedder(nn.Module):
    """Waveforms in, scene and timestamp embeddings out.

    sample_rate (Hz), scene_embedding_size and timestamp_embedding_size are the attributes that the HEAR API asks for.
    """

    sample_rate: int
    scene_embedding_size: int
    timestamp_embedding_size: int

    def __init__(self, config: EmbedderConfig) -> None:
        """Build with random weights. Raises ValueError when frontend, encoder and composition do not fit together."""
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config.encoder, config.frontend.n_mels, config.beside)
        self.frontend = LogMel(config.frontend, self.encoder.time_stride)
        self.sample_rate = config.frontend.sample_rate
        if self.encoder.time_stride % config.timestamp.per_token:
            raise ValueError(
                f"timestamp.per_token is {config.timestamp.per_token}; it must divide the {self.encoder.time_stride} frames of a token"
            )
        self.raw_begin = self._width(config.timestamp) * (1 + len(config.timestamp.contexts_ms))
        self.scene_reduction = _reduction(config.scene, self.scene_parts())
        self.timestamp_reduction = _reduction(config.timestamp, self.timestamp_parts())
        self.scene_embedding_size = [sum(self.scene_parts()), *config.scene.reduction][-1]
        self.timestamp_embedding_size = [sum(self.timestamp_parts()), *config.timestamp.reduction][-1]

    def scene_parts(self) -> List[int]:
        """Return the widths of what a scene embedding is made of: for each group of the pooling every layer, the last by tower; bands."""
        scene = self.config.scene
        bands = [3 * self.config.frontend.n_mels] if scene.raw_mel else []
        return len(parse_pooling(scene.pooling)) * self._layer_widths(scene) + bands

    def timestamp_parts(self) -> List[int]:
        """Return the widths of what a timestamp is made of: tokens as in a scene, their means over contexts_ms, its bands, those around."""
        timestamp, n_mels = self.config.timestamp, self.config.frontend.n_mels
        frames = [self.encoder.time_stride * n_mels] if timestamp.raw_mel else []
        around = [len(self._windows()) * n_mels] if timestamp.around_ms else []
        return self._layer_widths(timestamp) * (1 + len(timestamp.contexts_ms)) + frames + around

    @property
    def hop_samples(self) -> int:
        """Samples between two timestamps."""
        return self.encoder.time_stride * self.config.frontend.hop_length // self.config.timestamp.per_token

    def _layer_widths(self, composition: CompositionConfig) -> List[int]:
        dims, widths, towers = list(self.encoder.layer_dims), list(self.encoder.tower_dims), composition.towers
        if towers > len(widths):
            given = f"scene.towers or timestamp.towers is {towers}; the encoder has {len(widths)}"
            raise ValueError(f"{given}: give at most that, or 0 for all")
        last = widths[: towers or None]
        if composition.layers == "mean":
            dims[-1] = sum(last)
            if len(set(dims)) > 1:
                raise ValueError(f"layers: mean needs layers of one width; these are {', '.join(map(str, dims))} wide: use concat or last")
            return dims[-1:]
        return [*(dims[:-1] if composition.layers == "concat" else []), *last]

    def _width(self, composition: CompositionConfig) -> int:
        return sum(self._layer_widths(composition))

    def _windows(self) -> List[Tuple[int, int]]:
        """Return timestamp.around_ms as first and last timestamp of each window, counted from one's own: before, after, by distance.

        Raises ValueError when a window would have no timestamp, or there are no bands to average.
        """
        timestamp, hop_ms = self.config.timestamp, self.hop_samples * 1000.0 / self.config.frontend.sample_rate
        if timestamp.around_ms and not timestamp.raw_mel:
            raise ValueError("timestamp.around_ms averages the raw bands of other timestamps; it needs timestamp.raw_mel=true")
        windows, near = [], 0
        for distance in timestamp.around_ms:
            far = round(distance / hop_ms)
            if far <= near:
                given = list(timestamp.around_ms)
                raise ValueError(f"timestamp.around_ms is {given}; it must rise by at least the {hop_ms:g} ms between two timestamps")
            windows += [(-far, -near - 1), (near + 1, far)]
            near = far
        return windows

    def chunks(self, waveform: Tensor, begin: int = 0, towers: int = 0) -> Iterator[Tuple[int, List[Tensor], Tensor]]:
        """Yield (first token, tokens of every layer, features) of consecutive chunks of waveforms (batch, time), from frame `begin` on.

        The last layer has the tokens of the first so many `towers`, or of all with 0.
        """
        stride, halo = self.encoder.time_stride, self.encoder.halo(towers)
        end = self.frontend.token_count(waveform.shape[-1] - begin * self.config.frontend.hop_length) * stride
        step = self._chunk_length(end)
        for start in range(0, end, step):
            stop = min(start + step, end)
            first, last = max(start - halo, 0), min(stop + halo, end)
            features = self.frontend(waveform, begin + first, last - first)
            core = slice((start - first) // stride, (stop - first) // stride)
            layers = self.encoder(features, count=towers) if 0 < towers < len(self.encoder.tower_dims) else self.encoder(features)
            tokens = [layer[:, core].float() for layer in layers]
            yield start // stride, tokens, features[:, :, start - first : stop - first]

    def _chunk_length(self, frames: int) -> int:
        """Return the frames of a chunk: equal ones of about chunk_frames, so that no short rest is encoded with a long halo."""
        stride = self.encoder.time_stride
        pieces = max(1, round(frames / max(self.config.chunk_frames, stride)))
        return self.encoder.chunk_frames or -(-frames // (pieces * stride)) * stride

    def forward(self, waveform: Tensor) -> Tensor:
        """Return scene embeddings (batch, scene_embedding_size) of waveforms (batch, time): what torch.export takes."""
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
        scene = self.config.scene
        pool, mel_pool = TimePool(scene.pooling), TimePool("mean,std,max")
        for _, tokens, features in self.chunks(waveform, towers=scene.towers):
            pool.add(chosen_layers(tokens, scene.layers))
            if scene.raw_mel:
                mel_pool.add([features.transpose(1, 2)])
        embeddings = torch.cat([pool.result(), mel_pool.result()], -1) if scene.raw_mel else pool.result()
        return embeddings if self.scene_reduction is None else self.scene_reduction(embeddings)

    def timestamps(self, waveform: Tensor) -> Tuple[Tensor, Tensor]:
        """Return embeddings (batch, timestamps, timestamp_embedding_size) and their centres in ms (batch, timestamps).

        Timestamp j is centred on sample j * hop_samples; the last one is less than a hop from the end of the clip. With
        timestamp.per_token tokens of the clip from later frames on lie between the clip's own.
        """
        count, per_token = waveform.shape[-1] // self.hop_samples + 1, self.config.timestamp.per_token
        embeddings = waveform.new_empty((waveform.shape[0], count, self.timestamp_embedding_size), dtype=torch.float32)
        row = 0
        for rows in self._row_slices(waveform):
            given = embeddings[row : row + rows.shape[0]]
            own = given if self.timestamp_reduction is None else given.new_empty((*given.shape[:2], sum(self.timestamp_parts())))
            for place in range(min(per_token, count)):
                self._fill_timestamps(rows, own[:, place::per_token], place * self.encoder.time_stride // per_token)
            self._fill_contexts(own)
            self._fill_around(own)
            if self.timestamp_reduction is not None:
                given.copy_(self.timestamp_reduction(own))
            row += rows.shape[0]
        ticks = torch.arange(count, dtype=torch.float64) * self.hop_samples * 1000.0 / self.sample_rate
        return embeddings, ticks.float().to(waveform.device).expand(waveform.shape[0], -1).contiguous()

    def _fill_timestamps(self, waveform: Tensor, embeddings: Tensor, begin: int) -> None:
        composition, stride = self.config.timestamp, self.encoder.time_stride
        for first, tokens, features in self.chunks(waveform, begin, composition.towers):
            layers = chosen_layers(tokens, composition.layers)
            rows = embeddings[:, first : first + layers[0].shape[1]]
            begin_dim = 0
            for layer in layers:
                rows[:, :, begin_dim : begin_dim + layer.shape[-1]] = layer
                begin_dim += layer.shape[-1]
            if composition.raw_mel:
                frames = features.reshape(*features.shape[:2], -1, stride)  # (batch, n_mels, tokens, stride)
                rows[:, :, self.raw_begin : self.raw_begin + stride * features.shape[1]] = frames.permute(0, 2, 3, 1).flatten(2)

    def _fill_contexts(self, embeddings: Tensor) -> None:
        width = self._width(self.config.timestamp)
        for index, context_ms in enumerate(self.config.timestamp.contexts_ms, start=1):
            reach = int(context_ms * self.sample_rate / (2000.0 * self.hop_samples))
            for start in range(0, width, 256):
                stop = min(start + 256, width)
                block = embeddings[:, :, start:stop].transpose(1, 2)
                mean = F.avg_pool1d(block, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False)
                embeddings[:, :, index * width + start : index * width + stop] = mean.transpose(1, 2)

    def _fill_around(self, embeddings: Tensor) -> None:
        """Fill in mean bands of the windows before and after; at the ends of a clip of what it has of them, at least its outermost."""
        windows = self._windows()
        if not windows:
            return
        batch, count, _ = embeddings.shape
        n_mels, stride = self.config.frontend.n_mels, self.encoder.time_stride
        raw_end = self.raw_begin + stride * n_mels
        raw = embeddings[:, :, self.raw_begin : raw_end].view(batch, count, stride, n_mels)
        around = embeddings[:, :, raw_end:].view(batch, count, len(windows), n_mels)
        for start in range(0, n_mels, BANDS_AT_ONCE):
            bands = slice(start, start + BANDS_AT_ONCE)
            sums = F.pad(exact(raw[..., bands].mean(2)).cumsum(1), (0, 0, 1, 0))  # (batch, 1 + timestamps, bands)
            places = torch.arange(count, device=sums.device)
            for index, (first, last) in enumerate(windows):
                begin, end = (places + first).clamp(0, count - 1), (places + last).clamp(0, count - 1) + 1
                means = (sums[:, end] - sums[:, begin]) / (end - begin).unsqueeze(1)
                around[:, :, index, bands] = means.float().to(around.device)


def chosen_layers(layers: List[Tensor], mode: str) -> List[Tensor]:
    """Return the last layer's tokens, those of all layers, or their mean; each (batch, tokens, dim)."""
    if mode == "concat":
        return layers
    return [torch.stack(layers).mean(0) if mode == "mean" else layers[-1]]


def _reduction(composition: CompositionConfig, parts: List[int]) -> Optional[Reduction]:
    *ranks, numbers = composition.reduction or (0,)
    return Reduction(parts, ranks, numbers) if numbers else None
