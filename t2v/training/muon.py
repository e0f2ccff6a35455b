"""Muon: momentum whose matrix is orthogonalised before the step (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon).

Every weight of two or more dimensions is seen as a matrix `(out, in * kernel)`. On the small convolutional networks of
`configs/mini` it reaches in one minute what AdamW needs many for, which is what makes training them on a CPU possible.
"""

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor

# Coefficients of the quintic Newton-Schulz iteration: steepest at zero, singular values end in about [0.7, 1.2].
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrix: Tensor, num_iterations: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrix of `matrix (rows, columns)`, approximately, by Newton-Schulz.

    Every iterate is a polynomial in the Gram matrix times the start, so the iteration runs on the small square Gram
    matrix and its product is applied once: two large products in place of two for each iteration.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix
    x = x / (x.norm() + 1e-7)
    gram = x @ x.mT
    product = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    for _ in range(num_iterations):
        step = b * gram + c * gram @ gram
        step.diagonal().add_(a)
        product = step @ product
        gram = step @ gram @ step
    x = product @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum for groups with `orthogonalize=True`, Adam for the rest.

    Args:
        groups: parameter groups, each with `lr`, `weight_decay` (decoupled) and `orthogonalize`.
        betas, eps: of Adam (arXiv 1412.6980).
        momentum: of the orthogonalised groups.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(groups, {"betas": betas, "eps": eps, "momentum": momentum})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step; no closure."""
        assert closure is None
        for group in self.param_groups:
            update = self._muon if group["orthogonalize"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    update(parameter, parameter.grad, group)
        return None

    def _muon(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum = group["momentum"]
        buffer = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        matrix = gradient.lerp(buffer, momentum).reshape(len(parameter), -1)
        rows, columns = matrix.shape
        scale = max(1.0, rows / columns) ** 0.5
        parameter.add_(orthogonalize(matrix).reshape(parameter.shape), alpha=-group["lr"] * scale)

    def _adam(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        first, second = group["betas"]
        count = int(state["step"])
        mean = state["exp_avg"].lerp_(gradient, 1 - first)
        square = state["exp_avg_sq"].lerp_(gradient.square(), 1 - second)
        denominator = (square / (1 - second**count)).sqrt_().add_(group["eps"])
        parameter.addcdiv_(mean, denominator, value=-group["lr"] / (1 - first**count))
