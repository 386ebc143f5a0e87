"""A linear map of embeddings, fitted without labels on their mean and covariance: principal components, or only variances.

Cosine scores and few-shot classifiers do not scale dimensions, so dimensions of large variance dominate. A probe that standardises its
input weighs all dimensions equally, including components that are mostly noise. A map with `even` works for both: after the components
are chosen and scaled, they are rotated so that all dimensions have the same variance (Bendel and Mickey, 1978,
https://doi.org/10.1080/03610917808812079). The rotation leaves distances and cosines unchanged, and standardising clips like those of
the fit is then only a common factor. Whitening of retrieval embeddings: Jegou and Chum, 2012, https://hal.inria.fr/hal-00722622.
Shrinkage towards the mean variance: Ledoit and Wolf, 2004, https://doi.org/10.1016/S0047-259X(03)00096-4, with a fixed share instead
of their estimate.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

KINDS = {
    "pca": "principal components",
    "whiten": "principal components with unit variances, less for components below the mean variance",
    "standardise": "unit variance for each dimension",
}
ROUNDING = 1e-7  # components and dimensions with less than this share of the variance are rounding errors
FAINT = 1e-4  # of the mean variance: `standardise` leaves out dimensions below it, since it would amplify them to the size of the others


class Moments:
    """Mean and covariance of all rows added so far, in float64."""

    def __init__(self, width: int) -> None:
        self.count, self.total, self.products = 0, torch.zeros(width).double(), torch.zeros(width, width).double()
        self.near: Tensor | None = None  # the mean of the first rows, subtracted for numerical accuracy

    def add(self, rows: Tensor) -> None:
        """Add rows (count, width)."""
        self.near = rows.double().mean(0) if self.near is None else self.near
        deviations = rows.double() - self.near
        self.count += len(rows)
        self.total += deviations.sum(0)
        self.products.addmm_(deviations.T, deviations)

    def mean(self) -> Tensor:
        """Return the mean (width,)."""
        assert self.near is not None
        return self.near + self.total / self.count

    def covariance(self) -> Tensor:
        """Return the covariance (width, width)."""
        mean = self.total / self.count
        return self.products / self.count - torch.outer(mean, mean)


@dataclass(frozen=True)
class LinearMap:
    """The map to fit: a kind in `KINDS`, and the dimensions of the result, 0 for all that vary.

    flatten: for `pca`; a component's variance v becomes v ** (1 - flatten), times a common factor that preserves the sum of variances.
    shrinkage: for `whiten` and `standardise`; the share s in (1 - s) v + s m, by which a variance v is divided, where m is the mean
    variance; variances far below the mean stay small. even: rotate components so that all dimensions have the same variance.
    """

    kind: str = "pca"
    dims: int = 0
    flatten: float = 0.0
    shrinkage: float = 0.1
    even: bool = True

    def __post_init__(self) -> None:
        """Check the values. Raises ValueError when there is no such kind, or a number is out of range."""
        if self.kind not in KINDS:
            raise ValueError(f"a linear map is {self.kind!r}; it must be one of {', '.join(KINDS)}")
        if not 0 <= self.dims <= 65536 or not 0.0 <= self.flatten <= 1.0 or not 0.0 <= self.shrinkage <= 1.0:
            raise ValueError(f"{self}: dims must be 0 to 65536, flatten and shrinkage from 0 to 1")

    def fit(self, moments: Moments, scale: Tensor | None = None) -> nn.Linear:
        """Return the map, in float32, for embeddings with these moments; their mean is mapped to 0.

        scale: a factor for each dimension, applied first. Raises ValueError when fewer dimensions vary than requested.
        """
        scale = torch.ones(len(moments.total)).double() if scale is None else scale.double()
        covariance = moments.covariance() * torch.outer(scale, scale)
        weight = (self._dimensions(covariance) if self.kind == "standardise" else self._components(covariance)) * scale
        fitted = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            fitted.weight.copy_(weight)
            fitted.bias.copy_(-weight @ moments.mean())
        return fitted.requires_grad_(False)

    def _components(self, covariance: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(covariance)  # ascending
        dims = self._count(int((values > ROUNDING * values.sum()).sum()), "components were found")
        mean = covariance.trace() / len(values)
        values, vectors = values[-dims:], vectors[:, -dims:]
        if self.kind == "whiten":
            gains = ((1.0 - self.shrinkage) * values + self.shrinkage * mean) ** -0.5
            total = float(dims)
        else:
            gains, total = values ** (-self.flatten / 2.0), float(covariance.trace())
        variances = values * gains.square()
        factor = math.sqrt(total / float(variances.sum()))
        weight: Tensor = (vectors * gains * factor).T
        return even_rotation(variances) @ weight if self.even else weight

    def _dimensions(self, covariance: Tensor) -> Tensor:
        values = covariance.diagonal()
        mean = values.mean()
        dims = self._count(int((values > max(FAINT * mean, ROUNDING * values.sum())).sum()), "dimensions vary")
        kept = values.argsort(descending=True, stable=True)[:dims].sort().values
        gains = ((1.0 - self.shrinkage) * values[kept] + self.shrinkage * mean) ** -0.5
        weight = covariance.new_zeros(dims, len(values))
        weight[torch.arange(dims), kept] = gains * math.sqrt(dims / float((values[kept] * gains.square()).sum()))
        return weight

    def _count(self, found: int, what: str) -> int:
        if found < max(1, self.dims):
            raise ValueError(f"{self.dims or 1} dimensions are asked for and {found} {what}; ask for fewer, or fit on more clips")
        return self.dims or found

    def record(self, width: int, dims: int) -> dict[str, Any]:
        """Return the record of the map for manifest and model card; it maps `width` dimensions to `dims`."""
        own = {"pca": ("flatten", "even"), "whiten": ("shrinkage", "even"), "standardise": ("shrinkage",)}[self.kind]
        return {"kind": self.kind, "of": width, "dims": dims, **{name: value for name, value in asdict(self).items() if name in own}}


def even_rotation(variances: Tensor) -> Tensor:
    """Return an orthogonal matrix (dims, dims) that gives uncorrelated dimensions with these variances the same, mean variance.

    Each of dims - 1 plane rotations, of the dimensions with the smallest and the largest variance, gives one of them the mean variance.
    """
    count, mean = len(variances), variances.mean()
    covariance, rotation = torch.diag(variances), torch.eye(count, dtype=variances.dtype)
    left = torch.ones(count, dtype=torch.bool)
    infinite = torch.tensor(math.inf, dtype=variances.dtype)
    for _ in range(count - 1):
        diagonal = covariance.diagonal()
        low, high = int(torch.where(left, diagonal, infinite).argmin()), int(torch.where(left, diagonal, -infinite).argmax())
        below, above, shared = diagonal[low] - mean, diagonal[high] - mean, covariance[low, high]
        if low == high or not below < 0.0 < above:
            break
        tangent = (shared + torch.sqrt(shared.square() - below * above)) / above
        cosine = torch.rsqrt(1.0 + tangent.square())
        plane = torch.stack([torch.stack([cosine, -cosine * tangent]), torch.stack([cosine * tangent, cosine])])
        pair = [low, high]
        covariance[pair] = plane @ covariance[pair]
        covariance[:, pair] = covariance[:, pair] @ plane.T
        rotation[pair] = plane @ rotation[pair]
        left[low] = False
    return rotation


def parse_linear(asked: list[str]) -> dict[str, LinearMap]:
    """Return the maps of 'scene' and 'timestamp' given by texts such as pca:256 (both), scene=whiten:512 or timestamp=standardise.

    Raises ValueError for any other form.
    """
    maps: dict[str, LinearMap] = {}
    for text in asked:
        place, equals, rest = text.rpartition("=")
        kind, colon, dims = rest.partition(":")
        if (equals and place not in ("scene", "timestamp")) or kind not in KINDS or (colon and not (dims.isdecimal() and int(dims) > 0)):
            raise ValueError(
                f"--linear {text[:80]!r} is not of the form KIND, KIND:DIMENSIONS, scene=KIND:DIMENSIONS or timestamp=KIND:DIMENSIONS;"
                f" KIND is one of {', '.join(KINDS)}, such as scene=pca:256"
            )
        maps.update(dict.fromkeys([place] if equals else ["scene", "timestamp"], LinearMap(kind, int(dims or 0))))
    return maps
