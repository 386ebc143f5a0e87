"""The order of shards without an index: several shards are read at once, and their clips shuffled within windows of bounded size.

A reader is one of `readers` that share the shards: it takes every `readers`-th item of an endless sequence of passes, each a new
permutation of all shards. Where there are fewer shards than readers, an item is every n-th clip of a shard. A reader has some of its
items open and takes each clip from one of them at random, of each as many in the long run. These clips, in the order in which they
arrive, are cut into windows of so many bytes; a window ends with the pass. The clips of a window are permuted, and while they are
drawn, the next window is read in a thread.

What arrives in a window follows from where it begins alone. The state is therefore small: the place in each open shard where the window
began, and how many of its clips were drawn. Resuming reads the open shards up to there, and the window, and decodes nothing.
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
SAMPLE_BYTES = 500  # what a sample occupies without its audio, so that samples that have none fill a window, too


class Drawn(NamedTuple):
    """A sample as it is drawn: the number of the pass and of the shard, its place in the shard, the sample."""

    pass_number: int
    shard: int
    place: int
    sample: Sample


class ItemOrder:
    """The endless sequence of items: each pass holds every part of every shard once, in an order of its own."""

    def __init__(self, shards: int, readers: int, seed: int) -> None:
        self.parts = -(-readers // shards)
        self.items, self.seed = shards * self.parts, seed
        self._permutations: dict[int, NDArray[np.int64]] = {}

    def pass_of(self, ordinal: int) -> int:
        """Return the pass of an item."""
        return ordinal // self.items

    def at(self, ordinal: int) -> tuple[int, int]:
        """Return the shard of an item, and which part of its clips."""
        number, place = divmod(ordinal, self.items)
        if number not in self._permutations:
            if len(self._permutations) > 1:
                del self._permutations[next(iter(self._permutations))]
            self._permutations[number] = np.random.default_rng(hash_integers(self.seed, 9, number)).permutation(self.items)
        shard, part = divmod(int(self._permutations[number][place]), self.parts)
        return shard, part


@dataclass
class Position:
    """Where a window begins: its number, the next item, the open items as [item, samples taken], and how often one was chosen.

    since: the number of choices when an item was opened or closed last, or the present block of choices began.
    """

    window: int
    item: int
    open: list[list[int]] = field(default_factory=list)
    choices: int = 0
    since: int = 0


@dataclass
class Window:
    """The samples of a window, in their order of drawing from the last to the first, and where it began and ended."""

    begin: Position
    end: Position
    samples: list[Drawn]


class WindowReader:
    """Draws the samples of one reader's share of some shards, without end."""

    def __init__(
        self, shards: int, read: Callable[[int], Iterator[Sample]], seed: int, reader: int, readers: int, interleave: int, window_bytes: int
    ) -> None:
        """Prepare reader `reader` of `readers`; read(shard) yields the samples of a shard. At most two windows are held."""
        self.order, self.read = ItemOrder(shards, readers, seed), read
        self.seed, self.reader, self.readers = seed, reader, readers
        self.interleave, self.window_bytes = interleave, window_bytes
        self.open: dict[int, Iterator[tuple[int, Sample]]] = {}
        self.window = Window(Position(0, reader), Position(0, reader), [])
        self.drawn = 0
        self.block: tuple[int, int, NDArray[np.int64]] = (0, 0, np.empty(0, np.int64))
        self.coming: Coming | None = None

    def draw(self) -> Drawn:
        """Return the next sample. Raises ValueError when the shards hold none."""
        if not self.window.samples:
            self.window, self.drawn = self._next_window(), 0
        self.drawn += 1
        return self.window.samples.pop()

    def state(self) -> dict[str, Any]:
        """Return plain numbers from which `load` restores what is drawn next."""
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
        """Open items of one pass until as many are open as are read at once."""
        number = self.order.pass_of(position.open[0][0] if position.open else position.item)
        while len(position.open) < self.interleave and self.order.pass_of(position.item) == number:
            position.open.append([position.item, 0])
            position.item += self.readers
            position.since = position.choices

    def _choose(self, position: Position) -> int:
        """Return which open item the next clip is taken from: in a block of choices each comes as often, in random order."""
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
        """Return the samples of an open item that follow those taken, each with its place in the shard."""
        item, taken = opened
        if item not in self.open:
            shard, part = self.order.at(item)
            self.open[item] = islice(enumerate(self.read(shard)), part + taken * self.order.parts, None, self.order.parts)
        return self.open[item]


class Coming:
    """What a function returns, computed in a thread that does not keep the process alive."""

    def __init__(self, work: Callable[[], Window]) -> None:
        self.work = work
        self.window: Window | None = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.window = self.work()
        except BaseException as error:  # raised again where the result is asked for
            self.error = error

    def result(self) -> Window:
        """Wait for the result and return it; raises what the function raised."""
        self.thread.join()
        if self.error:
            raise self.error
        assert self.window is not None
        return self.window
