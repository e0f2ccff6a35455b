"""The factorized space-time ops.

Inside the networks a video is stored as (B, F, H, W, C), contiguous; every op reads and writes views of that storage
and copies nothing. `t2v.ops.reference` holds the plain version of each op.

Two views are used: *images*, (B*F, C, H, W) in channels_last, and *tokens*, (B, F, H*W, C).
"""

import torch
import torch.nn.functional as F

from t2v.ops import library
from t2v.ops.backend import runs_triton

MAX_PLAIN_FRAMES = 32  # longer sequences over frames are left to the fused kernel in training on the CPU
MAX_PORTION_FRAMES = 24  # longer ones are left to it in inference too
CPU_PORTION = 512  # pixels times heads whose attention over frames stays in the second-level cache
CUDA_LIMIT = 65535  # of the batch and of the heads: the fused CUDA kernels number them with 16 bits
KERNEL_FRAMES, KERNEL_HEAD_DIM = 128, 160  # what the kernel of attention over frames takes
NARROW_GROUP = 16  # channels that fill a vector register in half precision


def to_tokens(images: torch.Tensor, num_frames: int) -> torch.Tensor:
    """View images (B*F, C, H, W), channels_last, as tokens (B, F, H*W, C), contiguous."""
    assert images.is_contiguous(memory_format=torch.channels_last), "another layout would need a copy"
    bf, c, h, w = images.shape
    return images.permute(0, 2, 3, 1).view(bf // num_frames, num_frames, h * w, c)


def to_images(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """View contiguous tokens (..., C) of B*F*H*W positions as images (B*F, C, H, W) in channels_last."""
    return tokens.view(-1, height, width, tokens.shape[-1]).permute(0, 3, 1, 2)


def add(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x + y, in the memory of x when no gradient is recorded: x must be a value that nobody else reads."""
    return x + y if torch.is_grad_enabled() else x.add_(y)


def add_to_frames(images: torch.Tensor, shift: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Add to all frames of each video a value per channel, (B, C), as `add` does: (B*F, C, H, W) -> the same."""
    return add(images.unflatten(0, (-1, num_frames)), shift[:, None, :, None, None]).flatten(0, 1)


def temporal_conv(
    images: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    num_frames: int,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """Convolution over frames, kernel 3, zero padding: the time half of a pseudo-3D convolution.

    Runs as conv2d on the view (B, C, F, H*W), which equals conv3d with kernel (3, 1, 1) and is faster on every device
    tried; a Dirac weight with zero bias returns the input bit for bit (fp32).

    Args:
        images: (B*F, I, H, W), channels_last.
        weight: (O, I, 3, 1).
        bias: (O,) or None.
        residual: (B*F, O, H, W), channels_last, added to the result.
    Returns: (B*F, O, H, W), channels_last.
    """
    if _conv_runs_triton(images, weight):
        return library.temporal_conv(images, weight, bias, num_frames, None, residual, False)[0]
    out = _temporal_conv2d(images, weight, bias, num_frames)
    return out if residual is None else add(out, residual)


def temporal_conv_with_statistics(
    images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, num_frames: int, shift: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Convolution over frames before a group norm; arguments as `temporal_conv`, and `shift` as `add_to_frames`.

    Returns: images, and the statistics for `group_norm_silu`, where they come with the convolution.
    """
    if _conv_runs_triton(images, weight):
        return library.temporal_conv(images, weight, bias, num_frames, shift, None, True)
    return add_to_frames(_temporal_conv2d(images, weight, bias, num_frames), shift, num_frames), None


def _conv_runs_triton(images: torch.Tensor, weight: torch.Tensor) -> bool:
    return weight.dtype == images.dtype and runs_triton(images)


def _temporal_conv2d(
    images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, num_frames: int
) -> torch.Tensor:
    h, w = images.shape[-2:]
    x = to_tokens(images, num_frames).permute(0, 3, 1, 2)  # (B, C, F, H*W), channels_last
    x = F.conv2d(x, weight, bias, padding=(1, 0))
    return to_images(x.permute(0, 2, 3, 1), h, w)


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, upcast: bool = False) -> torch.Tensor:
    """Multi-head attention, softmax(q k^T / sqrt(D)) v.

    Args:
        query: (B, N, heads, D).
        key, value: (B, L, heads, D).
        upcast: compute half-precision input in float32.
    Returns: (B, N, heads * D), contiguous.
    """
    dtype = query.dtype
    if upcast and dtype.itemsize == 2:
        query, key, value = query.float(), key.float(), value.float()
    q, k, v = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    plain = q.dtype.itemsize == 2 and _records_gradients_on_cpu(q)
    out = _plain_attention(q, k, v) if plain else _fused_attention(q, k, v)
    return out.transpose(1, 2).flatten(2).to(dtype)


def temporal_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    causal: bool = False,
) -> torch.Tensor:
    """Multi-head attention over frames, at each pixel on its own: softmax(q k^T / sqrt(D) + bias) v.

    The sequence axis is read with its stride, so no permuted copy is made.

    Args:
        query, key, value: (B, F, N, heads, D), contiguous, or equal slices of one tensor packed per head: `unbind(-2)`
            of (B, F, N, heads, 3, D).
        bias: (heads, F, F), added to the scores of each query frame and key frame; see `relative_position_bias`.
        mask: (B, F), bool, False for frames that nothing may attend to.
        causal: a frame attends to itself and the frames before it.
    Returns: (B, F, N, heads * D), contiguous; zero where a frame may attend to nothing.
    """
    b, f, n, heads, d = query.shape
    assert key.shape == value.shape == query.shape, "attention over frames is self-attention"
    assert bias is None or bias.shape == (heads, f, f)
    assert mask is None or (mask.shape == (b, f) and mask.dtype == torch.bool)
    if f <= KERNEL_FRAMES and d <= KERNEL_HEAD_DIM and runs_triton(query):
        return library.temporal_attention(query, key, value, bias, mask, causal)
    q, k, v = (x.view(b, f, n * heads, d).transpose(1, 2) for x in (query, key, value))  # (B, N*heads, F, D)
    if bias is not None or mask is not None or causal:
        out = _biased_attention(q, k, v, bias, _allowed_frames(mask, causal, q))
    elif f <= MAX_PLAIN_FRAMES and _records_gradients_on_cpu(q):
        out = _plain_attention(q, k, v)
    elif f <= MAX_PORTION_FRAMES and q.device.type == "cpu" and not torch.compiler.is_compiling():
        return _attention_in_place(q, k, v).view(b, f, n, heads * d)
    else:
        out = _fused_attention(q, k, v)
    return out.transpose(1, 2).reshape(b, f, n, heads * d)


def relative_position_bias(table: torch.Tensor) -> torch.Tensor:
    """Spread a table of one value per distance, (heads, 2F - 1), over frame pairs: (heads, F, F).

    Entry [h, i, j] is table[h, j - i + F - 1], j the key's frame and i the query's.
    """
    num_frames = (table.shape[-1] + 1) // 2
    return table.unfold(-1, num_frames, 1).flip(1)


def _records_gradients_on_cpu(q: torch.Tensor) -> bool:
    """Where the fused kernel's backward is slow: up to ten times slower than matrix products in bfloat16."""
    return q.device.type == "cpu" and torch.is_grad_enabled() and q.requires_grad


def _plain_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.softmax(q @ (k * k.shape[-1] ** -0.5).transpose(-1, -2), dim=-1) @ v


def _allowed_frames(mask: torch.Tensor | None, causal: bool, q: torch.Tensor) -> torch.Tensor | None:
    """Which key frame each query frame may attend to: (B or 1, 1, 1, F, F)."""
    f = q.shape[2]
    allowed = None if mask is None else mask[:, None, None, None].expand(-1, 1, 1, f, f)
    if causal:
        past = torch.ones(1, 1, 1, f, f, dtype=torch.bool, device=q.device).tril()
        allowed = past if allowed is None else allowed & past
    return allowed


def _biased_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None, allowed: torch.Tensor | None
) -> torch.Tensor:
    """Attention over (B, N*heads, F, D) in matrix products, with a bias (heads, F, F) and forbidden frame pairs."""
    heads = 1 if bias is None else len(bias)
    scores = (q @ (k * k.shape[-1] ** -0.5).transpose(-1, -2)).unflatten(1, (-1, heads))
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    if allowed is None:
        weights = scores.softmax(dim=-1)
    else:
        weights = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min).softmax(dim=-1)
        weights = weights.masked_fill(~allowed, 0)  # also where all are forbidden
    return weights.flatten(1, 2) @ v


def _attention_in_place(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention over (B, heads, F, D) in portions that stay in the cache, each written to its place: (B, F, heads, D).

    For short sequences up to twice as fast on the CPU as the fused kernel. Records no gradient.
    """
    out = q.new_empty(q.shape[0], q.shape[2], q.shape[1], q.shape[3])
    precise = torch.promote_types(q.dtype, torch.float32)  # a softmax in bfloat16 is over twice as slow
    for video in zip(q, k, v, out.transpose(1, 2), strict=True):
        for q_, k_, v_, place in zip(*(x.split(CPU_PORTION) for x in video), strict=True):
            scores = torch.baddbmm(q.new_empty(()), q_, k_.transpose(1, 2), beta=0, alpha=q.shape[-1] ** -0.5)
            weights = scores.softmax(dim=-1, dtype=precise).to(q.dtype)
            place.copy_(torch.bmm(weights, v_))
    return out


def _fused_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Fused attention over (B, heads, N, D)."""
    return _attention_in_portions(q, k, v, CUDA_LIMIT) if q.is_cuda else F.scaled_dot_product_attention(q, k, v)


def _attention_in_portions(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, limit: int) -> torch.Tensor:
    """Fused attention over (B, heads, N, D), in portions of at most `limit` of the batch and of the heads."""
    for axis in (0, 1):
        if q.shape[axis] > limit:
            portions = zip(q.split(limit, axis), k.split(limit, axis), v.split(limit, axis), strict=True)
            return torch.cat([_attention_in_portions(*portion, limit) for portion in portions], axis)
    return F.scaled_dot_product_attention(q, k, v)


def geglu(x: torch.Tensor) -> torch.Tensor:
    """value * GELU(gate) (Shazeer 2020, arXiv 2002.05202): (..., [value | gate]) -> (..., half)."""
    value, gate = x.chunk(2, dim=-1)
    gate = F.gelu(gate)
    return value * gate if torch.is_grad_enabled() else gate.mul_(value)


def group_norm(
    images: torch.Tensor, num_groups: int, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    """GroupNorm with the statistics of each frame on its own: (B*F, C, H, W), channels_last -> the same.

    Statistics over all frames of a video: pass its view (B, C, F*H, W).

    The CPU's kernel keeps the layout, but for narrow groups in half precision and small feature maps it is two to three
    times slower than on contiguous copies, its backward up to 25 times. For images that need no gradient, under weights
    that do, its backward crashes the process (torch 2.13). torch's CUDA kernel answers in another layout.
    """
    if runs_triton(images):
        return library.group_norm(images, num_groups, weight, bias, eps, False, None)[0]
    narrow = images.shape[1] < NARROW_GROUP * num_groups and images.dtype.itemsize == 2
    crashes = torch.is_grad_enabled() and weight.requires_grad and not images.requires_grad
    if images.device.type == "cpu" and (narrow or crashes):
        images = images.contiguous()
    x = F.group_norm(images, num_groups, weight, bias, eps)
    return x.contiguous(memory_format=torch.channels_last)


def group_norm_silu(
    images: torch.Tensor,
    num_groups: int,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    statistics: torch.Tensor | None = None,
) -> torch.Tensor:
    """SiLU(GroupNorm(x)), statistics per frame: (B*F, C, H, W), channels_last -> the same.

    Args:
        statistics: of `temporal_conv_with_statistics`, of exactly these images.
    """
    if runs_triton(images):
        return library.group_norm(images, num_groups, weight, bias, eps, True, statistics)[0]
    return F.silu(group_norm(images, num_groups, weight, bias, eps), inplace=not torch.is_grad_enabled())
