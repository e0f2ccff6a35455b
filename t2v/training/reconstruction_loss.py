"""How far an autoencoder's copies are from the pictures: L1, MSE, edges at several scales, LPIPS."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from t2v.errors import InputError
from t2v.models.lpips import LPIPS, MIN_SIZE, NETWORKS, find_lpips
from t2v.models.published_weights import missing_weights
from t2v.training.config_sections import ReconstructionConfig


def edge_loss(difference: Tensor, num_scales: int = 1) -> Tensor:
    """L1 between the gradients of two pictures, from their difference (N, 3, H, W), mean of the scales: a scalar.

    Each scale is half as wide and high as the one before, averaged over 2x2 pixels: fine scales see sharpness, coarse
    ones shapes.
    """
    total = gradient_norm(difference)
    for _ in range(num_scales - 1):
        difference = F.avg_pool2d(difference, 2)
        total = total + gradient_norm(difference)
    return total / num_scales


def gradient_norm(pictures: Tensor) -> Tensor:
    """L1 of the gradients of pictures (N, 3, H, W), mean of all: a scalar, lower for blurred ones."""
    horizontal = pictures[..., 1:] - pictures[..., :-1]
    vertical = pictures[..., 1:, :] - pictures[..., :-1, :]
    return horizontal.abs().mean() + vertical.abs().mean()


def between(ends: tuple[float, float], fraction: float) -> float:
    """Linear from ends[0] at 0 to ends[1] at 1, constant outside."""
    fraction = min(1.0, max(0.0, fraction))
    return ends[0] + (ends[1] - ends[0]) * fraction


class ReconstructionLoss:
    """The terms of `ReconstructionConfig` that compare a copy with its picture.

    Args:
        size: width and height of the pictures in pixels.

    Raises:
        InputError: pictures too small for a term, or weights of LPIPS that are not there.
    """

    def __init__(self, config: ReconstructionConfig, size: int, device: torch.device) -> None:
        self.config = config
        if size < 2**config.edge_scales:
            raise InputError(f"diffusion.edge_scales is {config.edge_scales}, too many for {size} pixels")
        self.lpips = _lpips(config.lpips_weights, size, device) if config.lpips_weights is not None else None

    def __call__(self, copies: Tensor, pictures: Tensor, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of copies of pictures, both (N, 3, H, W) in [-1, 1], and its parts, all scalars.

        Args:
            progress: of the training, from 0 to 1.
        """
        config = self.config
        difference = copies - pictures
        parts = {"l1": difference.abs().mean(), "mse": difference.square().mean()}
        loss = (
            parts["l1"]
            + between(config.mse_weight, progress / config.mse_fraction) * parts["mse"]
            + between(config.edge_weight, progress) * edge_loss(difference, config.edge_scales)
        )
        if self.lpips is not None:
            parts["lpips"] = self.lpips(copies, pictures).mean()
            loss = loss + config.perceptual_weight * parts["lpips"]
        return loss, parts


def _lpips(weights: str, size: int, device: torch.device) -> LPIPS:
    if size < MIN_SIZE:
        raise InputError(f"diffusion.lpips_weights: LPIPS needs pictures of at least {MIN_SIZE} pixels, got {size}")
    if not Path(weights).is_dir():
        raise InputError(f"diffusion.lpips_weights: no folder {weights}")
    try:  # a loss is no figure to publish, so that other weights than the published ones will do
        found = find_lpips(Path(weights), True, device)
    except InputError as error:
        raise InputError(f"diffusion.lpips_weights: {error}") from None
    if found is None:
        missing = " and ".join(missing_weights(Path(weights), NETWORKS))
        raise InputError(f"diffusion.lpips_weights: {weights} lacks {missing} (see `t2v evaluate weights`)")
    return found[2]
