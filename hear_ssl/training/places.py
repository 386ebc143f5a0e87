"""Paths in a config: ~ is the home folder, and a run keeps whole paths, so that it resumes from any folder, and no credentials."""

from __future__ import annotations

import os
from dataclasses import replace

from hear_ssl.addresses import redacted, redacted_text
from hear_ssl.data.shards.cache import is_remote
from hear_ssl.machine import expand_home
from hear_ssl.training.settings import Config


def whole_paths(config: Config) -> Config:
    """Return the config with every local path as one from the root; addresses stay, and so do symbolic links.

    The cache keeps its ~, which is expanded where it is opened: another user may resume the run.
    Raises ValueError that names the key when there is no home folder for a ~.
    """
    cache = config.data.cache if config.data.cache.startswith("~") else os.path.abspath(config.data.cache)
    copies = config.data.stream_cache
    copies = copies if not copies or copies.startswith("~") else os.path.abspath(copies)
    shards = [_whole(entry, "data.shards") for entry in config.data.shards]
    tasks = [_whole(folder, "probe.tasks") for folder in config.probe.tasks]
    return replace(
        config,
        run=_whole(config.run, "run"),
        output=_whole(config.output, "output"),
        data=replace(config.data, shards=shards, cache=cache, stream_cache=copies),
        probe=replace(config.probe, tasks=tasks),
    )


def _whole(path: str, key: str) -> str:
    return path if not path or is_remote(path) else os.path.abspath(expand_home(path, key))


def without_credentials(config: Config) -> Config:
    """Return the config as it is stored: no address in it has a user, a password or a signature."""
    data = replace(config.data, shards=[redacted(entry) for entry in config.data.shards], cache=redacted_text(config.data.cache))
    return replace(config, data=data, name=redacted_text(config.name), run=redacted_text(config.run), output=redacted_text(config.output))
