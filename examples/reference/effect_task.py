"""Build dev_game_effects: thirteen kinds of sounds in games never heard before, where the development tasks have no sound effects.

python examples/reference/effect_task.py REALAUDIO AUDIO TASKS_EFFECTS

REALAUDIO holds heartask.py, AUDIO the packages that real_corpus.py lists for training. What is tested was heard in training, though
not of which kind it is: the task compares encoders of one corpus, and no others. Kinds go by file names. Each fold is a game or some,
whose makers took their sounds from elsewhere. Needs numpy, soundfile, soxr.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from examples.reference.real_corpus import AUDIO

RATE, SECONDS, MOST = 16000, 2.0, 40  # clips of a kind in a fold
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
    """Return the first kind of which a file's path has a pattern, None when it has none."""
    return next((kind for kind, patterns in KINDS.items() if re.search("|".join(patterns), name)), None)


def excerpt(waveform: Any) -> Any:
    """Return `SECONDS` of a sound (time,) from its first loud moment, of a long one from its middle; peak 0.5."""
    length = round(SECONDS * RATE)
    if len(waveform) > 10 * length:
        waveform = waveform[len(waveform) // 2 :]
    loud = np.abs(waveform) > 0.02 * np.abs(waveform).max()
    waveform = waveform[int(loud.argmax()) :][:length]
    return waveform / max(np.abs(waveform).max(), 1e-4) * 0.5


def main() -> None:
    realaudio, audio, tasks = map(Path, sys.argv[1:4])
    sys.path.insert(0, str(realaudio))
    from heartask import Task, read_mono

    rng, folds = np.random.default_rng(0), {}
    for number, packages in enumerate(FOLDS):
        found: dict[str, list[Path]] = {}
        for path in sorted(path for package in packages for path in (audio / package).rglob("*") if path.suffix.lower() in AUDIO):
            kind = kind_of(f"/{path.relative_to(audio)}")
            if kind:
                found.setdefault(kind, []).append(path)
        chosen = [(kind, paths[place]) for kind, paths in found.items() for place in sorted(rng.permutation(len(paths))[:MOST])]
        clips = [
            (f"{place:04d}_{path.stem.replace(' ', '_')}.wav", kind, excerpt(read_mono(path, RATE)), RATE)
            for place, (kind, path) in enumerate(chosen)
        ]
        folds[f"fold{number:02d}"] = clips
        print(f"fold{number:02d}: {dict(Counter(kind for kind, _ in chosen))}")
    Task("dev_game_effects", "scene", "multiclass", "new_split_kfold", SECONDS, ["top1_acc"], list(KINDS)).write(tasks, folds)


if __name__ == "__main__":
    main()
