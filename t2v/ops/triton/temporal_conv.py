"""Convolution over frames as one matrix product without copies, and what follows it in a residual block.

One program takes CHUNK-divisible blocks of pixels of one frame and a block of output channels; the inner loop runs over
the taps of kernel 3, each reading the frame beside, and over input channels. Taps outside the video are left out by the
loop's bounds. Bias, time embedding and residual are added in float32 before the one rounding, and the group norm that
follows finds each channel's mean and squared deviations made.
"""

import torch
import triton
import triton.language as tl

from t2v.ops.triton.configs import CHUNK, conv_config
from t2v.ops.triton.tuned import chosen, conv_key


@triton.jit
def forward_kernel(
    x, weight, bias, shift, residual, out, partials, F, HW, C_IN: tl.constexpr, C_OUT: tl.constexpr, BM: tl.constexpr,
    BN: tl.constexpr, BK: tl.constexpr, CHUNK: tl.constexpr, BIAS: tl.constexpr, SHIFT: tl.constexpr,
    RESIDUAL: tl.constexpr, PARTIALS: tl.constexpr,
):  # fmt: skip
    """x: (B*F, HW, C_IN), weight: (C_OUT, 3, C_IN), bias: (C_OUT,), shift: (B, C_OUT), residual, out: (B*F, HW, C_OUT),
    partials: (B*F, chunks, 2, C_OUT).
    """
    blocks: tl.constexpr = (C_OUT + BN - 1) // BN
    column = tl.program_id(0) % blocks * BN + tl.arange(0, BN)
    tiles = tl.cdiv(HW, BM)
    image = tl.program_id(0) // blocks // tiles
    start = tl.program_id(0) // blocks % tiles * BM
    row = start + tl.arange(0, BM)
    frame = image % F

    channel = tl.arange(0, BK)
    inputs = x + row[:, None] * C_IN + channel[None, :]
    weights = weight + column[None, :] * (3 * C_IN) + channel[:, None]
    steps: tl.constexpr = (C_IN + BK - 1) // BK
    first = tl.where(frame > 0, 0, 1)
    last = tl.where(frame < F - 1, 3, 2)
    total = tl.zeros((BM, BN), tl.float32)
    for step in range(first * steps, last * steps):
        tap, k = step // steps, step % steps * BK
        inside, known = (row < HW)[:, None], (column < C_OUT)[None, :]
        if C_IN % BK:
            inside, known = inside & (channel + k < C_IN)[None, :], known & (channel + k < C_IN)[:, None]
        offset = (image + tap - 1).to(tl.int64) * HW * C_IN + k
        values = tl.load(inputs + offset, mask=inside, other=0.0)
        total = tl.dot(
            values, tl.load(weights + (tap * C_IN + k), mask=known, other=0.0), total, input_precision="ieee"
        )

    known = column < C_OUT
    if BIAS:
        total += tl.load(bias + column, mask=known, other=0.0).to(tl.float32)[None, :]
    if SHIFT:
        total += tl.load(shift + image // F * C_OUT + column, mask=known, other=0.0).to(tl.float32)[None, :]
    inside = (row < HW)[:, None] & known[None, :]
    places = (image.to(tl.int64) * HW + row)[:, None] * C_OUT + column[None, :]
    if RESIDUAL:
        total += tl.load(residual + places, mask=inside, other=0.0).to(tl.float32)
    rounded = total.to(out.dtype.element_ty)
    tl.store(out + places, rounded, mask=inside)
    if PARTIALS:
        chunk = tl.arange(0, BM // CHUNK)
        values = tl.reshape(tl.where(inside, rounded.to(tl.float32), 0.0), (BM // CHUNK, CHUNK, BN))
        kept = tl.reshape(inside, (BM // CHUNK, CHUNK, BN))
        count = tl.minimum(tl.maximum(HW - start - chunk * CHUNK, 1), CHUNK)
        mean = tl.sum(values, 1) / count[:, None]
        deviations = tl.where(kept, values - mean[:, None, :], 0.0)
        made = start // CHUNK + chunk
        pair = (image.to(tl.int64) * tl.cdiv(HW, CHUNK) + made)[:, None] * (2 * C_OUT) + column[None, :]
        inside = (made * CHUNK < HW)[:, None] & known[None, :]
        tl.store(partials + pair, mean, mask=inside)
        tl.store(partials + pair + C_OUT, tl.sum(deviations * deviations, 1), mask=inside)


def forward(
    images: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    num_frames: int,
    shift: torch.Tensor | None,
    residual: torch.Tensor | None,
    statistics: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `t2v.ops.temporal_conv`, and the partial statistics of `group_norm.forward`, empty if not asked for."""
    n, i, h, w = images.shape
    o = weight.shape[0]
    x = images.contiguous(memory_format=torch.channels_last)
    taps = weight.squeeze(-1).transpose(1, 2).contiguous()  # (C_OUT, 3, C_IN): a view for weights in channels_last
    out = x.new_empty((n, h, w, o)).permute(0, 3, 1, 2)
    chunks = triton.cdiv(h * w, CHUNK)
    partials = x.new_empty((n, chunks, 2, o) if statistics else (0,), dtype=torch.float32)
    if residual is not None:
        residual = residual.contiguous(memory_format=torch.channels_last)
    config = chosen(conv_key(i, o, h * w), conv_config(o, h * w, x.dtype.itemsize), x)
    grid = (n * triton.cdiv(h * w, config.BM) * triton.cdiv(o, config.BN),)
    with torch.cuda.device_of(x):
        forward_kernel[grid](
            x, taps, bias, None if shift is None else shift.contiguous(), residual, out, partials, num_frames, h * w,
            C_IN=i, C_OUT=o, CHUNK=CHUNK, BIAS=bias is not None, SHIFT=shift is not None, RESIDUAL=residual is not None,
            PARTIALS=statistics, **config.options(),
        )  # fmt: skip
    return out, partials
