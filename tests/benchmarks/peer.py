"""Compare a common training loop with ours on the same shards: python -m tests.benchmarks.peer SHARDS

The common loop ("peer"): webdataset with its defaults and a shuffle buffer of 1,000, whole clips decoded by soundfile and cut to two
crops, views and log-mel (torchaudio) computed per sample in the dataset, PyTorch Lightning in float32, torch's defaults. Ours: the same
crops, views, encoder, head, loss and optimizer with PretrainingModule and ShardDataModule and performance=auto. Both are without mixup,
whose memory has no per-sample form. Each runs in a separate process without workers; rates are clips per CPU-second, measured
alternately.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hear_ssl.training.config import Config, load_config
from hear_ssl.training.speed import Machine, choose, cpu_bfloat16, keep_memory

BATCH, WARM_UP = 64, 1
VIEWS = "views=[{augment: [gain, polarity, time_masks]}, {augment: [gain, polarity, noise, time_masks]}]"
OPTIONS = ["objective.nt_xent.weight=1", "data.workers=0", "trainer.threads=1", "trainer.accelerator=cpu", VIEWS]


def trainer(steps: int, precision: str, times: list[float]) -> Any:
    """Return a Lightning Trainer that records the CPU time after every step."""
    import pytorch_lightning as pl

    class Times(pl.Callback):
        def on_train_batch_end(self, *_: object) -> None:
            times.append(time.process_time())

    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(accelerator="cpu", max_steps=steps, precision=precision, callbacks=[Times()], **quiet)  # type: ignore[arg-type]


def ours(config: Config, steps: int, times: list[float]) -> None:
    """Train with our data module, module and optimisations."""
    choices = choose(config, Machine("cpu", 1, cpu_bfloat16()))
    if choices.allocator:
        keep_memory()
    from hear_ssl.training.datamodule import ShardDataModule
    from hear_ssl.training.module import PretrainingModule
    from hear_ssl.training.trainer import apply

    module = PretrainingModule(config)
    apply(choices, module)
    precision = "bf16-mixed" if choices.precision == "bf16" else "32-true"
    trainer(steps, precision, times).fit(module, datamodule=ShardDataModule(config.data, 16000, 0))


def peer(config: Config, steps: int, times: list[float]) -> None:
    """Train with the common loop."""
    import numpy as np
    import pytorch_lightning as pl
    import soundfile
    import torch
    import torchaudio
    import webdataset

    from hear_ssl.training.module import PretrainingModule

    ours = PretrainingModule(config)  # the same weights, head and views; only their parts are called below
    frontend, length = config.frontend, round(config.data.crops[0].seconds * 16000)
    mel = torchaudio.transforms.MelSpectrogram(
        16000, frontend.n_fft, frontend.win_length, frontend.hop_length, frontend.f_min, frontend.f_max, n_mels=frontend.n_mels
    )

    def two_views(sample: dict[str, Any]) -> torch.Tensor:
        waveform, _ = soundfile.read(io.BytesIO(sample["flac"]), dtype="float32")
        waveform = np.pad(waveform, (0, max(0, length - len(waveform))))
        starts = [np.random.randint(len(waveform) - length + 1) for _ in range(2)]
        crops = [torch.from_numpy(waveform[start : start + length]).unsqueeze(0) for start in starts]
        seed = torch.randint(2**62, (1,))
        views = torch.cat(ours.views.waveforms(crops, seed))
        log_mel = (torch.log(mel(views) + frontend.log_offset) - frontend.mean) / frontend.std
        return torch.cat(ours.views.spectrograms(list(log_mel[:, None, :, :208]), seed))  # (2, n_mels, frames)

    class Plain(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.objective = ours.embedder.encoder, ours.objective

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            features = batch[0].transpose(0, 1)  # (2, batch, n_mels, frames)
            from hear_ssl.model.pooling import pool_tokens
            from hear_ssl.objectives.encoded import Encoded

            clip = pool_tokens(self.encoder(features.flatten(0, 1))[-1]).reshape(2, len(batch[0]), -1)

            loss: torch.Tensor = self.objective(Encoded(clip=clip, tokens=clip.unsqueeze(2)))
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    urls = sorted(str(path) for path in Path(config.data.shards[0]).glob("*.tar"))
    dataset = (
        webdataset.WebDataset(urls, shardshuffle=100).shuffle(1000, initial=200).map(lambda sample: (two_views(sample),)).batched(BATCH)
    )
    trainer(steps, "32-true", times).fit(Plain(), webdataset.WebLoader(dataset, batch_size=None, num_workers=0))


def main() -> None:
    """Print both rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        import torch

        torch.set_num_threads(1)
        performance = "plain" if arguments.side == "peer" else "auto"
        config = load_config(None, [f"data.shards={arguments.shards}", f"performance={performance}", *OPTIONS])
        times: list[float] = []
        {"peer": peer, "ours": ours}[arguments.side](config, arguments.steps + WARM_UP, times)
        print(json.dumps(BATCH * arguments.steps / (times[-1] - times[WARM_UP - 1])))
        return
    rates: dict[str, list[float]] = {"peer": [], "ours": []}
    for _ in range(arguments.rounds):
        for name, values in rates.items():
            command = [sys.executable, "-W", "ignore", __file__, arguments.shards, "--side", name, "--steps", str(arguments.steps)]
            values.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]))
    print("| | clips per CPU-second, median (range) |\n|---|---|")
    for name, values in rates.items():
        print(f"| {name} | {statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f}) |")
    print(f"| ratio | {statistics.median(b / a for a, b in zip(rates['peer'], rates['ours'], strict=True)):.2f} |")


if __name__ == "__main__":
    main()
