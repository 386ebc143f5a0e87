"""Compare the protocols of the official kit and ours, with the same initial weights and the same dropout in float64.

python -m tests.benchmarks.evaluate_same --kit KIT --python PYTHON --tasks TASKS --module NAME --out OUT [--path FOLDER]
    [--points 8] [--only NAME]

Different seeds hide small differences between two predictors; here both use the same random numbers. heareval 2021.1.3 trains in
float64 on the embeddings that it computed in OUT (by evaluate.py in this folder, with the same KIT, PYTHON, NAME and --path). Each of its
networks gets the initial weights and the dropout masks of ours. Ours then trains on the same embeddings in float64. The output for every
task: the largest difference of embeddings, targets and timestamps, row by row; the number of compared networks and checks, and the
largest difference of a check's value (used by early stopping and selection); whether the chosen grid point, the number of checks of
every network and the best epoch of every fold are the same; the primary score of both; and the largest difference of any finite score
of any fold.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
INJECTED = """
import importlib.util, json, runpy, sys, pytorch_lightning as pl, torch
import heareval.predictions.task_predictions as kit

spec = importlib.util.spec_from_file_location("ours", sys.argv[1])
ours = sys.modules["ours"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ours)
points, out = int(sys.argv[2]), sys.argv[3]
fits = []

class Dropout(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network
    def forward(self, rows):
        return rows * self.network.kept(len(rows)) / (1.0 - self.network.settings.dropout) if self.training else rows

plain = kit.FullyConnectedPrediction.__init__
def injected(self, dim, labels, prediction_type, conf):
    plain(self, dim, labels, prediction_type, conf)
    number = len(fits)
    seed = 42 * 1009 + number if number < points else (42 + number - points + 1) * 1009
    initialization = conf["initialization"].__name__
    settings = ours.PredictorSettings(conf["hidden_layers"], conf["hidden_dim"], conf["dropout"], conf["lr"], initialization)
    torch.set_default_dtype(torch.float64)
    self.network = ours.Predictor(dim, labels, settings, prediction_type == "multilabel", seed)
    torch.set_default_dtype(torch.float32)
    for place, module in enumerate(self.hidden):
        if isinstance(module, torch.nn.Dropout):
            self.hidden[place] = Dropout(self.network)
    fits.append({"settings": vars(settings), "values": []})
kit.FullyConnectedPrediction.__init__ = injected

trainer = pl.Trainer
class Trainer(trainer):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, precision="64-true", **options)
    def fit(self, model, *arguments, **options):
        network = model.double().predictor.network
        linears = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
        drawn = [(layer.weight, layer.bias) for layer in network.hidden] + [(network.weight, network.bias)]
        with torch.no_grad():
            for linear, (weight, bias) in zip(linears, drawn, strict=True):
                linear.weight.copy_(weight.t())
                linear.bias.copy_(bias)
        return super().fit(model, *arguments, **options)
pl.Trainer = Trainer

stop = pl.callbacks.EarlyStopping._evaluate_stopping_criteria
def recorded(self, current):
    fits[-1]["values"].append(float(current))
    return stop(self, current)
pl.callbacks.EarlyStopping._evaluate_stopping_criteria = recorded

