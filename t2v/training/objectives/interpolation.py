"""Stage 4: the temporal U-Net learns to make the frames of a clip from those that are known (arXiv 2209.14792, 3.3)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from t2v.data.transforms import to_pixels
from t2v.data.video_io import write_video
from t2v.diffusion.known_frames import put_back, two_scale_guidance
from t2v.diffusion.noise import NoisePrior
from t2v.diffusion.sampling import check_sampler, sample
from t2v.diffusion.schedule import NoiseSchedule
from t2v.errors import InputError
from t2v.models.autoencoder_classes import load_autoencoder
from t2v.models.base import load_json
from t2v.models.folder import find_model
from t2v.models.inflate import load_motion
from t2v.models.interpolation import (
    InterpolationUNet,
    crossfaded,
    frame_positions,
    interpolation_parameters,
    load_interpolation,
    network_input,
    save_interpolation,
    widen,
)
from t2v.models.lora import LORA_FILE, merge_lora
from t2v.models.text_encoder import TextEncoder
from t2v.models.unet import VideoUNet
from t2v.training.config import InterpolationTrainConfig
from t2v.training.objectives.base import Batch, Context
from t2v.training.objectives.clip_latents import ClipLatents
from t2v.training.objectives.conditioning import CONDITIONINGS
from t2v.training.objectives.denoising import PRECISIONS, WeightedLoss
from t2v.training.objectives.known_clips import KnownClipBatches
from t2v.training.objectives.masks import PATTERNS, draw_masks
from t2v.training.randomness import integers, normal, sample_keys, uniform
from t2v.training.sampler import Position
from t2v.training.validation import picture_grid

VALIDATED = ("strided", "endpoints", "first", "last")  # patterns whose losses validation tells apart


class InterpolationObjective:
    """Denoising of the unknown frames of clips; the temporal layers and the new input columns learn."""

    def __init__(self, config: InterpolationTrainConfig, context: Context) -> None:
        self.config, self.device = config, context.device
        check_sampler(config.validation.sampler)
        if config.model.base is None:
            raise InputError("model.base is not set: give the text-to-video model by --model")
        self.base = find_model(config.model.base)
        scheduler = load_json(self.base / "scheduler" / "scheduler_config.json")
        self.schedule = NoiseSchedule.from_config(scheduler)
        self.autoencoder = load_autoencoder(self.base / "vae").to(context.device).requires_grad_(False)
        self.network = self._network().to(context.device)
        assert self.network.motion is not None
        self.noise_prior = NoisePrior(self.network.motion.shared_noise, self.network.motion.noise_prior)
        self.loss_of = WeightedLoss(self.schedule, config.diffusion, context.device, self.noise_prior)
        self.network.requires_grad_(False)
        for parameter in self.trainable().values():
            parameter.requires_grad_(True)
        text_encoder = TextEncoder.from_pretrained(self.base)
        with torch.no_grad():
            self.null_embeds = text_encoder.encode([""]).to(context.device)
        precision = PRECISIONS[config.mixed_precision]
        self.clips = ClipLatents(self.base, self.autoencoder, config.data, config.seed, precision, context)
        self.conditioning = CONDITIONINGS[config.data.conditioning](text_encoder, self.base, self.clips)
        self.dataset = KnownClipBatches.of(self.clips.training)
        self.validation = KnownClipBatches.of(self.clips.validation)

    def _network(self) -> InterpolationUNet:
        config, own = self.config, self.base / "motion"
        unet = VideoUNet.from_pretrained(self.base / "unet")
        motion = Path(config.model.motion) if config.model.motion is not None else own
        if motion == own and not own.is_dir():
            raise InputError(
                f"{self.base} has no motion/, which the interpolation network starts from: give model.motion=PATH, or "
                "train it with `t2v train temporal`"
            )
        load_motion(unet, motion)
        if (motion / LORA_FILE).is_file():
            merge_lora(unet, motion / LORA_FILE)
        wide = load_interpolation(unet, self._initial(config.init_from)) if config.init_from else widen(unet)
        assert wide.motion is not None
        wide.motion = replace(wide.motion, num_frames=config.data.num_frames, sampling_shared_noise=None)
        if config.diffusion.shared_noise is not None:
            wide.motion = replace(wide.motion, shared_noise=config.diffusion.shared_noise)
        if config.diffusion.noise_prior is not None:
            wide.motion = replace(wide.motion, noise_prior=config.diffusion.noise_prior)
        wide.gradient_checkpointing = config.model.gradient_checkpointing
        return wide.train()

    @staticmethod
    def _initial(name: str) -> Path:
        folder = find_model(name)
        return folder / "interpolation" if (folder / "interpolation").is_dir() else folder

    def trainable(self) -> dict[str, nn.Parameter]:
        return interpolation_parameters(self.network)

    def loss(self, network: nn.Module, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        keys = partial(sample_keys, self.config.seed, batch["epochs"], batch["indices"])
        latents = self.clips.latents(batch, keys("latents"))
        masks, _ = draw_masks(keys("mask"), latents.shape[2], self.config.data.masks)
        timesteps = integers(keys("timestep"), self.schedule.num_train_timesteps)
        noise = self._noise(keys("noise"), latents.shape[1:])
        known, levels = self._noised(keys, latents, masks)
        fps, positions = frame_positions(batch["timestamps"])
        noisy, shown = self.schedule.add_noise(latents, noise, timesteps), crossfaded(known, levels, positions)
        x = network_input(noisy, shown, levels)
        output = network(x, timesteps, self.conditioning(batch, keys), fps, positions)
        losses = self.loss_of(output, latents, noise, timesteps, _unknown(masks))
        return losses.mean(), {"fps": fps.mean(), "known": masks.mean()}

    def _noise(self, keys: Tensor, shape: Sequence[int]) -> Tensor:
        return self.noise_prior.correlate(normal(keys, shape))

    def _noised(self, keys: Callable[[str], Tensor], latents: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Known frames with a little noise, and the masks that tell how much (see `network_input`)."""
        deviation = self.config.diffusion.known_noise * uniform(keys("known_level"))[:, 0]  # (B,)
        noise = normal(keys("known_noise"), latents.shape[1:]) * deviation[:, None, None, None, None]
        return latents + noise, masks * (1 - deviation)[:, None]

    def end_step(self, figures: dict[str, Tensor], progress: float) -> None:
        """Nothing to steer."""

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing beyond the network."""

    # ------------------------------------------------------------ what comes out

    def validate(self, network: nn.Module, folder: Path, global_step: int) -> dict[str, float]:
        """Losses of held-back clips, and a video of some of them beside what is made of their first and last frames.

        `validation_loss` is the mean over patterns of masks, `validation_loss_PATTERN` of one, and
        `validation_loss_swapped` that of pairs whose known frames come from another clip: a network that looks at them
        does worse there. Clips that cannot be read are left out; without any, there are no losses.
        """
        count = len(self.validation)
        if not count:
            return {}
        timesteps = (torch.arange(count) * self.schedule.num_train_timesteps) // count
        names = (*VALIDATED, "swapped")
        batches = torch.arange(count).split(self.config.batch_size)
        losses = torch.cat([self._losses(network, places, timesteps, names) for places in batches], dim=1)
        if not losses.shape[1]:
            return {}
        figures = {f"validation_loss_{name}": float(values.mean()) for name, values in zip(names, losses, strict=True)}
        if self.config.validation.num_clips:
            self._write_pairs(network, folder / f"samples-{global_step:08d}.mp4")
        return {"validation_loss": float(losses[: len(VALIDATED)].mean()), **figures}

    def _batch(self, places: Tensor) -> Batch:
        """The held-back clips at `places` that can be read."""
        return self.clips.held_back(self.validation, [Position(0, int(place), 1.0) for place in places])

    def _latents(self, batch: Batch) -> Tensor:
        return self.clips.latents(batch, sample_keys(0, batch["epochs"], batch["indices"], "latents"))

    def _losses(self, network: nn.Module, places: Tensor, timesteps: Tensor, names: Sequence[str]) -> Tensor:
        """Losses (patterns, B) of the held-back clips at `places`, at one of the timesteps of all each."""
        batch = self._batch(places)
        if not len(batch["indices"]):
            return torch.empty(len(names), 0)
        latents = self._latents(batch)
        timesteps = timesteps.to(self.device)[batch["indices"]]
        noise = self._noise(sample_keys(0, batch["epochs"], batch["indices"], "noise"), latents.shape[1:])
        x, text = self.schedule.add_noise(latents, noise, timesteps), self.conditioning(batch, None)
        fps, positions = frame_positions(batch["timestamps"])
        losses = []
        for name in names:
            pattern = PATTERNS["endpoints" if name == "swapped" else name]
            mask = pattern(latents.shape[2], 0.0, 0.0).to(self.device).expand(len(latents), -1)
            known = latents.roll(1, dims=0) if name == "swapped" else latents
            shown = crossfaded(known, mask, positions)
            output = network(network_input(x, shown, mask), timesteps, text, fps, positions)
            losses.append(self.loss_of(output, latents, noise, timesteps, _unknown(mask)))
        return torch.stack(losses).cpu()

    def _write_pairs(self, network: nn.Module, path: Path) -> None:
        """Above the clips through the autoencoder, below what is made of their ends."""
        batch = self._batch(torch.arange(min(self.config.validation.num_clips, len(self.validation))))
        if not len(batch["indices"]):
            return
        latents = self._latents(batch)
        made = torch.cat([self.fill(network, *pair) for pair in zip(latents, batch["timestamps"], strict=True)])
        rows = []
        for part in (latents, made):
            video = self.autoencoder.decode(part / self.autoencoder.config.scaling_factor)  # (N, 3, F, H, W)
            rows += [to_pixels(clip.transpose(0, 1)) for clip in video]
        frames = [picture_grid(pictures, len(latents)) for pictures in np.stack(rows, axis=1)]
        fps = float(frame_positions(batch["timestamps"][:1])[0])
        write_video(path, np.stack(frames), min(fps, 60.0), overwrite=True)

    def fill(self, network: nn.Module, latents: Tensor, timestamps: Tensor) -> Tensor:
        """A clip made of its first and last frame: latents (C, F, h, w), timestamps (F,) -> (1, C, F, h, w)."""
        settings, known = self.config.validation, latents[None]
        mask = PATTERNS["endpoints"](known.shape[2], 0.0, 0.0)[None].to(self.device)
        fps, positions = frame_positions(timestamps[None])

        def denoise(x: Tensor, timestep: Tensor, shown: Tensor, mask: Tensor, text: Tensor, /) -> Tensor:
            times = positions.expand(len(x), -1)
            return network(network_input(x, shown, mask), timestep, text, fps.expand(len(x)), times)

        null = self.null_embeds
        shown = crossfaded(known, mask, positions)
        denoiser = two_scale_guidance(denoise, shown, mask, null, null, settings.frame_guidance, 1.0)
        noise = torch.randn(known.shape, generator=torch.Generator().manual_seed(settings.seed)).to(self.device)
        noise = self.noise_prior.correlate(noise)
        denoiser = put_back(denoiser, self.schedule, known, mask)
        generator = torch.Generator().manual_seed(settings.seed)
        return sample(
            settings.sampler,
            denoiser,
            self.schedule,
            noise,
            settings.num_inference_steps,
            generator=generator,
            noise_prior=self.noise_prior,
        )

    def export(self, output_dir: Path) -> Path:
        """Write interpolation/."""
        data = self.config.data
        metadata = {
            "scheduler": self.schedule.to_config(),
            "fps_range": list(data.fps_range),
            "min_frames": data.min_frames,
            "masks": data.masks.model_dump(),
        }
        dtype = getattr(torch, self.config.export_dtype)
        save_interpolation(self.network, output_dir / "interpolation", metadata, dtype)
        return output_dir / "interpolation"


def _unknown(masks: Tensor) -> Tensor:
    """1 where the loss counts, to broadcast over latents: masks (B, F) -> (B, 1, F, 1, 1)."""
    return (masks == 0).float()[:, None, :, None, None]
