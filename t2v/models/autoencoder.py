"""The Stable Diffusion autoencoder (AutoencoderKL): frames to latents and back, in the public checkpoint format."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from t2v.errors import InputError
from t2v.models.autoencoder_base import Autoencoder, AutoencoderBaseConfig, DiagonalGaussian, fold_normalization_


@dataclass(frozen=True)
class AutoencoderConfig(AutoencoderBaseConfig):
    """`vae/config.json` of an AutoencoderKL."""

    class_name: ClassVar[str] = "AutoencoderKL"

    use_quant_conv: bool = True
    use_post_quant_conv: bool = True


class AutoencoderKL(Autoencoder):
    """Latents are normally distributed, and kept near the standard normal in training (arXiv 2112.10752)."""

    config_class = AutoencoderConfig
    config: AutoencoderConfig
    num_moments = 2  # mean and log variance

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__(config)
        latent = config.latent_channels
        self.quant_conv = nn.Conv2d(2 * latent, 2 * latent, 1) if config.use_quant_conv else None
        self.post_quant_conv = nn.Conv2d(latent, latent, 1) if config.use_post_quant_conv else None
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def latent_channels(self) -> int:
        return self.config.latent_channels

    def _encoding(self) -> list[nn.Module]:
        return [module for module in (self.encoder, self.quant_conv) if module is not None]

    def _distribution(self, encoded: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian.from_moments(encoded)

    def _decoding(self) -> list[nn.Module]:
        return [module for module in (self.post_quant_conv, self.decoder) if module is not None]

    @torch.no_grad()
    def normalize_latents_(self, mean: Tensor, std: Tensor) -> None:
        """Fold a per-channel normalisation of the latents into `quant_conv` and `post_quant_conv`.

        Latents that had this mean and standard deviation then have 0 and 1, reconstructions are unchanged, and
        `config.scaling_factor` is 1.

        Args:
            mean, std: `(C,)`, statistics of raw latents.
        """
        if self.quant_conv is None or self.post_quant_conv is None:
            raise InputError("latents are normalised within quant_conv and post_quant_conv, which this config lacks")
        fold_normalization_(self.quant_conv, self.post_quant_conv, mean, std)
        assert self.quant_conv.bias is not None
        self.quant_conv.bias[self.latent_channels :] -= 2 * std.to(self.quant_conv.bias).log()
        self.config = replace(self.config, scaling_factor=1.0)
