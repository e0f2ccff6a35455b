"""Classifier-free guidance (arXiv 2207.12598), with rescaling against overexposure (arXiv 2305.08891).

What the text changes is told by the whole network, or for video by its image part alone (`image_guidance`).
"""

import torch
from torch import Tensor

from t2v.diffusion.denoiser import ConditionalDenoiser, Denoiser


def guide(
    conditional: Tensor,
    unconditional: Tensor,
    guidance_scale: float,
    guidance_rescale: float = 0.0,
    num_channels: int | None = None,
    reference: Tensor | None = None,
) -> Tensor:
    """Combine two network outputs: unconditional + guidance_scale * (conditional - unconditional).

    Args:
        conditional, unconditional: (B, C, ...) or, with a learned variance, (B, 2C, ...).
        guidance_rescale: 0 to 1, how far to bring the standard deviation of each sample back to that of `reference`.
        num_channels: C. Channels after it are a learned variance and are taken from the conditional output.
        reference: an output without any guidance, as large as the others; None: the conditional one.
    """
    reference = conditional if reference is None else reference
    if num_channels is not None and conditional.shape[1] > num_channels:
        mean, variance = conditional[:, :num_channels], conditional[:, num_channels:]
        others = unconditional[:, :num_channels], guidance_scale, guidance_rescale, None, reference[:, :num_channels]
        guided = guide(mean, *others)
        return torch.cat([guided, variance], dim=1)
    guided = unconditional + guidance_scale * (conditional - unconditional)
    if guidance_rescale == 0:
        return guided
    # arXiv 2305.08891 equations 15 and 16
    dims = list(range(1, guided.ndim))
    ratio = reference.std(dim=dims, keepdim=True) / guided.std(dim=dims, keepdim=True)
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


def image_guidance(
    video: ConditionalDenoiser,
    image: ConditionalDenoiser,
    prompt_embeds: Tensor,
    negative_prompt_embeds: Tensor,
    guidance_scale: float,
    guidance_rescale: float = 0.0,
    motion_guidance: float = 1.0,
) -> Denoiser:
    """One denoiser of videos (B, C, F, h, w) whose text guidance is that of the image model:

        image(negative prompt) + guidance_scale * (image(prompt) - image(negative prompt))
                               + motion_guidance * (video(prompt) - image(prompt))

    Temporal layers that learned from video without text were never asked what a prompt changes; the image model was.
    This is arXiv 2211.09800, equation 3, with the text where it has the picture and the temporal layers where it has
    the text. It costs two runs of the image model and one of the whole network, where `batched_guidance` costs two of
    the whole one. At a guidance scale of 1 the image model runs on the prompt alone, and with motion_guidance 1, too,
    not at all.

    Args:
        video: the whole network.
        image: the same without its temporal layers, as `frame_by_frame` gives it.
        prompt_embeds, negative_prompt_embeds: (B, L, D) for all frames or (B, F, L, D).
        motion_guidance: how closely to follow the temporal layers; 1 is what they learned.
    """
    if guidance_scale == motion_guidance == 1:
        return lambda x, timestep, /: video(x, timestep, prompt_embeds)
    both_embeds = torch.cat([negative_prompt_embeds, prompt_embeds])

    def guided(x: Tensor, timestep: Tensor, /) -> Tensor:
        conditional, num_channels = video(x, timestep, prompt_embeds), x.shape[1]
        if guidance_scale == 1:
            still = image(x, timestep, prompt_embeds)
            return guide(conditional, still, motion_guidance, guidance_rescale, num_channels)
        without_text, still = image(torch.cat([x, x]), timestep, both_embeds).chunk(2)
        moving = conditional
        if motion_guidance != 1:
            moving = guide(conditional, still, motion_guidance, num_channels=num_channels)
        unconditional = moving - (still - without_text)  # in this order: 16-bit numbers keep small differences
        return guide(moving, unconditional, guidance_scale, guidance_rescale, num_channels, conditional)

    return guided


def frame_by_frame(network: ConditionalDenoiser) -> ConditionalDenoiser:
    """A network of images (N, C, h, w) and embeddings (N, L, D) as one of videos (B, C, F, h, w), with N = B F.

    The result takes embeddings (B, L, D) for all frames or (B, F, L, D).
    """

    def image(x: Tensor, timestep: Tensor, prompt_embeds: Tensor, /) -> Tensor:
        num_frames = x.shape[2]
        shared = prompt_embeds.ndim == 3
        embeds = prompt_embeds.repeat_interleave(num_frames, dim=0) if shared else prompt_embeds.flatten(0, 1)
        output = network(x.transpose(1, 2).flatten(0, 1), timestep, embeds)
        return output.unflatten(0, (-1, num_frames)).transpose(1, 2)

    return image
