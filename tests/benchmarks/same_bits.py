"""Compare two revisions bit for bit on this machine: losses and weights of every recipe, embeddings, batches, packaged weights.

python -m tests.benchmarks.same_bits OLD NEW [--recipes cola,base] [--steps 20] [--parts train,embeddings,batches,package]

OLD and NEW are git revisions; NEW may be `.`, the working tree. Each is checked out into a temporary folder and run there by the
commands that users run, both on one corpus that OLD renders. It prints a line per item and ends with status 0 when all are the same,
1 when any differs, 2 on bad input. If NEW has other names than OLD, add them to the tables here and in same_bits_worker.py.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
import yaml

from hear_ssl.errors import run_main
from tests.benchmarks.same_bits_compare import Tensors, by_item, line_of, metrics_of, tensors_of

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("same_bits_worker.py")
PARTS = ("train", "embeddings", "batches", "package")
COMMANDS = {  # ways to call a command; the first one whose file exists in the checkout is used
    "fit": [["train/fit.py"]],
    "instruments": [["-m", "hear_ssl.synthesis", "instruments"], ["-m", "hear_ssl.data.synthetic"]],
    "combine": [["examples/reference/combine.py"], ["train/combine.py"]],
    "reduce": [["examples/reference/reduce.py"], ["examples/reference/whiten.py"], ["train/whiten.py"]],
    "package": [["export/package.py"]],
}
RECIPES: dict[str, str] = {}  # recipes whose file was renamed: name in OLD -> name in NEW
KEYS: dict[str, list[str]] = {  # config keys below that were renamed: today's name -> other names
    "encoder.audio_ntt.channels": ["embedder.encoder.channels"],
    "encoder.audio_ntt.dim": ["embedder.encoder.dim"],
}
SMALL = {
    "encoder.audio_ntt.channels": "4",
    "encoder.audio_ntt.dim": "32",
    "data.batch_size": "8",
    "data.workers": "0",
    "data.crops.0.seconds": "0.64",
    "optimizer.warmup_steps": "2",
    "trainer.log_every": "1",
    "trainer.checkpoint_every": "1000",
    "trainer.threads": "1",
    "trainer.collapse_rank": "0",
    "trainer.accelerator": "cpu",
    "wandb": "disabled",
}


class Side:
    """One of the two revisions: its checkout, and a folder for what it writes."""

    def __init__(self, name: str, checkout: Path, folder: Path) -> None:
        self.name, self.checkout, self.folder = name, checkout, folder
        self.process: subprocess.Popen[str] | None = None
        folder.mkdir()

    def run(self, *arguments: str) -> str:
        """Run Python in the checkout and return what it printed. Raises ValueError with the last line of stderr when it fails."""
        paths = {"PYTHONPATH": str(self.checkout), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.checkout,
            env={**os.environ, **paths},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        printed, errors = self.process.communicate()
        if self.process.returncode:
            last = (errors.strip() or "nothing on stderr").splitlines()[-1]
            raise ValueError(f"{self.name} ended with status {self.process.returncode}: {last}")
        return printed

    def stop(self) -> None:
        """End the running command."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def command(self, name: str) -> list[str]:
        """Return the arguments to call a command of this checkout. Raises ValueError when it has none of those in the table."""
        for arguments in COMMANDS[name]:
            path = self.checkout / arguments[1].replace(".", "/") if arguments[0] == "-m" else self.checkout / arguments[0]
            if path.is_file() or path.with_suffix(".py").is_file() or (path / "__main__.py").is_file():
                return arguments
        raise ValueError(f"{self.name} has none of the commands {COMMANDS[name]}; add its own to COMMANDS")

    def worker(self, part: str, *arguments: str) -> Tensors:
        """Run same_bits_worker.py in the checkout and return the tensors that it wrote."""
        out = self.folder / f"{part}.pt"
        self.run(str(WORKER), part, str(out), *arguments)
        found: Tensors = torch.load(out, weights_only=True)
        return found

    def overrides(self, recipe: str) -> list[str]:
        """Return the arguments of a small training of a recipe, under the names that this checkout's --help lists."""
        named = "|".join(yaml.safe_load((self.checkout / "configs" / f"{recipe}.yaml").read_text())["objective"])
        known = re.findall(r"^  ([a-z0-9_.]+): ", self.run(*self.command("fit"), "--help"), re.MULTILINE)
        small = {next((name for name in [key, *KEYS.get(key, [])] if name in known), key): value for key, value in SMALL.items()}
        heads = {key: "32" for key in known if re.fullmatch(rf"objective\.({named})\.(hidden|projection)_dim", key)}
        memory = dict.fromkeys(
            self.memories(recipe) if "data.crops" in known and "views.mixup_memory" not in known else ["views.mixup_memory"], "16"
        )
        if "data.crop_seconds" in known:
            small["data.crop_seconds"] = small.pop("data.crops.0.seconds")
        return [f"{key}={value}" for key, value in {**small, **heads, **memory}.items()]

    def memories(self, recipe: str) -> list[str]:
        """Return the config keys for the memories of mixup in a recipe whose views are lists."""
        views = yaml.safe_load((self.checkout / "configs" / f"{recipe}.yaml").read_text()).get("views")
        names = [[next(iter(one)) if isinstance(one, dict) else one for one in view["augment"]] for view in views or []]
        names = names or [["gain", "polarity", "mixup"], ["gain", "polarity", "noise", "mixup"]]  # the default
        return [f"views.{number}.augment.{view.index('mixup')}.memory" for number, view in enumerate(names) if "mixup" in view]

    def train(self, corpus: Path, recipe: str, steps: int, run: str) -> Tensors:
        """Train a recipe into a run folder and return its losses, metrics and weights."""
        arguments = ["--config", f"configs/{recipe}.yaml", f"data.shards={corpus}", f"run={self.folder / run}"]
        losses = self.worker("fit", *self.command("fit"), *arguments, *self.overrides(recipe), f"trainer.steps={steps}")
        return {**losses, **self.of_run(run)}

    def resume(self, steps: int, run: str) -> Tensors:
        """Resume a run up to `steps` and return what `train` returns."""
        losses = self.worker("fit", *self.command("fit"), "--resume", str(self.folder / run), f"trainer.steps={steps}")
        return {**losses, **self.of_run(run)}

    def of_run(self, run: str) -> Tensors:
        """Return the metrics and weights of a run folder."""
        weights: Tensors = torch.load(self.folder / run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]
        return {**metrics_of(self.folder / run / "metrics.csv"), **weights}

    def package(self, run: str, *options: str) -> Tensors:
        """Package a run and return its weights and the golden embeddings, tensors by name."""
        out, name = self.folder / f"package of {run}", "hear_same"
        fixed = ["--version", "0.1.0", "--weights-url", "https://example.com/w.safetensors", "--allow-unpublished", "--out", str(out)]
        self.run(*self.command("package"), "--checkpoint", str(self.folder / run), "--name", name, *fixed, *options)
        return {**tensors_of(out / f"{name}-0.1.0.safetensors"), **tensors_of(out / name / name / "golden.safetensors")}

    def combined(self, corpus: Path) -> Tensors:
        """Combine the run `small` with a random encoder, fit linear maps, and return the checkpoint's tensors."""
        both, last = self.folder / "both.ckpt", self.folder / "reduced" / "checkpoints" / "last.ckpt"
        self.run(*self.command("combine"), str(self.folder / "small"), "--random", "--out", str(both))
        sizes = ["--clips", "64", "--scene", "24", "--timestamp", "16"]
        self.run(*self.command("reduce"), str(both), "--shards", str(corpus), *sizes, "--out", str(last))
        weights: Tensors = torch.load(last, map_location="cpu", weights_only=True)["state_dict"]
        return weights


