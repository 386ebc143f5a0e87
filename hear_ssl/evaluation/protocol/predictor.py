"""The benchmark's predictor and its training step, with an explicit backward pass for speed on CPUs.

[Linear, BatchNorm, Dropout, ReLU] x depth and a Linear, trained by Adam, as in heareval 2021.1.3. Forward, backward and update equal
those of torch.nn up to rounding, as a test checks. Four things make a step fast. With AVX-512, products use oneDNN's float32 kernels,
which on cores other than Intel's are twice as fast as torch.mm. Dropout compares 16 random bits with 2^16 p instead of drawing a float
for every unit (p to 2^-17). Operations without effect are left out: the gradient of a bias before BatchNorm is zero, the scale of
dropout commutes with ReLU, and embeddings need no gradient. Memory is reused and not returned to the system after every product
(`reuse_memory`).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MOMENTUM, EPSILON = 0.1, 1e-5  # of BatchNorm
REUSED = (32 << 20) - (1 << 14)  # bytes; glibc adapts its threshold to freed blocks of up to 32 MiB, including its header
COPIED = 1 << 26  # up to this many values a transposed copy is kept, which makes a product 10 % faster
# measured: with AVX-512 on cores other than Intel's twice as fast as torch.mm, with AVX2 up to 1.4 times slower
ONEDNN: bool = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX512")  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class PredictorSettings:
    """One point of the grid."""

    hidden_layers: int = 1
    hidden_dim: int = 1024
    dropout: float = 0.1
    lr: float = 1e-3
    initialization: str = "xavier_uniform_"
    batch_size: int = 1024
    max_epochs: int = 500
    check_val_every_n_epoch: int = 3
    patience: int = 20
    annealed_steps: int = 0  # above 0: anneal the learning rate to zero over max_epochs or this many steps, whichever is longer
    in_span: bool = False  # if embeddings have more dimensions than there are training rows, train in the span of the rows, see `span`

    def epochs(self, batches: int) -> int:
        """Return the largest number of epochs for this number of batches per epoch."""
        return max(self.max_epochs, -(-self.annealed_steps // max(batches, 1)))

    def lr_at(self, progress: float) -> float:
        """Return the learning rate after a share of the training: half a cosine (Loshchilov and Hutter, 2017)."""
        return self.lr * (0.5 + 0.5 * math.cos(math.pi * progress)) if self.annealed_steps else self.lr


@dataclass
class RowBatch:
    """Training rows: embeddings (batch, dim), their transpose (dim, batch), targets (batch, labels)."""

    rows: Tensor
    columns: Tensor
    targets: Tensor

    @staticmethod
    def split(embeddings: Tensor, targets: Tensor, size: int) -> list[RowBatch]:
        """Return batches of `size` rows in order, without a single row at the end, which BatchNorm cannot normalise."""
        pairs = zip(torch.split(embeddings, size), torch.split(targets, size), strict=True)
        large = embeddings.numel() > COPIED
        return [RowBatch(rows, rows.t() if large else rows.t().contiguous(), wanted) for rows, wanted in pairs if len(rows) > 1]


def span(rows: Tensor, seed: int) -> Tensor:
    """Return a randomly rotated orthonormal basis (dim, count) of the span of rows (count, dim), count <= dim.

    rows @ basis has the inner products of rows. The basis is rotated because Adam scales each dimension separately, and the basis of a
    QR decomposition begins with the direction that all rows share.
    """
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(rows.t())[0]
    turn = torch.linalg.qr(torch.randn(len(rows), len(rows), generator=generator))[0]
    turned: Tensor = basis @ turn
    return turned


def reuse_memory() -> None:
    """Make glibc keep freed blocks of up to 32 MiB.

    glibc returns blocks that are larger than the largest one freed so far to the system. Those of a step, a few MiB each, then cause page
    faults that take as long as the products. Allocating and freeing one such block, without touching it, is enough.
    """
    torch.empty(REUSED, dtype=torch.uint8)


def product(left: Tensor, right: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    """Return left (n, k) @ right (k, m) + bias (m,), followed by `then`: "relu" or "none"."""
    if ONEDNN:
        fast: Tensor = torch.ops.mkldnn._linear_pointwise(left, right.t(), bias, then, [], "")
        return fast
    plain = left @ right if bias is None else torch.addmm(bias, left, right)
    return plain.relu_() if then == "relu" else plain


class Hidden:
    """Linear, BatchNorm, Dropout, ReLU. Weights are (fan_in, fan_out)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        width = weight.shape[1]
        self.weight, self.bias = weight, bias
        self.scale, self.shift = torch.ones(width), torch.zeros(width)
        self.mean, self.variance = torch.zeros(width), torch.ones(width)  # running

    def learned(self) -> list[Tensor]:
        """Return the trained tensors; the bias is not trained, since BatchNorm cancels it."""
        return [self.weight, self.scale, self.shift]

    def forward(self, rows: Tensor, kept: Tensor, dropout: float) -> Tensor:
        """Return activations (batch, width) of rows (batch, fan_in); kept (batch, width) is 0 where dropout applies."""
        self.gain = 1.0 / (1.0 - dropout)  # positive, so it commutes with ReLU and is merged into BatchNorm
        self.linear = product(rows, self.weight, self.bias)
        scale, shift = self.scale * self.gain, self.shift * self.gain
        normal, self.saved_mean, self.saved_inverse = torch.native_batch_norm(
            self.linear, scale, shift, self.mean, self.variance, True, MOMENTUM, EPSILON
        )
        self.active = normal.relu_().mul_(kept)
        return self.active

    def backward(self, gradient: Tensor, columns: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the gradient at Linear's output (batch, width) and those of weight, scale and shift; columns (fan_in, batch)."""
        gradient = torch.ops.aten.threshold_backward(gradient, self.active, 0.0)
        gradient, scale, shift = torch.ops.aten.native_batch_norm_backward(
            gradient,
            self.linear,
            self.scale * self.gain,
            self.mean,
            self.variance,
            self.saved_mean,
            self.saved_inverse,
            True,
            EPSILON,
            [True, True, True],
        )
        return gradient, [product(columns, gradient), scale * self.gain, shift * self.gain]

    def evaluate(self, rows: Tensor) -> Tensor:
        """Return activations with running statistics, which are merged into the weights."""
        factor = self.scale * torch.rsqrt(self.variance + EPSILON)
        return product(rows, self.weight * factor, (self.bias - self.mean) * factor + self.shift, "relu")

    def state(self) -> list[Tensor]:
        """Return all tensors of the layer."""
        return [self.weight, self.bias, self.scale, self.shift, self.mean, self.variance]


class Predictor:
    """One network at one grid point."""

    def __init__(self, dim: int, labels: int, settings: PredictorSettings, multilabel: bool, seed: int) -> None:
        self.settings, self.multilabel = settings, multilabel
        generator, self.noise = torch.Generator().manual_seed(seed), np.random.SFC64(seed)
        widths = [dim, *[settings.hidden_dim] * settings.hidden_layers, labels]
        layers = []
        for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
            gain = torch.nn.init.calculate_gain("linear" if layer == 0 else "relu")
            weight = initial_weight(fan_in, fan_out, gain, settings.initialization, generator)
            layers.append((weight, (torch.rand(fan_out, generator=generator) * 2.0 - 1.0) / fan_in**0.5))  # Linear's default
        self.hidden = [Hidden(*layer) for layer in layers[:-1]]
        self.weight, self.bias = layers[-1]
        self.learned = [tensor for layer in self.hidden for tensor in layer.learned()] + [self.weight, self.bias]
        self.first = [torch.zeros_like(tensor) for tensor in self.learned]
        self.second = [torch.zeros_like(tensor) for tensor in self.learned]
        self.steps = torch.zeros(())

    def kept(self, rows: int) -> Tensor:
        """Return the dropout mask of one layer (rows, hidden_dim), 1.0 for units that are kept."""
        count = rows * self.settings.hidden_dim
        bits = self.noise.random_raw(-(-count // 4)).view(np.uint16)[:count]
        stays = (bits >= round(self.settings.dropout * 65536)).astype(np.float32)
        return torch.from_numpy(stays).view(rows, self.settings.hidden_dim)

    def gradients(self, batch: RowBatch) -> list[Tensor]:
        """Return the gradients of the mean loss of a batch, in the order of `learned`."""
        active, inputs = batch.rows, [batch.columns]
        for layer in self.hidden:
            active = layer.forward(active, self.kept(len(active)), self.settings.dropout)
            inputs.append(active.t())
        found = loss_gradient(product(active, self.weight, self.bias), batch.targets, self.multilabel)
        gradients: list[Tensor] = [product(found.t(), active).t().contiguous(), found.sum(0)]
        weight = self.weight
        for layer, columns in zip(reversed(self.hidden), reversed(inputs[:-1]), strict=True):
            found, own = layer.backward(product(found, weight.t()), columns)
            gradients, weight = own + gradients, layer.weight
        return gradients

    @torch.no_grad()
    def step(self, batch: RowBatch, progress: float = 0.0) -> None:
        """Make one Adam step (Kingma and Ba, 2015, algorithm 1) with the learning rate at this share of the training."""
        gradients = self.gradients(batch)
        self.steps += 1
        steps = [self.steps] * len(gradients)
        torch._fused_adam_(
            self.learned,
            gradients,
            self.first,
            self.second,
            [],
            steps,
            lr=self.settings.lr_at(progress),
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    @torch.no_grad()
    def predict(self, rows: Tensor, size: int = 4096) -> Tensor:
        """Return logits (rows, labels) in evaluation mode."""
        parts = []
        for active in torch.split(rows, size):
            for layer in self.hidden:
                active = layer.evaluate(active)
            parts.append(product(active, self.weight, self.bias))
        return torch.cat(parts)

    def state(self) -> list[Tensor]:
        """Return all tensors of the network without copying them."""
        return [tensor for layer in self.hidden for tensor in layer.state()] + [self.weight, self.bias]

    def copy_from(self, state: list[Tensor]) -> None:
        """Copy a state into the network."""
        for mine, theirs in zip(self.state(), state, strict=True):
            mine.copy_(theirs)


def loss(logits: Tensor, targets: Tensor, multilabel: bool) -> Tensor:
    """Return the mean loss of logits and multi-hot targets (rows, labels): binary or categorical cross entropy."""
    if multilabel:
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
    return -(logits.log_softmax(-1) * targets).sum(-1).mean()


def loss_gradient(logits: Tensor, targets: Tensor, multilabel: bool) -> Tensor:
    """Return the gradient of `loss` at the logits (rows, labels)."""
    if multilabel:
        return logits.sigmoid_().sub_(targets).div_(logits.numel())
    return logits.softmax(-1).sub_(targets).div_(len(logits))


def initial_weight(fan_in: int, fan_out: int, gain: float, how: str, generator: torch.Generator) -> Tensor:
    """Return Xavier weights (fan_in, fan_out) (Glorot and Bengio, 2010, eq. 16). Raises ValueError for other names."""
    spread = gain * (2.0 / (fan_in + fan_out)) ** 0.5
    if how == "xavier_normal_":
        normal: Tensor = torch.randn(fan_in, fan_out, generator=generator) * spread
        return normal
    if how == "xavier_uniform_":
        uniform: Tensor = (torch.rand(fan_in, fan_out, generator=generator) * 2.0 - 1.0) * (3.0**0.5 * spread)
        return uniform
    raise ValueError(f"initialization {how!r} is not known; allowed are xavier_uniform_ and xavier_normal_")
