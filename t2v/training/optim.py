"""Optimizers and learning-rate schedules."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from t2v.training.config import OptimConfig


def build_optimizer(parameters: Iterable[nn.Parameter], config: OptimConfig) -> torch.optim.AdamW:
    """Fused AdamW (arXiv 1711.05101); weight decay on matrices and convolutions alone, not on biases and norms."""
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)


def learning_rate(config: OptimConfig, global_step: int, progress: float) -> float:
    """The learning rate of a step: linear warm-up by steps, then the schedule by progress in [0, 1].

    cosine falls over the whole training; trapezoid is constant, then falls linearly over the last `decay_fraction`.
    """
    scale = 1.0
    if config.schedule == "cosine":
        scale = 0.5 * (1 + math.cos(math.pi * progress))
    elif config.schedule == "trapezoid":
        scale = min(1.0, (1 - progress) / config.decay_fraction)
    scale = config.final_scale + (1 - config.final_scale) * scale
    return config.learning_rate * scale * min(1.0, (global_step + 1) / max(1, config.warmup_steps))


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> dict[str, Tensor]:
    """The state of an optimizer as flat tensors `<parameter>:<entry>`; `names` maps id(parameter) to its name."""
    tensors = {}
    for parameter, state in optimizer.state.items():
        for entry, value in state.items():
            tensors[f"{names[id(parameter)]}:{entry}"] = value
    return tensors


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], names: dict[int, str]) -> None:
    """Put back what `optimizer_tensors` gave."""
    by_name: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, entry = key.rsplit(":", 1)
        by_name.setdefault(name, {})[entry] = value
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = by_name.get(names[id(parameter)], {})
            device = parameter.device
            optimizer.state[parameter] = {
                entry: torch.empty_like(parameter, dtype=value.dtype).copy_(value) if value.ndim else value.to(device)
                for entry, value in state.items()
            }
            if not state:
                del optimizer.state[parameter]
