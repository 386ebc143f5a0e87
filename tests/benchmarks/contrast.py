"""Measure memory and time of NT-Xent in one piece and in chunks: python -m tests.benchmarks.contrast [N]

Each variant runs in a separate process; memory is the peak minus the memory in use before.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import torch

from hear_ssl.objectives.nt_xent import nt_xent


def measure(count: int, chunk: int) -> None:
    """Print value, seconds and extra megabytes of one forward and backward pass."""
    torch.manual_seed(0)
    z_a, z_b = (torch.randn(count, 128, requires_grad=True) for _ in range(2))
    nt_xent(z_a[:64], z_b[:64], 0.1, min(chunk, 32)).backward()  # type: ignore[no-untyped-call]  # what libraries take on first use
    z_a.grad = z_b.grad = None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    loss = nt_xent(z_a, z_b, 0.1, chunk)
    loss.backward()  # type: ignore[no-untyped-call]
    seconds = time.perf_counter() - start
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert z_a.grad is not None
    name, norm = str(chunk or "none"), float(z_a.grad.norm())
    print(f"N {count:6d}  chunk {name:>6}  loss {loss.item():.5f}  gradient {norm:.6f}  {seconds:6.2f} s  {extra:7.0f} MB")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure(int(sys.argv[1]), int(sys.argv[2]))
    else:
        for chunk in (0, 1024, 256):
            subprocess.run([sys.executable, __file__, sys.argv[1] if len(sys.argv) > 1 else "4096", str(chunk)], check=True)
