"""The plain version of each op in `t2v.ops.functional`: short, and slower."""

import torch
import torch.nn.functional as F
from einops import rearrange


def temporal_conv(
    images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, num_frames: int
) -> torch.Tensor:
    """Convolution over frames as conv3d with kernel (3, 1, 1); arguments as `functional.temporal_conv`."""
    video = rearrange(images, "(b f) c h w -> b c f h w", f=num_frames)
    out = F.conv3d(video, weight.unsqueeze(-1), bias, padding=(1, 0, 0))
    return rearrange(out, "b c f h w -> (b f) c h w")


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """softmax(q k^T / sqrt(D)) v: (B, N, heads, D) with keys (B, L, heads, D) -> (B, N, heads * D)."""
    scores = torch.einsum("bihd,bjhd->bhij", query, key) / query.shape[-1] ** 0.5
    return torch.einsum("bhij,bjhd->bihd", scores.softmax(dim=-1), value).flatten(2)


def temporal_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    causal: bool = False,
) -> torch.Tensor:
    """Attention over frames at each pixel: (B, F, N, heads, D) -> (B, F, N, heads * D); as `functional`'s."""
    f = query.shape[1]
    scores = torch.einsum("binhd,bjnhd->bnhij", query, key) / query.shape[-1] ** 0.5
    if bias is not None:
        scores = scores + bias
    allowed = torch.ones(f, f, dtype=torch.bool, device=query.device)
    if causal:
        allowed = allowed.tril()
    if mask is not None:
        allowed = allowed & mask[:, None, None, None, :]
    weights = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min).softmax(dim=-1) * allowed
    return torch.einsum("bnhij,bjnhd->binhd", weights, value).flatten(3)


def geglu(x: torch.Tensor) -> torch.Tensor:
    """value * GELU(gate), the exact GELU by the error function; argument as `functional.geglu`."""
    value, gate = x.chunk(2, dim=-1)
    return value * gate * 0.5 * (1 + torch.erf(gate / 2**0.5))


def group_norm(
    images: torch.Tensor, num_groups: int, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    """GroupNorm, statistics per frame; arguments as `functional.group_norm`."""
    x = rearrange(images, "n (g c) h w -> n g (c h w)", g=num_groups)
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + eps).sqrt()
    return x.view(images.shape) * weight[:, None, None] + bias[:, None, None]


def group_norm_silu(
    images: torch.Tensor, num_groups: int, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    """SiLU(GroupNorm(x)), statistics per frame; arguments as `functional.group_norm_silu`."""
    x = group_norm(images, num_groups, weight, bias, eps)
    return x * torch.sigmoid(x)
