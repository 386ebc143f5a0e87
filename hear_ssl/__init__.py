"""Self-supervised audio embeddings, from audio shards to a HEAR submission that installs with pip.

    import hear_ssl as hs
    run = hs.fit("simclr", shards="shards", steps=200)
    tried = hs.sweep("simclr", {"objective.nt_xent.temperature": [0.1, 0.2], "seed": [0, 1]}, shards="shards", steps=200)
    model = hs.load(run)
    scores = hs.evaluate(run, tasks="tasks", grid="fast")
    wheel = hs.package(run, name="hear_mymodel", version="0.1.0", weights_url="https://...", allow_unpublished=True)
    hs.verify(wheel)

These functions do the same as the commands `hear-ssl fit`, `fit --sweep`, `evaluate`, `package` and `verify`; `hs.objectives` has the
losses. torch is imported on their first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hear_ssl.version import __version__

if TYPE_CHECKING:
    from hear_ssl import objectives
    from hear_ssl.evaluation.verbs import evaluate
    from hear_ssl.loading import Model, load
    from hear_ssl.packaging.verbs import package, verify
    from hear_ssl.training.sweep_verb import Sweep, sweep
    from hear_ssl.training.verbs import Run, fit

__all__ = ["Model", "Run", "Sweep", "__version__", "evaluate", "fit", "load", "objectives", "package", "sweep", "verify"]

_MODULES = {
    "Model": "hear_ssl.loading",
    "Run": "hear_ssl.training.verbs",
    "Sweep": "hear_ssl.training.sweep_verb",
    "evaluate": "hear_ssl.evaluation.verbs",
    "fit": "hear_ssl.training.verbs",
    "load": "hear_ssl.loading",
    "package": "hear_ssl.packaging.verbs",
    "sweep": "hear_ssl.training.sweep_verb",
    "verify": "hear_ssl.packaging.verbs",
}


def __getattr__(name: str) -> Any:
    """Return an attribute listed in `__all__`; its module is imported on first use."""
    if name == "objectives":
        return import_module("hear_ssl.objectives")
    if name not in _MODULES:
        raise AttributeError(f"module 'hear_ssl' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
