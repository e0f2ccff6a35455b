"""LPIPS: how different two pictures look, in the features of AlexNet (arXiv 1801.03924, version 0.1)."""

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_SIZE = 31  # pixels that the strides of AlexNet need
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_CONVOLUTIONS = {"0": (4, 2), "3": (1, 2), "6": (1, 1), "8": (1, 1), "10": (1, 1)}  # stride and padding by place
_POOLED_BEFORE = ("3", "6")


class LPIPS:
    """The distance over AlexNet's weights (torchvision's names) and LPIPS' own (`lin0.model.1.weight`, ...)."""

    def __init__(self, trunk: Mapping[str, Tensor], linear: Mapping[str, Tensor]) -> None:
        self.trunk, self.linear = trunk, linear

    @torch.inference_mode()
    def __call__(self, frames: Tensor, truth: Tensor) -> Tensor:
        """Distance (F,) of each frame of uint8 (F, H, W, 3) to the true one."""
        distance = torch.zeros(len(frames), device=frames.device)
        for level, (own, true) in enumerate(zip(self._features(frames), self._features(truth), strict=True)):
            difference = (_unit_length(own) - _unit_length(true)).square()
            distance += F.conv2d(difference, self.linear[f"lin{level}.model.1.weight"]).mean((1, 2, 3))
        return distance

    def _features(self, frames: Tensor) -> Iterator[Tensor]:
        shift, scale = (frames.new_tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (_SHIFT, _SCALE))
        x = (frames.permute(0, 3, 1, 2).float() / 127.5 - 1 - shift) / scale
        for place, (stride, padding) in _CONVOLUTIONS.items():
            if place in _POOLED_BEFORE:
                x = F.max_pool2d(x, 3, 2)
            weight, bias = (self.trunk[f"features.{place}.{part}"] for part in ("weight", "bias"))
            x = F.relu(F.conv2d(x, weight, bias, stride, padding))
            yield x


def _unit_length(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)
