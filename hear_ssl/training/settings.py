"""The configuration of a run: every key with its type, default, unit, meaning and range.

`config.py` fills it from a YAML file and `key=value` arguments. Encoder, objectives and readouts add their own keys: the fields of the
dataclass `Options` in their classes.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from hear_ssl.data.options import DataConfig
from hear_ssl.model.options import FrontendConfig, Part, option

if TYPE_CHECKING:
    from hear_ssl.model.embedder_config import EmbedderConfig

PARTS = ("encoder", "objective")  # keys whose values are classes with their own options
LISTS = ("scene", "timestamp")  # keys whose values are lists of such classes: readouts
CLASSES = (*PARTS, *LISTS, "views")


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up and cosine decay over the whole run."""

    learning_rate: float = option(1e-3, "highest learning rate", "", 0.0, 100.0)
    final_learning_rate: float = option(1e-5, "learning rate at the last step", "", 0.0, 100.0)
    warmup_steps: int = option(200, "steps of linear warm-up", "steps", 0)
    weight_decay: float = option(0.01, "weight decay of AdamW; biases and norms have none", "", 0.0, 100.0)
    beta1: float = option(0.9, "decay of AdamW's mean of gradients", "", 0.0, 0.99999)
    beta2: float = option(0.98, "decay of AdamW's mean of squared gradients", "", 0.0, 0.99999)
    clip_norm: float = option(5.0, "gradients longer than this are scaled down; 0 turns clipping off", "L2 norm", 0.0)
    frozen: list[str] = option(
        [], "parts of the encoder that keep their random weights, such as convolutions (BatchNorm statistics still adapt)"
    )
    teacher_momentum: float = option(0.99, "EMA teacher (MoCo v3, BYOL): momentum at the first step, rising to 1 by cosine", "", 0.0, 1.0)


@dataclass(frozen=True)
class TrainerConfig:
    """Length of the run, precision, checkpoints and devices."""

    steps: int = option(2000, "optimizer steps of the whole run", "steps", 1, 10**9)
    precision: str = option(
        "auto", "arithmetic of the encoder; losses are always float32; auto follows `performance`", choices=("32", "bf16", "auto")
    )
    log_every: int = option(20, "steps between rows of metrics.csv, and between progress lines", "steps", 1)
    checkpoint_every: int = option(500, "steps between numbered checkpoints; the last step is saved too", "steps", 1)
    keep_checkpoints: int = option(
        0,
        "newest numbered checkpoints to keep; the best one by the probe and those of trainer.keep_every stay too; 0: all",
        "checkpoints",
        0,
    )
    keep_every: int = option(0, "with trainer.keep_checkpoints: checkpoints at multiples of this are never deleted; 0: none", "steps", 0)
    accelerator: str = option("auto", "device of the training; auto takes a GPU when there is one", choices=("auto", "cpu", "gpu"))
    devices: int = option(1, "processes on this machine, one per GPU", "processes", 1, 1024)
    nodes: int = option(1, "machines of the run", "machines", 1, 4096)
    threads: int = option(0, "CPU threads of the training process; 0 leaves one core to each worker", "threads", 0, 1024)
    sync_batch_norm: bool = option(True, "with several ranks: BatchNorm over the whole batch, so that ranks do not change the result")
    encode_rows: int = option(
        0, "views encoded at once, and again in the backward pass, for batches larger than memory; 0: all", "views", 0
    )
    ema: float = option(
        0.0,
        "decay per step of an exponential moving average of the encoder's weights, such as 0.9999, smaller in the first steps; probe,"
        " best.ckpt and export use the average; 0: no average",
        "",
        0.0,
        0.9999999,
    )
    collapse_rank: float = option(1.5, "stop the run when the effective rank of the embeddings stays below this; 0: never", "", 0.0)


@dataclass(frozen=True)
class SpeedConfig:
    """Single switches of `performance`: null follows it, true and false override it."""

    allocator: bool | None = option(None, "let the C library keep freed memory between steps (glibc)")
    channels_last: bool | None = option(None, "memory layout of convolutions with the channels last")
    explicit_attention: bool | None = option(None, "encoder vit on a CPU: attention over up to 128 tokens by plain matrix products")
    compile: bool | None = option(None, "torch.compile of the encoder, for fixed shapes")
    fused_optimizer: bool | None = option(None, "AdamW in one kernel")


