"""The 19 official HEAR 2021 tasks: names, sizes, licences and sources, as hear-ssl tasks lists them.

Clips, durations and sources are from https://hearbenchmark.com/hear-tasks.html. Licences are those stated by the sources, "see source" if
none was found. Archive names, sizes and checksums are those of Zenodo record 6332517 (48 kHz).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from hear_ssl.errors import nearest

TABLE = Path(__file__).with_name("official_tasks.csv")
RECORD = "https://zenodo.org/records/6332517"
LICENCES = "https://zenodo.org/record/5887964/files/LICENSE.txt"
SAMPLE_RATE = 48000
UNKNOWN = "see source"


@dataclass(frozen=True)
class Official:
    """One task; beehive_states has two folders, all others one. seconds: length of a clip, None when it varies."""

    name: str
    folders: tuple[str, ...]
    clips: int
    seconds: float | None
    licence: str
    source: str

    @property
    def audio_bytes(self) -> int | None:
        """Bytes of 16-bit mono audio at 48 kHz in all folders, or None when clip lengths vary."""
        return None if self.seconds is None else round(len(self.folders) * self.clips * self.seconds * SAMPLE_RATE * 2)


def official_tasks() -> list[Official]:
    """Return the 19 tasks."""
    with open(TABLE, newline="") as file:
        return [
            Official(
                row["name"],
                tuple(row["folders"].split()),
                int(row["clips"]),
                float(row["seconds"]) if row["seconds"] else None,
                row["licence"],
                row["source"],
            )
            for row in csv.DictReader(file)
        ]


def listing() -> str:
    """Return the tasks as text: one row per task, and the addresses of archives and licences."""
    tasks = official_tasks()
    width = max(len(task.name) for task in tasks)
    lines = [f"{'task':{width}}  {'clips':>6}  {'clip (s)':>8}  {'audio (GB)':>10}  {'licence':24}  source"]
    for task in tasks:
        seconds = f"{task.seconds:g}" if task.seconds is not None else "0.3-30"
        size = f"{task.audio_bytes / 1e9:.2f}" if task.audio_bytes is not None else UNKNOWN
        lines.append(f"{task.name:{width}}  {task.clips:6}  {seconds:>8}  {size:>10}  {task.licence:24}  {task.source}")
    known = sum(task.audio_bytes or 0 for task in tasks)
    return "\n".join(
        [
            *lines,
            f"{len(tasks)} tasks; audio is unpacked, 16 bit at 48 kHz: {known / 1e9:.0f} GB and fsd50k; beehive_states has two folds of it",
            f"archives and their sizes: {RECORD}",
            f"licence of every dataset: {LICENCES}",
            "fetch: hear-ssl tasks fetch NAME... --out FOLDER",
        ]
    )


def chosen_tasks(names: list[str]) -> list[Official]:
    """Return the tasks with these names; 'all' selects all of them. Raises ValueError for an unknown name."""
    tasks = {task.name: task for task in official_tasks()}
    if "all" in names:
        return list(tasks.values())
    for name in names:
        if name not in tasks:
            raise ValueError(f"there is no task {name!r}{nearest(name, list(tasks))}; hear-ssl tasks lists the 19")
    return [tasks[name] for name in dict.fromkeys(names)]
