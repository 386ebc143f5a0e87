"""Mean and covariance of embeddings over clips of packed shards, gathered in a file so that a long pass goes on where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hear_ssl.checkpoint import load_tensors, save_tensors
from hear_ssl.model.embedder import Embedder
from hear_ssl.training.datamodule import ShardDataModule

CLIPS_AT_ONCE = 16
TIMESTAMPS = 16  # of a clip
BATCHES_AT_ONCE = 16  # between two lines of progress
BATCHES_TO_SAVE = 64  # a multiple of those: a file of a gigabyte takes seconds


class Moments:
    """Mean and covariance of all rows added so far, in float64."""

    def __init__(self, width: int) -> None:
        self.count, self.total, self.products = 0, torch.zeros(width).double(), torch.zeros(width, width).double()
        self.near: Tensor | None = None  # the first rows' mean: products of what is near 0 stay exact

    def add(self, rows: Tensor) -> None:
        """Take in rows (count, width)."""
        self.near = rows.mean(0) if self.near is None else self.near
        rows = rows - self.near
        self.count += len(rows)
        self.total += rows.double().sum(0)
        self.products += rows.T @ rows

    def mean(self) -> Tensor:
        """Return the mean (width,)."""
        assert self.near is not None
        return self.near + self.total / self.count

    def covariance(self) -> Tensor:
        """Return the covariance (width, width)."""
        mean = self.total / self.count
        return self.products / self.count - torch.outer(mean, mean)


class Pass:
    """A pass over the first clips of a stream that gathers moments by name ("scene", "timestamp"), kept in a file until it is done."""

    def __init__(self, embedder: Embedder, data: ShardDataModule, names: list[str], file: Path, asked: dict[str, Any]) -> None:
        """Begin, or go on from `file` where it exists.

        `asked` is plain data that the moments follow from beside the order of the clips. Raises ValueError when the file is of another pass
        or damaged.
        """
        self.embedder, self.data, self.file, self.batches = embedder, data, file, 0
        sizes = {"scene": embedder.scene_embedding_size, "timestamp": embedder.timestamp_embedding_size}
        self.moments = {name: Moments(sizes[name]) for name in names}
        self.asked = {**asked, "names": sorted(names), "order": data.order_card(), "seconds": data.config.crops[0].seconds}
        if file.exists():
            self._load()

    def _load(self) -> None:
        mend = "remove it to begin anew"
        try:
            state = load_tensors(self.file)
            asked, self.batches, losses = state["asked"], int(state["batches"]), state["losses"]
            kept = {name: {key: values[key] for key in vars(Moments(0))} for name, values in state["moments"].items()}
        except Exception as error:  # what a damaged file raises is not documented
            raise ValueError(f"{self.file}, where a fit was stopped, is damaged: {mend}") from error
        if asked != self.asked:
            raise ValueError(f"{self.file} is of a stopped fit to other clips or of another checkpoint: {mend}, or give another --out")
        self.data.unreadable.load(losses)
        for name, moments in self.moments.items():
            vars(moments).update(kept[name])
        print(f"going on behind the {self.batches * CLIPS_AT_ONCE} clips of {self.file}", flush=True)

    def _save(self) -> None:
        state = {
            "asked": self.asked,
            "batches": self.batches,
            "losses": self.data.unreadable.state(),
            "moments": {name: vars(moments) for name, moments in self.moments.items()},
        }
        save_tensors(state, self.file)

    @torch.inference_mode()
    def run(self, clips: int) -> dict[str, Moments]:
        """Return the moments over so many clips; shows progress.

        Raises ValueError when the file has more clips already, or more of them were lost than the data allows.
        """
        if self.batches * CLIPS_AT_ONCE > clips:
            raise ValueError(f"{self.file} has {self.batches * CLIPS_AT_ONCE} clips already; give --clips of at least that, or remove it")
        rows: dict[str, list[Tensor]] = {name: [] for name in self.moments}
        batches = -(-clips // CLIPS_AT_ONCE)
        while self.batches < batches:
            batch = self.data.stream.batch(self.batches)
            self.data.count(batch)
            for clip in batch.waveform[: clips - self.batches * CLIPS_AT_ONCE, 0]:
                self._embed(unpadded(clip)[None], rows)
            self.batches += 1
            if self.batches % BATCHES_AT_ONCE == 0 or self.batches == batches:
                for name, gathered in rows.items():
                    self.moments[name].add(torch.cat(gathered))
                    gathered.clear()
                print(f"{min(clips, self.batches * CLIPS_AT_ONCE)} of {clips} clips", flush=True)
                if self.batches % BATCHES_TO_SAVE == 0 and self.batches < batches:
                    self._save()
        return self.moments

    def _embed(self, audio: Tensor, rows: dict[str, list[Tensor]]) -> None:
        if "scene" in rows:
            rows["scene"].append(self.embedder.scene(audio))
        if "timestamp" in rows:
            embeddings = self.embedder.timestamps(audio)[0][0]
            rows["timestamp"].append(embeddings[:: max(1, len(embeddings) // TIMESTAMPS)])


def unpadded(clip: Tensor) -> Tensor:
    """Return a clip (time,) without the zeros before and after its sound, which the stream lays around one shorter than asked for."""
    sound = clip.nonzero().flatten()
    return clip[int(sound[0]) : int(sound[-1]) + 1] if len(sound) else clip
