"""Group normalisation of each frame, in the networks' layout."""

import torch
from torch import nn

from t2v.ops import group_norm, group_norm_silu


class Norm(nn.GroupNorm):
    """GroupNorm, statistics per frame: (B*F, C, H, W), channels_last -> the same."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class NormSiLU(nn.GroupNorm):
    """GroupNorm, statistics per frame, then SiLU: (B*F, C, H, W), channels_last -> the same."""

    def forward(self, x: torch.Tensor, statistics: torch.Tensor | None = None) -> torch.Tensor:
        return group_norm_silu(x, self.num_groups, self.weight, self.bias, self.eps, statistics)
