"""Texts use the words of the field: phrases that only this project once had for them are kept out."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PHRASES = {  # a phrase, and what to write in its place
    r"moments? of (a|the|one) clip": "time frames",
    r"takes? of (a|one|the same) sound": "recordings of the same source",
    r"\btowers\b": "encoders, concatenated encoders",
    r"\b(goes|go|going|went) on (behind|from|where|with)\b": "resumes, continues",
    r"\b(tells?|told|telling) \w*( \w+)? ?apart\b": "distinguishes",
    r"\bbr(ing|ings|ought) to (one|a) level\b": "rescaled to one RMS",
    r"\bside by side\b": "concatenated, in parallel",
    r"\bbeside\b": "next to, with, besides",
    r"\bat last\b": "finally",
    r"\bdoppelgaenger": "pair, doppelgänger (of Cherep and Singh)",
    r"\bwalks? the whole way\b": "runs all steps",
    r"\bnetworks? (tells?|knows?|says?|sees?)\b": "encodes, predicts, receives",
    r"\b(behind|before) (a|the) (LayerNorm|ReLU|pooling|convolution)\b": "after, before in the order of computation",
    r"\bstands? in for\b": "replaces",
    r"\bsays (why|how|so|test)\b": "states, contains, explains",
    r"\bis told\b": "is given",
    r"\bnumbers of (a|an) (scene|embedding|timestamp)\b": "dimensions",
    r"\ban? (loss|losses) of clips\b": "unreadable clips",
    r"\btakes? turns\b": "alternate, are measured alternately",
    r"\bso many (?!of)": "this number of",
    r"\bgives? way\b": "is replaced, is stopped",
    r"\bbut for\b": "except, except for",
    r"\b(can|cannot|could not|to) be had\b": "is available",
    r"\bthe other way round\b": "the reverse, conversely",
    r"\bwhat (came|comes|became|becomes) of\b": "the result of, the state of",
    r"\basks? of\b": "requires",
    r"\bhowever (that|it|they) ends?\b": "also after an error",
    r"\bwhole or not at all\b": "atomically",
    r"\bhas of (a|an|the|it|its|each)\b": "has from, stores for",
    r"\bin (its|their) stead\b": "instead",
    r"\bhands? (over|out|in|back)\b": "passes, returns",
    r"\bbehind (a|the) (warm|first|step|shuffle)": "after",
    r"\bby the wall\b": "in wall-clock time",
    r"\bstands? for (another|the same|all|every)\b": "represents",
    r"\banew\b": "again, new",
    r"\bwithout a word\b": "without a message",
    r"\b(bytes|clips|frames|ms|numbers|rows?|samples|seconds|steps|us) an? (clip|epoch|frame|minute|row|second|step)\b": "per clip",
}
LOG = {"examples/reference/results.md", "CHANGELOG.md", "tests/test_english.py"}  # a dated log; old names of commands
OLD_KEYS = {"hear_ssl/old_versions.py", "tests/benchmarks/same_bits.py", "tests/benchmarks/same_bits_worker.py"}  # of earlier versions


def texts() -> list[str]:
    """Return the committed texts that users and readers of the code read, and that nothing generates."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    kept = [name for name in listed.stdout.splitlines() if re.search(r"\.(py|md|yaml|yml|toml|cff|sh|sbatch|html)$|Makefile$", name)]
    kept = [name for name in kept if not name.startswith(("export/reference/", "tests/")) or name.startswith("tests/benchmarks/")]
    return [name for name in kept if name not in LOG | OLD_KEYS]


@pytest.mark.parametrize("phrase", PHRASES)
def test_no_text_has_the_phrase(phrase: str) -> None:
    pattern = re.compile(phrase, re.IGNORECASE)
    found = [
        f"{name}:{number}: {line.strip()}"
        for name in texts()
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, f"write {PHRASES[phrase]}:\n" + "\n".join(found)
