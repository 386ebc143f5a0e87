"""The configuration of a run: dataclass defaults <- YAML file <- `key=value` arguments.

The dataclasses are the whole truth: type, default, unit, meaning and range of every key stand beside it. An unknown
key, a wrong type or a value out of range raises ValueError with the nearest valid name.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields, is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import ListConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from hear_ssl import __version__
from hear_ssl.data.options import DataConfig
from hear_ssl.errors import nearest
from hear_ssl.model.options import EmbedderConfig, check_ranges, option
from hear_ssl.objectives.options import ObjectiveConfig
from hear_ssl.views.options import ViewsConfig

VERSION_LINE = "# hear_ssl "  # begins the config.yaml of a run; the version follows


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up and cosine decay over the whole run."""

    learning_rate: float = option(1e-3, "highest learning rate", "", 0.0, 100.0)
    final_learning_rate: float = option(1e-5, "learning rate at the last step", "", 0.0, 100.0)
    warmup_steps: int = option(200, "steps of linear warm-up", "steps", 0)
    weight_decay: float = option(0.01, "AdamW's decay; biases and norms are left out", "", 0.0, 100.0)
    beta1: float = option(0.9, "AdamW's first moment", "", 0.0, 0.99999)
    beta2: float = option(0.98, "AdamW's second moment", "", 0.0, 0.99999)
    clip_norm: float = option(5.0, "gradients longer than this are scaled down; 0 turns clipping off", "L2 norm", 0.0)
    frozen: list[str] = option(
        [], "parts of the encoder that keep their random weights, such as convolutions (BatchNorm statistics still adapt)"
    )
    teacher_momentum: float = option(0.99, "EMA teacher (MoCo v3, BYOL): momentum at the first step, rising to 1 by cosine", "", 0.0, 1.0)


@dataclass(frozen=True)
class TrainerConfig:
    """How long, how precise, how often it saves."""

    steps: int = option(2000, "optimizer steps of the whole run", "steps", 1, 10**9)
    precision: str = option(
        "auto", "arithmetic of the encoder; losses are always float32; auto follows `performance`", choices=("32", "bf16", "auto")
    )
    log_every: int = option(20, "a row in metrics.csv and a progress line", "steps", 1)
    checkpoint_every: int = option(500, "a numbered checkpoint; the last one is kept beside them", "steps", 1)
    keep_checkpoints: int = option(
        0, "numbered checkpoints kept, the newest ones; the best probe's and those of trainer.keep_every stay too; 0: all", "checkpoints", 0
    )
    keep_every: int = option(0, "with trainer.keep_checkpoints: those at multiples of so many steps are kept for good; 0: none", "steps", 0)
    accelerator: str = option("auto", "where it runs", choices=("auto", "cpu", "gpu"))
    devices: int = option(1, "processes on this machine, one per GPU", "processes", 1, 1024)
    nodes: int = option(1, "machines", "machines", 1, 4096)
    threads: int = option(0, "CPU threads of the training process; 0 leaves one core to each worker", "threads", 0, 1024)
    sync_batch_norm: bool = option(True, "with several ranks: BatchNorm over the whole batch, so that ranks do not change the result")
    encode_rows: int = option(
        0, "views encoded at once, each again in the backward pass, for batches larger than memory; 0: all", "views", 0
    )
    collapse_rank: float = option(1.5, "the run stops when the effective rank of the embeddings stays below this; 0 never stops", "", 0.0)


@dataclass(frozen=True)
class SpeedConfig:
    """Switches beneath `performance`: null follows it, true and false overrule it."""

    allocator: bool | None = option(None, "let the C library keep freed memory between steps (glibc)")
    channels_last: bool | None = option(None, "lay convolutions out with channels last")
    explicit_attention: bool | None = option(None, "vit: attention of up to 128 tokens by plain matrix products, on the CPU")
    compile: bool | None = option(None, "torch.compile of the encoder, for fixed shapes")
    fused_optimizer: bool | None = option(None, "AdamW in one kernel")


@dataclass(frozen=True)
class ProbeConfig:
    """Scores while it trains, from a process beside it: validation clips of HEAR-format tasks, by neighbours and linearly."""

    every: int = option(0, "probe each time so many steps are done, and at the end; keeps checkpoints/best.ckpt; 0 never", "steps", 0)
    tasks: list[str] = option([], "folders of tasks in HEAR format; their test splits are not touched")
    clips: int = option(400, "most clips of a task to learn from, and as many to validate with", "clips", 2, 100000)
    seconds: float = option(800.0, "most audio of a task to learn from, and as much to validate with", "s", 1.0)