Job = tuple[str, Callable[[Side], Tensors]]


def jobs_of(parts: list[str], recipes: list[str], steps: int, corpora: list[Path]) -> Iterator[Job]:
    """Yield the comparisons: a name, and a function that computes its tensors on one side."""
    first = corpora[0]
    for recipe in recipes if "train" in parts else []:
        names = {"OLD": recipe, "NEW": RECIPES.get(recipe, recipe)}
        yield f"train {recipe}", lambda side, names=names, run=recipe: side.train(first, names[side.name], steps, run)  # type: ignore[misc]
        yield f"resume {recipe}", lambda side, run=recipe: side.resume(2 * steps, run)  # type: ignore[misc]
    if "embeddings" in parts:
        yield "embeddings", lambda side: side.worker("embeddings")
    if "batches" in parts:
        yield "batches", lambda side: side.worker("batches", *map(str, corpora))
    if "package" in parts:
        yield "train the model to package", lambda side: side.train(first, "quickstart", 2, "small")
        yield "package", lambda side: side.package("small", "--bundle-weights")
        yield "combine and fit linear maps", lambda side: side.combined(first)
        yield "package the combined model in float16", lambda side: side.package("reduced", "--half")


def compared(job: Job, sides: list[Side]) -> list[tuple[str, str]]:
    """Run a job on both sides at once and return the items with the results of their comparison."""
    name, compute = job
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(compute, side) for side in sides]
        try:
            failures = [str(error) for error in (future.exception() for future in futures) if isinstance(error, (ValueError, OSError))]
        except KeyboardInterrupt:
            for side in sides:
                side.stop()
            raise
    if failures:
        return [(name, f"differs: {'; '.join(failures)}")]
    old, new = (by_item(name, future.result()) for future in futures)
    return [(item, line_of(old.get(item, {}), new.get(item, {}))) for item in {**old, **new}]


