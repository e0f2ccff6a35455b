"""Stage 1: the autoencoder, from still pictures without captions."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from t2v.data.holding_back import hold_back
from t2v.data.stills import Still, find_stills, read_still, read_stills
from t2v.data.transforms import crop, to_model_range, to_pixels
from t2v.errors import InputError
from t2v.models.autoencoder_base import Autoencoder
from t2v.models.vq_model import VQModel
from t2v.nn.init import init_parameters
from t2v.training.adversarial import (
    PatchDiscriminator,
    Verdicts,
    adaptive_weight,
    adversarial_loss,
    discriminator_loss,
    judge,
)
from t2v.training.config import AutoencoderTrainConfig
from t2v.training.config_sections import StillsConfig
from t2v.training.objectives.base import Batch, Context
from t2v.training.randomness import integers, normal, sample_keys
from t2v.training.reconstruction_loss import ReconstructionLoss, gradient_norm
from t2v.training.regularization import Latents, build_autoencoder, build_regularization, start_codebook_
from t2v.training.sampler import Position
from t2v.training.validation import picture_grid, save_picture

_NUM_STATISTICS = 1024  # pictures that the latent normalisation is measured on, and a new codebook is made of


class Copies(NamedTuple):
    """Copies (N, 3, H, W) of pictures, their latents, and verdicts on them."""

    pictures: Tensor
    latents: Latents
    verdicts: Verdicts | None


class Reconstruction(nn.Module):
    """Encode, draw latents, decode, and have a discriminator judge the copies."""

    def __init__(self, autoencoder: Autoencoder, discriminator: PatchDiscriminator | None) -> None:
        super().__init__()
        self.autoencoder, self.discriminator = autoencoder, discriminator

    def forward(self, images: Tensor, noise: Tensor, train_encoder: bool = False, judged: bool = False) -> Copies:
        """Copies of images (N, 3, H, W) in [-1, 1], with latent noise (N, C, h, w)."""
        with torch.set_grad_enabled(train_encoder and torch.is_grad_enabled()):
            posterior = self.autoencoder.encode(images)
            drawn = posterior.mean + posterior.std * noise
            quantized = self.autoencoder.quantize.with_losses(drawn) if isinstance(self.autoencoder, VQModel) else None
        copies = self.autoencoder.decode(drawn, chunk_size=None)
        verdicts = None
        if judged:
            assert self.discriminator is not None
            verdicts = judge(self.discriminator, images, copies)
        return Copies(copies, Latents(posterior.mean, posterior.logvar, quantized), verdicts)


class StillBatches:
    """Batches of uint8 pictures, from memory or from their files."""

    def __init__(self, stills: Sequence[Still], config: StillsConfig, seed: int, device: torch.device) -> None:
        self.stills, self.config, self.seed = stills, config, seed
        self.pixels: Tensor | None = None
        fits = len(stills) * 3 * config.resolution**2 <= config.max_cache_gb * 1e9
        if config.cache != "none" and fits:
            self.pixels = read_stills(stills, config.resolution)
            if config.cache == "device":
                self.pixels = self.pixels.to(device)

    def __len__(self) -> int:
        return len(self.stills)

    def __getitem__(self, position: Position) -> Batch:
        return self.__getitems__([position])

    def __getitems__(self, positions: list[Position]) -> Batch:
        indices = torch.tensor([position.sample for position in positions])
        epochs = torch.tensor([position.epoch for position in positions])
        if self.pixels is None:
            pictures = [read_still(self.stills[index].path, self.config.resolution) for index in indices.tolist()]
            pixels = torch.from_numpy(np.stack(pictures))
        else:
            pixels = self.pixels[indices.to(self.pixels.device)]
        size = self.config.crop_size
        if size is not None:
            places = self.config.resolution - size + 1
            tops, lefts = (
                integers(sample_keys(self.seed, epochs, indices, stream), places) for stream in ("top", "left")
            )
            pixels = crop(pixels, tops, lefts, size)
        return {"pixels": pixels, "epochs": epochs, "indices": indices}


class AutoencoderObjective:
    """What makes copies like their pictures, what keeps latents in bounds, a discriminator."""

    def __init__(self, config: AutoencoderTrainConfig, context: Context) -> None:
        self.config, self.device = config, context.device
        self.autoencoder = build_autoencoder(config).to(context.device)
        self.regularization = build_regularization(self.autoencoder, config.diffusion, context)
        self.network = Reconstruction(self.autoencoder, self._build_discriminator(config))
        factor = self.autoencoder.downsample_factor
        for name, size in (("resolution", config.data.resolution), ("crop_size", config.data.crop_size)):
            if size is not None and (size % factor or size > config.data.resolution):
                raise InputError(f"data.{name} must be a multiple of {factor} up to data.resolution, got {size}")
        size = config.data.crop_size or config.data.resolution
        self.latent_size = size // factor
        self.reconstruction_loss = ReconstructionLoss(config.diffusion, size, context.device)
        if config.data.path is None:
            raise InputError("data.path is not set: give the folder of pictures with --data")
        stills = find_stills(config.data.path)[: config.data.max_samples]
        training, validation = hold_back(len(stills), config.data.num_validation)
        self.dataset = StillBatches([stills[i] for i in training], config.data, config.seed, context.device)
        self.validation_pixels = read_stills([stills[i] for i in validation], config.data.resolution)
        if isinstance(self.autoencoder, VQModel) and config.init_from is None and not context.resuming:
            start_codebook_(self.autoencoder, self.sample_latents(self.autoencoder), config.seed)

    def _build_discriminator(self, config: AutoencoderTrainConfig) -> PatchDiscriminator | None:
        diffusion, size = config.diffusion, config.data.crop_size or config.data.resolution
        if diffusion.adversarial_weight == 0:
            return None
        discriminator = PatchDiscriminator(diffusion.discriminator_channels, diffusion.discriminator_layers)
        if size < discriminator.min_size:
            raise InputError(
                f"diffusion.discriminator_layers: {diffusion.discriminator_layers} need pictures of at least "
                f"{discriminator.min_size} pixels, got {size}"
            )
        init_parameters(discriminator, torch.Generator().manual_seed(config.seed))
        return discriminator.to(self.device)

    @property
    def _keeps_latents(self) -> bool:
        return self.config.diffusion.decoder_only_fraction == 1

    def trainable(self) -> dict[str, nn.Parameter]:
        parameters = dict(self.autoencoder.named_parameters())
        if self._keeps_latents:
            parts = ("decoder.", "post_quant_conv.")
            parameters = {name: parameter for name, parameter in parameters.items() if name.startswith(parts)}
        if self.network.discriminator is not None:
            parameters |= {f"discriminator.{name}": p for name, p in self.network.discriminator.named_parameters()}
        return parameters

    def loss(self, network: nn.Module, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        weights = self.config.diffusion
        images = to_model_range(batch["pixels"])
        channels = self.autoencoder.latent_channels
        keys = sample_keys(self.config.seed, batch["epochs"], batch["indices"], "latents")
        noise = normal(keys, (channels, self.latent_size, self.latent_size))
        train_encoder = self._encoder_learns(progress)
        judged = weights.adversarial_weight > 0 and progress >= weights.adversarial_start
        copies = network(images, noise, train_encoder, judged)
        loss, figures = self.reconstruction_loss(copies.pictures.float(), images, progress)
        regularization, found = self.regularization.loss(copies.latents)
        figures |= found
        if judged:
            convincing, judging = adversarial_loss(copies.verdicts), discriminator_loss(copies.verdicts)
            adaptive = adaptive_weight(loss, convincing, self.autoencoder.decoder.conv_out.weight)
            loss = loss + weights.adversarial_weight * adaptive * convincing + judging
            figures |= {"adversarial": convincing, "discriminator": judging, "adaptive_weight": adaptive}
        if train_encoder:
            loss = loss + regularization
        return loss, {name: value.detach() for name, value in figures.items()}

    def _encoder_learns(self, progress: float) -> bool:
        return progress < 1 - self.config.diffusion.decoder_only_fraction

    def end_step(self, figures: dict[str, Tensor], progress: float) -> None:
        if self._encoder_learns(progress):
            self.regularization.end_step(figures)

    def state(self) -> dict[str, Tensor]:
        return self.regularization.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.regularization.load_state(state)

    def validate(self, network: nn.Module, folder: Path, global_step: int) -> dict[str, float]:
        """PSNR, squared error and gradients of copies of held-back pictures, from mean latents; a grid of both."""
        reconstructions, squares, gradients, latents = [], [], [], []
        for pixels in self.validation_pixels.split(self.config.batch_size):
            images = to_model_range(pixels.to(self.device))
            size = [side // self.autoencoder.downsample_factor for side in images.shape[-2:]]
            noise = images.new_zeros(len(images), self.autoencoder.latent_channels, *size)
            copies = network(images, noise)
            latents.append(copies.latents)
            reconstruction = copies.pictures.float().clamp(-1, 1)
            squares.append((reconstruction - images).square().mean(dim=(1, 2, 3)))
            gradients.append(torch.stack([gradient_norm(reconstruction), gradient_norm(images)]) * len(images))
            reconstructions.append(to_pixels(reconstruction))
        # the pixel range is 2 wide: peak power 4
        errors = torch.cat(squares)
        psnr = float((10 * torch.log10(4 / errors)).mean())
        pairs = self.validation_pixels.numpy(), np.concatenate(reconstructions)
        rows = [rows[i : i + 8] for i in range(0, min(16, len(pairs[0])), 8) for rows in pairs]
        save_picture(folder / f"reconstruction-{global_step:08d}.png", picture_grid(np.concatenate(rows), len(rows[0])))
        ours, theirs = torch.stack(gradients).sum(dim=0)
        figures = {
            "psnr": round(psnr, 3),
            "gradient_ratio": round(float(ours / theirs.clamp(min=1e-8)), 3),  # below 1: copies are blurred
            "validation_loss": float(errors.mean()),
        }
        return figures | self.regularization.validate(latents)

    @torch.no_grad()
    def sample_latents(self, autoencoder: Autoencoder) -> Tensor:
        """Sampled latents (N, C, h, w) of the first training pictures."""
        count = min(_NUM_STATISTICS, len(self.dataset))
        latents = []
        for indices in torch.arange(count).split(32):
            batch = self.dataset.__getitems__([Position(0, int(index), 0.0) for index in indices])
            posterior = autoencoder.encode(to_model_range(batch["pixels"].to(self.device)))
            keys = sample_keys(self.config.seed, torch.zeros_like(indices), indices, "statistics").to(self.device)
            latents.append(posterior.mean + posterior.std * normal(keys, posterior.mean.shape[1:]))
        return torch.cat(latents)

    def export(self, output_dir: Path) -> Path:
        """Write model/vae, its latents normalised, so that its scaling factor is 1; where the decoder alone was
        trained, they stay as they were."""
        autoencoder = copy.deepcopy(self.autoencoder)
        if not self._keeps_latents:
            latents = self.sample_latents(autoencoder)
            autoencoder.normalize_latents_(latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3)))
        autoencoder.save_pretrained(output_dir / "model" / "vae", dtype=getattr(torch, self.config.export_dtype))
        return output_dir / "model"
