"""Batches from shards without an index: every clip once a pass for any number of ranks and workers, exact states, every loss named."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hear_ssl.data.options import CropConfig, DataConfig
from hear_ssl.data.shards.unindexed import is_unindexed, shard_lists
from hear_ssl.data.stream.batch import Batch
from hear_ssl.data.stream.unindexed_stream import UnindexedStream, joined_batch
from hear_ssl.training.stream_datamodule import data_module
from tests.data.plain_shards import flac, plain_folder, write_tar
from tests.data.stream.test_batch_stream import same


def config(*entries: str | Path, **options: Any) -> DataConfig:
    given = {"batch_size": 8, "crops": [CropConfig(0.25)], "workers": 0, **options}
    return DataConfig(shards=[str(entry) for entry in entries], **given)


def stream(chosen: DataConfig, rank: int = 0, ranks: int = 1, seed: int = 0) -> UnindexedStream:
    unindexed = [entry for entry in chosen.shards if is_unindexed(entry)]
    made = UnindexedStream(shard_lists(chosen, unindexed), chosen, 16000, seed)
    made.share(rank, ranks)
    return made


class Parts:
    """The batches of one rank, by as many readers as it has workers, in this process."""

    def __init__(self, made: UnindexedStream, states: dict[int, Any] | None = None) -> None:
        self.stream, self.readers = made, []
        for part in range(made.parts):
            number = made.rank * made.parts + part
            reader = made.reader(number, part)
            if states:
                reader.load(states[number])
            self.readers.append((number, part, reader))

    def batch(self) -> Batch:
        rows = [
            self.stream.rows * (part + 1) // self.stream.parts - self.stream.rows * part // self.stream.parts for _, part, _ in self.readers
        ]
        parts = [self.stream.part(reader, number, count, False) for (number, _, reader), count in zip(self.readers, rows, strict=True)]
        return joined_batch(parts)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_folder(tmp_path_factory.mktemp("plain") / "speech", [12, 7, 1, 9, 3])


@pytest.mark.parametrize("shards", [1, 2, 5])
@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (1, 3), (2, 2), (4, 1), (8, 1)])
def test_every_rank_has_full_batches_and_together_they_draw_every_clip_as_often(plain: Path, shards: int, ranks: int, workers: int) -> None:
    chosen = config(f"{plain}/a-{{000..{shards - 1:03d}}}.tar", workers=workers)
    clips = sum([12, 7, 1, 9, 3][:shards])
    seen: Counter[str] = Counter()
    for rank in range(ranks):
        parts = Parts(stream(chosen, rank, ranks))
        for _ in range(2 * clips):  # each rank draws on its own: ranks differ by shards of other sizes, never by the number of steps
            batch = parts.batch()
            assert batch.waveform.shape == (8 // ranks, 2, 4000)
            assert len(batch.keys) == len(batch.seeds) == 8 // ranks
            assert not batch.lost
            seen.update(batch.keys)
    assert len(seen) == clips
    assert max(seen.values()) < 6 * min(seen.values())


def test_a_pass_holds_every_clip_once(plain: Path) -> None:
    parts = Parts(stream(config(plain)))
    for _ in range(3):
        seen = Counter(key for _ in range(4) for key in parts.batch().keys)
        assert set(seen.values()) == {1}
        assert len(seen) == 32


def test_a_batch_follows_from_the_seed(plain: Path) -> None:
    one, again, other = (Parts(stream(config(plain, workers=2), seed=seed)) for seed in (0, 0, 1))
    first = [one.batch() for _ in range(6)]
    assert all(same(batch, again.batch()) for batch in first)
    assert [batch.keys for batch in first] != [other.batch().keys for _ in first]
    assert len({tuple(batch.keys) for batch in first}) == 6


@pytest.mark.parametrize("taken", [1, 3, 4, 9, 30])
@pytest.mark.parametrize("options", [{}, {"workers": 3}, {"workers": 2, "shuffle_mb": 1.0, "interleave": 2}])
def test_the_states_of_a_batch_lead_to_the_next_bit_for_bit(plain: Path, taken: int, options: dict[str, Any]) -> None:
    made = stream(config(plain, **options))
    parts = Parts(made)
    states: dict[int, Any] = {}
    for _ in range(taken):
        states.update(parts.batch().readers)
    saved = {int(number): state for number, state in json.loads(json.dumps(states)).items()}
    resumed = Parts(stream(config(plain, **options)), saved)
    for _ in range(8):
        assert same(parts.batch(), resumed.batch())


def test_weights_are_kept_and_restored(plain: Path, tmp_path: Path) -> None:
    members = [(f"music{clip:03d}.flac", flac(clip)) for clip in range(11)]
    write_tar(tmp_path / "music" / "m-000.tar", members[:5])
    write_tar(tmp_path / "music" / "m-001.tar", members[5:])
    chosen = config(plain, tmp_path / "music", weights=[3.0, 1.0], batch_size=100, crops=[CropConfig(0.05)])
    parts = Parts(stream(chosen))
    batches = [parts.batch() for _ in range(10)]
    seen = Counter(key for batch in batches for key in batch.keys)
    assert sum(count for key, count in seen.items() if key.startswith("music")) == 250
    assert len(seen) == 32 + 11
    resumed = Parts(stream(chosen), batches[3].readers)
    assert same(resumed.batch(), batches[4])


def test_what_cannot_be_read_is_named_and_replaced(plain: Path, tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "mixed", [6, 6, 6])
    write_tar(folder / "a-001.tar", [("a.txt", b"no sound"), ("b.flac", b"no flac"), ("c.flac", flac(3))])
    (folder / "a-002.tar").write_bytes((folder / "a-002.tar").read_bytes()[:4000])
    (folder / "a-003.tar").write_bytes(b"no archive" * 100)
    parts = Parts(stream(config(folder, batch_size=4)))
    lost = {}
    for _ in range(12):
        batch = parts.batch()
        assert torch.isfinite(batch.waveform).all()
        assert len(batch.keys) == 4
        lost.update({(Path(loss.shard).name, loss.key): loss.reason for loss in batch.lost})
    assert "has no audio member" in lost["a-001.tar", "a"]
    assert ("a-001.tar", "b") in lost
    assert ("a-002.tar", "the shard") in lost
    assert ("a-003.tar", "the shard") in lost
    assert all("\n" not in reason for reason in lost.values())


def test_shards_of_which_nothing_can_be_read_end_in_one_line(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("a.txt", b"x"), ("b.txt", b"x")])
    with pytest.raises(ValueError, match=r"20 clips in a row cannot be read; the first: .*a\.tar/[ab]: has no audio member"):
        Parts(stream(config(tmp_path / "a.tar"))).batch()


def test_entries_with_and_without_an_index_are_read_in_sequence_together(plain: Path, shards: Path) -> None:
    made = stream(config(plain, shards, batch_size=4))
    seen = Counter(key for parts in [Parts(made)] for _ in range(14) for key in parts.batch().keys)
    assert len(seen) == 32 + 24
    assert set(seen.values()) == {1}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"positives": "pairs"}, "data.positives=pairs needs shards with an index"),
        ({"window_shards": 2}, "data.window_shards is for shards with an index"),
        ({"weights": [1.0, 2.0]}, "data.weights has 2 numbers for 1 source"),
        ({"weights": [math.nan]}, "give a finite one above 0"),
    ],
)
def test_options_that_do_not_fit_are_one_line(plain: Path, options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        stream(config(plain, **options))


def test_the_clips_of_the_first_pass_are_counted_for_the_data_card(plain: Path) -> None:
    parts = Parts(stream(config(plain)))
    clips, seconds = 0, 0.0
    for _ in range(12):
        for number, (some, length) in parts.batch().streamed.items():
            assert number == 0
            clips, seconds = clips + some, seconds + length
    assert clips == 32
    assert seconds == pytest.approx(sum(0.3 + 0.01 * (clip % 5) for count in (12, 7, 1, 9, 3) for clip in range(count)), rel=1e-3)


def test_no_copy_of_a_clip_is_made_on_disk(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Parts(stream(config(plain, cache=str(tmp_path / "cache")))).batch()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_worker_processes_deliver_what_their_readers_draw(plain: Path, workers: int) -> None:
    chosen = config(plain, workers=workers)
    delivered = list(islice(data_module(chosen, 16000, 0).train_dataloader(), 9))
    parts = Parts(stream(chosen))
    assert all(same(batch, parts.batch()) for batch in delivered)
    resumed = data_module(chosen, 16000, 0)
    resumed.load_state_dict(state_after(chosen, delivered[:4]))
    assert all(same(one, other) for one, other in zip(delivered[4:], resumed.train_dataloader(), strict=False))


def state_after(chosen: DataConfig, batches: list[Batch]) -> dict[str, Any]:
    data = data_module(chosen, 16000, 0)
    for batch in batches:
        data.count(batch)
    data.trainer = type("Trainer", (), {"global_step": len(batches), "global_rank": 0, "world_size": 1})()
    state: dict[str, Any] = data.state_dict()
    return state


def test_crops_sound_as_their_clips_do(plain: Path) -> None:
    batch = Parts(stream(config(plain, crops=[CropConfig(0.2, 1)]))).batch()
    for row, key in enumerate(batch.keys):
        expected = 200.0 + 7.0 * (20 * int(key[1:4]) + int(key[5:]))
        spectrum = np.abs(np.fft.rfft(batch.waveform[row, 0].numpy() * np.hanning(3200), 16000))
        assert abs(int(spectrum.argmax()) - expected) < 4.0
