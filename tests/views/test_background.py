"""Background noise lies at the ratio that is asked for, and comes from where it is said to come."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor

from hear_ssl.views.sound_folder import Sounds, sound_files
from tests.views.measure import RATE, SEEDS, TIME, changed, noise, part_of, power_db, share_db, sine, views, write


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    """Write three tones, one of them shorter than a clip, into folders of a folder."""
    write(tmp_path / "noises" / "low", hum=sine(50.0, 5 * TIME))
    return write(tmp_path / "noises" / "high", beep=sine(3000.0, 800), whistle=sine(6000.0, TIME)).parent


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 17.5])
def test_noise_of_a_folder_has_the_ratio(tones: Path, snr_db: float) -> None:
    added = changed("background", noise(), folder=str(tones), snr_db=(snr_db,)) - noise()
    torch.testing.assert_close(power_db(noise()) - power_db(added), torch.full((len(SEEDS),), snr_db).double(), rtol=0, atol=0.01)


def test_every_clip_draws_its_sound_its_ratio_and_its_place(tones: Path) -> None:
    seeds = torch.arange(60)
    added = changed("background", noise(60), seeds, folder=str(tones), snr_db=(0.0, 20.0)) - noise(60)
    ratio = power_db(noise(60)) - power_db(added)
    assert -0.1 < ratio.min() < 2.0
    assert 18.0 < ratio.max() < 20.1
    shares = torch.stack([share_db(added, hertz - 10, hertz + 10) for hertz in (50.0, 3000.0, 6000.0)], 1)
    assert (shares.amax(1) > -0.1).all()  # one of the tones, also where it is repeated: 800 samples are 150 periods
    assert shares.argmax(1).bincount().min() > 8
    hum = added[shares.argmax(1) == 0]
    assert not torch.allclose(hum[0] / hum[0].norm(), hum[1] / hum[1].norm(), atol=1e-3)


def test_segments_fit_into_their_sound_or_repeat_it() -> None:
    sounds = Sounds([torch.arange(5.0), 10 + torch.arange(2.0), 20 + torch.arange(3.0)], "")
    chosen, share = torch.tensor([[0], [0], [0], [1], [2]]), torch.tensor([[0.0], [0.5], [0.9999999], [0.7], [0.0]])
    assert sounds.segments(chosen, share, 3).tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [10, 11, 10], [20, 21, 22]]
    assert sounds.beginnings(chosen[2:], 4).tolist() == [[0, 1, 2, 3], [10, 11, 0, 0], [20, 21, 22, 0]]


def test_silent_clips_stay_silent_and_silent_noise_changes_nothing(tmp_path: Path) -> None:
    late = torch.zeros(3 * TIME)
    late[-1] = 1.0
    folder = str(write(tmp_path / "noises", late=late))
    assert torch.equal(changed("background", noise(), folder=folder), noise())
    assert changed("background", torch.zeros(TIME), folder=folder).abs().max() == 0


def test_memory_is_bounded_and_the_note_names_how_much_was_read(tones: Path) -> None:
    part = part_of(views("background", folder=str(tones), minutes=2.5 / 60, seconds=1.0))
    assert part.note == f"views.0.augment.0.background: 2.0 s from 3 of 3 files in {tones}"
    part = part_of(views("background", folder=str(tones), minutes=0.01, seconds=10.0))
    assert part.note.startswith("views.0.augment.0.background: 0.")
    assert isinstance(part.sounds, Sounds)
    assert len(part.sounds.on(torch.device("cpu"))[0]) == round(0.6 * RATE)


def test_the_order_of_files_depends_on_their_names_alone(tones: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tones, tmp_path / "elsewhere"))
    (copy / "notes.txt").write_text("no audio")
    (copy / ".hidden.wav").write_text("no audio")
    assert sound_files(str(copy)) == sound_files(str(tones))
    assert sorted(sound_files(str(copy))) == ["high/beep.wav", "high/whistle.wav", "low/hum.wav"]


def test_stereo_compressed_files_of_another_rate_are_read(tmp_path: Path) -> None:
    (tmp_path / "noises").mkdir()
    stereo = torch.stack([sine(1000.0, 96000, 48000), 0.5 * sine(1000.0, 96000, 48000)], 1)
    soundfile.write(tmp_path / "noises" / "one.flac", stereo.numpy(), 48000)
    soundfile.write(tmp_path / "noises" / "two.ogg", stereo.numpy(), 48000)
    added = changed("background", noise(), folder=str(tmp_path / "noises")) - noise()
    assert share_db(added, 990, 1010).min() > -0.1


def test_a_run_does_not_resume_with_other_noise(tones: Path) -> None:
    state = views("background", folder=str(tones)).state_dict()
    views("background", folder=str(tones)).load_state_dict(state)
    (tones / "high" / "beep.wav").unlink()
    with pytest.raises(ValueError, match="noises has other sounds than when the run started"):
        views("background", folder=str(tones)).load_state_dict(state)


def remembered(batches: list[Tensor], **options: Any) -> list[Tensor]:
    """Return what other_clips makes of batches, one after another."""
    made = views("other_clips", batches[0].shape[1], **{"chance": 1.0, **options})
    return [made.waveforms([batch], SEEDS[: len(batch)] + 100 * step)[0] for step, batch in enumerate(batches)]


def test_other_clips_add_an_earlier_clip_at_the_ratio_and_nothing_in_the_first_step() -> None:
    tone = sine(440.0).expand(8, -1)
    first, second = remembered([tone, noise()], snr_db=(10.0,))
    assert torch.equal(first, tone)
    added = second - noise()
    torch.testing.assert_close(power_db(noise()) - power_db(added), torch.full((8,), 10.0).double(), rtol=0, atol=0.01)
    assert share_db(added, 430, 450).min() > -0.01


def test_other_clips_are_kept_without_augmentation_shared_between_views_and_resume_exactly() -> None:
    made = views("other_clips", memory=12, chance=1.0)
    for step in range(3):
        made.waveforms([noise() * (step + 1)], SEEDS + step)
    state = made.state_dict()
    assert state["views.0.0.memory"].dtype == torch.float16
    torch.testing.assert_close(state["views.0.0.memory"][:8].float(), 3 * noise(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(state["views.0.0.memory"][8:].float(), 2 * noise()[:4], rtol=1e-3, atol=1e-4)
    resumed = views("other_clips", memory=12, chance=1.0)
    resumed.load_state_dict(state)
    assert torch.equal(resumed.waveforms([noise()], SEEDS)[0], made.waveforms([noise()], SEEDS)[0])


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("background", {}, r"^folder is empty; give a folder with audio files, or use other_clips"),
        ("background", {"folder": "/no/such"}, r"background: folder /no/such does not exist; give a folder with audio files$"),
        ("background", {"folder": __file__}, r"test_background.py is not a folder; give a folder with audio files$"),
        ("background", {"folder": "s3://key:secret@noise"}, r"is an address; give a folder of this machine$"),
        ("background", {"folder": "x", "snr_db": (9.0, 3.0)}, r"^snr_db is \[9.0, 3.0\]; give the lowest"),
        ("other_clips", {"snr_db": ()}, r"^snr_db is \[\]; give the lowest"),
    ],
)
def test_wrong_options_get_one_line(name: str, options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line) as caught:
        views(name, **options)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"RIFF\0\0\0\0WAVE", r"bad.wav cannot be read as audio \(.*\); remove it from the folder$"),
        (b"", r"bad.wav cannot be read as audio \(.*\); remove it"),
        (torch.zeros(100), r"bad.wav is empty, silent or not finite; remove it"),
        (torch.full((100,), torch.nan), r"bad.wav is empty, silent or not finite; remove it"),
    ],
)
def test_a_file_that_is_no_sound_is_named(tones: Path, content: bytes | Tensor, line: str) -> None:
    if isinstance(content, bytes):
        (tones / "bad.wav").write_bytes(content)
    else:
        write(tones, bad=content)
    with pytest.raises(ValueError, match=line):
        views("background", folder=str(tones))


def test_a_folder_without_audio_or_of_test_data_is_refused(tones: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty has no audio file; give a folder with files that end in .aif, "):
        views("background", folder=str(tmp_path / "empty"))
    (tones / "high").rename(tones / "test-clean")
    with pytest.raises(ValueError, match=r"noises: test-clean is refused by the HEAR rule .*; give a folder without it"):
        views("background", folder=str(tones))
    write(tmp_path / "odd", 15999, a=sine(100.0, 100))
    with pytest.raises(
        ValueError, match=r"a.wav cannot be read as audio \(its sample rate of 15999 Hz is in no simple ratio to 16000 Hz\)"
    ):
        views("background", folder=str(tmp_path / "odd"))
