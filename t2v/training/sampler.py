"""Which samples a training step sees: a function of (seed, global_step) alone, so a run resumes anywhere."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from t2v.training.randomness import permutation


class Position(NamedTuple):
    """One draw of one sample."""

    epoch: int
    sample: int  # its place in the data set
    progress: float  # of the training, 0 at its start and 1 at its end; curricula depend on it


class StepSampler:
    """An endless batch sampler: every sample once an epoch, a batch may span two epochs."""

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        first_step: int,
        progress: Callable[[int], float],  # of a global step
    ) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.first_step = first_step
        self.progress = progress

    def __iter__(self) -> Iterator[list[Position]]:
        order_epoch, order = -1, list[int]()
        step = self.first_step
        while True:
            progress = self.progress(step)
            batch = []
            for place in range(step * self.batch_size, (step + 1) * self.batch_size):
                epoch, offset = divmod(place, self.num_samples)
                if epoch != order_epoch:
                    order_epoch, order = epoch, permutation(self.seed, epoch, self.num_samples).tolist()
                batch.append(Position(epoch, order[offset], progress))
            yield batch
            step += 1
