"""What an augmentation makes of a clip follows from the clip and its seed: in any batch, and in bfloat16 training too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hear_ssl.model.options import FrontendConfig, Part, options_of
from hear_ssl.views import AUGMENTATIONS, ViewConfig
from hear_ssl.views.sometimes import Sometimes
from hear_ssl.views.views import Views
from tests.views.measure import SEEDS, changed, noise, views, write

OF_THE_CLIP_ALONE = sorted(name for name, kind in AUGMENTATIONS.items() if kind.kind == "waveform" and name != "other_clips")


def options(name: str, folder: Path) -> dict[str, Any]:
    """Return what an augmentation needs apart from its defaults."""
    return {"folder": str(write(folder, noise=noise(1)[0], hum=noise(2)[1]))} if name == "background" else {}


@pytest.mark.parametrize("name", OF_THE_CLIP_ALONE)
@pytest.mark.parametrize("chance", [0.5, 1.0])
def test_a_view_is_the_same_in_any_batch(name: str, chance: float, tmp_path: Path) -> None:
    kind = options_of(AUGMENTATIONS[name])
    own = {**options(name, tmp_path), **({"chance": chance} if hasattr(kind(), "chance") else {})}
    whole = changed(name, noise(), **own)
    order = torch.tensor([5, 2, 7, 0])
    torch.testing.assert_close(changed(name, noise()[order], SEEDS[order], **own), whole[order], rtol=0, atol=2e-7)
    for row in range(len(SEEDS)):
        torch.testing.assert_close(changed(name, noise()[row : row + 1], SEEDS[row : row + 1], **own)[0], whole[row], rtol=0, atol=2e-7)
    assert torch.equal(changed(name, noise(), **own), whole)
    assert whole.shape == noise().shape
    assert whole.dtype == torch.float32
    assert not torch.equal(whole, noise())


@pytest.mark.parametrize("name", sorted(name for name, kind in AUGMENTATIONS.items() if issubclass(kind, Sometimes)))
def test_a_clip_that_is_not_chosen_keeps_its_samples_and_later_random_numbers(name: str, tmp_path: Path) -> None:
    own = options(name, tmp_path)
    assert torch.equal(changed(name, noise(), **own, chance=0.0), noise())
    some, every = changed(name, noise(), **own, chance=0.5), changed(name, noise(), **own)
    kept = (some == noise()).all(1)
    assert 0 < kept.sum() < len(SEEDS)
    torch.testing.assert_close(some[~kept], every[~kept], rtol=0, atol=2e-7)
    drawn = []
    for chance in (0.0, 0.5, 1.0):
        part, gain = (AUGMENTATIONS[one] for one in (name, "gain"))
        parts = (Part(name, part, options_of(part)(**own, chance=chance)), Part("gain", gain, options_of(gain)()))
        made = Views([ViewConfig(0, parts)], FrontendConfig(), [noise().shape[1]], [100])
        before = views(name, **own, chance=chance).waveforms([noise()], SEEDS)[0]
        drawn.append((made.waveforms([noise()], SEEDS)[0] / before).nanmedian(1).values)
    torch.testing.assert_close(drawn[0], drawn[1], rtol=1e-4, atol=0)
    torch.testing.assert_close(drawn[0], drawn[2], rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", OF_THE_CLIP_ALONE)
def test_training_in_bfloat16_has_the_same_views(name: str, tmp_path: Path) -> None:
    own = options(name, tmp_path)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = changed(name, noise(), **own)
    assert torch.equal(made, changed(name, noise(), **own))


@pytest.mark.parametrize("name", sorted(name for name, kind in AUGMENTATIONS.items() if issubclass(kind, Sometimes)))
def test_clips_on_a_gpu_are_changed_without_choosing_rows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device all clips are changed, and those that are chosen kept: computed here on the CPU."""
    own = {**options(name, tmp_path), "chance": 0.5}
    expected = changed(name, noise(), **own)
    monkeypatch.setattr("hear_ssl.views.sometimes.chooses_rows", lambda device: False)
    torch.testing.assert_close(changed(name, noise(), **own), expected, rtol=0, atol=2e-6)
