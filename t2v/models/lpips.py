"""LPIPS: how different two pictures look, in the features of AlexNet (arXiv 1801.03924, version 0.1)."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from t2v.models.published_weights import WeightsFile, find_weights

NETWORKS = ("alexnet", "lpips_alex")  # of `published_weights`
MIN_SIZE = 31  # pixels that the strides of AlexNet need
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_CONVOLUTIONS = {"0": (4, 2), "3": (1, 2), "6": (1, 1), "8": (1, 1), "10": (1, 1)}  # stride and padding by place
_POOLED_BEFORE = ("3", "6")


class LPIPS:
    """The distance over AlexNet's weights (torchvision's names) and LPIPS' own (`lin0.model.1.weight`, ...)."""

    def __init__(self, trunk: Mapping[str, Tensor], linear: Mapping[str, Tensor]) -> None:
        self.trunk, self.linear = trunk, linear

    def __call__(self, pictures: Tensor, truth: Tensor) -> Tensor:
        """Distance (N,) of each of pictures (N, 3, H, W) in [-1, 1], of at least 31 pixels a side, to the true one."""
        distance = torch.zeros(len(pictures), device=pictures.device)
        for level, (own, true) in enumerate(zip(self._features(pictures), self._features(truth), strict=True)):
            difference = (_unit_length(own) - _unit_length(true)).square()
            distance = distance + F.conv2d(difference, self.linear[f"lin{level}.model.1.weight"]).mean((1, 2, 3))
        return distance

    def _features(self, pictures: Tensor) -> Iterator[Tensor]:
        shift, scale = (pictures.new_tensor(values).view(1, 3, 1, 1) for values in (_SHIFT, _SCALE))
        x = (pictures - shift) / scale
        for place, (stride, padding) in _CONVOLUTIONS.items():
            if place in _POOLED_BEFORE:
                x = F.max_pool2d(x, 3, 2)
            weight, bias = (self.trunk[f"features.{place}.{part}"] for part in ("weight", "bias"))
            x = F.relu(F.conv2d(x, weight, bias, stride, padding))
            yield x


def _unit_length(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True) + 1e-20).sqrt()  # the root of 0 has no gradient


def find_lpips(
    weights: Path, allow_unpublished: bool, device: torch.device
) -> tuple[WeightsFile, WeightsFile, LPIPS] | None:
    """LPIPS of the weights in the user's folder; None where one of its two files is missing."""
    trunk, linear = (find_weights(weights, name, allow_unpublished) for name in NETWORKS)
    if trunk is None or linear is None:
        return None
    return trunk, linear, LPIPS(trunk.tensors(device), linear.tensors(device))
