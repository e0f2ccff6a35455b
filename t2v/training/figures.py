"""The figures of a training run: means since the last report, and where the time goes."""

import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from t2v.training.sharding import whole


class Means:
    """Running means of scalar tensors that wait on the device until they are read."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: Counter[str] = Counter()

    def add(self, values: dict[str, Tensor]) -> None:
        """Take in the figures of one step, or of one micro-batch; not every one has all."""
        for name, value in values.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._counts.update(values.keys())

    def tensors(self) -> dict[str, Tensor]:
        """The means since the last `pop`, on the device."""
        return {name: value / self._counts[name] for name, value in self._sums.items()}

    def pop(self) -> dict[str, float]:
        """The means since the last call."""
        means = {name: float(whole(value)) / self._counts[name] for name, value in self._sums.items()}
        self._sums, self._counts = {}, Counter()
        return means


class Pace:
    """Samples a second and the share of the time spent waiting for data, since the last report."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Count from here."""
        self._since, self._waited, self._samples = time.perf_counter(), 0.0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of the block as waiting."""
        before = time.perf_counter()
        yield
        self._waited += time.perf_counter() - before

    def add(self, samples: int) -> None:
        """Count samples that were learned from."""
        self._samples += samples

    def pop(self) -> dict[str, float]:
        """The figures since the last call."""
        seconds = time.perf_counter() - self._since
        figures = {
            "samples_per_s": round(self._samples / seconds, 2),
            "data_wait": round(self._waited / seconds, 3),
        }
        self.start()
        return figures


def peak_memory_gb(device: torch.device) -> float:
    """The most memory that was in use at once: of the GPU, else of this process."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1e9, 3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e9, 3)
