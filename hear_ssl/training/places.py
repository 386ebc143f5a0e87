"""Paths in a config: ~ is the home folder; a run stores absolute paths, so that it resumes from any folder, and no credentials."""

from __future__ import annotations

import os
from dataclasses import fields, replace

from hear_ssl.addresses import redacted, redacted_text
from hear_ssl.data.shards.cache import is_remote
from hear_ssl.files import AUDIO_FOLDER
from hear_ssl.machine import expand_home
from hear_ssl.training.settings import Config


def whole_paths(config: Config) -> Config:
    """Return the config with absolute local paths; addresses and symbolic links are unchanged.

    The cache keeps its ~, which is expanded when the cache is opened, since another user may resume the run.
    Raises ValueError that names the key when there is no home folder for a ~.
    """
    cache = config.data.cache if config.data.cache.startswith("~") else os.path.abspath(config.data.cache)
    copies = config.data.stream_cache
    copies = copies if not copies or copies.startswith("~") else os.path.abspath(copies)
    shards = [_whole(entry, "data.shards") for entry in config.data.shards]
    tasks = [_whole(folder, "probe.tasks") for folder in config.probe.tasks]
    views = list(config.views)
    for number, place, key, folder in view_folders(config):
        parts = list(views[number].augment)
        options = replace(parts[place].options, **{key: _whole(folder, f"views.{number}.augment.{place}.{key}")})
        parts[place] = replace(parts[place], options=options)
        views[number] = replace(views[number], augment=tuple(parts))
    return replace(
        config,
        run=_whole(config.run, "run"),
        output=_whole(config.output, "output"),
        init=_whole(config.init, "init") if os.path.exists(expand_home(config.init, "init")) else config.init,
        data=replace(config.data, shards=shards, cache=cache, stream_cache=copies),
        views=tuple(views),
        probe=replace(config.probe, tasks=tasks),
    )


def view_folders(config: Config) -> list[tuple[int, int, str, str]]:
    """Return the folders that augmentations read: index of the view, index of the augmentation, name of the option, folder."""
    return [
        (number, place, item.name, getattr(part.options, item.name))
        for number, view in enumerate(config.views)
        for place, part in enumerate(view.augment)
        for item in fields(part.options)
        if item.metadata.get("unit") == AUDIO_FOLDER and getattr(part.options, item.name)
    ]


def _whole(path: str, key: str) -> str:
    return path if not path or is_remote(path) else os.path.abspath(expand_home(path, key))


def without_credentials(config: Config) -> Config:
    """Return the config as it is stored, without users, passwords and signatures in addresses."""
    data = replace(config.data, shards=[redacted(entry) for entry in config.data.shards], cache=redacted_text(config.data.cache))
    name, init = redacted_text(config.name), redacted_text(config.init)
    return replace(config, data=data, name=name, init=init, run=redacted_text(config.run), output=redacted_text(config.output))
