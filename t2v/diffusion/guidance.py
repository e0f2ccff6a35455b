"""Classifier-free guidance (arXiv 2207.12598), with rescaling against overexposure (arXiv 2305.08891)."""

import torch
from torch import Tensor

from t2v.diffusion.denoiser import ConditionalDenoiser, Denoiser


def guide(
    conditional: Tensor,
    unconditional: Tensor,
    guidance_scale: float,
    guidance_rescale: float = 0.0,
    num_channels: int | None = None,
) -> Tensor:
    """Combine two network outputs: unconditional + guidance_scale * (conditional - unconditional).

    Args:
        conditional, unconditional: (B, C, ...) or, with a learned variance, (B, 2C, ...).
        guidance_rescale: 0 to 1, how far to bring the standard deviation of each sample back to the conditional one.
        num_channels: C. Channels after it are a learned variance and are taken from the conditional output.
    """
    if num_channels is not None and conditional.shape[1] > num_channels:
        mean, variance = conditional[:, :num_channels], conditional[:, num_channels:]
        guided = guide(mean, unconditional[:, :num_channels], guidance_scale, guidance_rescale)
        return torch.cat([guided, variance], dim=1)
    guided = unconditional + guidance_scale * (conditional - unconditional)
    if guidance_rescale == 0:
        return guided
    # arXiv 2305.08891 equations 15 and 16
    dims = list(range(1, guided.ndim))
    ratio = conditional.std(dim=dims, keepdim=True) / guided.std(dim=dims, keepdim=True)
    return guided * (guidance_rescale * ratio + 1 - guidance_rescale)


def classifier_free_guidance(
    conditional: Denoiser, unconditional: Denoiser, guidance_scale: float, guidance_rescale: float = 0.0
) -> Denoiser:
    """One denoiser out of two, called in turn; at guidance_scale 1 the unconditional one is never called."""
    if guidance_scale == 1:
        return conditional

    def guided(x: Tensor, timestep: Tensor, /) -> Tensor:
        outputs = conditional(x, timestep), unconditional(x, timestep)
        return guide(*outputs, guidance_scale, guidance_rescale, num_channels=x.shape[1])

    return guided


def batched_guidance(
    network: ConditionalDenoiser,
    prompt_embeds: Tensor,
    negative_prompt_embeds: Tensor,
    guidance_scale: float,
    guidance_rescale: float = 0.0,
) -> Denoiser:
    """One denoiser that runs both branches as one batch of 2B: negative first, then prompt.

    At guidance_scale 1 the network runs on prompt_embeds (B, ...) alone.
    """
    if guidance_scale == 1:
        return lambda x, timestep, /: network(x, timestep, prompt_embeds)
    both_embeds = torch.cat([negative_prompt_embeds, prompt_embeds])

    def guided(x: Tensor, timestep: Tensor, /) -> Tensor:
        unconditional, conditional = network(torch.cat([x, x]), timestep, both_embeds).chunk(2)
        return guide(conditional, unconditional, guidance_scale, guidance_rescale, num_channels=x.shape[1])

    return guided
