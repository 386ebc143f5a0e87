"""The objectives' part of the config: one dataclass a term, each with the paper its defaults come from."""

from __future__ import annotations

from dataclasses import dataclass, field

from hear_ssl.model.options import option

WIDTH_RULES = ("dimensions", 2, 65536)


def weight(default: float = 0.0) -> float:
    """Declare a term's weight in the sum."""
    value: float = option(default, "weight in the sum; 0 leaves the term out", "", 0.0)
    return value


def width(default: int, meaning: str) -> int:
    """Declare a layer's width."""
    value: int = option(default, meaning, *WIDTH_RULES)
    return value


def temperature(default: float) -> float:
    """Declare the temperature of a softmax over similarities."""
    value: float = option(default, "temperature of the softmax over similarities", "cosine", 1e-3, 10.0)
    return value


def chunk() -> int:
    """Declare how many rows of the similarity matrix are held at once."""
    value: int = option(0, "rows of the similarity matrix held at once, for large batches; 0 holds all", "rows", 0)
    return value


@dataclass(frozen=True)
class NTXentConfig:
    """SimCLR (Chen et al., 2020)."""

    weight: float = weight()
    temperature: float = temperature(0.1)
    projection_dim: int = width(256, "width of the projection")
    hidden_dim: int = width(1024, "width of the projection head's hidden layer")
    chunk: int = chunk()


@dataclass(frozen=True)
class COLAConfig:
    """COLA (Saeed, Grangier and Zeghidour, 2021)."""

    weight: float = weight()
    projection_dim: int = width(512, "width of the projection")
    similarity: str = option("bilinear", "similarity of projections", choices=("bilinear", "cosine"))
    temperature: float = option(0.2, "temperature of the cosine similarity; the bilinear one has none", "cosine", 1e-3, 10.0)
    symmetric: bool = option(False, "average over both directions; the paper contrasts anchors with positives only")
    chunk: int = chunk()


@dataclass(frozen=True)
class MoCoConfig:
    """MoCo v3 (Chen, Xie and He, 2021)."""

    weight: float = weight()
    temperature: float = temperature(1.0)
    projection_dim: int = width(256, "width of the projection")
    hidden_dim: int = width(4096, "width of the hidden layers of projector and predictor")
    chunk: int = chunk()


@dataclass(frozen=True)
class BYOLConfig:
    """BYOL-A v2 (Niizumi et al., 2023)."""

    weight: float = weight()
    projection_dim: int = width(256, "width of the projection")
    hidden_dim: int = width(4096, "width of the hidden layers of projector and predictor")


@dataclass(frozen=True)
class BarlowTwinsConfig:
    """Barlow Twins (Zbontar et al., 2021)."""

    weight: float = weight()
    off_diagonal: float = option(0.005, "weight of the redundancy term (lambda)", "", 0.0)
    projection_dim: int = width(1024, "width of the projection")
    hidden_dim: int = width(4096, "width of the projection head's hidden layer")


@dataclass(frozen=True)
class VICRegConfig:
    """VICReg (Bardes, Ponce and LeCun, 2022)."""

    weight: float = weight()
    invariance: float = option(25.0, "weight of the invariance term", "", 0.0)
    variance: float = option(25.0, "weight of the variance term, half of which falls on each view", "", 0.0)
    covariance: float = option(1.0, "weight of the covariance term", "", 0.0)
    projection_dim: int = width(2048, "width of the three layers of the expander")


@dataclass(frozen=True)
class FrameConfig:
    """Frame contrast (Kuroyanagi and Komatsu, 2025); needs two views of one crop."""

    weight: float = weight()
    temperature: float = temperature(0.1)
    projection_dim: int = width(128, "width of the projection")
    hidden_dim: int = width(512, "width of the projection head's hidden layer")
    stride: int = option(1, "every how many-th token takes part", "tokens", 1, 1024)
    guard_ms: float = option(0.0, "frames of the same clip nearer than this are no negatives", "ms", 0.0, 60000.0)
    chunk: int = chunk()


@dataclass(frozen=True)
class PitchConfig:
    """Pitch equivariance, in the spirit of PESTO (Riou et al., 2023)."""

    weight: float = weight()
    semitones: float = option(6.0, "largest shift of the pitch-shifted view, up or down", "semitones", 0.5, 24.0)
    hidden_dim: int = width(256, "width of the pitch head's hidden layer")
    scale: float = option(1.0, "errors above this count linearly (Huber)", "semitones", 1e-3, 100.0)


@dataclass(frozen=True)
class ObjectiveConfig:
    """What the encoder learns by: a weighted sum of terms on one forward pass."""

    nt_xent: NTXentConfig = field(default_factory=NTXentConfig)
    cola: COLAConfig = field(default_factory=COLAConfig)
    moco_v3: MoCoConfig = field(default_factory=MoCoConfig)
    byol: BYOLConfig = field(default_factory=BYOLConfig)
    barlow_twins: BarlowTwinsConfig = field(default_factory=BarlowTwinsConfig)
    vicreg: VICRegConfig = field(default_factory=VICRegConfig)
    frame: FrameConfig = field(default_factory=FrameConfig)
    pitch: PitchConfig = field(default_factory=PitchConfig)
