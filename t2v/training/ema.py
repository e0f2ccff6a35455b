"""Exponential moving average of the trained parameters, in fp32."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from t2v.training.sharding import fill


class EMA:
    """shadow = decay * shadow + (1 - decay) * parameter after each step; the decay itself warms up from 0.1."""

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.parameters = parameters
        self.shadow = {name: p.detach().float().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, global_step: int) -> None:
        """Take in the parameters after step `global_step` (1 for the first)."""
        decay = min(self.decay, (1 + global_step) / (10 + global_step))
        values = [p.detach().float() for p in self.parameters.values()]
        torch._foreach_lerp_(list(self.shadow.values()), values, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The averages stand in for the parameters until the block ends."""
        with torch.no_grad():
            saved = {name: p.detach().clone() for name, p in self.parameters.items()}
            self._fill(self.shadow)
        try:
            yield
        finally:
            with torch.no_grad():
                self._fill(saved)

    def _fill(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])

    def load(self, shadow: dict[str, Tensor]) -> None:
        """Continue from a saved `shadow`."""
        for name, value in self.shadow.items():
            fill(value, shadow[name])
