"""What keeps an autoencoder's latents in bounds (arXiv 2112.10752, section 3.1): a KL divergence, or a codebook."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from einops import rearrange
from torch import Tensor, nn

from t2v.errors import InputError
from t2v.models.autoencoder import AutoencoderKL
from t2v.models.autoencoder_base import Autoencoder
from t2v.models.autoencoder_classes import load_autoencoder
from t2v.models.folder import find_model
from t2v.models.vq_model import Quantized, VQModel
from t2v.training.config import AutoencoderTrainConfig
from t2v.training.config_sections import ReconstructionConfig
from t2v.training.objectives.base import Context


class Latents(NamedTuple):
    """Of pictures: mean and log variance (N, C, h, w), and what a codebook makes of them if there is one."""

    mean: Tensor
    logvar: Tensor
    quantized: Quantized | None


class Regularization(Protocol):
    """A term of the autoencoder's loss that sees latents alone."""

    def loss(self, latents: Latents) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted term, and its figures, all scalars."""

    def validate(self, latents: Sequence[Latents]) -> dict[str, float]:
        """Figures of held-back pictures."""

    def end_step(self, figures: dict[str, Tensor]) -> None:
        """Told after each step in which the encoder learns the mean figures of this process's losses."""

    def state(self) -> dict[str, Tensor]:
        """Tensors that a checkpoint must hold."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `state` gave."""


class KLRegularization:
    """The divergence from the standard normal, with a controller that may hold it at a target."""

    def __init__(self, config: ReconstructionConfig, context: Context) -> None:
        self.config, self.device, self.mean = config, context.device, context.mean
        self.weight = torch.tensor(config.kl_weight, device=context.device)

    def loss(self, latents: Latents) -> tuple[Tensor, dict[str, Tensor]]:
        mean, logvar = latents.mean.float(), latents.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()  # nats per dimension
        return self.weight * kl, {"kl": kl, "kl_weight": self.weight}

    def validate(self, latents: Sequence[Latents]) -> dict[str, float]:
        return {}

    def end_step(self, figures: dict[str, Tensor]) -> None:
        """Raise the weight while the KL is above its target, lower it while below: by at most kl_rate a step."""
        if self.config.kl_target is not None:
            error = (self.mean(figures["kl"]) / self.config.kl_target - 1).clamp(-1, 1)
            self.weight = self.weight * torch.exp(self.config.kl_rate * error)

    def state(self) -> dict[str, Tensor]:
        return {"kl_weight": self.weight}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.weight = state["kl_weight"].to(self.device)


class VQRegularization:
    """Codebook and commitment loss of VQ-VAE (arXiv 1711.00937, equation 3)."""

    def __init__(self, config: ReconstructionConfig, num_embeddings: int) -> None:
        self.commitment_weight, self.num_embeddings = config.commitment_weight, num_embeddings

    def loss(self, latents: Latents) -> tuple[Tensor, dict[str, Tensor]]:
        found = latents.quantized
        assert found is not None
        loss = found.codebook_loss + self.commitment_weight * found.commitment_loss
        return loss, {"vq": loss, "perplexity": perplexity(codebook_shares(found.indices, self.num_embeddings))}

    def validate(self, latents: Sequence[Latents]) -> dict[str, float]:
        indices = torch.cat([each.quantized.indices for each in latents if each.quantized is not None])
        shares = codebook_shares(indices, self.num_embeddings)
        return {"codebook_use": float((shares > 0).float().mean()), "codebook_perplexity": float(perplexity(shares))}

    def end_step(self, figures: dict[str, Tensor]) -> None:
        pass

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        pass


def codebook_shares(indices: Tensor, num_embeddings: int) -> Tensor:
    """Share of the latents at each entry of a codebook, (num_embeddings,), from the indices of their entries."""
    return torch.bincount(indices.flatten(), minlength=num_embeddings) / indices.numel()


def perplexity(shares: Tensor) -> Tensor:
    """exp(entropy): how many entries a codebook has in effect, from 1 to all that it has."""
    return torch.special.entr(shares).sum().exp()


def build_autoencoder(config: AutoencoderTrainConfig) -> Autoencoder:
    """The autoencoder that `init_from` names, or a new one.

    Raises:
        InputError: `init_from` is missing or broken, or of another regularisation than the configuration.
    """
    if config.init_from is not None:
        autoencoder = load_autoencoder(find_model(config.init_from) / "vae")
        found = "vq" if isinstance(autoencoder, VQModel) else "kl"
        if found != config.model.regularization:
            raise InputError(
                f"init_from: the autoencoder of {config.init_from} is of class {autoencoder.config.class_name}, got "
                f"model.regularization={config.model.regularization}: set {found}"
            )
        return autoencoder.train().requires_grad_(True)
    kind: type[Autoencoder] = VQModel if config.model.regularization == "vq" else AutoencoderKL
    autoencoder = kind.from_config({**config.model.model_dump(), "sample_size": config.data.resolution})
    autoencoder.init_weights(torch.Generator().manual_seed(config.seed))
    if isinstance(autoencoder, AutoencoderKL):
        assert autoencoder.quant_conv is not None and autoencoder.quant_conv.bias is not None
        nn.init.constant_(autoencoder.quant_conv.bias[autoencoder.latent_channels :], config.diffusion.initial_logvar)
    return autoencoder


@torch.no_grad()
def start_codebook_(autoencoder: VQModel, latents: Tensor, seed: int) -> None:
    """Set the entries of a codebook to latents (N, C, h, w), drawn without replacement.

    Of those that `VQModel.init_weights` draws around zero few are ever nearest (arXiv 2005.08520).
    """
    codebook = autoencoder.quantize.embedding.weight
    tokens = rearrange(latents, "n c h w -> (n h w) c")
    chosen = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))[: len(codebook)]
    codebook[: len(chosen)] = tokens[chosen.to(tokens.device)]


def build_regularization(autoencoder: Autoencoder, config: ReconstructionConfig, context: Context) -> Regularization:
    """What belongs to the class of an autoencoder."""
    if isinstance(autoencoder, VQModel):
        return VQRegularization(config, autoencoder.config.num_vq_embeddings)
    return KLRegularization(config, context)
