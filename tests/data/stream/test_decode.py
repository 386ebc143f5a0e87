"""Decoding a crop: the very samples that decoding the whole clip would give, or a line that has the reason not."""

from __future__ import annotations

import io
import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hear_ssl.data.stream import memory_sound_file as sound_bytes
from hear_ssl.data.stream.decode import PREROLL, wav_layout
from tests.data.reading import decode_crops
from tests.data.sounds import encoded, tone

KINDS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "FLOAT"),
    ("WAVEX", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]
TOLERANCE = {"OGG": 2e-6, "MP3": 2e-6}  # their decoders round otherwise after a seek
LAST_SHARE = float(np.nextafter(1.0, 0.0))


def noise(frames: int, channels: int = 1) -> NDArray[np.float32]:
    """Return noise, in which no two places are alike, (time,) or (time, channels)."""
    waveform = np.random.default_rng(frames).uniform(-0.9, 0.9, (frames, channels)).astype(np.float32)
    return waveform[:, 0] if channels == 1 else waveform


def whole(content: bytes) -> NDArray[np.float32]:
    """Return all of a clip in mono (time,) as soundfile decodes it."""
    waveform, _ = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    return np.asarray(waveform.mean(axis=1), dtype=np.float32)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("format", "subtype"), KINDS)
def test_a_crop_is_the_slice_of_the_whole(format: str, subtype: str, channels: int) -> None:
    content = encoded(noise(24000, channels), format=format, subtype=subtype)
    expected = whole(content)
    assert len(expected) == 24000
    for share in (0.0, 0.3, 0.71, LAST_SHARE):
        crop = decode_crops(content, [share], 4000, 16000)[0]
        start = int(share * 20001)
        assert (crop.shape, crop.dtype) == ((4000,), np.float32)
        np.testing.assert_allclose(crop, expected[start : start + 4000], rtol=0, atol=TOLERANCE.get(format, 1e-7))


@pytest.mark.parametrize(("format", "subtype"), KINDS)
def test_a_crop_does_not_depend_on_the_crops_before_it(format: str, subtype: str) -> None:
    content = encoded(noise(24000), format=format, subtype=subtype)
    shares = [0.1, 0.2, 0.5, 0.9, 0.5, 0.0]
    together = decode_crops(content, shares, 2000, 16000)
    for share, crop in zip(shares, together, strict=True):
        np.testing.assert_allclose(crop, decode_crops(content, [share], 2000, 16000)[0], rtol=0, atol=2e-6)


@given(st.integers(1, 3000), st.integers(1, 3000), st.floats(0.0, 1.0, exclude_max=True))
@settings(max_examples=200, deadline=None)
@example(100, 100, 0.5)
@example(101, 100, LAST_SHARE)
@example(1, 3000, LAST_SHARE)
def test_16_bit_wav_is_sliced_as_soundfile_reads_it(frames: int, time: int, share: float) -> None:
    content = encoded(noise(frames), subtype="PCM_16")
    crop = decode_crops(content, [share], time, 16000)[0]
    expected = whole(content)
    spare = frames - time
    start = int(share * (abs(spare) + 1))
    if spare >= 0:
        assert np.array_equal(crop, expected[start : start + time])
    else:
        assert np.array_equal(crop, np.pad(expected, (start, -spare - start)))


@pytest.mark.parametrize(("format", "subtype"), KINDS)
@pytest.mark.parametrize("share", [0.0, 0.25, LAST_SHARE])
def test_a_clip_shorter_than_the_crop_lies_whole_within_zeros(format: str, subtype: str, share: float) -> None:
    content = encoded(noise(4000), format=format, subtype=subtype)
    crop = decode_crops(content, [share], 16000, 16000)[0]
    before = int(share * 12001)
    np.testing.assert_allclose(crop, np.pad(whole(content), (before, 12000 - before)), rtol=0, atol=TOLERANCE.get(format, 1e-7))
    assert crop.shape == (16000,)


def test_a_clip_as_long_as_the_crop_is_the_crop() -> None:
    for format, subtype in KINDS:
        content = encoded(noise(4000), format=format, subtype=subtype)
        for share in (0.0, 0.6, LAST_SHARE):
            np.testing.assert_allclose(
                decode_crops(content, [share], 4000, 16000)[0], whole(content), rtol=0, atol=TOLERANCE.get(format, 1e-7)
            )


