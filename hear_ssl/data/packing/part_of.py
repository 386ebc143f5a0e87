"""One of several parts of a packing, for job arrays: every part lists all files and packs a share that is the same on any machine."""

from __future__ import annotations

import heapq
import random
import re
from collections import Counter
from typing import NamedTuple

from hear_ssl.data.packing.archives import is_sequential
from hear_ssl.data.packing.item import Item

MOST_PARTS = 100_000


class PartOf(NamedTuple):
    """Part `number`, from 1 on, of `parts`."""

    number: int
    parts: int

    def __str__(self) -> str:
        return f"{self.number}/{self.parts}"

    @property
    def folder(self) -> str:
        """The name of its folder, such as part-03-of-64."""
        return f"part-{self.number:0{len(str(self.parts))}d}-of-{self.parts}"

    def share(self, items: list[Item]) -> list[Item]:
        """Return the files of this part in order: a share of every source; a sequential archive is never divided."""
        archives = Counter(item.path for item in items if is_sequential(item))
        loads = [(0, part) for part in range(1, self.parts + 1)]
        owner = {}
        for path, files in sorted(archives.items(), key=lambda pair: (-pair[1], pair[0])):
            load, part = loads[0]
            owner[path] = part
            heapq.heapreplace(loads, (load + files, part))
        places = [place for place, item in enumerate(items) if not is_sequential(item)]
        random.Random(1).shuffle(places)
        mine = {place for place, item in enumerate(items) if is_sequential(item) and owner[item.path] == self.number}
        for place in places:
            load, part = loads[0]
            heapq.heapreplace(loads, (load + 1, part))
            if part == self.number:
                mine.add(place)
        return [items[place] for place in sorted(mine)]


def parse_part(text: str) -> PartOf:
    """Return the part given by a text such as 3/64. Raises ValueError for any other text."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    part = PartOf(int(found[1]), int(found[2])) if found else PartOf(0, 0)
    if not 1 <= part.number <= part.parts <= MOST_PARTS:
        raise ValueError(f"--part is {text!r}; give K/N with 1 <= K <= N <= {MOST_PARTS}, such as 3/64 for the third of 64 parts")
    return part