@dataclass(frozen=True)
class Config:
    """One run."""

    name: str = option("base", "name of the run")
    run: str = option("", "run folder; empty makes one under `output` from name and time")
    output: str = option("runs", "folder of run folders")
    seed: int = option(0, "weights, sample order, crops and views follow from it", "", 0, 2**31 - 1)
    data: DataConfig = field(default_factory=DataConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    embedder: EmbedderConfig = field(default_factory=EmbedderConfig)
    training_pool: str = option(
        "mean+max",
        "over time, tokens to the clip embedding that objectives compare; embedder.scene and embedder.timestamp are for probe and export",
        choices=("mean+max", "mean", "max"),
    )
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    performance: str = option(
        "exact",
        "auto: whatever is fast on this machine, bfloat16 too; exact: what keeps float32; plain: none of it",
        choices=("auto", "exact", "plain"),
    )
    speed: SpeedConfig = field(default_factory=SpeedConfig)
    profile: bool = option(False, "write where the time of a step goes to profile.csv, and a trace of three steps")
    wandb: str = option(
        "offline", "Weights & Biases: offline keeps the record in the run folder", choices=("offline", "online", "disabled")
    )


def resumed_config(run: Path, overrides: list[str]) -> Config:
    """Return the config that a run folder keeps, with `key=value` overrides on top.

    Raises ValueError when it is not a run folder, or one of version 0.1.0, and for what `load_config` raises.
    """
    path = run / "config.yaml"
    if not path.is_file():
        raise ValueError(f"{run} is not a run folder: it has no config.yaml; give the folder that fit.py printed")
    with open(path, "rb") as file:
        if not file.readline().startswith(VERSION_LINE.encode()):
            raise ValueError(of_old_version(run))
    return load_config(path, overrides)


def of_old_version(run: Path) -> str:
    """Return the error for a run of version 0.1.0 that is asked to resume."""
    return (
        f"{run} was trained by hear_ssl 0.1.0, this is {__version__}: it can be evaluated and packaged, but only version 0.1.0 resumes it;"
        " start a new run instead"
    )


def load_config(path: str | Path | None, overrides: list[str]) -> Config:
    """Return the Config of a YAML file (none: the defaults) with `key=value` overrides on top.

    Raises ValueError with one line for a file that is missing or not YAML, an unknown key, a wrong type, a value out of
    range.
    """
    merged = OmegaConf.structured(Config)
    if path is not None:
        merged = _merge(merged, _read_yaml(Path(path)), str(path))
    for override in overrides:
        merged = _merge(merged, _parse_override(override), override)
    try:
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:  # a reference such as ${name} that leads nowhere
        raise ValueError(f"{path}: {' '.join(str(error).split())[:160]}") from None
    assert isinstance(config, Config)
    if config.embedder.beside:
        raise ValueError(
            "embedder.beside is what examples/reference/combine.py writes; leave it out, and train every tower in a run of its own"
        )
    for key in config_keys():
        value = attrgetter(key)(config)
        if isinstance(value, (list, tuple)) and any(isinstance(element, (list, dict)) for element in value):
            raise ValueError(f"{key} is {value}; give a plain list, such as {key}=[a,b]")
    check_ranges(config)
    return config


def config_keys(kind: type = Config, prefix: str = "") -> dict[str, tuple[type, Field[Any]]]:
    """Return every dotted key of the config with its type and its dataclass field."""
    hints, keys = get_type_hints(kind), {}
    for item in fields(kind):
        if is_dataclass(hints[item.name]):
            keys.update(config_keys(hints[item.name], f"{prefix}{item.name}."))
        else:
            keys[prefix + item.name] = (hints[item.name], item)
    return keys


def _read_yaml(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"config {path} does not exist; give the path of a YAML file such as configs/base.yaml")
    try:
        return OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError, RecursionError) as error:
        raise ValueError(f"config {path} is not YAML: {' '.join(str(error).split())[:120]}") from None


def _parse_override(override: str) -> Any:
    key, equals, _ = override.partition("=")
    if not equals or not key:
        raise ValueError(f"{override!r} is not of the form key=value, such as trainer.steps=100")
    hint = config_keys().get(key, (None,))[0]
    try:
        parsed = OmegaConf.from_dotlist([override])
        value = OmegaConf.select(parsed, key)
        if hint and value is None and type(None) not in get_args(hint):
            raise ValueError(f"{override!r} gives no value; leave {key} out for its default")
        if get_origin(hint) in (list, tuple) and not isinstance(value, ListConfig):
            OmegaConf.update(parsed, key, [value])
    except (YAMLError, OmegaConfBaseException, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"{override[:200]!r} cannot be read ({reason}); put a value that is plain text in quotes of its own") from None
    return parsed


def _merge(config: Any, changes: Any, where: str) -> Any:
    try:
        return OmegaConf.unsafe_merge(config, changes)  # copies neither; both are ours
    except ConfigKeyError as error:
        key = error.full_key or str(error.key)
        raise ValueError(f"{where}: there is no config key {key!r}{_nearest_key(key)}; fit.py --help lists them all") from None
    except (OmegaConfBaseException, TypeError) as error:
        key = getattr(error, "full_key", None) or "a group of keys cannot be one value, nor a list hold keys"
        raise ValueError(f"{where}: {key}: {str(error).splitlines()[0]}") from None


def _nearest_key(key: str) -> str:
    known = list(config_keys())
    same_leaf = [name for name in known if name.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    return f" (did you mean {same_leaf[0]!r}?)" if same_leaf else nearest(key, known)
