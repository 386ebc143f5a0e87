"""Objectives, one per file; a run trains the weighted sum of those that its config names."""

from __future__ import annotations

from hear_ssl.model.options import option
from hear_ssl.objectives.barlow_twins import BarlowTwins
from hear_ssl.objectives.base import NEEDS, Objective
from hear_ssl.objectives.byol import BYOL
from hear_ssl.objectives.cola import COLA
from hear_ssl.objectives.encoded import Encoded
from hear_ssl.objectives.frame import FrameContrast
from hear_ssl.objectives.moco_v3 import MoCoV3
from hear_ssl.objectives.nt_xent import NTXent
from hear_ssl.objectives.pitch import PitchEquivariance
from hear_ssl.objectives.vicreg import VICReg

OBJECTIVES: dict[str, type[Objective]] = {
    "nt_xent": NTXent,
    "cola": COLA,
    "moco_v3": MoCoV3,
    "byol": BYOL,
    "barlow_twins": BarlowTwins,
    "vicreg": VICReg,
    "frame": FrameContrast,
    "pitch": PitchEquivariance,
}

__all__ = [
    "BYOL",
    "COLA",
    "NEEDS",
    "OBJECTIVES",
    "BarlowTwins",
    "Encoded",
    "FrameContrast",
    "MoCoV3",
    "NTXent",
    "Objective",
    "PitchEquivariance",
    "VICReg",
    "option",
]
