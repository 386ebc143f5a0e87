"""The training step: crops -> views -> features -> tokens -> embedding -> objective, as a LightningModule.

All random numbers of a step are derived from (seed, step, rank) or from the seeds in the batch, so a resumed run draws the same
numbers as an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from hear_ssl.data.stream.batch import Batch
from hear_ssl.model.embedder import Embedder
from hear_ssl.model.options import to_mapping
from hear_ssl.objectives.ema import frozen_copy, update_ema
from hear_ssl.objectives.encoded import Encoded
from hear_ssl.objectives.weighted_sum import build_objective
from hear_ssl.old_versions import VERSION_KEY
from hear_ssl.training.average import average_weights, decay_at
from hear_ssl.training.delayed_scalar import DelayedScalar
from hear_ssl.training.encode_views import by_shape, encode_views
from hear_ssl.training.initial_model import InitialModel, joined_card
from hear_ssl.training.requirements import views_used
from hear_ssl.training.schedule import learning_rate_factor, parameter_groups
from hear_ssl.training.settings import Config
from hear_ssl.training.step_timer import StepTimer
from hear_ssl.version import __version__
from hear_ssl.views.views import Views


class PretrainingModule(pl.LightningModule):
    """An embedder in training. Only `embedder` is exported; views, objective and teacher are not."""

    def __init__(self, config: Config, data_card: dict[str, Any] | None = None) -> None:
        """Build from the config; every checkpoint contains data_card (sources, licences, hours)."""
        super().__init__()
        self.config = config
        self.own_card = data_card or {}
        self.initial: dict[str, Any] = {}  # of the model that the run started from, see InitialModel.record
        self.embedder = Embedder(config.embedder)
        freeze(self.embedder.encoder, config.optimizer.frozen)
        dim, stride = self.embedder.encoder.layer_dims[-1], self.embedder.encoder.time_stride
        token_hop_ms = 1000.0 * stride * config.frontend.hop_length / self.embedder.sample_rate
        self.objective = build_objective(config.objective, dim, token_hop_ms)
        self.teacher = frozen_copy(self.embedder.encoder) if "teacher" in self.objective.required else None
        self.ema = frozen_copy(self.embedder.encoder) if config.trainer.ema else None  # in a checkpoint as `ema.` and the encoder's names
        samples = [round(crops.seconds * config.frontend.sample_rate) for crops in config.data.crops for _ in range(crops.count)]
        frames = [self.embedder.frontend.token_count(time) * stride for time in samples]
        self.views = Views(config.views[: views_used(config)], config.frontend, samples, frames)
        self.last_clip: Tensor | None = None
        self.step_metrics: dict[str, Tensor] = {}
        self.fused_optimizer = False
        self.step_timer = StepTimer()
        self.delayed_loss = DelayedScalar()
        self.rates: Callable[[float], dict[str, float]] = lambda steps_per_second: {}  # columns of metrics.csv, as Throughput.columns

    @property
    def data_card(self) -> dict[str, Any]:
        """Sources, licences and hours of the encoder's training data, in this run and before it."""
        return joined_card(self.own_card, self.initial.get("data_card") or {})

    def start_from(self, model: InitialModel) -> None:
        """Load a trained encoder, also into teacher and average. Raises ValueError when a tensor is missing or of another shape."""
        for encoder in (self.embedder.encoder, self.teacher, self.ema):
            if encoder is not None:
                try:
                    encoder.load_state_dict(model.tensors)
                except RuntimeError as error:
                    raise ValueError(f"init={model.name} does not fit the encoder: {' '.join(str(error).split())[:200]}") from None
        self.initial = model.record()

    def forward(self, waveform: Tensor) -> Tensor:
        """Return scene embeddings (batch, scene_embedding_size) of waveforms (batch, time)."""
        return self.embedder.scene(waveform)

    def features(self, batch: Batch) -> tuple[list[Tensor], Tensor | None]:
        """Return the augmented features of each view (batch, n_mels, frames).

        If an objective needs it, the last features are those of the first view shifted in pitch; also return the semitones (batch,).
        """
        with self.step_timer("views"):
            waveforms = self.views.waveforms(batch.crops(), batch.seeds)
        with self.step_timer("features"):
            plain = by_shape(self.embedder.frontend, waveforms)
        with self.step_timer("views"):
            views = self.views.spectrograms(plain, batch.seeds)
            if "pitch_shift" not in self.objective.required:
                return views, None
            shifted, shift = self.views.pitch_shifted(views[0], batch.seeds, self.objective.semitones)
            return [*views, shifted], shift

    def encode(
        self,
        features: list[Tensor],
        kept: list[Tensor | None] | None = None,
        pitch_shift: Tensor | None = None,
        rows: int | None = None,
    ) -> Encoded:
        """Encode views from their features (batch, n_mels, frames) and return them; with pitch_shift the last is the shifted first view.

        kept: the time steps of each view to encode (batch, k), all by default. rows: views encoded at once, trainer.encode_rows by
        default, 0 for all.
        """
        views = len(features) - (pitch_shift is not None)
        steps: list[Tensor | None] = kept or [None] * views
        rows, pool = self.config.trainer.encode_rows if rows is None else rows, self.config.training_pool
        shifted = [steps[0]] * (len(features) - views)  # compared with the first view, token by token
        found = encode_views(self.embedder.encoder, features, [*steps, *shifted], rows, pool)
        encoded = Encoded(clip=found.clip[:views], tokens=found.leading[:views], view_tokens=found.tokens[:views])
        leading = [one for one in steps[: len(found.leading)] if one is not None]
        encoded.kept = torch.stack(leading) if leading else None
        if pitch_shift is not None:
            encoded.shifted_tokens, encoded.pitch_shift = found.tokens[views], pitch_shift
        if self.teacher is not None:
            with torch.no_grad():
                taught = encode_views(self.teacher, features[: min(2, views)], [None] * min(2, views), 0, pool)
            encoded.teacher_clip, encoded.teacher_tokens = taught.clip, taught.leading
        return encoded

    def compile_parts(self, backend: str = "inductor") -> None:
        """Compile encoder and teacher for the shapes of training. Views are not compiled: inductor overflows the int64 of their hash."""
        for part in (self.embedder.encoder, self.teacher):
            if part is not None:
                part.compile(dynamic=False, backend=backend)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        with torch.no_grad():
            features, pitch_shift = self.features(batch)
            steps = [view.shape[-1] // self.embedder.encoder.time_stride for view in features[: len(self.views.crops)]]
            kept = self.views.kept(batch.seeds, steps)
        with self.step_timer("forward"):
            encoded = self.encode(features, kept, pitch_shift)
        with self.step_timer("loss"):
            loss: Tensor = self.objective(encoded)
        self.last_clip = encoded.clip.detach()
        self.step_metrics = {"loss": loss.detach(), **self.objective.metrics}
        check_finite(self.delayed_loss.swap(loss.detach(), self.global_step))
        return loss

    def check_loss(self) -> None:
        """Raise ValueError when the last loss was not finite; called before a checkpoint is saved, since a GPU reports it a step late."""
        check_finite(self.delayed_loss.take())

    def on_train_start(self) -> None:
        """Apply this config's optimizer settings, since loading a checkpoint restores earlier ones."""
        options, rate = self.config.optimizer, self.config.optimizer.learning_rate
        optimizer, schedule = self.trainer.optimizers[0], self.trainer.lr_scheduler_configs[0].scheduler
        assert isinstance(schedule, LambdaLR)
        schedule.base_lrs = [rate] * len(optimizer.param_groups)
        share = learning_rate_factor(schedule.last_epoch, self.config.trainer.steps, options)
        for group, own in zip(optimizer.param_groups, parameter_groups(self, options.weight_decay), strict=True):
            group.update(lr=rate * share, initial_lr=rate, weight_decay=own["weight_decay"], betas=(options.beta1, options.beta2))
            group["fused"] = self.fused_optimizer or None
            for parameter in group["params"]:
                if "step" in optimizer.state[parameter]:
                    optimizer.state[parameter]["step"] = optimizer.state[parameter]["step"].to(
                        parameter.device if group["fused"] else "cpu"
                    )

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Start timing the copy to the device."""
        self.step_timer.begin("copy")
        return batch

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Stop timing the copy to the device."""
        self.step_timer.end("copy")
        return batch

    def on_before_backward(self, loss: Tensor) -> None:
        """Start timing the backward pass."""
        self.step_timer.begin("backward")

    def on_after_backward(self) -> None:
        """Stop timing the backward pass and start timing the optimizer."""
        self.step_timer.end("backward")
        self.step_timer.begin("optimizer")

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the global generators, which dropout uses, by the step, so that a resumed run draws the same numbers."""
        torch.manual_seed((self.config.seed * 1_000_003 + self.global_step) * 4099 + self.global_rank)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Step the optimizer, then update the EMA teacher and the averaged weights, before a checkpoint of this step is written."""
        super().optimizer_step(*arguments, **options)
        if self.ema is not None:
            average_weights(self.ema, self.embedder.encoder, decay_at(self.global_step + 1, self.config.trainer.ema))
        if self.teacher is not None:
            progress = self.global_step / self.config.trainer.steps
            momentum = 1.0 - (1.0 - self.config.optimizer.teacher_momentum) * (math.cos(math.pi * progress) + 1.0) / 2.0
            update_ema(self.teacher, self.embedder.encoder, momentum)
            self.objective.update_teacher(momentum)
        self.step_timer.end("optimizer")

    def configure_optimizers(self) -> Any:
        """Return AdamW over all trained parameters, and its schedule per step."""
        options = self.config.optimizer
        optimizer = torch.optim.AdamW(
            parameter_groups(self, options.weight_decay),
            lr=options.learning_rate,
            betas=(options.beta1, options.beta2),
            fused=self.fused_optimizer or None,
        )
        schedule = LambdaLR(optimizer, lambda step: learning_rate_factor(step, self.config.trainer.steps, options))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip gradients to clip_norm and keep their norm for the metrics; also works with fused optimizers."""
        limit = self.config.optimizer.clip_norm or math.inf
        self.step_metrics["gradient_norm"] = nn.utils.clip_grad_norm_(self.parameters(), limit)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the config as a plain dict, the data card and the version, which export needs."""
        checkpoint[VERSION_KEY] = __version__
        checkpoint["config"] = to_mapping(self.config)
        checkpoint["parts"] = self.config.own_parts()
        checkpoint["data_card"] = self.data_card
        if self.initial:
            checkpoint["initial"] = self.initial


def check_finite(due: tuple[float, int] | None) -> None:
    """Raise ValueError when the loss of a step (value, step) is not finite."""
    if due is not None and not math.isfinite(due[0]):
        raise ValueError(f"the loss is {due[0]} at step {due[1]}; lower optimizer.learning_rate or set trainer.precision=32")


def freeze(encoder: nn.Module, parts: list[str]) -> None:
    """Exclude the encoder's parts of these names from training. Raises ValueError when there is no such part."""
    known = [name for name, _ in encoder.named_children()]
    for part in parts:
        if part not in known:
            raise ValueError(f"optimizer.frozen names {part!r}; this encoder has the parts {', '.join(known)}")
        encoder.get_submodule(part).requires_grad_(False)
