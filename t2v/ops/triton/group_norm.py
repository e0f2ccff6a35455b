"""Group normalisation, with SiLU or without, of images in channels_last: rows of C channels, no change of layout.

Forward in three kernels: mean and squared deviations of each channel over chunks of CHUNK rows (left out where the
convolution before has made them), their merging to groups (Chan, Golub and LeVeque 1983), and the application. Each
tile is a block of rows by a block of channels, so that loads are wide for any size of group. Backward in two, which
compute the normalised values again.
"""

import torch
import triton
import triton.language as tl

from t2v.ops.triton.configs import CHUNK, NORM_CONFIG
from t2v.ops.triton.tuned import chosen, norm_key


@triton.jit
def _tile(HW, C: tl.constexpr, CHUNK: tl.constexpr, BC: tl.constexpr):
    """Image, chunk, channels, and offsets and validity of the tile's elements."""
    chunks = tl.cdiv(HW, CHUNK)
    image, chunk = tl.program_id(0) // chunks, tl.program_id(0) % chunks
    channel = tl.program_id(1) * BC + tl.arange(0, BC)
    row = chunk * CHUNK + tl.arange(0, CHUNK)
    offsets = (image.to(tl.int64) * HW + row)[:, None] * C + channel[None, :]
    inside = (row < HW)[:, None]
    if C % BC:
        inside = inside & (channel < C)[None, :]
    return image, chunk, channel, offsets, inside


@triton.jit
def _store_pair(partials, first, second, channel, C: tl.constexpr):
    """Two numbers per channel of this program's chunk, in partials (images, chunks, 2, C)."""
    place = partials + tl.program_id(0).to(tl.int64) * 2 * C + channel
    tl.store(place, first, mask=channel < C)
    tl.store(place + C, second, mask=channel < C)


@triton.jit
def _channel_parameters(mean, rstd, weight, bias, image, channel, C: tl.constexpr, G: tl.constexpr):
    group = image * G + channel // (C // G)
    known = channel < C
    return (
        tl.load(mean + group, mask=known, other=0.0)[None, :],
        tl.load(rstd + group, mask=known, other=0.0)[None, :],
        tl.load(weight + channel, mask=known, other=0.0).to(tl.float32)[None, :],
        tl.load(bias + channel, mask=known, other=0.0).to(tl.float32)[None, :],
    )


@triton.jit
def _before_silu(grad, normed, weight, bias, SILU: tl.constexpr):
    """The gradient of what SiLU was applied to: SiLU'(z) = s (1 + z (1 - s)), s = sigmoid(z)."""
    if SILU:
        z = normed * weight + bias
        s = tl.sigmoid(z)
        grad = grad * s * (1 + z * (1 - s))
    return grad


