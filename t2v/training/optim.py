"""Optimizers and learning-rate schedules."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from t2v.training.config import OptimConfig
from t2v.training.muon import Muon

_EDGE_MODULES = frozenset(
    ("conv_in", "conv_out", "quant_conv", "post_quant_conv", "time_embedding", "fps_embedding", "embeddings")
)


def build_optimizer(parameters: Mapping[str, nn.Parameter], config: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer of named parameters; weight decay on matrices and convolutions alone, not on biases and norms.

    adamw: arXiv 1711.05101, fused. muon: `t2v.training.muon` for the hidden matrices and convolutions; the first and
    last layers, embeddings, biases and norms take Adam steps at `learning_rate`. Each group keeps its rate relative to
    `learning_rate` as `lr_scale`.
    """
    hidden = [p for name, p in parameters.items() if p.ndim > 1 and not _is_edge(name)]
    edges = [p for name, p in parameters.items() if p.ndim > 1 and _is_edge(name)]
    vectors = [p for p in parameters.values() if p.ndim <= 1]
    rate, decay = config.learning_rate, config.weight_decay
    groups: list[dict[str, Any]] = [
        {"params": edges, "lr": rate, "lr_scale": 1.0, "weight_decay": decay},
        {"params": vectors, "lr": rate, "lr_scale": 1.0, "weight_decay": 0.0},
        {"params": hidden, "lr": rate, "lr_scale": 1.0, "weight_decay": decay},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, fused=True)
    for group in groups:
        group["orthogonalize"] = False
    groups[-1] |= {"orthogonalize": True, "lr_scale": config.muon_learning_rate / rate, "weight_decay": 0.0}
    return Muon(groups, config.betas, config.eps)


def _is_edge(name: str) -> bool:
    """Whether a weight is of a first or last layer or an embedding, which orthogonalised steps do not suit."""
    return any(part in _EDGE_MODULES for part in name.split("."))


def learning_rate(config: OptimConfig, global_step: int, progress: float) -> float:
    """The learning rate of a step, to be multiplied by a group's `lr_scale`.

    A linear warm-up by steps, times the schedule by progress in [0, 1]:
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
