"""Stage 1: the autoencoder, from still pictures without captions."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from t2v.data.holding_back import hold_back
from t2v.data.stills import Still, find_stills, read_still, read_stills
from t2v.data.transforms import crop, to_model_range, to_pixels
from t2v.errors import InputError
from t2v.models.autoencoder import AutoencoderConfig, AutoencoderKL
from t2v.models.folder import find_model
from t2v.training.config import AutoencoderTrainConfig, StillsConfig
from t2v.training.objectives.base import Batch, Context
from t2v.training.randomness import integers, normal, sample_keys
from t2v.training.sampler import Position
from t2v.training.validation import picture_grid, save_picture

_NUM_STATISTICS = 1024  # pictures that the latent normalisation is measured on


class Reconstruction(nn.Module):
    """Encode, draw latents, decode."""

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, images: Tensor, noise: Tensor, train_encoder: bool) -> tuple[Tensor, Tensor, Tensor]:
        """(reconstruction, mean, log variance) of images (N, 3, H, W) with latent noise (N, C, h, w)."""
        with torch.set_grad_enabled(train_encoder and torch.is_grad_enabled()):
            posterior = self.autoencoder.encode(images)
            latents = posterior.mean + posterior.std * noise
        return self.autoencoder.decode(latents, chunk_size=None), posterior.mean, posterior.logvar


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


def edge_loss(difference: Tensor) -> Tensor:
    """L1 between the gradients of two pictures, from their difference (N, 3, H, W): a scalar."""
    horizontal = difference[..., 1:] - difference[..., :-1]
    vertical = difference[..., 1:, :] - difference[..., :-1, :]
    return horizontal.abs().mean() + vertical.abs().mean()


def between(ends: tuple[float, float], fraction: float) -> float:
    """Linear from ends[0] at 0 to ends[1] at 1, constant outside."""
    fraction = min(1.0, max(0.0, fraction))
    return ends[0] + (ends[1] - ends[0]) * fraction


class AutoencoderObjective:
    """L1 + MSE + edges + KL, with a controller that may hold the KL at a target."""

    def __init__(self, config: AutoencoderTrainConfig, context: Context) -> None:
        self.config, self.device, self.mean = config, context.device, context.mean
        self.autoencoder = self._build(config).to(context.device)
        self.network = Reconstruction(self.autoencoder)
        factor = self.autoencoder.downsample_factor
        for name, size in (("resolution", config.data.resolution), ("crop_size", config.data.crop_size)):
            if size is not None and (size % factor or size > config.data.resolution):
                raise InputError(f"data.{name} must be a multiple of {factor} up to data.resolution, got {size}")
        self.latent_size = (config.data.crop_size or config.data.resolution) // factor
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

    def trainable(self) -> dict[str, nn.Parameter]:
        return dict(self.autoencoder.named_parameters())

    def loss(self, network: nn.Module, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        weights = self.config.diffusion
        images = to_model_range(batch["pixels"])
        channels = self.autoencoder.config.latent_channels
        keys = sample_keys(self.config.seed, batch["epochs"], batch["indices"], "latents")
        noise = normal(keys, (channels, self.latent_size, self.latent_size))
        train_encoder = self._encoder_learns(progress)
        reconstruction, mean, logvar = network(images, noise, train_encoder)
        difference = reconstruction.float() - images
        mean, logvar = mean.float(), logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()  # nats per dimension
        absolute, square = difference.abs().mean(), difference.square().mean()
        loss = (
            absolute
            + between(weights.mse_weight, progress / weights.mse_fraction) * square
            + between(weights.edge_weight, progress) * edge_loss(difference)
        )
        if train_encoder:
            loss = loss + self.kl_weight * kl
        figures = {"l1": absolute, "mse": square, "kl": kl, "kl_weight": self.kl_weight}
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
        """PSNR and squared error of held-back pictures from mean latents, and a grid of originals above copies."""
        reconstructions, squares = [], []
        for pixels in self.validation_pixels.split(self.config.batch_size):
            images = to_model_range(pixels.to(self.device))
            size = [side // self.autoencoder.downsample_factor for side in images.shape[-2:]]
            noise = images.new_zeros(len(images), self.autoencoder.config.latent_channels, *size)
            reconstruction = network(images, noise, False)[0].float().clamp(-1, 1)
            squares.append((reconstruction - images).square().mean(dim=(1, 2, 3)))
            reconstructions.append(to_pixels(reconstruction))
        # the pixel range is 2 wide: peak power 4
        errors = torch.cat(squares)
        psnr = float((10 * torch.log10(4 / errors)).mean())
        originals, copies = self.validation_pixels.numpy(), np.concatenate(reconstructions)
        rows = [rows[i : i + 8] for i in range(0, min(16, len(originals)), 8) for rows in (originals, copies)]
        save_picture(folder / f"reconstruction-{global_step:08d}.png", picture_grid(np.concatenate(rows), len(rows[0])))
        return {"psnr": round(psnr, 3), "validation_loss": float(errors.mean())}

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
        """Write model/vae, its latents normalised for each channel, so that its scaling factor is 1."""
        autoencoder = copy.deepcopy(self.autoencoder)
        autoencoder.normalize_latents_(*self.latent_statistics(autoencoder))
        autoencoder.save_pretrained(output_dir / "model" / "vae", dtype=getattr(torch, self.config.export_dtype))
        return output_dir / "model"
