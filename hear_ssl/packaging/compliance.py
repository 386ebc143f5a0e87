"""COMPLIANCE.md: every rule of the HEAR API, its measurement on the model at packaging, and the verdict.

Measurements that depend on the machine (seconds, exact memory, the clean environment, a GPU) are left to verify.py, so that the same
checkpoint gives the same bytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hear_ssl.packaging.clean_environment import without_secrets
from hear_ssl.packaging.licenses import shown
from hear_ssl.packaging.model_card import cell, not_test, sources_of
from hear_ssl.packaging.rules.rows import RuleResult, read_results
from hear_ssl.packaging.templates import requires_python
from hear_ssl.progress import counted

RULES = Path(__file__).resolve().parent / "rules"
WEIGHTS = "| Weights at a public URL |"
VERDICTS = {True: "holds", False: "BROKEN, accepted on request", None: "not measured"}
RULES_URL = "https://hearbenchmark.com/hear-api.html"


def measure(files: dict[str, bytes], name: str, weights: bytes, accepted: tuple[str, ...] = ()) -> list[RuleResult]:
    """Return one row per rule for the package whose files are given by path, measured in a separate process.

    Raises ValueError when a rule is broken that is not in `accepted`, so that no such package is written.
    """
    with tempfile.TemporaryDirectory(prefix="hear-compliance-") as scratch:
        folder = Path(scratch)
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        (folder / "given.safetensors").write_bytes(weights)
        (folder / "checks").mkdir()
        (folder / "checks" / "rules").symlink_to(RULES)
        out, weights_file = folder / "rows.jsonl", folder / "given.safetensors"
        command = [sys.executable, "-m", "rules", name, str(out), str(weights_file), "--memory", "reported"]
        environment = without_secrets(folder, PYTHONPATH=os.pathsep.join([str(folder / "checks"), str(folder)]))
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        rows = read_results(out, f"the measurement ended with {last[:200]}")
    broken = [f"{row.name} ({row.measured})" for row in rows if row.passed is False and row.name not in accepted]
    if broken:
        raise ValueError(f"the model breaks a rule of the HEAR API, so it was not packaged: {'; '.join(broken)[:400]}")
    return [row for row in rows if row.name != "import and load"]  # its seconds differ from run to run


def report(rows: list[RuleResult], manifest: dict[str, Any], published: bool) -> str:
    """Return the report as Markdown."""
    record = manifest["training"]
    sources = sources_of(record)
    python = f"Python {requires_python(manifest).replace('>=', '>= ')}"
    split = record["data"].get("split", "unknown")
    statements = [
        ("Licence of the code: Apache-2.0 or compatible", "Apache-2.0; LICENSE in the package", "holds"),
        ("Licence of the weights: CC BY 4.0 or compatible", "CC BY 4.0; LICENSE-weights in the package", "holds"),
        (
            "Training data: none that is marked as test",
            f"split {split}, {counted(len(sources), 'source')}, each with a licence: {licences(sources)}"
            + "".join(cell(f"; {source['name']}{not_test(source)}") for source in sources if source.get("not_test")),
            "holds, by its record",
        ),
        (
            "Python >= 3.6, PyTorch >= 1.7",
            f"{python} and torch >= 2.0, nothing else; embedding files from the shell is an extra",
            "holds",
        ),
        ("Installs with pip from a local source tree", "pyproject.toml, setuptools; `python3 -m pip install REPOSITORY`", "see verify.py"),
        ("README names the CUDA and cuDNN versions", f"torch {record['torch']}, CUDA {record['cuda']}, cuDNN {record['cudnn']}", "holds"),
        ("Code in a public GitHub repository", "the source tree with this file is what to push", "yours to do"),
    ]
    lines = [
        f"# {manifest['name']} {manifest['version']} and the rules of the HEAR API",
        "",
        f"Rules: {RULES_URL}. Measured on the CPU with torch {record['torch']} when the package was made, on noise, tones, clicks,",
        "bursts and silence of the lengths named; `python export/verify.py WHEEL` measures again in a clean environment, with the",
        "official validator, with seconds and gigabytes, and on a GPU where there is one.",
        "",
        "| rule | measured | verdict |",
        "|---|---|---|",
        *(f"| {name} | {cell(text)} | {verdict} |" for name, text, verdict in statements),
        weights_line(manifest["weights"], published),
        *(f"| {cell(row.rule)} | {cell(row.measured)} | {VERDICTS[row.passed]} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def weights_line(weights: dict[str, Any], published: bool) -> str:
    """Return the report's line on the address of the weights; published: they were just downloaded from it."""
    which = f"{weights['bytes'] / 1e6:.1f} MB, SHA-256 {weights['sha256']}"
    url = cell(weights["url"])
    if published:
        return f"{WEIGHTS} {which}, fetched from {url} and found to be these | holds |"
    return f"{WEIGHTS} {which}, meant for {url}; NOT fetched from there: packaged with --allow-unpublished | NOT PUBLISHED |"


def as_published(report: str, weights: dict[str, Any]) -> str:
    """Return a report whose line on the weights states that they were downloaded from their present URL."""
    return "".join(
        weights_line(weights, published=True) + "\n" if line.startswith(WEIGHTS) else line for line in report.splitlines(keepends=True)
    )


def licences(sources: list[dict[str, Any]]) -> str:
    """Return the five licences with the most hours, named as in the sources, with long names shortened."""
    hours: dict[str, float] = {}
    for source in sources:
        hours[shown(source)] = hours.get(shown(source), 0.0) + source["hours"]
    ranked = sorted(hours.items(), key=lambda item: -item[1])
    named = [f"{name if len(name) <= 60 else name[:57] + '...'} ({time:.2f} h)" for name, time in ranked[:5]]
    return ", ".join(named) + (f" and {len(ranked) - 5} more, all in manifest.json" if len(ranked) > 5 else "")
