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
from t2v.models.autoencoder import AutoencoderConfig, AutoencoderKL
from t2v.models.folder import find_model
from t2v.nn.init import init_parameters
from t2v.training.adversarial import (
    PatchDiscriminator,
    Verdicts,
    adaptive_weight,
    adversarial_loss,
    discriminator_loss,
    judge,
)
from t2v.training.config import AutoencoderTrainConfig, StillsConfig
from t2v.training.objectives.base import Batch, Context
from t2v.training.randomness import integers, normal, sample_keys
from t2v.training.reconstruction_loss import ReconstructionLoss, sharpness_ratio
from t2v.training.sampler import Position
from t2v.training.validation import picture_grid, save_picture

_NUM_STATISTICS = 1024  # pictures that the latent normalisation is measured on


class Copies(NamedTuple):
    """Copies (N, 3, H, W) of pictures, mean and log variance (N, C, h, w) of their latents, and verdicts on them."""

    pictures: Tensor
    mean: Tensor
    logvar: Tensor
    verdicts: Verdicts | None


class Reconstruction(nn.Module):
    """Encode, draw latents, decode, and have a discriminator judge the copies."""

    def __init__(self, autoencoder: AutoencoderKL, discriminator: PatchDiscriminator | None) -> None:
        super().__init__()
        self.autoencoder, self.discriminator = autoencoder, discriminator

    def forward(self, images: Tensor, noise: Tensor, train_encoder: bool = False, judged: bool = False) -> Copies:
        """Copies of images (N, 3, H, W) in [-1, 1], with latent noise (N, C, h, w)."""
        with torch.set_grad_enabled(train_encoder and torch.is_grad_enabled()):
            posterior = self.autoencoder.encode(images)
            latents = posterior.mean + posterior.std * noise
        copies = self.autoencoder.decode(latents, chunk_size=None)
        verdicts = None
        if judged:
            assert self.discriminator is not None
            verdicts = judge(self.discriminator, images, copies)
        return Copies(copies, posterior.mean, posterior.logvar, verdicts)


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
    """What makes copies like their pictures, the KL with a controller that may hold it at a target, a discriminator."""

    def __init__(self, config: AutoencoderTrainConfig, context: Context) -> None:
        self.config, self.device, self.mean = config, context.device, context.mean
        self.autoencoder = self._build(config).to(context.device)
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
        self.kl_weight = torch.tensor(config.diffusion.kl_weight, device=context.device)

    @staticmethod
    def _build(config: AutoencoderTrainConfig) -> AutoencoderKL:
        if config.init_from is not None:
            autoencoder = AutoencoderKL.from_pretrained(find_model(config.init_from) / "vae")
            return autoencoder.train().requires_grad_(True)
        model = AutoencoderConfig.from_dict({**config.model.model_dump(), "sample_size": config.data.resolution})
        autoencoder = AutoencoderKL(model)
        autoencoder.init_weights(torch.Generator().manual_seed(config.seed))
        assert autoencoder.quant_conv is not None and autoencoder.quant_conv.bias is not None
        nn.init.constant_(autoencoder.quant_conv.bias[model.latent_channels :], config.diffusion.initial_logvar)
        return autoencoder

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
        channels = self.autoencoder.config.latent_channels
        keys = sample_keys(self.config.seed, batch["epochs"], batch["indices"], "latents")
        noise = normal(keys, (channels, self.latent_size, self.latent_size))
        train_encoder = self._encoder_learns(progress)
        judged = weights.adversarial_weight > 0 and progress >= weights.adversarial_start
        copies = network(images, noise, train_encoder, judged)
        mean, logvar = copies.mean.float(), copies.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()  # nats per dimension
        loss, figures = self.reconstruction_loss(copies.pictures.float(), images, progress)
        figures |= {"kl": kl, "kl_weight": self.kl_weight}
        if judged:
            convincing, judging = adversarial_loss(copies.verdicts), discriminator_loss(copies.verdicts)
            adaptive = adaptive_weight(loss, convincing, self.autoencoder.decoder.conv_out.weight)
            loss = loss + weights.adversarial_weight * adaptive * convincing + judging
            figures |= {"adversarial": convincing, "discriminator": judging, "adaptive_weight": adaptive}
        if train_encoder:
            loss = loss + self.kl_weight * kl
        return loss, {name: value.detach() for name, value in figures.items()}

    def _encoder_learns(self, progress: float) -> bool:
        return progress < 1 - self.config.diffusion.decoder_only_fraction

    def end_step(self, figures: dict[str, Tensor], progress: float) -> None:
        """Raise the KL weight while the KL is above its target, lower it while below: by at most kl_rate a step."""
        weights = self.config.diffusion
        if weights.kl_target is not None and self._encoder_learns(progress):
            error = (self.mean(figures["kl"]) / weights.kl_target - 1).clamp(-1, 1)
            self.kl_weight = self.kl_weight * torch.exp(weights.kl_rate * error)

    def state(self) -> dict[str, Tensor]:
        return {"kl_weight": self.kl_weight}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.kl_weight = state["kl_weight"].to(self.device)

    def validate(self, network: nn.Module, folder: Path, global_step: int) -> dict[str, float]:
        """PSNR, squared error and sharpness ratio of held-back pictures from mean latents; originals above copies."""
        reconstructions, squares, ratios = [], [], []
        for pixels in self.validation_pixels.split(self.config.batch_size):
            images = to_model_range(pixels.to(self.device))
            size = [side // self.autoencoder.downsample_factor for side in images.shape[-2:]]
            noise = images.new_zeros(len(images), self.autoencoder.config.latent_channels, *size)
            reconstruction = network(images, noise).pictures.float().clamp(-1, 1)
            squares.append((reconstruction - images).square().mean(dim=(1, 2, 3)))
            ratios.append(sharpness_ratio(reconstruction, images))
            reconstructions.append(to_pixels(reconstruction))
        # the pixel range is 2 wide: peak power 4
        errors = torch.cat(squares)
        psnr = float((10 * torch.log10(4 / errors)).mean())
        originals, copies = self.validation_pixels.numpy(), np.concatenate(reconstructions)
        rows = [rows[i : i + 8] for i in range(0, min(16, len(originals)), 8) for rows in (originals, copies)]
        save_picture(folder / f"reconstruction-{global_step:08d}.png", picture_grid(np.concatenate(rows), len(rows[0])))
        sharpness = round(float(torch.cat(ratios).mean()), 3)
        return {"psnr": round(psnr, 3), "sharpness_ratio": sharpness, "validation_loss": float(errors.mean())}

    def latent_statistics(self, autoencoder: AutoencoderKL) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of sampled latents for each channel, over the first training pictures."""
        count = min(_NUM_STATISTICS, len(self.dataset))
        latents = []
        for indices in torch.arange(count).split(32):
            batch = self.dataset.__getitems__([Position(0, int(index), 0.0) for index in indices])
            posterior = autoencoder.encode(to_model_range(batch["pixels"].to(self.device)))
            keys = sample_keys(self.config.seed, torch.zeros_like(indices), indices, "statistics").to(self.device)
            latents.append(posterior.mean + posterior.std * normal(keys, posterior.mean.shape[1:]))
        stacked = torch.cat(latents)
        return stacked.mean(dim=(0, 2, 3)), stacked.std(dim=(0, 2, 3))

    def export(self, output_dir: Path) -> Path:
        """Write model/vae, its latents normalised for each channel, so that its scaling factor is 1; where the decoder
        alone was trained, they stay as they were."""
        autoencoder = copy.deepcopy(self.autoencoder)
        if not self._keeps_latents:
            autoencoder.normalize_latents_(*self.latent_statistics(autoencoder))
        autoencoder.save_pretrained(output_dir / "model" / "vae", dtype=getattr(torch, self.config.export_dtype))
        return output_dir / "model"
