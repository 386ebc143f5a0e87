"""Read and check evaluation_params of task_metadata.json: a task's own grids for the predictor and for events."""

from __future__ import annotations

from typing import Any

EVENTS = {"threshold": 0.5, "median_filter_ms": 150.0, "min_duration": 60.0}  # defaults of the kit for parameters that a task's grid lacks
PREDICTOR = {  # smallest values of the parameters that a task may change, None for names
    "hidden_layers": 1,
    "hidden_dim": 1,
    "dropout": 0,
    "lr": 0,
    "patience": 0,
    "max_epochs": 1,
    "check_val_every_n_epoch": 1,
    "batch_size": 2,
    "initialization": None,
}
MOST = {"hidden_layers": 64, "hidden_dim": 1 << 16, "batch_size": 1 << 20, "max_epochs": 100_000, "patience": 100_000}  # for memory, time
LONGEST_GRID = 1000  # values of one parameter
LARGEST = 1e12  # NaN, infinity and integers beyond floats fail this bound
INITIALIZATIONS = ("xavier_uniform_", "xavier_normal_")


def read_parameters(place: str, given: Any) -> dict[str, dict[str, list[Any]]]:
    """Return a task's own grids, without unknown ones. Raises ValueError that names the position and the mistake."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ValueError(f"{place}: evaluation_params is {_short(given)}; it must be an object")
    known: dict[str, dict[str, Any]] = {"event_postprocessing_grid": dict.fromkeys(EVENTS, 0), "task_specific_param_grid": PREDICTOR}
    return {name: _grid(f"{place}: {name}", given[name], least) for name, least in known.items() if given.get(name) is not None}


def _grid(place: str, grid: Any, least: dict[str, Any]) -> dict[str, list[Any]]:
    if not isinstance(grid, dict):
        raise ValueError(f"{place} is {_short(grid)}; it must be an object of lists")
    if "median_filter_ms" in least and not set(grid) <= set(least):
        raise ValueError(f"{place} has {', '.join(sorted(set(grid) - set(least)))}; known are {', '.join(least)}")
    for name, values in grid.items():
        if name in least and not (
            isinstance(values, list) and 0 < len(values) <= LONGEST_GRID and all(_fits(value, least[name], name) for value in values)
        ):
            most = f" and at most {MOST[name]}" if name in MOST else ""
            what = f"numbers of at least {least[name]}{most}" if least[name] is not None else f"some of {', '.join(INITIALIZATIONS)}"
            raise ValueError(f"{place}: {name} is {_short(values)}; it must be a list of {what}")
    return grid


def _fits(value: Any, least: float | None, name: str) -> bool:
    if least is None:
        return value in INITIALIZATIONS
    whole = name not in ("dropout", "lr", *EVENTS)
    return isinstance(value, int if whole else (int, float)) and not isinstance(value, bool) and least <= value <= MOST.get(name, LARGEST)


def _short(value: Any) -> str:
    return repr(value)[:60]
