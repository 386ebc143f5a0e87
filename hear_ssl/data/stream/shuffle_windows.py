"""The order of shards without an index: several shards are read at once, and their clips are shuffled within windows of limited size.

Several readers share the shards: each reads every `readers`-th item of an endless sequence of passes, and each pass is a new
permutation of all shards. With fewer shards than readers, an item is every n-th clip of a shard. A reader has several items open and
reads each clip from a random one of them, equally often in the long run. In the order of reading, these clips are divided into windows
of a number of bytes; the end of a pass also ends a window. The clips of a window are permuted, and while they are used, a thread reads
the next window.

The content of a window is determined by its start. The state is therefore small: the position in each open shard at the start of the
window, and the number of its clips that were used. To resume, the open shards are read up to that position, then the window; nothing is
decoded.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hear_ssl.data.stream.sample_order import hash_integers
from hear_ssl.data.stream.tar_samples import Sample

BLOCK = 64  # choices of each open item, within which their order is random
SAMPLE_BYTES = 500  # counted for a sample in addition to its audio, so that samples without audio also fill a window


class Drawn(NamedTuple):
    """A drawn sample: number of the pass, number of the shard, position in the shard, and the sample."""

    pass_number: int
    shard: int
    place: int
    sample: Sample


class ItemOrder:
    """The endless sequence of items: each pass contains every part of every shard once, in a new order."""

    def __init__(self, shards: int, readers: int, seed: int) -> None:
        self.parts = -(-readers // shards)
        self.items, self.seed = shards * self.parts, seed
        self._permutations: dict[int, NDArray[np.int64]] = {}

    def pass_of(self, ordinal: int) -> int:
        """Return the pass of an item."""
        return ordinal // self.items

    def at(self, ordinal: int) -> tuple[int, int]:
        """Return the shard of an item, and the part of its clips."""
        number, place = divmod(ordinal, self.items)
        if number not in self._permutations:
            if len(self._permutations) > 1:
                del self._permutations[next(iter(self._permutations))]
            self._permutations[number] = np.random.default_rng(hash_integers(self.seed, 9, number)).permutation(self.items)
        shard, part = divmod(int(self._permutations[number][place]), self.parts)
        return shard, part


@dataclass
class Position:
    """The start of a window: its number, the next item, the open items as [item, samples read], and the number of choices so far.

    since: the number of choices when an item was last opened or closed, or when the current block of choices began.
    """

    window: int
    item: int
    open: list[list[int]] = field(default_factory=list)
    choices: int = 0
    since: int = 0


@dataclass
class Window:
    """The samples of a window in reverse order of use, and the positions of its start and end."""

    begin: Position
    end: Position
    samples: list[Drawn]


class WindowReader:
    """Draw the samples of one reader's share of the shards, endlessly."""

    def __init__(
        self, shards: int, read: Callable[[int], Iterator[Sample]], seed: int, reader: int, readers: int, interleave: int, window_bytes: int
    ) -> None:
        """Prepare reader `reader` of `readers`; read(shard) yields the samples of a shard. At most two windows are in memory."""
        self.order, self.read = ItemOrder(shards, readers, seed), read
        self.seed, self.reader, self.readers = seed, reader, readers
        self.interleave, self.window_bytes = interleave, window_bytes
        self.open: dict[int, Iterator[tuple[int, Sample]]] = {}
        self.window = Window(Position(0, reader), Position(0, reader), [])
        self.drawn = 0
        self.block: tuple[int, int, NDArray[np.int64]] = (0, 0, np.empty(0, np.int64))
        self.coming: Coming | None = None

    def draw(self) -> Drawn:
        """Return the next sample. Raises ValueError when the shards have none."""
        if not self.window.samples:
            self.window, self.drawn = self._next_window(), 0
        self.drawn += 1
        return self.window.samples.pop()

    def state(self) -> dict[str, Any]:
        """Return plain numbers from which `load` restores the position."""
        return {"drawn": self.drawn, **asdict(self.window.begin)}

    def load(self, state: dict[str, Any]) -> None:
        """Restore a state; the samples of its window are read again, without decoding."""
        window, item, choices, since = (int(state[key]) for key in ("window", "item", "choices", "since"))
        begin = Position(window, item, [[int(number), int(taken)] for number, taken in state["open"]], choices, since)
        drawn = int(state["drawn"])
        self.window, self.open = Window(begin, begin, []), {}
        if drawn:
            self.window = self._next_window()
            del self.window.samples[len(self.window.samples) - drawn :]
        self.drawn = drawn

    def _next_window(self) -> Window:
        coming = self.coming or Coming(lambda: self._read_window(self.window.end))
        window = coming.result()
        self.coming = Coming(lambda: self._read_window(window.end))
        return window

    def _read_window(self, begin: Position) -> Window:
        position, samples, size, ended = copy.deepcopy(begin), [], 0, 0  # type: Position, list[Drawn], int, int
        while size < self.window_bytes:
            if not position.open:
                if samples:
                    break
                ended += 1
                if ended > self.order.items + 1:
                    raise ValueError("the shards without an index hold no clips; see data.shards")
            self._open_items(position)
            chosen = self._choose(position)
            opened = position.open[chosen]
            taken = next(self._iterator(opened), None)
            if taken is None:
                del self.open[opened[0]], position.open[chosen]
                position.since = position.choices
                continue
            opened[1] += 1
            shard, _ = self.order.at(opened[0])
            samples.append(Drawn(self.order.pass_of(opened[0]), shard, *taken))
            size += len(taken[1].audio) + SAMPLE_BYTES
        position.window += 1
        random = np.random.default_rng(hash_integers(self.seed, 10, self.reader, begin.window))
        return Window(begin, position, [samples[place] for place in random.permutation(len(samples))])

    def _open_items(self, position: Position) -> None:
        """Open items of one pass until the configured number of items is open."""
        number = self.order.pass_of(position.open[0][0] if position.open else position.item)
        while len(position.open) < self.interleave and self.order.pass_of(position.item) == number:
            position.open.append([position.item, 0])
            position.item += self.readers
            position.since = position.choices

    def _choose(self, position: Position) -> int:
        """Return the open item of the next clip: in a block of choices each item is chosen equally often, in random order."""
        size = BLOCK * len(position.open)
        if position.choices - position.since >= size:
            position.since = position.choices
        if self.block[:2] != (position.since, size):
            random = np.random.default_rng(hash_integers(self.seed, 13, self.reader, position.since))
            self.block = (position.since, size, random.permutation(size) // BLOCK)
        chosen = int(self.block[2][position.choices - position.since])
        position.choices += 1
        return chosen

    def _iterator(self, opened: list[int]) -> Iterator[tuple[int, Sample]]:
        """Return the unread samples of an open item, each with its position in the shard."""
        item, taken = opened
        if item not in self.open:
            shard, part = self.order.at(item)
            self.open[item] = islice(enumerate(self.read(shard)), part + taken * self.order.parts, None, self.order.parts)
        return self.open[item]


class Coming:
    """The result of a function that runs in a daemon thread."""

    def __init__(self, work: Callable[[], Window]) -> None:
        self.work = work
        self.window: Window | None = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.window = self.work()
        except BaseException as error:  # raised again by `result`
            self.error = error

    def result(self) -> Window:
        """Wait for the result and return it. Raises what the function raised."""
        self.thread.join()
        if self.error:
            raise self.error
        assert self.window is not None
        return self.window
