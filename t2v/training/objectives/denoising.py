"""What the diffusion stages share."""

import torch
from torch import Tensor

from t2v.diffusion.loss import min_snr_weights, simple_loss
from t2v.diffusion.noise import INDEPENDENT, NoisePrior
from t2v.diffusion.schedule import NoiseSchedule
from t2v.training.config_sections import WeightingConfig

PRECISIONS = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class WeightedLoss:
    """Mean squared error of a prediction, weighted by timestep from a table on the device."""

    def __init__(
        self,
        schedule: NoiseSchedule,
        config: WeightingConfig,
        device: torch.device,
        noise_prior: NoisePrior = INDEPENDENT,
    ) -> None:
        self.schedule, self.noise_prior = schedule, noise_prior
        timesteps = torch.arange(schedule.num_train_timesteps)
        self.weights = torch.ones(len(timesteps), device=device)
        if config.weighting != "none":
            plus_one = config.weighting == "min_snr_plus_one"
            self.weights = min_snr_weights(schedule, timesteps, config.snr_gamma, plus_one).to(device)

    def __call__(
        self, output: Tensor, latents: Tensor, noise: Tensor, timesteps: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """The loss of each sample: fp32 (B,); over what `mask` (broadcast to latents) says, None: everything."""
        losses = simple_loss(self.schedule, output, latents, noise, timesteps, mask, self.noise_prior)
        return losses * self.weights[timesteps]
