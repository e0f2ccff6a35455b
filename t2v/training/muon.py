"""Muon: momentum whose matrix is orthogonalised before the step (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon).

Every weight of two or more dimensions is seen as a matrix `(out, in * kernel)`. On the small convolutional networks of
`configs/mini` it reaches in one minute what AdamW needs many for, which is what makes training them on a CPU possible.
"""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

# Coefficients of the quintic Newton-Schulz iteration: steepest at zero, singular values end in about [0.7, 1.2].
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrix: Tensor, num_iterations: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrix of `matrix (rows, columns)`, approximately, by Newton-Schulz in bfloat16."""
    a, b, c = NEWTON_SCHULZ
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(num_iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, scaled by sqrt(max(1, rows / columns)). For weights with `ndim >= 2` only."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        assert closure is None, "Muon takes no closure"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return None

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer = state["momentum_buffer"]
        buffer.lerp_(parameter.grad, 1 - group["momentum"])
        update = parameter.grad.lerp(buffer, group["momentum"])
        matrix = update.reshape(update.shape[0], -1)
        rows, columns = matrix.shape
        direction = orthogonalize(matrix).reshape(parameter.shape)
        if group["weight_decay"]:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(direction, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)
