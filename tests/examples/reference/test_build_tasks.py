"""The tasks from small sounds: the evaluation reads them, labels are true of the audio, no kit or instrument is in two splits."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from examples.reference import build_tasks, effect_task, note_task, timbre_task, word_task
from examples.reference.hear_task import SAMPLE_RATE
from examples.reference.midi_notes import Note, Voice, midi_file, render
from hear_ssl.evaluation.tasks.task_format import read_clip, read_task

ROOT = Path(__file__).resolve().parents[3]
HITS = ("BD_1", "Snare", "hh closed", "HH-open", "Tom1", "crash", "Ride", "Cowbell")
TASKS = {task.name: (task, clips) for task, clips in build_tasks.TASKS}


def write_sound(path: Path, pitch: float, seconds: float = 0.3) -> None:
    """Write a tone at 22,050 Hz after 50 ms of silence."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * 22050)) / 22050
    soundfile.write(path, np.concatenate([np.zeros(1102), 0.8 * np.sin(2 * np.pi * pitch * time)]), 22050, subtype="PCM_16")


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write six drum kits, and five words of each language, as Debian's packages have them."""
    folder = tmp_path_factory.mktemp("audio")
    for kit in range(6):
        package = "hydrogen-data" if kit == 5 else "hydrogen-drumkits"
        for number, hit in enumerate(HITS[kit % 2 :]):
            write_sound(folder / package / f"usr/share/hydrogen/data/drumkits/Kit{kit}" / f"{hit}.wav", 200.0 + 100 * number)
        write_sound(folder / package / f"usr/share/hydrogen/data/drumkits/Kit{kit}" / "clap.wav", 300.0)
    for language in build_tasks.LANGUAGES:
        for word in range(5):
            write_sound(folder / "ktuberling-data/usr/share/ktuberling/sounds" / language / f"word{word}.wav", 300.0 + 50 * word)
    return folder


def played(voices: list[Voice], font: Path) -> np.ndarray:
    """Return a tone for each note (time,), silent below MIDI pitch 40, as `render` would of a sound font."""
    waveform = np.zeros(round(SAMPLE_RATE * (1.0 + max(note.end for voice in voices for note in voice.notes))), np.float32)
    for note in (note for voice in voices for note in voice.notes):
        first, last = round(note.start * SAMPLE_RATE), round(note.end * SAMPLE_RATE)
        hz = 440.0 * 2.0 ** ((note.pitch - 69) / 12)
        waveform[first:last] += (note.pitch >= 40) * 0.2 * np.sin(2 * np.pi * hz * np.arange(last - first) / SAMPLE_RATE)
    return waveform


