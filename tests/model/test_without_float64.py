"""On a device without float64, such as Apple's GPUs, no tensor of that type is made; embeddings stay float32 and on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hear_ssl.model import Embedder, pooling
from hear_ssl.model.embedder_config import EmbedderConfig, encoder, readout
from hear_ssl.model.options import FrontendConfig
from hear_ssl.training.collapse import measures

GPU = torch.device("cuda", 0)  # fake tensors compute shapes, types and devices without one; they have no "mps"
CONFIG = EmbedderConfig(
    frontend=FrontendConfig(n_mels=32),
    encoder=encoder("audio_ntt", channels=4, dim=16),
    scene=(readout("pooled", how="mean+max,std"), readout("bands")),
    timestamp=(readout("tokens"), readout("contexts", ms=(200.0,)), readout("frames"), readout("around")),
    timestamps_per_token=2,
)


class RefuseFloat64(TorchDispatchMode):
    """Raises TypeError where an operation makes float64 on the GPU, as MPS does."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.device.type == "cuda" and leaf.dtype == torch.float64:
                raise TypeError(f"{func} makes float64 on a device that has none")
        return out


def on_gpu(mode: FakeTensorMode) -> tuple[Embedder, Callable[[Tensor], Tensor]]:
    """Return the embedder on a fake GPU, and what makes fake tensors there."""

    def fake(tensor: Tensor) -> Tensor:
        return FakeTensor(mode, tensor.detach().to("meta"), GPU)

    embedder = Embedder(CONFIG).eval()
    for module in embedder.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(fake(parameter), requires_grad=False))
        for name, buffer in list(module.named_buffers(recurse=False)):
            module._buffers[name] = fake(buffer)
    return embedder, fake


def compute() -> list[Tensor]:
    mode = FakeTensorMode()
    embedder, fake = on_gpu(mode)
    with torch.no_grad(), mode, RefuseFloat64():
        audio = fake(torch.zeros(2, 16000))
        return [embedder.scene(audio), *embedder.timestamps(audio), *measures(fake(torch.zeros(2, 8, 16))).values()]


def test_embeddings_and_measures_need_no_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "mps" in pooling.WITHOUT_FLOAT64
    monkeypatch.setattr(pooling, "WITHOUT_FLOAT64", ("cuda",))
    for tensor in compute():
        assert (tensor.device, tensor.dtype) == (GPU, torch.float32)


def test_the_refusal_is_real() -> None:
    with pytest.raises(TypeError, match="makes float64 on a device that has none"):
        compute()


def test_all_that_moves_with_a_model_is_float32_or_an_integer() -> None:
    assert torch.float64 not in {value.dtype for value in [*Embedder(CONFIG).parameters(), *Embedder(CONFIG).buffers()]}
