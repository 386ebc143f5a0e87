"""Make index.json for WebDataset shards that another tool wrote, so that training can read them as they are.

    python -m hear_ssl.data.reindex FOLDER --license CC-BY-4.0

Every clip needs an audio member, whose suffix ends in flac, wav, ogg, opus or mp3 (`--audio` chooses one of several); a .json member
may contain its record. All clips need the same sample rate. Other members are ignored; keys and suffixes are defined as in webdataset.
Shards are read, never changed; the clip offsets of each are written to a file next to it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import soundfile
from tqdm import tqdm

from hear_ssl.data.shards.clip_offsets import AUDIO_SUFFIXES, Clip, read_bytes, read_clips, write_clip_offsets
from hear_ssl.data.shards.shard_index import INDEX_NAME, SHARD_NAME, ShardIndex, ShardRecord, SourceRecord, check_split, write_index
from hear_ssl.data.stream.decode import decode_whole, decoder_reason
from hear_ssl.data.stream.stated_length import MAGIC, states_its_length
from hear_ssl.files import remove_parts, sha256_of
from hear_ssl.folder_lock import OUT_BUSY, folder_lock
from hear_ssl.model.audio_file import streams
from hear_ssl.test_data_rule import RULE, marked_folder, marked_part, marks_test


def reindex(folder: Path, license: str, source: str = "", split: str = "train", not_test: bool = False, audio: str = "") -> ShardIndex:
    """Write the index of a folder of shards and return it. not_test: the data are not test data although a name suggests it.

    audio: the suffix of the audio member if clips have several, such as mic1.flac.

    Raises ValueError that names the shard when it is damaged or has an invalid name, a clip does not decode or is marked as test, or
    sample rates differ, and when folder, source or shard are named as test data; FileExistsError when an index exists.
    """
    paths = sorted(folder.glob("*.tar"))
    if not paths:
        raise ValueError(f"{folder} holds no .tar shards; give the folder of a WebDataset")
    check_split(split, "--split")
    name = source or folder.resolve().name
    mark = marked_folder(folder.resolve().name) or marked_part([source, *(path.stem for path in paths)])
    if mark and not not_test:
        raise ValueError(f"{folder} contains {mark!r}: {RULE}; if it is not test data, add --not-test {name!r}")
    with folder_lock(folder, OUT_BUSY):
        return _reindex(folder, paths, SourceRecord(name, license, 0.0, 0, mark), split, audio.lower())


def _reindex(folder: Path, paths: list[Path], source: SourceRecord, split: str, audio: str) -> ShardIndex:
    remove_parts(folder)
    if (folder / INDEX_NAME).exists():
        raise FileExistsError(f"{folder / INDEX_NAME} already exists; remove it to build a new index")
    records, kinds = [], set()
    for path in tqdm(paths, unit="shard", desc="reading"):
        if not SHARD_NAME.fullmatch(path.name):
            raise ValueError(f"{path.name!r} is not the name of a shard; use letters, digits, dot, hyphen and underscore")
        seconds = 0.0
        clips = read_clips(path, audio)
        for clip in clips:
            check_record(clip)
            rate, clip_seconds = header(clip)
            kinds.add((rate, clip.codec))
            seconds += clip_seconds
            if len({kind[0] for kind in kinds}) > 1:
                raise ValueError(f"{path}: clip {clip.key} has {rate} Hz, others another rate; train without an index, or pack again")
        records.append(ShardRecord(path.name, len(clips), path.stat().st_size, sha256_of(path), round(seconds, 3)))
    if not kinds:
        raise ValueError(f"{folder} holds no clips: a clip has an audio member ({', '.join(AUDIO_SUFFIXES)})")
    hours, count = round(sum(record.seconds for record in records) / 3600, 6), sum(record.clips for record in records)
    codecs = "+".join(sorted({codec for _, codec in kinds}))
    sources = (replace(source, hours=hours, clips=count),)
    index = ShardIndex(next(iter(kinds))[0], codecs, split, hours, count, tuple(records), sources, {}, audio)
    for record in records:
        write_clip_offsets(folder / record.name, record.sha256, audio)
    write_index(folder, index)
    return index


def header(clip: Clip) -> tuple[int, float]:
    """Return sample rate in Hz and real length in seconds of a clip, which is decoded if its header does not state that length.

    Raises ValueError when it does not decode to its end, or its sample rate is impossible.
    """
    content = read_bytes(clip.shard, clip.offset, clip.size)
    try:
        rate, frames = _stated(content)
        frames = frames or len(decode_whole(content, rate))
    except (soundfile.SoundFileError, RuntimeError, ValueError) as error:
        raise ValueError(f"{clip.shard}: clip {clip.key} does not decode ({decoder_reason(error)[:80]}); pack again without it") from None
    return rate, frames / rate


def _stated(content: bytes) -> tuple[int, int]:
    """Return the sample rate in Hz and the length in samples in a clip's header; 0 for an unreliable length."""
    first = streams(content)[0]
    with first.open() as sound:
        frames = int(sound.frames)
    known = first.frames if content[:4] == MAGIC else frames
    return first.rate, known if states_its_length(content, known) else 0


def check_record(clip: Clip) -> None:
    """Raise ValueError when the JSON of a clip, if it has one, is damaged or marks it as test data."""
    if not clip.json_size:
        return
    try:
        record = json.loads(read_bytes(clip.shard, clip.json_offset, clip.json_size))
    except (ValueError, RecursionError):
        raise ValueError(f"{clip.shard}: the JSON of clip {clip.key} is damaged; pack again without it") from None
    split = record.get("split") if isinstance(record, dict) else None
    if isinstance(split, str) and marks_test(split):
        check_split(split, f"{clip.shard}: the JSON of clip {clip.key}")