@pytest.fixture
def font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for fluidsynth and the sound font; return the folder of audio."""
    monkeypatch.setattr(build_tasks, "render", played)
    monkeypatch.setattr(note_task, "render", played)
    monkeypatch.setattr(build_tasks, "PROGRAMS", range(16))
    (tmp_path / "audio" / "timgm6mb-soundfont").mkdir(parents=True)
    return tmp_path / "audio"


def peak_hz(waveform: np.ndarray) -> float:
    """Return the frequency of the largest peak of the spectrum."""
    return float(np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))).argmax() * SAMPLE_RATE / len(waveform))


def test_no_kit_is_in_two_folds(audio: Path, tmp_path: Path) -> None:
    task, clips = TASKS["dev_hydrogen_drums"]
    task.write(tmp_path, clips(audio))
    read = read_task(tmp_path / "dev_hydrogen_drums-v1-full")
    assert len(read.splits) == 5
    kits = [{file[:4] for file in read.indexes[split]} for split in read.splits]
    assert sum(map(len, kits)) == 6
    found = {file: labels for index in read.indexes.values() for file, labels in index.items()}
    assert found["Kit0_BD_1.wav"] == ["kick"]
    assert found["Kit4_HH_open.wav"] == ["hihat_open"]
    assert not any("clap" in file for file in found)
    assert "Kit5_Snare.wav" in found  # of the other package


def test_a_hit_is_where_its_event_says(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_tasks, "EVENT_COUNTS", {"train": 2, "valid": 1, "test": 1})
    task, clips = TASKS["dev_drum_events"]
    task.write(tmp_path, clips(audio))
    read = read_task(tmp_path / "dev_drum_events-v1-full")
    assert [len(read.indexes[split]) for split in ("train", "valid", "test")] == [2, 1, 1]
    for split, index in read.indexes.items():
        for file, events in index.items():
            waveform = read_clip(read.folder / "16000" / split / file, SAMPLE_RATE)
            assert len(events) > 15
            for event, following in pairwise(events):
                first, last = (round(event[edge] / 1000 * SAMPLE_RATE) for edge in ("start", "end"))
                assert last - first == pytest.approx(0.3 * SAMPLE_RATE, abs=50)
                if event["end"] + 10 < following["start"]:  # otherwise the next hit overlaps
                    assert np.abs(waveform[first : first + 160]).max() > 2 * np.abs(waveform[last + 20 : last + 100]).max()


def test_kits_rotate_over_the_splits(audio: Path) -> None:
    def kits(test: int, split: str) -> set[str]:
        return {path.parent.name for _, path in build_tasks.split_kits(audio, test)[split]}

    for test in range(4):
        assert not kits(test, "test") & (kits(test, "train") | kits(test, "valid"))
    assert kits(1, "test") == kits(3, "valid") != kits(0, "test")


def test_words_of_all_languages_are_in_every_split(audio: Path, tmp_path: Path) -> None:
    task, clips = TASKS["dev_ktuberling_language"]
    task.write(tmp_path, clips(audio))
    read = read_task(tmp_path / "dev_ktuberling_language-v1-full")
    assert {split: len(index) for split, index in read.indexes.items()} == {"train": 39, "valid": 13, "test": 13}
    for index in read.indexes.values():
        assert {labels[0] for labels in index.values()} == set(build_tasks.LANGUAGES)
        assert all(file.startswith(f"{labels[0]}_{labels[0]}_word") for file, labels in index.items())


def test_notes_have_the_pitch_of_their_label(font: Path, tmp_path: Path) -> None:
    task, clips = TASKS["dev_timgm_pitch"]
    task.write(tmp_path, clips(font))
    read = read_task(tmp_path / "dev_timgm_pitch-v1-full")
    programs = {split: {int(file[1:4]) % 8 for file in index} for split, index in read.indexes.items()}
    assert programs == {"train": {0, 1, 3, 4, 6}, "valid": {5}, "test": {2, 7}}
    for file, labels in read.indexes["test"].items():
        assert int(labels[0]) >= 40  # silent ones are left out
        waveform = read_clip(read.folder / "16000" / "test" / file, SAMPLE_RATE)
        assert peak_hz(waveform) == pytest.approx(440.0 * 2.0 ** ((int(labels[0]) - 69) / 12), rel=0.03)


def test_instruments_and_their_families_come_of_the_same_notes(font: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, clips = TASKS["dev_timgm_pitch"]
    task.write(tmp_path, clips(font))
    monkeypatch.setattr(sys, "argv", ["timbre_task.py", str(tmp_path), str(tmp_path / "timbre")])
    assert timbre_task.main() == 0
    programs, families = (read_task(tmp_path / "timbre" / f"dev_timgm_{kind}-v1-full") for kind in ("programs", "families"))
    assert programs.labels == tuple(f"p{program:03d}" for program in range(16))
    assert families.labels == ("chromatic", "piano")
    for index in programs.indexes.values():
        assert {labels[0] for labels in index.values()} == set(programs.labels)
        assert all(file.startswith(labels[0]) for file, labels in index.items())
    files = [sorted(file for index in task.indexes.values() for file in index) for task in (programs, families)]
    assert files[0] == files[1]
    assert len(set(files[0])) == len(files[0])


def test_two_instruments_play_the_events_of_a_clip(font: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(note_task, "CLIPS", {"train": 1, "valid": 1, "test": 1})
    monkeypatch.setattr(sys, "argv", ["note_task.py", str(font), str(tmp_path / "notes")])
    assert note_task.main() == 0
    read = read_task(tmp_path / "notes" / "dev_timgm_notes-v1-full")
    events = read.indexes["test"]["test000.wav"]
    assert len(events) > 30
    waveform = read_clip(read.folder / "16000" / "test" / "test000.wav", SAMPLE_RATE)
    first = round(min(event["start"] for event in events) / 1000 * SAMPLE_RATE)
    assert not waveform[: first - 1].any()
    assert np.abs(waveform[first : first + 400]).max() > 0.1


def test_kinds_of_sounds_go_by_file_names(tmp_path: Path) -> None:
    names = {"/supertux-data/usr/music/a.ogg": "music", "/torcs-data/usr/b/viper.wav": "engine", "/minetest-data/usr/x.ogg": None}
    assert {name: effect_task.kind_of(name) for name in names} == names
    for fold, packages in enumerate(effect_task.FOLDS):
        for package in packages:
            write_sound(tmp_path / package / f"usr/explosion{fold}.wav", 200.0)
    folds = effect_task.draw_clips(tmp_path)
    assert [len(clips) for clips in folds.values()] == [len(packages) for packages in effect_task.FOLDS]
    assert {clip.label for clips in folds.values() for clip in clips} == {"explosion", "music", "speech"}  # of names of packages, too
    assert all(np.abs(clip.waveform).max() == pytest.approx(0.5) for clips in folds.values() for clip in clips)


def test_every_voice_of_flite_speaks_every_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sound(tmp_path / "said.wav", 200.0)
    (tmp_path / "flite").write_text(f'#!/bin/sh\nfor last; do :; done\ncp "{tmp_path}/said.wav" "$last"\n')
    (tmp_path / "flite").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(word_task, "REPETITIONS", 1)
    monkeypatch.setattr(word_task, "WORDS", ["yes", "no"])
    folds = word_task.speak_words()
    assert [[clip.file for clip in clips] for clips in folds.values()] == [
        [f"{voice}_{word}_0.wav" for word in ("yes", "no")] for voice in word_task.PITCHES
    ]
    for clip in (clip for clips in folds.values() for clip in clips):
        assert clip.waveform.shape == (SAMPLE_RATE,)
        assert np.abs(clip.waveform).max() == pytest.approx(0.5, abs=0.1)


def test_a_midi_file_is_that_of_the_standard() -> None:
    notes = [Note(60, 40, 0.0, 0.6), Note(90, 41, 4.0, 5.2)]
    tempo = "4d54726b 0000000b 00ff510307a120 01ff2f00"  # MTrk, 11 bytes: 500,000 us per beat, end of track
    track = "4d54726b 0000001a 00c005 0090283c 8208902800 8b5890295a 8410902900 01ff2f00"  # delays of 264, 1496 and 528 ticks
    assert midi_file([Voice(5, notes)]) == bytes.fromhex("4d546864 00000006 0001 0002 00dc" + tempo + track)
    again = midi_file([Voice(0, [Note(90, 60, 1.0, 2.0), Note(80, 60, 2.0, 3.0)])])
    assert bytes.fromhex("903c00 00903c50") in again  # released before it is pressed again


@pytest.mark.parametrize(
    ("missing", "line"),
    [("nothing", "hydrogen-drumkits is missing; fetch it: python -m examples.reference.fetch_audio"), ("font", "TimGM6mb.sf2 is missing")],
)
def test_a_mistake_is_one_line_and_exit_status_2(audio: Path, tmp_path: Path, missing: str, line: str) -> None:
    if missing == "font":
        for package in audio.iterdir():
            (tmp_path / package.name).symlink_to(package)
        (tmp_path / "timgm6mb-soundfont").mkdir()
    command = [sys.executable, "-m", "examples.reference.build_tasks", tmp_path, tmp_path / "tasks"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert line in done.stderr
    built = ["dev_hydrogen_drums-v1-full"] if missing == "font" else []
    assert [path.name for path in (tmp_path / "tasks").glob("*")] == built
    if built:  # a second run skips what the first has built
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert re.match(r"dev_hydrogen_drums: there already", done.stdout)


def test_missing_programs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.sf2").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="fluidsynth is missing; install it: apt-get install fluidsynth"):
        render([Voice(0, [Note(60, 60, 0.0, 0.5)])], tmp_path / "a.sf2")
    with pytest.raises(ValueError, match="flite is missing; install it: apt-get install flite"):
        word_task.speak("yes", "slt", np.random.default_rng(0), tmp_path / "a.wav")
