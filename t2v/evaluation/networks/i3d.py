"""I3D on RGB frames (arXiv 1705.07750): the 400 class scores of Kinetics that FVD is measured in (arXiv 1812.01717)."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE = 224  # pixels that videos are scaled to
MIN_FRAMES = 9  # two steps of time are left after the strides, which the last pooling wants
_PUBLISHED_SHAPES = {"Conv3d_1a_7x7.conv3d.weight": (64, 3, 7, 7, 7), "logits.conv3d.weight": (400, 1024, 1, 1, 1)}
_STRIDES = {"Conv3d_1a_7x7": (2, 2, 2)}
_POOL_2A_3A = ((1, 3, 3), (1, 2, 2))
_POOL_4A = ((3, 3, 3), (2, 2, 2))
_POOL_5A = ((2, 2, 2), (2, 2, 2))


class I3D:
    """The network over weights under the names of `i3d_pretrained_400.pt`."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = weights

    @property
    def is_full_size(self) -> bool:
        """Whether it is as wide as the published network, and so its scores may be called FVD's features."""
        return all(tuple(self.weights[name].shape) == shape for name, shape in _PUBLISHED_SHAPES.items())

    @torch.inference_mode()
    def __call__(self, frames: Tensor) -> Tensor:
        """Class scores (B, 400), mean over time, of frames uint8 (B, F, H, W, 3), F at least MIN_FRAMES."""
        x = self._unit(to_i3d_input(frames), "Conv3d_1a_7x7")
        x = _max_pool(x, *_POOL_2A_3A)
        x = self._unit(self._unit(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3")
        x = _max_pool(x, *_POOL_2A_3A)
        x = self._blocks(x, "3b", "3c")
        x = _max_pool(x, *_POOL_4A)
        x = self._blocks(x, "4b", "4c", "4d", "4e", "4f")
        x = _max_pool(x, *_POOL_5A)
        x = self._blocks(x, "5b", "5c")
        x = F.avg_pool3d(x, (2, 7, 7), 1)
        x = F.conv3d(x, self.weights["logits.conv3d.weight"], self.weights["logits.conv3d.bias"])
        return x.mean((2, 3, 4))

    def _blocks(self, x: Tensor, *names: str) -> Tensor:
        """Inception blocks: four branches side by side."""
        for name in names:
            block = f"Mixed_{name}"
            x = torch.cat(
                [
                    self._unit(x, f"{block}.b0"),
                    self._unit(self._unit(x, f"{block}.b1a"), f"{block}.b1b"),
                    self._unit(self._unit(x, f"{block}.b2a"), f"{block}.b2b"),
                    self._unit(_max_pool(x, (3, 3, 3), (1, 1, 1)), f"{block}.b3b"),
                ],
                1,
            )
        return x

    def _unit(self, x: Tensor, name: str) -> Tensor:
        """Convolution, batch norm with its running statistics, ReLU."""
        weight, stride = self.weights[f"{name}.conv3d.weight"], _STRIDES.get(name, (1, 1, 1))
        x = F.conv3d(_pad_same(x, weight.shape[2:], stride), weight, stride=stride)
        mean, variance, scale, shift = (
            self.weights[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.relu(F.batch_norm(x, mean, variance, scale, shift, eps=1e-5))


def to_i3d_input(frames: Tensor) -> Tensor:
    """uint8 (B, F, H, W, 3) -> (B, 3, F, 224, 224) in [-1, 1]: shorter side to 224 and the centre, as published FVDs.

    Bilinear, without antialiasing.
    """
    batch, _, height, width, _ = frames.shape
    images = frames.flatten(0, 1).permute(0, 3, 1, 2).float()
    height, width = (math.ceil(side * SIZE / min(height, width)) for side in (height, width))
    images = F.interpolate(images, (height, width), mode="bilinear", align_corners=False)
    top, left = (height - SIZE) // 2, (width - SIZE) // 2
    images = images[..., top : top + SIZE, left : left + SIZE] / 127.5 - 1
    return images.unflatten(0, (batch, -1)).transpose(1, 2).contiguous()


def _max_pool(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    return F.max_pool3d(_pad_same(x, kernel, stride), list(kernel), list(stride))


def _pad_same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Zeros around time, height and width as TensorFlow's SAME padding has them: the odd one at the end."""
    pads: list[int] = []
    for size, k, s in zip(x.shape[2:], kernel, stride, strict=True):
        total = max((k - s) if size % s == 0 else (k - size % s), 0)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads)
