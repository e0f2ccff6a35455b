"""Muon: momentum whose matrix is orthogonalised before the step (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon).

Every weight of two or more dimensions is seen as a matrix `(out, in * kernel)`.
"""

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor

# Coefficients of the quintic Newton-Schulz iteration: steepest at zero, singular values end in about [0.7, 1.2].
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor, num_iterations: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrices, approximately, by Newton-Schulz in bfloat16.

    Args:
        matrices: (N, rows, columns), or one (rows, columns).
    """
    a, b, c = NEWTON_SCHULZ
    x = (matrices if matrices.ndim == 3 else matrices[None]).bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(num_iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).reshape(matrices.shape).to(matrices.dtype)


def as_matrix(weight: Tensor) -> Tensor:
    """A view of a weight as (out, in * kernel); a channels_last one has its columns in another order."""
    if not weight.is_contiguous():
        weight = weight.permute(0, 2, 3, 1)
    return weight.view(len(weight), -1)


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
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                update = self._muon if group["orthogonalize"] else self._adam
                update(parameters, [parameter.grad for parameter in parameters], group)
        return None

    def _muon(self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        updates = torch._foreach_lerp(buffers, gradients, 1 - group["momentum"])

        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for parameter, update in zip(parameters, updates, strict=True):
            assert update.is_contiguous() == parameter.is_contiguous(), "both must have their columns in one order"
            matrix = as_matrix(parameter)
            by_shape.setdefault(matrix.shape, []).append((matrix, as_matrix(update).bfloat16()))
        for (rows, columns), pairs in by_shape.items():
            matrices, directions = zip(*pairs, strict=True)
            steps = orthogonalize(torch.stack(directions)).to(matrices[0].dtype)
            scale = max(1.0, rows / columns) ** 0.5
            torch._foreach_add_(list(matrices), list(steps.unbind()), alpha=-group["lr"] * scale)

    def _adam(self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> None:
        first, second = group["betas"]
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["step"] += 1
        states = [self.state[parameter] for parameter in parameters]
        counts = [int(state["step"]) for state in states]
        means, squares = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq"))
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_div_(denominators, [(1 - second**count) ** 0.5 for count in counts])
        torch._foreach_add_(denominators, group["eps"])
        rates = [-group["lr"] / (1 - first**count) for count in counts]
        torch._foreach_addcdiv_(parameters, means, denominators, rates)
