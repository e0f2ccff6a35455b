"""Group normalisation, of each frame or of all frames together, in the networks' layout."""

import torch
from torch import nn

from t2v.ops import group_norm, group_norm_silu, to_images, to_tokens


class Norm(nn.GroupNorm):
    """GroupNorm, statistics per frame: (B*F, C, H, W), channels_last -> the same."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class NormSiLU(nn.GroupNorm):
    """GroupNorm, statistics per frame, then SiLU: (B*F, C, H, W), channels_last -> the same."""

    def forward(self, x: torch.Tensor, statistics: torch.Tensor | None = None) -> torch.Tensor:
        return group_norm_silu(x, self.num_groups, self.weight, self.bias, self.eps, statistics)


def over_frames(norm: nn.Module, x: torch.Tensor, num_frames: int) -> torch.Tensor:
    """A norm whose statistics are those of all frames of a video: (B*F, C, H, W), channels_last -> the same."""
    h, w = x.shape[-2:]
    tall = to_images(to_tokens(x, num_frames), num_frames * h, w)  # (B, C, F*H, W)
    return to_images(to_tokens(norm(tall), 1), h, w)
