"""The Triton kernels as torch operators `t2v::*`, with what tracing and differentiation need to know of each.

torch.compile and CUDA graphs treat them like any operator of torch. `t2v.ops.functional` calls them where
`t2v.ops.backend` says so; nothing here imports triton before a kernel runs.
"""

from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from t2v.ops.triton.configs import CHUNK


@custom_op("t2v::temporal_attention", mutates_args=())
def temporal_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, mask: Tensor | None, causal: bool
) -> Tensor:
    """`functional.temporal_attention` by the kernel."""
    from t2v.ops.triton import temporal_attention as kernels

    return kernels.forward(query, key, value, bias, mask, causal)


@temporal_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, mask: Tensor | None, causal: bool) -> Tensor:
    return query.new_empty(*query.shape[:3], query.shape[3] * query.shape[4])


@custom_op("t2v::temporal_attention_backward", mutates_args=())
def temporal_attention_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, mask: Tensor | None, causal: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of query, key, value and bias (empty without one)."""
    from t2v.ops.triton import temporal_attention as kernels

    return kernels.backward(grad, query, key, value, bias, mask, causal)


@temporal_attention_backward.register_fake
def _(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, mask: Tensor | None, causal: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grad_bias = query.new_empty((0,), dtype=torch.float32) if bias is None else bias.new_empty(bias.shape)
    return query.new_empty(query.shape), query.new_empty(query.shape), query.new_empty(query.shape), grad_bias


def _save_attention(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.causal = inputs
    ctx.save_for_backward(*tensors)


def _attention_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    query, key, value, bias, mask = ctx.saved_tensors
    *gradients, grad_bias = temporal_attention_backward(grad, query, key, value, bias, mask, ctx.causal)
    return *gradients, None if bias is None else grad_bias, None, None


temporal_attention.register_autograd(_attention_gradients, setup_context=_save_attention)


@custom_op("t2v::group_norm", mutates_args=())
def group_norm(
    images: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float, silu: bool, partials: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """`functional.group_norm` or `group_norm_silu` by the kernel; mean and 1 / standard deviation of each group."""
    from t2v.ops.triton import group_norm as kernels

    return kernels.forward(images, num_groups, weight, bias, eps, silu, partials)


@group_norm.register_fake
def _(
    images: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float, silu: bool, partials: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    mean, rstd = (images.new_empty((images.shape[0], num_groups), dtype=torch.float32) for _ in range(2))
    return torch.empty_like(images, memory_format=torch.channels_last), mean, rstd


@custom_op("t2v::group_norm_backward", mutates_args=())
def group_norm_backward(
    grad: Tensor, images: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, bias: Tensor, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of images, weight and bias."""
    from t2v.ops.triton import group_norm as kernels

    return kernels.backward(grad, images, mean, rstd, weight, bias, silu)


@group_norm_backward.register_fake
def _(
    grad: Tensor, images: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, bias: Tensor, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    grad_images = torch.empty_like(images, memory_format=torch.channels_last)
    return grad_images, torch.empty_like(weight), torch.empty_like(bias)


def _save_norm(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    images, _, weight, bias, _, ctx.silu, _ = inputs
    ctx.save_for_backward(images, *output[1:], weight, bias)
    ctx.mark_non_differentiable(*output[1:])


def _norm_gradients(ctx: Any, grad: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    grad_images, grad_weight, grad_bias = group_norm_backward(grad, *ctx.saved_tensors, ctx.silu)
    return grad_images, None, grad_weight, grad_bias, None, None, None


group_norm.register_autograd(_norm_gradients, setup_context=_save_norm)


@custom_op("t2v::temporal_conv", mutates_args=())
def temporal_conv(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    num_frames: int,
    shift: Tensor | None,
    residual: Tensor | None,
    statistics: bool,
) -> tuple[Tensor, Tensor]:
    """`functional.temporal_conv` by the kernel, and the statistics that `group_norm` takes (empty unless asked for)."""
    from t2v.ops.triton import temporal_conv as kernels

    return kernels.forward(images, weight, bias, num_frames, shift, residual, statistics)


@temporal_conv.register_fake
def _(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    num_frames: int,
    shift: Tensor | None,
    residual: Tensor | None,
    statistics: bool,
) -> tuple[Tensor, Tensor]:
    n, _, h, w = images.shape
    o = weight.shape[0]
    chunks = (h * w + CHUNK - 1) // CHUNK
    partials = images.new_empty((n, chunks, 2, o) if statistics else (0,), dtype=torch.float32)
    return images.new_empty((n, h, w, o)).permute(0, 3, 1, 2), partials


def _save_conv(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    images, weight, bias, ctx.num_frames, shift, residual, _ = inputs
    ctx.save_for_backward(images, weight)
    ctx.has_bias, ctx.has_shift, ctx.has_residual = bias is not None, shift is not None, residual is not None
    ctx.mark_non_differentiable(output[1])


def _conv_gradients(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    """Deterministic, unlike what cuDNN may choose.

    The images' gradient is the convolution itself by the transposed weight with its taps turned round: the same kernel,
    with nothing after it. The weight's has a long sum, over pixels and frames, and a small result, for which cuBLAS
    splits the sum: one product a tap, of slices that are views.
    """
    images, weight = ctx.saved_tensors
    grad_images = grad_weight = None
    if ctx.needs_input_grad[0]:
        turned = weight.transpose(0, 1).flip(2)
        grad_images = temporal_conv(grad, turned, None, ctx.num_frames, None, None, False)[0]
    if ctx.needs_input_grad[1]:
        grad_weight = _conv_weight_gradient(grad, images, ctx.num_frames).to(weight.dtype)
    grad_bias = grad.sum((0, 2, 3)) if ctx.has_bias else None
    grad_shift = grad.unflatten(0, (-1, ctx.num_frames)).sum((1, 3, 4)) if ctx.has_shift else None
    return grad_images, grad_weight, grad_bias, None, grad_shift, grad if ctx.has_residual else None, None


def _conv_weight_gradient(grad: Tensor, images: Tensor, num_frames: int) -> Tensor:
    """(C_OUT, C_IN, 3, 1), float32: tap t is the sum over frames f of grad[f]^T images[f + t - 1]."""
    grads, inputs = (
        x.permute(0, 2, 3, 1).reshape(-1, num_frames, x.shape[2] * x.shape[3], x.shape[1]) for x in (grad, images)
    )  # (B, F, H*W, C), views
    slices = ((grads[:, 1:], inputs[:, :-1]), (grads, inputs), (grads[:, :-1], inputs[:, 1:]))
    taps = [(g.flatten(1, 2).transpose(1, 2) @ x.flatten(1, 2)).sum(0, dtype=torch.float32) for g, x in slices]
    return torch.stack(taps, dim=-1).unsqueeze(-1)


temporal_conv.register_autograd(_conv_gradients, setup_context=_save_conv)
