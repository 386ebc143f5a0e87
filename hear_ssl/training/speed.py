"""Optimisations of training speed: those that help on this machine, and one switch for each.

`performance` in the config selects the set. `plain` uses none. `exact` keeps float32 and only changes memory layout or the order of
sums. `auto` adds bfloat16 where the processor supports it in hardware, and on a GPU compiled kernels and the fused optimizer. A key of
`speed`, or `trainer.precision`, overrides the set. Needs no torch, since the allocator must be configured before torch is imported.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hear_ssl.machine import keep_memory, usable_cores
from hear_ssl.training.settings import Config

__all__ = ["Choices", "Machine", "choose", "cpu_bfloat16", "keep_memory", "usable_cores"]


@dataclass(frozen=True)
class Machine:
    """The properties of a machine that determine the choices.

    device: cpu or gpu. cores: those that this process may use. bfloat16: why bfloat16 is fast here, '' when it is not.
    lacks_compiler: what is missing for torch.compile, '' when nothing.
    """

    device: str
    cores: int
    bfloat16: str
    lacks_compiler: str = ""


@dataclass(frozen=True)
class Choices:
    """The optimisations of a run; `why` has a short reason for each."""

    allocator: bool
    channels_last: bool
    precision: str
    explicit_attention: bool
    compile: bool
    fused_optimizer: bool
    threads: int
    why: dict[str, str]

    def line(self, name: str) -> str:
        """Return the line that a run prints at its start: each choice and, in brackets, its reason."""
        parts = []
        for key, value in asdict(self).items():
            if key != "why":
                said = {True: "on", False: "off"}[value] if isinstance(value, bool) else value
                parts.append(f"{key.replace('_', ' ')} {said}" + (f" ({self.why[key]})" if self.why.get(key) else ""))
        return f"performance {name}: {', '.join(parts)}"

    def record(self) -> dict[str, Any]:
        """Return the choices as plain data for environment.json."""
        return asdict(self)


def choose(config: Config, machine: Machine) -> Choices:
    """Return the choices for a config on this machine. Raises ValueError when it requires torch.compile and a compiler is missing."""
    gpu, plain, auto = machine.device == "gpu", config.performance == "plain", config.performance == "auto"
    why: dict[str, str] = {}

    def switch(name: str, default: bool, reason: str = "") -> bool:
        asked: bool | None = getattr(config.speed, name)
        why[name] = reason if asked is None else f"speed.{name}"
        return default if asked is None else asked

    lacking = machine.lacks_compiler
    if config.speed.compile and lacking:
        raise ValueError(f"speed.compile=true needs {lacking}, which this machine lacks; install it, or leave speed.compile out")
    precision = config.trainer.precision
    if precision != "auto":
        why["precision"] = "trainer.precision"
    elif auto and machine.bfloat16:
        precision, why["precision"] = "bf16", machine.bfloat16
    else:
        precision = "32"
        why["precision"] = f"auto would take bf16: {machine.bfloat16}" if machine.bfloat16 else "no fast bfloat16 here"
    workers = config.data.workers
    why["threads"] = "trainer.threads" if config.trainer.threads else f"{machine.cores} cores, {workers} decoding"
    return Choices(
        allocator=switch("allocator", not plain and sys.platform.startswith("linux")),
        channels_last=switch("channels_last", not plain),
        precision=precision,
        explicit_attention=switch("explicit_attention", not plain and not gpu, "" if gpu else "vit, up to 128 tokens"),
        compile=switch("compile", auto and gpu and not lacking, f"needs {lacking}" * bool(lacking) if gpu else "gains little on a CPU"),
        fused_optimizer=switch("fused_optimizer", auto and gpu, "" if gpu else "1 % of a step on a CPU"),
        threads=config.trainer.threads or max(1, machine.cores - workers),
        why=why,
    )


def cpu_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the CPU feature that makes bfloat16 faster than float32: amx_bf16, avx512_bf16, or '' for none that is known.

    Both were measured to be faster (tests/benchmarks/speed.md); elsewhere bfloat16 is emulated and slower.
    """
    try:
        flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "").split()
    except OSError:
        return ""
    return next((name for name in ("amx_bf16", "avx512_bf16") if name in flags), "")
