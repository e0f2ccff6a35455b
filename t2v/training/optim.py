"""Optimizers and learning-rate schedules."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from t2v.errors import InputError
from t2v.training.config_sections import OptimConfig
from t2v.training.muon import Muon
from t2v.training.sharding import spread_like

_EDGE_MODULES = frozenset(
    (
        "conv_in",
        "conv_out",
        "quant_conv",
        "quantize",
        "post_quant_conv",
        "time_embedding",
        "fps_embedding",
        "embeddings",
    )
)


def build_optimizer(parameters: Mapping[str, nn.Parameter], config: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer of named parameters; weight decay on matrices and convolutions alone, not on biases and norms.

    adamw: arXiv 1711.05101, fused. adamw_8bit: the same with its state in 8 bits (arXiv 2110.02861), through
    bitsandbytes. muon: `t2v.training.muon` for the hidden matrices and convolutions; the first and
    last layers, embeddings, biases and norms take Adam steps at `learning_rate`. Each group keeps its rate relative to
    `learning_rate` as `lr_scale`.

    Raises:
        InputError: bitsandbytes is missing, or the optimizer cannot work on parameters that are spread over processes.
    """
    if config.optimizer != "adamw" and any(isinstance(p, DTensor) for p in parameters.values()):
        raise InputError(f"optim.optimizer: {config.optimizer} does not go with FSDP2; use adamw, or launch without it")
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
    if config.optimizer == "adamw_8bit":
        return _adamw_8bit()(groups, betas=config.betas, eps=config.eps)
    for group in groups:
        group["orthogonalize"] = False
    groups[-1] |= {"orthogonalize": True, "lr_scale": config.muon_learning_rate / rate, "weight_decay": 0.0}
    return Muon(groups, config.betas, config.eps)


def _adamw_8bit() -> Callable[..., torch.optim.Optimizer]:
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise InputError('optim.optimizer: adamw_8bit needs bitsandbytes: pip install "t2v[8bit]"') from None
    return AdamW8bit


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
    """The state of an optimizer as flat tensors `<parameter>:<entry>`; `names` maps id(parameter) to its name.

    An integer becomes an int64 tensor without dimensions.
    """
    tensors = {}
    for parameter, state in optimizer.state.items():
        for entry, value in state.items():
            tensors[f"{names[id(parameter)]}:{entry}"] = torch.tensor(value) if isinstance(value, int) else value
    return tensors


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], names: dict[int, str]) -> None:
    """Put back what `optimizer_tensors` gave, whole; for each parameter that is spread over processes, its part."""
    by_name: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, entry = key.rsplit(":", 1)
        by_name.setdefault(name, {})[entry] = value
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = by_name.get(names[id(parameter)])
            if state is not None:
                optimizer.state[parameter] = {entry: _state_like(parameter, value) for entry, value in state.items()}


def _state_like(parameter: Tensor, value: Tensor) -> Tensor | int:
    if value.ndim == 0 and value.dtype == torch.int64:
        return int(value)
    value = value.to(parameter.device)
    if value.shape != parameter.shape or value.ndim == 0:
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(spread_like(parameter, value))
