"""The autoencoder whose latents are quantised by a codebook (VQModel), in the public checkpoint format.

VQ-VAE (arXiv 1711.00937) in the networks of latent diffusion (arXiv 2112.10752, section 3.1): the codebook belongs to
the decoder, so that a diffusion model works on latents as the encoder gives them and what it makes is quantised last.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from t2v.errors import InputError
from t2v.models.autoencoder_base import Autoencoder, AutoencoderBaseConfig, DiagonalGaussian, fold_normalization_

MAX_DISTANCES = 2**24  # between latents and entries, in memory at once


@dataclass(frozen=True)
class VQConfig(AutoencoderBaseConfig):
    """`vae/config.json` of a VQModel."""

    class_name: ClassVar[str] = "VQModel"
    counts: ClassVar[tuple[str, ...]] = (*AutoencoderBaseConfig.counts, "num_vq_embeddings", "vq_embed_dim")

    latent_channels: int = 3  # of the decoder's input
    num_vq_embeddings: int = 256  # entries of the codebook
    vq_embed_dim: int | None = None  # channels of an entry, and of latents; null: latent_channels
    norm_type: str = "group"

    def __post_init__(self) -> None:
        if self.vq_embed_dim is None:
            object.__setattr__(self, "vq_embed_dim", self.latent_channels)
        super().__post_init__()
        if self.norm_type != "group":
            raise InputError(f"autoencoder config: norm_type is {self.norm_type!r}, supported is 'group'")


class Quantized(NamedTuple):
    """Latents as the nearest entries of a codebook, and what training wants of that."""

    indices: Tensor  # (N, h, w), of the entries
    codebook_loss: Tensor  # scalar: mean squared distance of the entries from the latents, which stay
    commitment_loss: Tensor  # scalar: the same, of the latents from the entries, which stay


class VectorQuantizer(nn.Module):
    """The nearest entries of a codebook, for latents `(N, C, h, w)`; equations of arXiv 1711.00937."""

    def __init__(self, num_embeddings: int, embed_dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_embeddings, embed_dim)

    @torch.no_grad()
    def nearest(self, z: Tensor) -> Tensor:
        """Index of the entry that is nearest to each latent, `(N, h, w)` (equation 1); in float32 at least."""
        codebook = self.embedding.weight
        dtype = torch.promote_types(torch.promote_types(z.dtype, codebook.dtype), torch.float32)
        tokens, entries = rearrange(z, "n c h w -> (n h w) c").to(dtype), codebook.to(dtype)
        # not by matrix products, which may run in lower precision and then confuse neighbours
        found = [
            torch.cdist(part, entries, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)
            for part in tokens.split(max(1, MAX_DISTANCES // len(entries)))
        ]
        return torch.cat(found).view(len(z), *z.shape[2:])

    def entries(self, indices: Tensor) -> Tensor:
        """The entries at `(N, h, w)`: `(N, C, h, w)`."""
        return rearrange(F.embedding(indices, self.embedding.weight), "n h w c -> n c h w")

    def forward(self, z: Tensor) -> Tensor:
        """The nearest entries, whose gradient goes straight through to the latents (section 3.2)."""
        return self.entries(self.nearest(z)).detach() + (z - z.detach())

    def with_losses(self, z: Tensor) -> Quantized:
        """The nearest entries, and the second and third term of equation 3, without beta."""
        indices = self.nearest(z)
        entries = self.entries(indices)
        return Quantized(indices, F.mse_loss(entries, z.detach()), F.mse_loss(z, entries.detach()))


class VQModel(Autoencoder):
    """Latents are quantised when they are decoded: `encode` gives them as they are."""

    config_class = VQConfig
    config: VQConfig
    num_moments = 1

    def __init__(self, config: VQConfig) -> None:
        super().__init__(config)
        self.quant_conv = nn.Conv2d(config.latent_channels, self.latent_channels, 1)
        self.quantize = VectorQuantizer(config.num_vq_embeddings, self.latent_channels)
        self.post_quant_conv = nn.Conv2d(self.latent_channels, config.latent_channels, 1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def latent_channels(self) -> int:
        assert self.config.vq_embed_dim is not None
        return self.config.vq_embed_dim

    def _encoding(self) -> list[nn.Module]:
        return [self.encoder, self.quant_conv]

    def _distribution(self, encoded: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian.at(encoded)

    def _decoding(self) -> list[nn.Module]:
        return [self.quantize, self.post_quant_conv, self.decoder]

    def init_weights(self, generator: torch.Generator) -> None:
        """That of other autoencoders, and a codebook uniform within one over the number of its entries."""
        super().init_weights(generator)
        codebook = self.quantize.embedding.weight
        bound = 1 / len(codebook)
        with torch.no_grad():
            codebook.copy_(torch.empty(codebook.shape).uniform_(-bound, bound, generator=generator))

    @torch.no_grad()
    def normalize_latents_(self, mean: Tensor, std: Tensor) -> None:
        """Fold a normalisation of the latents into `quant_conv`, the codebook and `post_quant_conv`.

        Each channel's mean is then 0 and the variance over all channels 1: they are scaled alike, as another scale for
        each would change which entry is nearest. Reconstructions are unchanged and `config.scaling_factor` is 1.

        Args:
            mean, std: `(C,)`, statistics of raw latents.
        """
        scale = std.square().mean().sqrt().expand_as(std)
        fold_normalization_(self.quant_conv, self.post_quant_conv, mean, scale)
        codebook = self.quantize.embedding.weight
        codebook.copy_((codebook - mean.to(codebook)) / scale.to(codebook))
        self.config = replace(self.config, scaling_factor=1.0)
