"""Every sample once an epoch, whoever reads: one process or several, in one go or resumed."""

from itertools import islice
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from t2v.training.sampler import MicroBatchSampler, Position, SampleStream

GROUPS = [0] * 10
MIXED = [0, 0, 1, 1, 1, 2, 2, 2, 2, 2]


def sampler(
    groups: list[int] = GROUPS,
    batch_size: int = 4,
    accumulation: int = 1,
    rank: int = 0,
    num_processes: int = 1,
    first_step: int = 0,
    samples_seen: int = 0,
) -> MicroBatchSampler:
    stream = SampleStream(groups, seed=3)
    return MicroBatchSampler(
        stream, batch_size, accumulation, rank, num_processes, first_step, samples_seen, lambda step: step / 8
    )


def batches(count: int, **options: Any) -> list[list[Position]]:
    return list(islice(sampler(**options), count))


def drawn(found: list[list[Position]]) -> list[tuple[int, int]]:
    return [(position.epoch, position.sample) for batch in found for position in batch]


def test_every_sample_comes_once_an_epoch() -> None:
    found = batches(5)
    assert all(len(batch) == 4 for batch in found)
    assert sorted(drawn(found)) == [(epoch, sample) for epoch in range(2) for sample in range(10)]
    assert drawn(found)[:10] != drawn(found)[10:]


def test_the_progress_is_that_of_the_step() -> None:
    found = batches(4, accumulation=2, first_step=2)
    assert [batch[0].progress for batch in found] == [2 / 8, 2 / 8, 3 / 8, 3 / 8]


@pytest.mark.parametrize("num_processes", [1, 2, 3])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_processes_share_the_stream_of_one(num_processes: int, accumulation: int) -> None:
    per_rank = [
        batches(6, batch_size=2, accumulation=accumulation, rank=rank, num_processes=num_processes)
        for rank in range(num_processes)
    ]
    together = [batch for turn in zip(*per_rank, strict=True) for batch in turn]
    assert drawn(together) == drawn(batches(6 * num_processes, batch_size=2))


@pytest.mark.parametrize("groups", [GROUPS, MIXED], ids=["plain", "groups"])
@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 3), (3, 2), (2, 1)])
def test_a_resumed_stream_goes_on_exactly_with_any_number_of_processes(
    groups: list[int], before: int, after: int
) -> None:
    size, first = 2, 3
    whole = drawn(batches(first * before + 4 * after, batch_size=size, groups=groups))
    parts = [batches(first, batch_size=size, groups=groups, rank=rank, num_processes=before) for rank in range(before)]
    start = {"first_step": first, "samples_seen": first * before * size, "num_processes": after}
    parts += [batches(4, batch_size=size, groups=groups, rank=rank, **start) for rank in range(after)]
    assert sorted(drawn([batch for part in parts for batch in part])) == sorted(whole)


def test_a_resumed_stream_may_have_another_batch_size() -> None:
    assert drawn(batches(3)) + drawn(batches(4, batch_size=2, samples_seen=12)) == drawn(batches(5))


def test_a_micro_batch_is_of_one_group_and_each_group_has_its_own_epochs() -> None:
    found = batches(30, batch_size=2, groups=MIXED)  # 3 rounds of 10 micro-batches: every group 3 * 2 times
    assert all(len({MIXED[position.sample] for position in batch}) == 1 for batch in found)
    assert sorted(drawn(found)) == sorted((epoch, sample) for epoch in range(6) for sample in range(10))


class Echo:
    """A data set of positions."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, position: Position) -> Position:
        return position

    def __getitems__(self, positions: list[Position]) -> list[Position]:
        return positions


@pytest.mark.parametrize("num_workers", [0, 2, 4])
def test_loader_workers_neither_drop_nor_repeat(num_workers: int) -> None:
    torch.set_num_threads(1)
    for rank in range(3):
        part = sampler(batch_size=2, rank=rank, num_processes=3, first_step=5, samples_seen=30)
        loader = DataLoader(Echo(), batch_sampler=part, num_workers=num_workers, collate_fn=list)  # type: ignore[arg-type, var-annotated]
        assert list(islice(loader, 4)) == list(islice(part, 4))
