"""Where scores stand among the published HEAR leaderboard, on the tasks that were really run.

The table is that of https://hearbenchmark.com/hear-leaderboard.html; official task folders are named as hear-preprocess
names them, such as esc50-v2.0.0-full.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from hear_ssl.evaluation.tasks.official_tasks import official_tasks

TABLE = Path(__file__).with_name("leaderboard.csv")
COLUMNS = {
    "beehive_states_fold0": "Beehive",
    "beijing_opera": "Beijing Opera",
    "tfds_crema_d": "CREMA-D",
    "dcase2016_task2": "DCASE 2016",
    "esc50": "ESC-50",
    "fsd50k": "FSD50K",
    "tfds_gtzan_music_speech": "GTZAN Music/Speech",
    "tfds_gtzan": "GTZAN Genre",
    "gunshot_triangulation": "Gunshot",
    "libricount": "Libricount",
    "maestro": "Maestro 5h",
    "mridangam_stroke": "Mridangam Stroke",
    "mridangam_tonic": "Mridangam Tonic",
    "nsynth_pitch-v2.2.3-50h": "NSynth Pitch 50h",
    "nsynth_pitch": "NSynth Pitch 5h",
    "speech_commands-v0.0.2-full": "Speech commands full",
    "speech_commands": "Speech commands 5h",
    "vocal_imitation": "Vocal Imitation",
    "vox_lingua_top10": "VoxLingua107 top 10",
}


@dataclass(frozen=True)
class Standing:
    """One task's place: rank 1 is the best of `models` published scores and this one."""

    task: str
    column: str
    score: float
    rank: int
    models: int
    best: float


def column_of(task: str) -> str | None:
    """Return the leaderboard's column for an official task folder's name, the longest that fits, or None for any other name."""
    official = {folder for known in official_tasks() for folder in known.folders}
    fitting = [name for name in COLUMNS if task.startswith(name) and task in official]
    return COLUMNS[max(fitting, key=len)] if fitting else None


def standings(scores: dict[str, float]) -> list[Standing]:
    """Return the place of each task's score {task folder: primary score}; tasks that are not published are left out."""
    with open(TABLE, newline="") as file:
        rows = list(csv.DictReader(file))
    found = []
    for task, score in scores.items():
        column = column_of(task)
        if column is not None:
            published = [float(row[column]) for row in rows if row[column]]
            rank = 1 + sum(other > score for other in published)
            found.append(Standing(task, column, score, rank, len(published) + 1, max(published)))
    return found
