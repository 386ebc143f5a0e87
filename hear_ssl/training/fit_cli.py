"""The command line of training: read and check it, then train. torch and Lightning load only once it is right."""

from __future__ import annotations

import argparse
from dataclasses import MISSING, replace
from pathlib import Path

from hear_ssl.data.stream.forkserver import start_early
from hear_ssl.training.config import config_keys, load_config, resumed_config
from hear_ssl.training.speed import Machine, choose, keep_memory


def main() -> int:
    """Parse the command line, train, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="fit.py",
        description="Train an audio encoder from shards and write a run folder with checkpoints, metrics.csv and the resolved config.",
        epilog=key_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with the keys that differ from the defaults, such as configs/base.yaml")
    parser.add_argument(
        "--resume", metavar="RUN", help="resume a stopped run: its folder, or one of its checkpoints; its own config is used"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="set a config key, such as trainer.steps=500 (all keys below)")
    arguments = parser.parse_args()
    if bool(arguments.config) == bool(arguments.resume):
        raise ValueError("give either --config FILE to start a run or --resume RUN to resume one; see fit.py --help")
    file = None
    if arguments.resume:
        run, file = resumed_run(arguments.resume)
        config = replace(resumed_config(run, arguments.overrides), run=str(run))
    else:
        config = load_config(arguments.config, arguments.overrides)
    if choose(config, Machine("cpu", 1, "")).allocator:
        keep_memory()  # before torch loads
    if config.data.workers:
        start_early()  # it imports torch while this process does
    from hear_ssl.training.trainer import fit  # torch and Lightning load only once the command line is right

    return fit(config, resume=bool(arguments.resume), resumed_file=file)


def resumed_run(given: str) -> tuple[Path, Path | None]:
    """Return the run folder that --resume names, and the checkpoint file where it names one.

    Raises ValueError when a file lies in no run folder.
    """
    path = Path(given)
    if not path.is_file():
        return path, None
    run = next((folder for folder in path.absolute().parents[:3] if (folder / "config.yaml").is_file()), None)
    if run is None:
        raise ValueError(f"{path} lies in no run folder; give RUN/checkpoints/step-N.ckpt, or the run's folder for its last checkpoint")
    return run, path


def key_help() -> str:
    """Return the table of every config key: name, type, default, unit and meaning."""
    lines = ["config keys (name: type = default [unit] meaning):"]
    for key, (kind, item) in config_keys().items():
        default = item.default if item.default_factory is MISSING else item.default_factory()
        name = getattr(kind, "__name__", str(kind)) if not hasattr(kind, "__args__") else str(kind).replace("typing.", "")
        unit = f" [{item.metadata['unit']}]" if item.metadata.get("unit") else ""
        choices = f" ({', '.join(map(str, item.metadata['choices']))})" if item.metadata.get("choices") else ""
        lines.append(f"  {key}: {name} = {default!r}{unit}\n      {item.metadata.get('help', '')}{choices}".replace("%", "%%"))
    return "\n".join(lines)
