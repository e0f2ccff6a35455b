from itertools import islice

from t2v.training.sampler import Position, StepSampler


def batches(count: int, first_step: int = 0) -> list[list[Position]]:
    return list(islice(StepSampler(10, 4, 3, first_step, lambda step: step / 8), count))


def test_step_sampler_gives_every_sample_once_an_epoch() -> None:
    drawn = [(position.epoch, position.sample) for batch in batches(5) for position in batch]
    assert all(len(batch) == 4 for batch in batches(5))
    assert sorted(drawn) == [(epoch, sample) for epoch in range(2) for sample in range(10)]
    assert [sample for _, sample in drawn[:10]] != [sample for _, sample in drawn[10:]]


def test_step_sampler_resumes_in_the_middle_of_an_epoch() -> None:
    assert batches(5, first_step=3) == batches(8)[3:]


def test_step_sampler_tells_the_progress_of_each_step() -> None:
    assert [batch[0].progress for batch in batches(3, first_step=2)] == [2 / 8, 3 / 8, 4 / 8]
