"""The commands of each benchmark, with this package's name and sizes; needs neither a benchmark nor torch."""

from __future__ import annotations

from ..manifest import Manifest


def overview(package: str) -> str:
    """Return the commands of all benchmarks."""
    return "\n\n".join([hear(package), mteb(package), xares(package), xares_llm(package), evar(package)])


def hear(package: str) -> str:
    """Return the commands for HEAR."""
    return f"""HEAR, scenes and timestamps (Python 3.8, tasks from https://zenodo.org/records/6332517):
  python3 -m pip install heareval
  python3 -m heareval.embeddings.runner {package} --tasks-dir tasks
  python3 -m heareval.predictions.runner embeddings/{package}/*"""


def mteb(package: str) -> str:
    """Return the commands for MTEB."""
    return f"""MTEB and MAEB, scenes (needs FFmpeg's libraries):
  python3 -m pip install "mteb[audio]>=2.26" torchcodec
  python3 -m {package}.suites.mteb mock-run
  python3 -m {package}.suites.mteb run --benchmarks "MAEB(v1, audio-only)"
in Python: from {package}.suites.mteb import AudioModel; mteb.evaluate(AudioModel(), tasks)"""


def xares(package: str) -> str:
    """Return the commands for X-ARES."""
    return f"""X-ARES, timestamps (in a clone of https://github.com/jimbozhang/xares):
  python3 -m pip install xares
  python3 -m xares.run {package}/suites/xares.py src/tasks/*.py"""


def xares_llm(package: str) -> str:
    """Return the commands for XARES-LLM."""
    return f"""XARES-LLM, timestamps (one GPU):
  python3 -m pip install git+https://github.com/xiaomi-research/xares-llm
  python3 -m xares_llm.run {package}.suites.xares_llm.AudioEncoder task1 task1"""


def evar(package: str) -> str:
    """Return the commands for EVAR."""
    return f"""EVAR, scenes (in a clone of https://github.com/nttcslab/eval-audio-repr, on one GPU: CUDA_VISIBLE_DEVICES=0):
  python3 -m {package} suites evar > config/{package}.yaml
  python3 -m {package}.suites.evar config/{package}.yaml esc50"""


def evar_config(package: str, manifest: Manifest) -> str:
    """Return EVAR's YAML file for this model."""
    return f"""# {package} {manifest.version} for https://github.com/nttcslab/eval-audio-repr, written by: python -m {package} suites evar
audio_repr: {package}.AudioRepresentation
name: {package}-{manifest.release}
weight_file: ''
feature_d: {manifest.sizes["scene_embedding_size"]}
sample_rate: {manifest.sizes["sample_rate"]}

batch_size: 64
lr_lineareval: 0.0003
report_per_epochs: 20
early_stop_epochs: 20"""