sys.argv = sys.argv[4:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    if end.code:
        raise
json.dump(fits, open(out, "w"))
"""


def kits(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the kit's scores of embeddings in a folder, with every check's value as "fits"; results are cached in OUT."""
    out = Path(arguments.out).resolve() / "same"
    out.mkdir(exist_ok=True)
    kept = out / f"{folder.name}-{arguments.points}.json"
    if not kept.is_file():
        fits = out / "fits.json"
        predictor = str(ROOT / "hear_ssl" / "evaluation" / "protocol" / "predictor.py")
        line = [arguments.python, "-c", INJECTED, predictor, str(arguments.points), str(fits)]
        line += [
            str(Path(arguments.kit).resolve() / "heareval_compat.py"),
            "predictions",
            str(folder),
            "--grid-points",
            str(arguments.points),
        ]
        (folder / "prediction-done.json").unlink(missing_ok=True)
        environment = {**os.environ, "PYTHONPATH": f"{Path(arguments.kit).resolve() / 'shims'}:{arguments.path}", "HC_QUIET": "1"}
        with open(out / f"{folder.name}.log", "w") as log:
            status = subprocess.run(line, cwd=out, env=environment, stdout=log, stderr=subprocess.STDOUT).returncode
        if status:
            raise RuntimeError((out / f"{folder.name}.log").read_text()[-2000:])
        record = json.loads((folder / "test.predicted-scores.json").read_text())
        kept.write_text(json.dumps(record | {"fits": json.loads(fits.read_text())}))
    found: dict[str, Any] = json.loads(kept.read_text())
    return found


def take_rows(folder: Path, task: Any, rows: dict[str, Any]) -> dict[str, float]:
    """Replace our embeddings by those of the kit in float64; return the largest differences before that."""
    differences = {"embeddings": 0.0, "targets": 0.0, "timestamps": 0.0}
    for split, ours in rows.items():
        shape = tuple(json.loads((folder / f"{split}.embedding-dimensions.json").read_text()))
        theirs = torch.from_numpy(np.fromfile(folder / f"{split}.embeddings.npy", np.float32).reshape(shape))
        differences["embeddings"] = max(differences["embeddings"], float((theirs - ours.embeddings).abs().max()))
        labels = pickle.loads((folder / f"{split}.target-labels.pkl").read_bytes())
        targets = torch.tensor([[float(label in map(str, row)) for label in task.labels] for row in labels])
        differences["targets"] = max(differences["targets"], float((targets - ours.targets).abs().max()))
        if task.embedding_type == "event":
            stamps = json.loads((folder / f"{split}.filename-timestamps.json").read_text())
            times = np.array([time for _, time in stamps])
            files = [Path(file).name for file, _ in stamps]
            assert files == [file for file, place in ours.clips for _ in range(place.start, place.stop)], "clips in another order"
            differences["timestamps"] = max(differences["timestamps"], float(np.abs(times - ours.timestamps_ms).max()))
        ours.embeddings, ours.targets = theirs.double(), ours.targets.double()
    return differences


def our_scores(task: Any, rows: dict[str, Any]) -> tuple[dict[str, Any], list[list[float]]]:
    """Return our scores in float64, and the value of every check of every network."""
    from hear_ssl.evaluation.protocol import predictor
    from hear_ssl.evaluation.protocol import score_task as protocol

    checks: dict[int, list[float]] = {}
    plain = protocol.validation_value

    def recorded(task: Any, network: Any, valid: Any) -> Any:
        value, postprocessing = plain(task, network, valid)
        checks.setdefault(id(network), []).append(value)
        alive.append(network)  # so that no other network gets its id
        return value, postprocessing

    alive: list[Any] = []
    kept = plain, protocol.highest
    protocol.validation_value, predictor.ONEDNN = recorded, False
    protocol.highest = lambda task: math.inf  # train every network to its end, as the kit does
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    try:
        return protocol.score_task(task, rows, "official"), list(checks.values())
    finally:
        torch.set_default_dtype(torch.float32)
        protocol.validation_value, protocol.highest = kept


def apart(ours: float, kit: float) -> float:
    """Return the difference of our value of a check, negated if lower is better, from the kit's; 0 if both are undefined."""
    if not math.isfinite(kit) or not math.isfinite(ours):
        return 0.0 if math.isfinite(kit) == math.isfinite(ours) else math.inf
    return abs(abs(ours) - abs(kit))


def line(task: Any, kit: dict[str, Any], found: tuple[dict[str, Any], list[list[float]]], rows: dict[str, float]) -> str:
    """Return a task's line of the table."""
    ours, checks = found
    best = ours["scores"][ours["primary"]]
    folds = [kit["|".join(fold["test"])] for fold in task.folds()]
    lengths = all(len(mine) == len(his["values"]) for mine, his in zip(checks, kit["fits"], strict=True))
    values = max(apart(*pair) for mine, his in zip(checks, kit["fits"], strict=True) for pair in zip(mine, his["values"], strict=False))
    keys = ("hidden_layers", "lr", "initialization")
    chosen = all(str(ours["settings"][key]) in str(kit["hparams"][key]) for key in keys)
    epochs = [fold["epoch"] for fold in ours["folds"]] == [fold["epoch"] for fold in folds]
    primary = sum(fold[f"test_{ours['primary']}"] for fold in folds) / len(folds)
    pairs = [(mine[name], fold[f"test_{name}"]) for mine, fold in zip(ours["folds"], folds, strict=True) for name in task.scores]
    scores = max((abs(mine - fold) for mine, fold in pairs if math.isfinite(fold)), default=0.0)
    same = "yes" if chosen and epochs and lengths else f"point {chosen}, epochs {epochs}, lengths {lengths}"
    numbers = f"{rows['embeddings']:.0e}, {rows['targets']:.0f}, {rows['timestamps']:.0e} | {len(checks)}, {sum(map(len, checks))}"
    return f"| {task.name} | {numbers} | {values:.0e} | {same} | {primary:.6f} | {best:.6f} | {scores:.0e} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--kit", "--python", "--tasks", "--module", "--out"):
        parser.add_argument(name, required=True)
    parser.add_argument("--path", default=str(ROOT))
    parser.add_argument("--points", type=int, default=8)
    parser.add_argument("--only", action="append")
    arguments = parser.parse_args()
    arguments.path = os.path.realpath(arguments.path)
    sys.path[:0] = [arguments.path, str(ROOT)]
    from hear_ssl.evaluation.model_under_test import load_model_under_test
    from hear_ssl.evaluation.protocol import grid
    from hear_ssl.evaluation.protocol.embed import task_rows
    from hear_ssl.evaluation.tasks.task_format import find_tasks, read_task

    grid.GRID_POINTS, out = arguments.points, Path(arguments.out).resolve()
    subject = load_model_under_test(arguments.module)
    print("| task | embeddings, targets, timestamps | networks, checks | checks' values | same choices | kit | ours | scores |")
    print("|" + "---|" * 8)
    for path in find_tasks(Path(arguments.tasks).resolve(), arguments.only):
        folder, task = out / "kit" / "embeddings" / arguments.module / path.name, read_task(path)
        rows = task_rows(task, subject, out / "embeddings")
        kit = kits(folder, arguments)
        differences = take_rows(folder, task, rows)
        print(line(task, kit, our_scores(task, rows), differences), flush=True)


if __name__ == "__main__":
    main()
