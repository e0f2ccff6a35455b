"""Initialisation from a given random source."""

import math

import torch
from torch import nn


def init_parameters(module: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of every linear and convolution layer in `module` anew: uniform within 1 / sqrt(fan_in), biases
    too, as PyTorch does by default.

    Layers whose weight is all zero, as zero-initialised output projections are, stay so, and other modules keep their
    values. Draws on the CPU, so that a seed means the same weights on every device.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and bool(layer.weight.any()):
            bound = 1 / math.sqrt(layer.weight[0].numel())
            for parameter in (layer.weight, layer.bias):
                if parameter is not None:
                    values = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
                    with torch.no_grad():
                        parameter.copy_(values)
