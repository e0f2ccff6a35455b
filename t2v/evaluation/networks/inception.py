"""Inception-v3 as FID is measured with (arXiv 1512.00567, the TensorFlow weights of 2015-12-05)."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE = 299  # pixels that pictures are scaled to
_STRIDE_2 = (
    "Conv2d_1a_3x3",
    *("Mixed_6a.branch3x3", "Mixed_6a.branch3x3dbl_3"),
    *("Mixed_7a.branch3x3_2", "Mixed_7a.branch7x7x3_4"),
)
_DOUBLE_3X3 = ("branch3x3dbl_1", "branch3x3dbl_2")
_UNPADDED = (*_STRIDE_2, "Conv2d_2a_3x3", "Conv2d_4a_3x3")


class InceptionV3:
    """The network over weights under the names of torchvision, as `weights-inception-2015-12-05` has them."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = weights

    @torch.inference_mode()
    def __call__(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (N, 2048), which FID takes, and logits without bias (N, 1008), which IS takes.

        Args:
            frames: uint8 (N, H, W, 3).
        """
        x = (resize_as_tensorflow(frames.permute(0, 3, 1, 2).float(), SIZE) - 128) / 128
        x = self._chain(x, "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3")
        x = self._chain(F.max_pool2d(x, 3, 2), "Conv2d_3b_1x1", "Conv2d_4a_3x3")
        x = F.max_pool2d(x, 3, 2)
        for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            x = self._block_a(x, name)
        x = self._block_b(x, "Mixed_6a")
        for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            x = self._block_c(x, name)
        x = self._block_d(x, "Mixed_7a")
        x = self._block_e(x, "Mixed_7b", _average_pool(x))
        x = self._block_e(x, "Mixed_7c", F.max_pool2d(x, 3, 1, 1))  # as the TensorFlow graph has it
        features = x.mean((2, 3))
        return features, features @ self.weights["fc.weight"].T

    def _block_a(self, x: Tensor, name: str) -> Tensor:
        return torch.cat(
            [
                self._branch(x, name, "branch1x1"),
                self._branch(x, name, "branch5x5_1", "branch5x5_2"),
                self._branch(x, name, *_DOUBLE_3X3, "branch3x3dbl_3"),
                self._branch(_average_pool(x), name, "branch_pool"),
            ],
            1,
        )

    def _block_b(self, x: Tensor, name: str) -> Tensor:
        return torch.cat(
            [
                self._branch(x, name, "branch3x3"),
                self._branch(x, name, *_DOUBLE_3X3, "branch3x3dbl_3"),
                F.max_pool2d(x, 3, 2),
            ],
            1,
        )

    def _block_c(self, x: Tensor, name: str) -> Tensor:
        return torch.cat(
            [
                self._branch(x, name, "branch1x1"),
                self._branch(x, name, *(f"branch7x7_{i}" for i in (1, 2, 3))),
                self._branch(x, name, *(f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5))),
                self._branch(_average_pool(x), name, "branch_pool"),
            ],
            1,
        )

    def _block_d(self, x: Tensor, name: str) -> Tensor:
        return torch.cat(
            [
                self._branch(x, name, "branch3x3_1", "branch3x3_2"),
                self._branch(x, name, *(f"branch7x7x3_{i}" for i in (1, 2, 3, 4))),
                F.max_pool2d(x, 3, 2),
            ],
            1,
        )

    def _block_e(self, x: Tensor, name: str, pooled: Tensor) -> Tensor:
        narrow, double = (self._branch(x, name, *names) for names in (("branch3x3_1",), _DOUBLE_3X3))
        return torch.cat(
            [
                self._branch(x, name, "branch1x1"),
                self._branch(narrow, name, "branch3x3_2a"),
                self._branch(narrow, name, "branch3x3_2b"),
                self._branch(double, name, "branch3x3dbl_3a"),
                self._branch(double, name, "branch3x3dbl_3b"),
                self._branch(pooled, name, "branch_pool"),
            ],
            1,
        )

    def _branch(self, x: Tensor, block: str, *names: str) -> Tensor:
        return self._chain(x, *(f"{block}.{name}" for name in names))

    def _chain(self, x: Tensor, *names: str) -> Tensor:
        """Convolutions one after the other, each with batch norm by its running statistics, and ReLU."""
        for name in names:
            weight = self.weights[f"{name}.conv.weight"]
            padding = (0, 0) if name in _UNPADDED else (weight.shape[2] // 2, weight.shape[3] // 2)
            x = F.conv2d(x, weight, stride=2 if name in _STRIDE_2 else 1, padding=padding)
            mean, variance, scale, shift = (
                self.weights[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
            )
            x = F.relu(F.batch_norm(x, mean, variance, scale, shift, eps=1e-3))
        return x


def resize_as_tensorflow(images: Tensor, size: int) -> Tensor:
    """Float (N, C, H, W) -> (N, C, size, size) as TensorFlow 1 does: bilinear, corner on corner, no antialiasing."""
    for dim in (3, 2):
        length = images.shape[dim]
        places = torch.arange(size, dtype=torch.float32, device=images.device) * (length / size)
        low = places.long()
        first, second = (images.index_select(dim, index) for index in (low, (low + 1).clamp(max=length - 1)))
        share = (places - low).view(-1, *(1 for _ in range(3 - dim)))
        images = first + (second - first) * share
    return images


def _average_pool(x: Tensor) -> Tensor:
    """Means of 3x3 pixels; those beyond the edge do not count."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