@dataclass(frozen=True)
class ProbeConfig:
    """Scores during training, in a separate process: nearest neighbours and a linear classifier on HEAR-format tasks."""

    every: int = option(
        0,
        "steps between probes; the last step is probed too; the best checkpoint is kept as checkpoints/best.ckpt; 0: no probe",
        "steps",
        0,
    )
    tasks: list[str] = option([], "folders of tasks in HEAR format; their test splits are not read")
    device: str = option("auto", "device: auto (a GPU when there is one), cpu, cuda, cuda:1 or mps")
    clips: int = option(400, "clips of a task to learn from, at most, and as many to validate on", "clips", 2, 100000)
    seconds: float = option(800.0, "audio of a task to learn from, at most, and as much to validate on", "s", 1.0)


@dataclass(frozen=True)
class Config:
    """One run.

    views (ViewConfigs) are crops with augmentations, encoder is a network, objective the terms of the loss by name, and scene and
    timestamp are the readouts of embeddings in order. They are None or empty until they are read, which needs torch.
    """

    name: str = option("base", "name of the run")
    run: str = option("", "run folder; empty: a new one in `output`, called by name and time")
    output: str = option("runs", "folder of run folders")
    init: str = option(
        "",
        "model whose encoder the run starts from: a run, a checkpoint (its moving average of weights when trainer.ema kept one), the name"
        " of an installed wheel, or an address of weights; empty: random weights",
    )
    seed: int = option(0, "random seed of the weights, the sample order, the crops and the views", "", 0, 2**31 - 1)
    data: DataConfig = field(default_factory=DataConfig)
    views: tuple[Any, ...] = field(default=(), metadata={"omegaconf_ignore": True})
    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    encoder: Part = field(default=None, metadata={"omegaconf_ignore": True})  # type: ignore[assignment]
    objective: dict[str, Part] = field(default_factory=dict, metadata={"omegaconf_ignore": True})
    training_pool: str = option(
        "mean+max",
        "pooling of tokens over time into the clip embedding that objectives compare; probe and export use scene and timestamp",
        choices=("mean+max", "mean", "max"),
    )
    scene: tuple[Part, ...] = field(default=(), metadata={"omegaconf_ignore": True})
    timestamp: tuple[Part, ...] = field(default=(), metadata={"omegaconf_ignore": True})
    timestamps_per_token: int = option(
        1, "timestamps for each token, evenly spaced; the audio is encoded once for each", "timestamps", 1, 64
    )
    chunk_frames: int = option(800, "long audio is encoded in chunks of this many frames", "frames", 64, 1000000)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    performance: str = option(
        "exact",
        "auto: all that is fast on this machine, with bfloat16; exact: only what keeps float32; plain: no optimisation",
        choices=("auto", "exact", "plain"),
    )
    speed: SpeedConfig = field(default_factory=SpeedConfig)
    profile: bool = option(False, "write the time of each part of a step to profile.csv, and a trace of three steps")
    wandb: str = option("offline", "Weights & Biases; offline keeps its files in the run folder", choices=("offline", "online", "disabled"))

    @property
    def embedder(self) -> EmbedderConfig:
        """The configuration of the embedder."""
        from hear_ssl.model.embedder_config import EmbedderConfig  # loads torch

        return EmbedderConfig(self.frontend, self.encoder, self.scene, self.timestamp, self.timestamps_per_token, self.chunk_frames)

    def selected(self) -> dict[str, Part]:
        """Return the selected classes by their keys, such as encoder.audio_ntt, objective.nt_xent and scene.pooled."""
        objectives = {f"objective.{name}": part for name, part in self.objective.items()}
        augmentations = {f"augment.{part.name}": part for view in self.views for part in view.augment}
        readouts = {f"{kind}.{part.name}": part for kind in LISTS for part in getattr(self, kind)}
        return {f"encoder.{self.encoder.name}": self.encoder, **objectives, **augmentations, **readouts}

    def own_parts(self) -> dict[str, str]:
        """Return the SHA-256 of the file of each of the user's classes, by keys such as encoder.MyNet."""
        return {key: part.sha256 for key, part in self.selected().items() if part.sha256}


def settings_keys(kind: type = Config, prefix: str = "") -> dict[str, tuple[type, Field[Any]]]:
    """Return every dotted key of a settings dataclass with its type and field, without the keys of selected classes."""
    hints, keys = get_type_hints(kind), {}
    for item in fields(kind):
        if is_dataclass(hints[item.name]) and hints[item.name] is not Part:
            keys.update(settings_keys(hints[item.name], f"{prefix}{item.name}."))
        elif prefix or item.name not in CLASSES:
            keys[prefix + item.name] = (hints[item.name], item)
    return keys
