"""Export in Python: `package` and `verify`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hear_ssl.checkpoint import find_checkpoint
from hear_ssl.errors import verb
from hear_ssl.machine import expand_home
from hear_ssl.packaging import package as packaging
from hear_ssl.packaging import verify as verification
from hear_ssl.packaging.licenses import parse_data_licenses
from hear_ssl.packaging.linear_map import LinearMap, parse_linear
from hear_ssl.packaging.publication import check_publication
from hear_ssl.packaging.request import LINEAR_CLIPS, PackageRequest, checked_composition, checked_weights
from hear_ssl.packaging.rules.rows import RuleResult


@verb
def package(
    run: str | os.PathLike[str],
    *,
    name: str,
    version: str,
    weights_url: str,
    out: str | os.PathLike[str] = "dist",
    bundle_weights: bool = False,
    half: bool = False,
    untrained: bool = False,
    weights: str = "",
    allow_unpublished: bool = False,
    allow_long_hop: bool = False,
    data_licenses: Mapping[str, str] | None = None,
    composition: Mapping[str, Any] | None = None,
    linear: str | Mapping[str, str] | None = None,
    linear_clips: int = LINEAR_CLIPS,
    linear_shards: Sequence[str | os.PathLike[str]] = (),
) -> Path:
    """Export a trained encoder as a wheel with the HEAR API, as `hear-ssl package` does, and return the wheel's path.

    run: a run (its last checkpoint) or a checkpoint.
    name: name of the package and module, such as "hear_mymodel". version: its version, such as "0.1.0".
    weights_url: the public address from which load_model() fetches the weights. out: the folder for the wheel, the source tree, and
    NAME-VERSION.safetensors with NAME-VERSION.json, which `hear_ssl.load` reads.
    bundle_weights: put the weights into the wheel too. half: store them in float16. untrained: random weights of the same architecture.
    weights: for a run with trainer.ema, "ema" for the moving average of the weights (default) or "trained" for those of the last step.
    allow_unpublished: do not check that the address serves the weights. allow_long_hop: allow timestamps more than 50 ms apart.
    data_licenses: {source: SPDX expression} for training sources whose shards have no licence. composition: other readouts without
    retraining: {"scene": ["pooled", "bands"], "scene.0.how": "mean", "timestamps_per_token": 2}. linear: linear maps to fit without labels,
    such as "whiten:256" or {"scene": "pca:256", "timestamp": "standardise"}, to `linear_clips` clips from `linear_shards` or from the
    training shards.

    Raises ValueError when the checkpoint or its training data must not be shipped, a rule of the HEAR API is broken, or the address does
    not serve the weights; OSError when `out` cannot be written. On an error nothing is written.
    """
    check_publication(name, version, weights_url)
    model = (find_checkpoint(path_of(run)), name, version, weights_url, bundle_weights, untrained, checked_composition(composition))
    export = (allow_unpublished, allow_long_hop, half, parse_data_licenses(pairs(data_licenses)), checked_weights(weights, untrained))
    request = PackageRequest(*model, *export, maps_of(linear), linear_clips, tuple(os.fspath(folder) for folder in linear_shards))
    return packaged(request, path_of(out))


def packaged(request: PackageRequest, out: Path) -> Path:
    """Return the wheel of a request; the state of torch's random generator is preserved."""
    with torch.random.fork_rng(devices=[]):
        return packaging.package(request, out)


def maps_of(linear: str | Mapping[str, str] | None) -> dict[str, LinearMap]:
    """Return the linear maps given by the argument of `package`. Raises ValueError for any other form."""
    return parse_linear([linear] if isinstance(linear, str) else pairs(linear))


def pairs(mapping: Mapping[str, str] | None) -> list[str]:
    """Return KEY=VALUE texts as on the command line."""
    return [f"{key}={value}" for key, value in (mapping or {}).items()]


@verb
def verify(
    wheel: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    fresh_torch: str | None = None,
    suites: bool = False,
    python: str | os.PathLike[str] = "",
) -> list[RuleResult]:
    """Install a wheel in a clean environment, measure every rule of the HEAR API on it, and return one row per rule.

    wheel: a wheel, an exported source tree, or the name of a module. weights: the weights file to load; by default NAME-VERSION.safetensors
    next to the wheel, as written by `package`, otherwise load_model() finds its own. fresh_torch: a requirement such as "torch==2.4.1" to
    download instead of using the installed torch. suites: measure the adapters for MTEB, X-ARES, XARES-LLM and EVAR instead, each in an
    environment with that benchmark. python: the interpreter of the environment in which a module is installed, to measure it there.

    A row has name, rule, measured, passed (None: not measured) and reason; a broken rule raises nothing:
    `all(row.passed is not False for row in rows)`. It takes about a minute and a half. Progress goes to the logger `hear_ssl`.

    Raises ValueError when there is nothing to verify under that name or the clean environment cannot be made.
    """
    subject = path_of(wheel)
    file = path_of(weights) if weights is not None else weights_next_to(subject)
    if file and not file.is_file():
        raise ValueError(f"weights {file} do not exist; give the .safetensors file that hear-ssl package wrote")
    interpreter = str(path_of(python)) if python else ""
    return verification.verify(subject, file.resolve() if file else None, fresh_torch, progress=True, suites=suites, elsewhere=interpreter)


def path_of(path: str | os.PathLike[str]) -> Path:
    """Return a path with ~ replaced by the home folder."""
    return Path(expand_home(os.fspath(path), "the path"))


def weights_next_to(wheel: Path) -> Path | None:
    """Return the weights file that `package` wrote next to a wheel, or None."""
    name, version, *_ = [*wheel.name.split("-"), ""]
    file = wheel.with_name(f"{name}-{version}.safetensors")
    return file if wheel.suffix == ".whl" and file.is_file() else None