@triton.jit
def partials_kernel(x, partials, HW, C: tl.constexpr, CHUNK: tl.constexpr, BC: tl.constexpr):
    """partials: (images, chunks, 2, C), mean and sum of squared deviations of each channel over a chunk of rows."""
    _image, chunk, channel, offsets, inside = _tile(HW, C, CHUNK, BC)
    values = tl.load(x + offsets, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(values, 0) / tl.minimum(HW - chunk * CHUNK, CHUNK)
    deviations = tl.where(inside, values - mean[None, :], 0.0)
    _store_pair(partials, mean, tl.sum(deviations * deviations, 0), channel, C)


@triton.jit
def merge_kernel(
    partials, mean, rstd, HW, eps, C: tl.constexpr, G: tl.constexpr, CHUNK: tl.constexpr, BK: tl.constexpr,
    GP: tl.constexpr,
):  # fmt: skip
    """mean, rstd: (images, G) from partials; GP: channels of a group, rounded up to a power of two."""
    image, group = tl.program_id(0) // G, tl.program_id(0) % G
    chunks = tl.cdiv(HW, CHUNK)
    chunk, member = tl.arange(0, BK), tl.arange(0, GP)
    places = partials + image.to(tl.int64) * chunks * 2 * C + group * (C // G)
    places = places + chunk[:, None] * 2 * C + member[None, :]
    total = tl.zeros((BK, GP), tl.float32)
    for start in range(0, chunks, BK):
        known = (start + chunk < chunks)[:, None] & (member < C // G)[None, :]
        count = tl.minimum(HW - (start + chunk) * CHUNK, CHUNK).to(tl.float32)[:, None]
        total += tl.load(places + start * 2 * C, mask=known, other=0.0) * count
    size = 1.0 * HW * (C // G)
    centre = tl.sum(tl.sum(total, 1), 0) / size
    total = tl.zeros((BK, GP), tl.float32)
    for start in range(0, chunks, BK):
        known = (start + chunk < chunks)[:, None] & (member < C // G)[None, :]
        count = tl.minimum(HW - (start + chunk) * CHUNK, CHUNK).to(tl.float32)[:, None]
        shift = tl.load(places + start * 2 * C, mask=known, other=0.0) - centre
        squares = tl.load(places + start * 2 * C + C, mask=known, other=0.0)
        total += tl.where(known, squares + count * shift * shift, 0.0)
    variance = tl.sum(tl.sum(total, 1), 0) / size
    tl.store(mean + tl.program_id(0), centre)
    tl.store(rstd + tl.program_id(0), 1 / tl.sqrt(variance + eps))


@triton.jit
def apply_kernel(
    x, mean, rstd, weight, bias, out, HW, C: tl.constexpr, G: tl.constexpr, CHUNK: tl.constexpr, BC: tl.constexpr,
    SILU: tl.constexpr,
):  # fmt: skip
    """out = SiLU((x - mean) rstd weight + bias)."""
    image, _chunk, channel, offsets, inside = _tile(HW, C, CHUNK, BC)
    mean, rstd, weight, bias = _channel_parameters(mean, rstd, weight, bias, image, channel, C, G)
    z = (tl.load(x + offsets, mask=inside, other=0.0).to(tl.float32) - mean) * rstd * weight + bias
    if SILU:
        z = z * tl.sigmoid(z)
    tl.store(out + offsets, z.to(out.dtype.element_ty), mask=inside)


@triton.jit
def grad_partials_kernel(
    grad, x, mean, rstd, weight, bias, partials, HW, C: tl.constexpr, G: tl.constexpr, CHUNK: tl.constexpr,
    BC: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """partials: (images, chunks, 2, C), sums over a chunk of dz and dz x^, the gradients of bias and weight."""
    image, _chunk, channel, offsets, inside = _tile(HW, C, CHUNK, BC)
    mean, rstd, weight, bias = _channel_parameters(mean, rstd, weight, bias, image, channel, C, G)
    normed = (tl.load(x + offsets, mask=inside, other=0.0).to(tl.float32) - mean) * rstd
    dz = _before_silu(tl.load(grad + offsets, mask=inside, other=0.0).to(tl.float32), normed, weight, bias, SILU)
    _store_pair(partials, tl.sum(dz, 0), tl.sum(dz * normed, 0), channel, C)


@triton.jit
def grad_kernel(
    grad, x, mean, rstd, weight, bias, means, grad_x, HW, C: tl.constexpr, G: tl.constexpr, CHUNK: tl.constexpr,
    BC: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """grad_x = rstd (dz weight - means of dz weight - x^ means of dz weight x^); means: (images, 2, G)."""
    image, _chunk, channel, offsets, inside = _tile(HW, C, CHUNK, BC)
    group = image * 2 * G + channel // (C // G)
    first = tl.load(means + group, mask=channel < C, other=0.0)[None, :]
    second = tl.load(means + group + G, mask=channel < C, other=0.0)[None, :]
    mean, rstd, weight, bias = _channel_parameters(mean, rstd, weight, bias, image, channel, C, G)
    normed = (tl.load(x + offsets, mask=inside, other=0.0).to(tl.float32) - mean) * rstd
    dz = _before_silu(tl.load(grad + offsets, mask=inside, other=0.0).to(tl.float32), normed, weight, bias, SILU)
    dx = rstd * (dz * weight - first - normed * second)
    tl.store(grad_x + offsets, dx.to(grad_x.dtype.element_ty), mask=inside)


def forward(
    images: torch.Tensor,
    num_groups: int,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    silu: bool,
    partials: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The output and each group's mean and 1 / standard deviation, (N, num_groups), float32."""
    x = images.contiguous(memory_format=torch.channels_last)
    n, c, h, w = x.shape
    out = torch.empty_like(x)
    mean, rstd = (x.new_empty((n, num_groups), dtype=torch.float32) for _ in range(2))
    chunks = triton.cdiv(h * w, CHUNK)
    options = chosen(norm_key(c), NORM_CONFIG, x).options()
    grid = (n * chunks, triton.cdiv(c, options["BC"]))
    with torch.cuda.device_of(x):
        if partials is None:
            partials = x.new_empty((n, chunks, 2, c), dtype=torch.float32)
            partials_kernel[grid](x, partials, h * w, C=c, CHUNK=CHUNK, **options)
        sizes = {"BK": min(64, triton.next_power_of_2(chunks)), "GP": triton.next_power_of_2(c // num_groups)}
        merge_kernel[(n * num_groups,)](partials, mean, rstd, h * w, eps, C=c, G=num_groups, CHUNK=CHUNK, **sizes)
        apply_kernel[grid](
            x, mean, rstd, weight, bias, out, h * w, C=c, G=num_groups, CHUNK=CHUNK, SILU=silu, **options
        )
    return out, mean, rstd


def backward(
    grad: torch.Tensor,
    images: torch.Tensor,
    mean: torch.Tensor,
    rstd: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    silu: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of images, weight and bias."""
    x, grad = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (images, grad))
    n, c, h, w = x.shape
    num_groups = mean.shape[1]
    grad_x = torch.empty_like(x)
    chunks = triton.cdiv(h * w, CHUNK)
    partials = x.new_empty((n, chunks, 2, c), dtype=torch.float32)
    options = chosen(norm_key(c), NORM_CONFIG, x).options()
    grid = (n * chunks, triton.cdiv(c, options["BC"]))
    constants = {"C": c, "G": num_groups, "CHUNK": CHUNK, "SILU": silu, **options}
    with torch.cuda.device_of(x):
        grad_partials_kernel[grid](grad, x, mean, rstd, weight, bias, partials, h * w, **constants)
        sums = partials.sum(1)
        means = (sums * weight).unflatten(-1, (num_groups, -1)).sum(-1) / (h * w * c // num_groups)
        grad_kernel[grid](grad, x, mean, rstd, weight, bias, means, grad_x, h * w, **constants)
    return grad_x, sums[:, 1].sum(0).to(weight.dtype), sums[:, 0].sum(0).to(bias.dtype)
