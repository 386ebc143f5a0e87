"""Build dev_game_effects: thirteen kinds of sounds of games that the predictor was not trained on; the other tasks have no sound effects.

    python -m examples.reference.effect_task AUDIO TASKS_EFFECTS

AUDIO is the folder of `fetch_audio.py`. The clips are in the training corpus, without their kinds: the task compares encoders of one
corpus and no others. File names give the kinds. Each fold contains one or more games, and no two folds share a source of sounds.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from pathlib import Path

import numpy as np

from examples.reference.build_tasks import package_folder
from examples.reference.debian_packages import AUDIO_SUFFIXES
from examples.reference.hear_task import SAMPLE_RATE, Array, Clip, Task, read_mono, scaled_to_peak
from hear_ssl.errors import run_main

SECONDS = 2.0
MOST = 40  # clips of a kind in a fold
FOLDS = [
    ["megaglest-data"],
    ["wesnoth-1.16-data", "wesnoth-1.16-music", "marsshooter-data", "asterisk-core-sounds-es-wav"],
    ["widelands-data", "unknown-horizons", "lincity-ng-data", "asterisk-core-sounds-fr-wav"],
    ["supertux-data", "minetest-data", "torcs-data", "sonic-pi-samples", "extremetuxracer-data", "asterisk-core-sounds-ru-wav"],
]
PEOPLE = "archer|swordman|horseman|stickfighter|technician|guard|worker|princess|valkyrie|spearman|warrior|axe_thrower"
BEASTS = "pig|cow|bull|sheep|wolf|ele|boar|moose|stag|coyote|ox|horse|donkey|farm_animal"
CARS = "engine|viper|ford|ferrari|nsx|f360|gt40|9[34][45]|xj|lotus"
KINDS = {  # patterns in a file's path; the first kind that has one
    "music": [
        r"/music/(?!waves)",
        r"/ingame_|game_music|_music|mainzik|uh_gameplay|wesnoth.*music",
        r"loop_(amen|break|garzul|mika|safari|elec)",
    ],
    "speech": [rf"asterisk|({PEOPLE})_(ack|select)", r"/(nice|that|well|impressive|notFunny|youSuck)|excellent|welldone"],
    "cry": [rf"({PEOPLE})_die|laugh|yeti_|hurt|grunts|kill", r"(human|orc|dwarf|elf|goblin|ogre|troll|mermaid|mermen)[a-z-]*-(hit|die)"],
    "bird": [r"/bird|/duck|/owl|hawk|eagle|rooster|chicken|misc_crow|bat-hit|gryphon-(shriek|hit|die)"],
    "animal": [rf"/({BEASTS})([0-9_-](?!canter|elf|attack|walk)|\.)|tusker-(hit|die)"],
    "explosion": [
        r"[Ee]xplo(sion|de)|gunshot|thunder|lightning|cave-in|[Rr]aze|boom|/crash|brick",
        r"_fall|fire(cracker|works)|(catapult|tower)_hit",
    ],
    "fire": [r"[Ff]ire[0-9]|FireWaste|/fire[._]|fire_fire|_fire|/flame|torch|campfire|melee-fire|fuse|furnace|sizzle|lava|fizz"],
    "water": [r"[Ww]ater|/rain|/splash|Lake|(beer|wine)bubble|/waves|fisher_|gulp"],
    "blade": [r"(swordman|guard|warrior)_attack|knife|sword-|/axe|mace|dagger|/spear|sharpening|scythe|dug_metal|tool_breaks|hatchet"],
    "swing": [r"arrow|archer_attack|bow|sling|throw|dart|(staff|club|flail|stick)-miss|/miss|swish|swoosh"],
    "tool": [r"_mine|_build|anvil|harvest|hammer|smith|saw|wood|stone(cutter|mason)|lumberjack|choppy|cracky|place_node|_door_|Mill[0-9]"],
    "engine": [rf"Trafic|Train|Plane[0-9]|Industry|airship_fly|machine_walk|orni_(fly|stand)|torcs.*({CARS})|/cart"],
    "signal": [
        r"click|/ui/|chat|message|coin|pickup|menu_(change|sel)|elec_(beep|bl|p|tw)",
        r"/(tab|check|score|countdown)\.|savebell|bell|highlight",
    ],
}


def kind_of(name: str) -> str | None:
    """Return the first kind with a pattern that matches a file's path, or None."""
    return next((kind for kind, patterns in KINDS.items() if re.search("|".join(patterns), name)), None)


def excerpt(waveform: Array) -> Array:
    """Return `SECONDS` of a waveform (time,) from its first loud sample, or from its middle if it is 10 times as long; peak 0.5."""
    length = round(SECONDS * SAMPLE_RATE)
    if len(waveform) > 10 * length:
        waveform = waveform[len(waveform) // 2 :]
    loud = np.abs(waveform) > 0.02 * np.abs(waveform).max()
    return scaled_to_peak(waveform[int(loud.argmax()) :][:length])


def find_kinds(audio: Path, packages: list[str]) -> dict[str, list[Path]]:
    """Return the audio files of packages by kind. Raises ValueError when a package is missing."""
    found: dict[str, list[Path]] = {}
    paths = (path for package in packages for path in package_folder(audio, package).rglob("*"))
    for path in sorted(path for path in paths if path.suffix.lower() in AUDIO_SUFFIXES):
        kind = kind_of(f"/{path.relative_to(audio)}")
        if kind:
            found.setdefault(kind, []).append(path)
    return found


def draw_clips(audio: Path) -> dict[str, list[Clip]]:
    """Return the clips of each fold, at most `MOST` of a kind."""
    rng = np.random.default_rng(0)
    folds: dict[str, list[Clip]] = {}
    for number, packages in enumerate(FOLDS):
        found = find_kinds(audio, packages)
        chosen = [(kind, paths[index]) for kind, paths in found.items() for index in sorted(rng.permutation(len(paths))[:MOST])]
        folds[f"fold{number:02d}"] = [
            Clip(f"{index:04d}_{path.stem.replace(' ', '_')}.wav", kind, excerpt(read_mono(path)))
            for index, (kind, path) in enumerate(chosen)
        ]
        print(f"fold{number:02d}: {dict(Counter(kind for kind, _ in chosen))}", flush=True)
    return folds


def main() -> int:
    """Build the task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path, metavar="AUDIO", help="folder of fetch_audio.py")
    parser.add_argument("tasks", type=Path, metavar="TASKS_EFFECTS", help="folder to write to")
    given = parser.parse_args()
    task = Task("dev_game_effects", "scene", "multiclass", "new_split_kfold", SECONDS, ["top1_acc"], list(KINDS))
    task.check_new(given.tasks)
    task.write(given.tasks, draw_clips(given.audio))
    return 0


if __name__ == "__main__":
    run_main(main)