def git(*arguments: str) -> str:
    """Run git in this repository and return what it printed. Raises ValueError with its last line when it fails."""
    result = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise ValueError((result.stderr.strip() or "git failed").splitlines()[-1])
    return result.stdout.strip()


@contextmanager
def checked_out(revisions: list[str]) -> Iterator[tuple[Path, list[Path]]]:
    """Yield a temporary folder with a checkout of each revision, `.` being the working tree; remove both at the end.

    Raises ValueError when there is no such revision.
    """
    commits = []
    for revision in revisions:
        try:
            commits.append("" if revision == "." else git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"))
        except ValueError:
            raise ValueError(f"{revision!r} is no revision of this repository; give a commit, a branch or a tag") from None
    with tempfile.TemporaryDirectory(prefix="same_bits-") as scratch:
        paths = [
            Path(scratch).resolve() / f"checkout-{name}" if commit else ROOT for name, commit in zip(("old", "new"), commits, strict=True)
        ]
        try:
            for path, commit in zip(paths, commits, strict=True):
                if commit:
                    git("worktree", "add", "--detach", str(path), commit)
            yield Path(scratch).resolve(), paths
        finally:
            for path, commit in zip(paths, commits, strict=True):
                if commit:  # there may be nothing to remove if adding it was interrupted
                    subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(path)], capture_output=True, check=False)


def parse_arguments() -> argparse.Namespace:
    """Read the command line. Raises ValueError for values that are not allowed."""
    parser = argparse.ArgumentParser(prog="same_bits.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", metavar="OLD", help="git revision before the change")
    parser.add_argument("new", metavar="NEW", help="git revision after it, or . for the working tree")
    parser.add_argument("--recipes", metavar="LIST", help="recipes to train, separated by commas (default: all of OLD)")
    parser.add_argument("--steps", type=int, default=20, help="steps before and after resuming (default: %(default)s)")
    parser.add_argument("--parts", default=",".join(PARTS), metavar="LIST", help="what to compare (default: %(default)s)")
    given = parser.parse_args()
    given.parts = given.parts.split(",")
    for part in given.parts:
        if part not in PARTS:
            raise ValueError(f"--parts names {part!r}; allowed are {', '.join(PARTS)}")
    if given.steps < 1:
        raise ValueError(f"--steps is {given.steps}; give 1 or more")
    if given.old == ".":
        raise ValueError("OLD is the working tree; give a revision, and . as NEW")
    return given


def chosen_recipes(checkout: Path, wanted: str | None) -> list[str]:
    """Return the recipes to train. Raises ValueError when OLD has no file of one."""
    known = sorted(path.stem for path in (checkout / "configs").glob("*.yaml"))
    for recipe in wanted.split(",") if wanted else []:
        if recipe not in known:
            raise ValueError(f"--recipes names {recipe!r}; OLD has {', '.join(known)}")
    return wanted.split(",") if wanted else known


def main() -> int:
    """Compare with the options of the command line."""
    given = parse_arguments()
    found: list[tuple[str, str]] = []
    with checked_out([given.old, given.new]) as (scratch, paths):
        recipes = chosen_recipes(paths[0], given.recipes)
        sides = [Side(name, path, scratch / name) for name, path in zip(("OLD", "NEW"), paths, strict=True)]
        corpora = [scratch / f"corpus-{seed}" for seed in range(2)]
        for seed, corpus in enumerate(corpora):
            sides[0].run(*sides[0].command("instruments"), "--out", str(corpus), "--clips", "24", "--seed", str(seed), "--workers", "1")
        jobs = list(jobs_of(given.parts, recipes, given.steps, corpora))
        began = time.monotonic()
        for number, job in enumerate(jobs, start=1):
            print(f"[{number}/{len(jobs)}, {time.monotonic() - began:.0f} s] {job[0]}", file=sys.stderr, flush=True)
            items = compared(job, sides)
            for item, line in items:
                print(f"{item}: {line}", flush=True)
            found += items
    different = [item for item, line in found if not line.startswith("same")]
    print(f"{len(found) - len(different)} of {len(found)} items are the same, {len(different)} differ")
    return 1 if different else 0


if __name__ == "__main__":
    run_main(main)
