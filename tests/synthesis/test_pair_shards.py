"""Pairs on disk: records that name each other, and the same clips from any number of processes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_ssl.data.packing.shard_writer import EncodedClip
from hear_ssl.data.shards.shard_index import read_index
from hear_ssl.synthesis.pair_shards import Format, Origin, check_request, describe, encode_pair, render_in_order, write_pairs

ORIGIN = Origin("test", "CC0-1.0")


def render(number: int) -> list[EncodedClip]:
    """Return a pair of tones of `number` Hz and of its octave."""
    time = np.arange(1600) / 8000
    return encode_pair(f"t{number}", (np.sin(number * time), np.sin(2 * number * time)), Format(8000), ORIGIN)


def test_the_clips_of_a_pair_name_each_other_and_decode_to_their_waveforms() -> None:
    waveforms = np.linspace(-0.5, 0.5, 800), np.linspace(0.5, -0.5, 400)
    first, second = encode_pair("x", waveforms, Format(8000, "wav"), ORIGIN)
    assert (first.key, first.record["pair"], second.key, second.record["pair"]) == ("xa", "xb", "xb", "xa")
    assert (first.record["seconds"], second.record["seconds"]) == (0.1, 0.05)
    decoded, rate = soundfile.read(io.BytesIO(first.audio))
    assert rate == 8000
    np.testing.assert_allclose(decoded, waveforms[0], atol=1 / 32768)


@pytest.mark.slow
def test_any_number_of_processes_gives_the_same_clips_in_order() -> None:
    assert list(render_in_order(render, range(1, 9), workers=2)) == list(render_in_order(render, range(1, 9), workers=1))


def test_shards_have_an_index_that_is_described_in_one_line(tmp_path: Path) -> None:
    out = tmp_path / "new" / "shards"
    index = read_index(write_pairs(out, render_in_order(render, range(1, 4), 1), 6, Format(8000), ORIGIN, progress=False))
    assert [(source.name, source.license, source.clips) for source in index.sources] == [("test", "CC0-1.0", 6)]
    assert describe(index, out) == f"6 clips, 0.00 hours, 1 shard in {out}"


def test_an_interrupted_run_leaves_no_file(tmp_path: Path) -> None:
    def stop(number: int) -> list[EncodedClip]:
        if number == 3:
            raise KeyboardInterrupt
        return render(number)

    with pytest.raises(KeyboardInterrupt):
        write_pairs(tmp_path / "shards", render_in_order(stop, range(1, 9), 1), 16, Format(8000), ORIGIN, progress=False)
    assert list((tmp_path / "shards").iterdir()) == []


@pytest.mark.parametrize(
    ("clips", "seed", "workers", "words"), [(3, 0, 1, "even number"), (0, 0, 1, "even"), (2, -1, 1, "negative"), (2, 0, 0, "workers")]
)
def test_numbers_out_of_range_are_refused(clips: int, seed: int, workers: int, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        check_request(tmp_path, clips, seed, workers)
