"""Which samples a process sees: a function of the seed and of how many samples all processes have consumed together.

All processes read one endless stream of micro-batches. In each of its steps a process takes every `num_processes`-th
of them, so the stream goes on where it stopped whatever the number of processes, of loader workers or of micro-batches.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

from t2v.training.randomness import permutation


class Position(NamedTuple):
    """One draw of one sample."""

    epoch: int
    sample: int  # its place in the data set
    progress: float  # of the training, 0 at its start and 1 at its end; curricula depend on it


class SampleStream:
    """The endless sequence of samples: every sample once an epoch, in a new order each time.

    Samples may belong to groups (of one shape, say). A micro-batch is then of one group, each group has epochs of its
    own, and the group of a micro-batch is that of a sample drawn without replacement: groups come in proportion.
    """

    def __init__(self, groups: Sequence[int], seed: int) -> None:
        labels = torch.as_tensor(groups, dtype=torch.int64)
        self.seed = seed
        self.labels = labels
        self.members = {group: (labels == group).nonzero()[:, 0] for group in labels.unique().tolist()}
        self._orders: dict[int, tuple[int, list[int]]] = {}  # group -> epoch, its order
        self._round, self._drawn = -1, list[tuple[int, int]]()

    def draw(self, start: int, size: int) -> list[tuple[int, int]]:
        """(epoch, sample) of the micro-batch of `size` samples that begins after `start` consumed samples."""
        group, place = self.labels[0].item(), start
        if len(self.members) > 1:
            assert start % size == 0, "a stream with groups is cut into micro-batches of one size"
            group, before = self._group(start // size)
            place = before * size
        return [self._sample(int(group), offset) for offset in range(place, place + size)]

    def _group(self, micro_batch: int) -> tuple[int, int]:
        """The group of a micro-batch, and how many earlier ones are of that group."""
        count = len(self.labels)
        number, place = divmod(micro_batch, count)
        if number != self._round:
            self._round = number
            seen = dict.fromkeys(self.members, 0)
            self._drawn = []
            for group in self.labels[permutation(self.seed, number, count)].tolist():
                self._drawn.append((group, seen[group]))
                seen[group] += 1
        group, before = self._drawn[place]
        return group, number * len(self.members[group]) + before

    def _sample(self, group: int, place: int) -> tuple[int, int]:
        members = self.members[group]
        epoch, offset = divmod(place, len(members))
        if self._orders.get(group, (-1,))[0] != epoch:
            self._orders[group] = epoch, members[permutation(self.seed, epoch, len(members))].tolist()
        return epoch, self._orders[group][1][offset]


class MicroBatchSampler:
    """The micro-batches of one process, endless: `accumulation` of them for each step."""

    def __init__(
        self,
        stream: SampleStream,
        batch_size: int,  # samples of a micro-batch
        accumulation: int,
        rank: int,
        num_processes: int,
        first_step: int,
        samples_seen: int,  # by all processes, before the first step
        progress: Callable[[int], float],  # of a global step
    ) -> None:
        self.stream, self.batch_size, self.accumulation = stream, batch_size, accumulation
        self.rank, self.num_processes = rank, num_processes
        self.first_step, self.samples_seen, self.progress = first_step, samples_seen, progress

    def __iter__(self) -> Iterator[list[Position]]:
        step, seen = self.first_step, self.samples_seen
        while True:
            progress = self.progress(step)
            for _ in range(self.accumulation):
                drawn = self.stream.draw(seen + self.rank * self.batch_size, self.batch_size)
                yield [Position(epoch, sample, progress) for epoch, sample in drawn]
                seen += self.num_processes * self.batch_size
            step += 1
