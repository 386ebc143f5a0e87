"""Pack files in order; a long recording is packed in sections by a separate process.

Files up to `WHOLE_SECONDS` are packed as a whole by any worker. The sections of a longer file come from one process, which keeps the file
open. Each sample is then packed in one pass, however long the recording is, and only a few sections are in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import count
from typing import NamedTuple

from hear_ssl.data.decoder_messages import without_decoder_messages
from hear_ssl.data.ordered_pool import in_order
from hear_ssl.data.packing.clips import Outcome, Packed, PackedClip, PackOptions, outcomes, pack_item
from hear_ssl.data.packing.item import Item

SECTION_BYTES = 4 << 20  # of encoded clips per section
SECTION_PIECES = 1000


class Part(NamedTuple):
    """Consecutive outcomes of one file: number of the file, number of the first outcome, and whether the last one ends the file."""

    item: int
    first: int
    outcomes: list[Outcome]
    last: bool


def packed_parts(items: list[Item], options: PackOptions, workers: int, next_item: int = 0, inside: int = 0) -> Iterator[Part]:
    """Yield the outcomes from file `next_item` and its outcome `inside` on. Raises OSError when a process dies."""
    with closing(in_order(partial(pack_item, options=options), items[next_item:], workers)) as results:
        for number, packed in enumerate(results, start=next_item):
            first = inside if number == next_item else 0
            yield Part(number, first, packed.outcomes[first:], not packed.more)
            if packed.more:
                yield from _long(number, items[number], options, max(first, len(packed.outcomes)))


def _long(number: int, item: Item, options: PackOptions, first: int) -> Iterator[Part]:
    """Yield the parts of a long recording from outcome `first` on."""
    turns = partial(next_section, item=item, options=options, first=first)
    with closing(in_order(turns, count(), 1)) as sections:
        for section in sections:
            yield Part(number, first, section.outcomes, not section.more)
            first += len(section.outcomes)
            if not section.more:
                return


class Sections:
    """A file that is being packed in sections."""

    def __init__(self, item: Item, options: PackOptions, first: int) -> None:
        self.rest = (outcome for outcome in outcomes(item, options, first) if outcome is not None)
        self.ahead = next(self.rest, None)

    def take(self) -> Packed:
        """Return the next section, an empty one after the last."""
        section, size = Packed(), 0
        while self.ahead is not None and size < SECTION_BYTES and len(section.outcomes) < SECTION_PIECES:
            section.outcomes.append(self.ahead)
            size += len(self.ahead.audio) if isinstance(self.ahead, PackedClip) else 0
            self.ahead = next(self.rest, None)
        section.more = self.ahead is not None
        return section


_open: list[Sections] = []  # the recording that this process reads


@without_decoder_messages()
def next_section(turn: int, item: Item, options: PackOptions, first: int) -> Packed:
    """Return the next section of a long recording; the process is called once per section, from turn 0 on."""
    if not turn:
        _open[:] = [Sections(item, options, first)]
    return _open[0].take()