def test_a_wav_with_chunks_before_and_behind_its_samples_is_sliced_right() -> None:
    plain = encoded(noise(1000), subtype="PCM_16")
    assert plain[36:40] == b"data"
    odd = b"LIST" + struct.pack("<I", 5) + b"INFOx\0"  # a chunk of odd size is padded to an even place
    tail = b"cue " + struct.pack("<I", 4) + b"\0" * 4
    content = plain[:36] + odd + plain[36:] + tail
    assert wav_layout(content) == (16000, 1, 44 + len(odd), 2000)
    assert np.array_equal(decode_crops(content, [0.0], 1000, 16000)[0], whole(plain))


def test_a_wav_of_unknown_length_ends_with_its_bytes() -> None:
    plain = encoded(noise(1000), subtype="PCM_16")
    streamed = plain[:40] + b"\xff" * 4 + plain[44:]  # what a pipe writes
    assert np.array_equal(decode_crops(streamed, [0.0], 1000, 16000)[0], whole(plain))


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG"])
def test_another_rate_is_refused_with_the_way_to_mend_it(format: str) -> None:
    with pytest.raises(ValueError, match=r"^has 8000 Hz; the model wants 16000 Hz: pack again with --sample-rate 16000$"):
        decode_crops(encoded(tone(1.0, rate=8000), 8000, format), [0.5], 4000, 16000)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 1000, b"RIFF", b"fLaC" + b"\0" * 100, b"OggS" * 50, encoded(noise(9000), format="FLAC")[:4000]]
)
def test_what_does_not_decode_is_one_line(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"^(does not decode|ends after)") as caught:
        decode_crops(content, [LAST_SHARE], 4000, 16000)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (encoded(np.zeros(0, np.float32)), "holds no samples"),
        (encoded(np.zeros(0, np.float32), format="OGG"), "holds no samples"),
        *(
            (encoded(np.where(np.arange(9000) == 4500, value, noise(9000)), subtype="FLOAT"), "holds samples that are not finite")
            for value in (np.nan, np.inf, -np.inf, -1e30)
        ),
    ],
)
@pytest.mark.parametrize("time", [5000, 10000])
def test_what_cannot_be_trained_on_is_one_line(content: bytes, line: str, time: int) -> None:
    with pytest.raises(ValueError, match=f"^{line}"):
        decode_crops(content, [0.5], time, 16000)


@pytest.mark.parametrize(("format", "subtype"), KINDS)
def test_crops_are_the_same_bits_each_time_and_those_of_soundfile(format: str, subtype: str) -> None:
    """The open file of this package reads as soundfile's own does after the same seek."""
    content = encoded(noise(24000), format=format, subtype=subtype)
    for share in (0.0, 0.37, LAST_SHARE):
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            start = int(share * 20001)
            before = min(start, PREROLL) if format == "MP3" else 0
            file.seek(start - before)
            expected = file.read(before + 4000, dtype="float32")[before:]
        for _ in range(3):
            assert np.array_equal(decode_crops(content, [share], 4000, 16000)[0], expected)


def test_without_the_internals_of_soundfile_its_own_file_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [encoded(noise(24000, channels), format="FLAC") for channels in (1, 2)]
    expected = [decode_crops(content, [0.2, 0.7], 4000, 16000) for content in contents]
    monkeypatch.setattr(sound_bytes, "SoundBytes", None)
    monkeypatch.setattr(sound_bytes, "soundfile", SimpleNamespace(SoundFile=soundfile.SoundFile))
    assert np.array_equal([decode_crops(content, [0.2, 0.7], 4000, 16000) for content in contents], expected)


@given(st.sampled_from(["WAV", "FLAC", "OGG", "MP3"]), st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_bytes_give_a_crop_or_a_value_error(format: str, data: st.DataObject) -> None:
    content = bytearray(encoded(tone(0.2), format=format))
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, 200) | st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=4)
    ):
        content[min(place, len(content) - 1)] = value
    try:
        crop: Any = decode_crops(bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))]), [0.4], 1000, 16000)[0]
    except ValueError:
        return
    assert (crop.shape, crop.dtype) == ((1000,), np.float32)


def test_a_wav_that_ends_within_its_fmt_chunk_is_a_value_error() -> None:
    content = b"RIFF\x80\0\0\0WAVE" + b"LIST" + struct.pack("<I", 20) + b"x" * 20 + b"fmt " + struct.pack("<I", 16) + b"\1\0"
    with pytest.raises(ValueError, match=r"does not decode"):
        decode_crops(content, [0.0], 1000, 16000)


def test_the_reason_is_the_same_on_every_reading() -> None:
    with pytest.raises(ValueError, match=r"^does not decode") as caught:
        decode_crops(bytes(1000), [0.0], 100, 16000)
    assert " at 0x" not in str(caught.value)
