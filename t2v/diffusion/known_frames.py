"""Denoising where some frames are known: guidance by frames and by text, and known frames put back at every step."""

from typing import Protocol

import torch
from torch import Tensor

from t2v.diffusion.denoiser import Denoiser
from t2v.diffusion.levels import levels_at
from t2v.diffusion.schedule import NoiseSchedule, PredictionType


class FrameDenoiser(Protocol):
    """A network whose conditioning is still free."""

    def __call__(self, x: Tensor, timestep: Tensor, shown: Tensor, mask: Tensor, prompt_embeds: Tensor, /) -> Tensor:
        """As `Denoiser`, on x (N, C, F, h, w) with mask (N, F) of known frames, prompt_embeds (N, L, D).

        shown (N, C, F, h, w): known frames, and a guess at the others (`network_input` in t2v.models.interpolation).
        """


def two_scale_guidance(
    network: FrameDenoiser,
    shown: Tensor,
    mask: Tensor,
    prompt_embeds: Tensor,
    null_embeds: Tensor,
    frame_guidance: float,
    text_guidance: float,
) -> Denoiser:
    """One denoiser with a guidance scale for the known frames f and one for the text y (arXiv 2211.09800, equation 3):

        e(0, 0) + s_f * (e(f, 0) - e(0, 0)) + s_y * (e(f, y) - e(f, 0))

    as one batch of the terms whose factor is not zero. Without frames, all of shown and mask are zero.

    Args:
        shown, mask: of `FrameDenoiser`, for a batch of one.
        prompt_embeds: (1, L, D); the same object as `null_embeds` where there is no text, whose scale has no effect.
        frame_guidance, text_guidance: s_f and s_y; 1 and 1 is the network's conditional output alone.
    """
    text_scale = 0.0 if prompt_embeds is null_embeds else text_guidance
    terms = [
        (1 - frame_guidance, 0, null_embeds),
        (frame_guidance - text_scale, 1, null_embeds),
        (text_scale, 1, prompt_embeds),
    ]
    used = [term for term in terms if term[0] != 0]
    factors = torch.tensor([factor for factor, _, _ in used], device=shown.device)
    switches = torch.tensor([float(switch) for _, switch, _ in used], device=shown.device)
    all_shown = switches[:, None, None, None, None] * shown
    all_masks = switches[:, None] * mask
    all_embeds = torch.cat([embeds for _, _, embeds in used])

    def guided(x: Tensor, timestep: Tensor, /) -> Tensor:
        outputs = network(x.expand(len(used), *x.shape[1:]), timestep, all_shown, all_masks, all_embeds)
        return torch.tensordot(factors.to(outputs.dtype), outputs, dims=1)[None]

    return guided


def x0_to_output(
    x: Tensor, x0: Tensor, alpha: Tensor | float, sigma: Tensor | float, prediction_type: PredictionType
) -> Tensor:
    """The network output at noise level (alpha, sigma) that implies the clean sample x0."""
    noise = (x - alpha * x0) / sigma
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        return alpha * noise - sigma * x0
    if prediction_type == "flow":
        return noise - x0
    return x0


def put_back(denoiser: Denoiser, schedule: NoiseSchedule, known: Tensor, mask: Tensor) -> Denoiser:
    """A denoiser whose estimate of every known frame is that frame.

    A sampler without fresh noise then keeps the known frames of its sample at their true noise level, and ends on them;
    one with fresh noise noises them anew at every step.

    Args:
        known: clean latents (B, C, F, h, w).
        mask: (B, F), 1 where a frame is known.
    """
    where = mask[:, None, :, None, None] > 0

    def exact(x: Tensor, timestep: Tensor, /) -> Tensor:
        output = denoiser(x, timestep)
        alpha, sigma = _scales(schedule, timestep, x)
        implied = x0_to_output(x.float(), known.float(), alpha, sigma, schedule.prediction_type)
        prediction, variance = schedule.split_output(output, x.shape[1])
        prediction = torch.where(where, implied.to(prediction.dtype), prediction)
        return prediction if variance is None else torch.cat([prediction, variance], dim=1)

    return exact


def _scales(schedule: NoiseSchedule, timestep: Tensor, x: Tensor) -> tuple[Tensor | float, Tensor | float]:
    """(alpha, sigma) at a timestep (), which lies between two of the schedule's where it is no whole number."""
    if not timestep.is_floating_point():
        return schedule.scales(timestep, x.float())
    levels = levels_at(schedule, timestep.reshape(1).cpu())
    return levels.alphas[0], levels.sigmas[0]
