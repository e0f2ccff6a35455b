"""Stage 3: temporal layers on clips without captions; the image model is frozen (arXiv 2209.14792, section 3.2)."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from t2v.data.transforms import to_pixels
from t2v.data.video_io import write_video
from t2v.diffusion.guidance import batched_guidance, frame_by_frame, image_guidance
from t2v.diffusion.noise import NoisePrior
from t2v.diffusion.sampling import check_sampler, sample
from t2v.diffusion.schedule import NoiseSchedule
from t2v.errors import InputError
from t2v.models.autoencoder_classes import load_autoencoder
from t2v.models.base import load_json
from t2v.models.folder import find_model
from t2v.models.motion import motion_scheduler
from t2v.models.motion_module import AnimateDiffConfig
from t2v.models.text_encoder import TextEncoder
from t2v.training.config import TemporalTrainConfig
from t2v.training.objectives.base import Batch, Context
from t2v.training.objectives.clip_latents import ClipLatents
from t2v.training.objectives.conditioning import CONDITIONINGS
from t2v.training.objectives.denoising import PRECISIONS, WeightedLoss
from t2v.training.objectives.trained_part import TRAINED_PARTS
from t2v.training.objectives.video_network import video_network
from t2v.training.randomness import integers, normal, sample_keys, uniform
from t2v.training.sampler import Position
from t2v.training.validation import label_pictures, picture_grid

NUM_LEVELS = 5  # of the noise that validation tells apart


def shuffle_frames(latents: Tensor, order: Tensor) -> Tensor:
    """The frames of each video in another order: (B, C, F, h, w) and permutations (B, F) -> the shape of latents."""
    return latents.gather(2, order[:, None, :, None, None].expand_as(latents))


class TemporalObjective:
    """Denoising of clips' latents; temporal layers and fps embedding learn, and more of the U-Net if so configured."""

    def __init__(self, config: TemporalTrainConfig, context: Context) -> None:
        self.config, self.device = config, context.device
        check_sampler(config.validation.sampler)
        if config.model.base is None:
            raise InputError("model.base is not set: give the text-to-image model by --model")
        self.base = find_model(config.model.base)
        scheduler = load_json(self.base / "scheduler" / "scheduler_config.json")
        self.autoencoder = load_autoencoder(self.base / "vae").to(context.device).requires_grad_(False)
        self.network = video_network(config, self.base).to(context.device)
        assert self.network.motion is not None
        self.schedule = NoiseSchedule.from_config(motion_scheduler(self.network.motion, scheduler))
        self.noise_prior = NoisePrior(self.network.motion.shared_noise, self.network.motion.noise_prior)
        self.loss_of = WeightedLoss(self.schedule, config.diffusion, context.device, self.noise_prior)
        self._note_layout(context.note)
        self.part = TRAINED_PARTS[config.model.train](self.network, self.base, config)
        precision = PRECISIONS[config.mixed_precision]
        self.clips = ClipLatents(self.base, self.autoencoder, config.data, config.seed, precision, context)
        self.dataset = self.clips.training
        self._read_text()

    def _note_layout(self, note: Callable[[str], None]) -> None:
        """What a person should know who trains for AnimateDiff's tools."""
        if not isinstance(self.network.motion, AnimateDiffConfig):
            return
        note("AnimateDiff's schedule is used, as its tools do: linear betas from 0.00085 to 0.012, steps_offset 1")
        low, high = self.config.data.fps_range
        if low != high:
            note(f"AnimateDiff's modules are not told frame rates: clips of {low:g} to {high:g} fps are learned as one")

    @torch.no_grad()
    def _read_text(self) -> None:
        """Embed the validation prompts; whether the text encoder is needed after that is up to the conditioning."""
        text_encoder = TextEncoder.from_pretrained(self.base)
        prompts = self.config.validation.prompts
        self.prompt_embeds = [text_encoder.encode([prompt, ""]).to(self.device) for prompt in prompts]
        self.conditioning = CONDITIONINGS[self.config.data.conditioning](text_encoder, self.base, self.clips)

    def trainable(self) -> dict[str, nn.Parameter]:
        return self.part.parameters()

    def loss(self, network: nn.Module, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        keys = partial(sample_keys, self.config.seed, batch["epochs"], batch["indices"])
        latents = self.clips.latents(batch, keys("latents"))
        timesteps = integers(keys("timestep"), self.schedule.num_train_timesteps)
        noise = self._noise(keys("noise"), latents.shape[1:])
        noisy_latents = self.schedule.add_noise(latents, noise, timesteps)
        output = network(noisy_latents, timesteps, self.conditioning(batch, keys), batch["fps"])
        return self.loss_of(output, latents, noise, timesteps).mean(), {"fps": batch["fps"].mean()}

    def _noise(self, keys: Tensor, shape: Sequence[int]) -> Tensor:
        return self.noise_prior.correlate(normal(keys, shape))

    def end_step(self, figures: dict[str, Tensor], progress: float) -> None:
        """Nothing to steer."""

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing beyond the network."""

    # ------------------------------------------------------------ what comes out

    def validate(self, network: nn.Module, folder: Path, global_step: int) -> dict[str, float]:
        """The losses of `_held_back_losses`, and one video with a picture for each validation prompt."""
        prompts = list(self.config.validation.prompts)
        if prompts:
            video = self.sample(network)  # (N, F, H, W, 3)
            grids = [picture_grid(label_pictures(pictures, prompts), 4) for pictures in video.swapaxes(0, 1)]
            path = folder / f"samples-{global_step:08d}.mp4"
            write_video(path, np.stack(grids), self.config.validation.fps, overwrite=True)
        return self._held_back_losses(network)

    def _held_back_losses(self, network: nn.Module) -> dict[str, float]:
        """Denoising losses of held-back clips, at the frame rates that training reaches last.

        Every clip has one timestep, few clips have several; together they are spread evenly. `validation_loss_t0` is of
        the lowest fifth of the noise levels, `..._t4` of the highest; `validation_loss_shuffled` of the same clips with
        their frames in another order: a network that has learned motion does worse there. Clips that cannot be read are
        left out; without any, there are no losses.
        """
        if not len(self.clips.validation):
            return {}
        count = max(len(self.clips.validation), 2 * NUM_LEVELS)
        timesteps = (2 * torch.arange(count) + 1) * self.schedule.num_train_timesteps // (2 * count)
        batches = torch.arange(count).split(self.config.batch_size)
        results = [self._ordered_and_shuffled(network, places, timesteps) for places in batches]
        places = torch.cat([read for read, _ in results]).cpu()
        if not len(places):
            return {}
        timesteps = timesteps[places]
        ordered, shuffled = torch.cat([losses for _, losses in results], dim=1).cpu()
        figures = {"validation_loss": ordered, "validation_loss_shuffled": shuffled}
        levels = timesteps * NUM_LEVELS // self.schedule.num_train_timesteps
        figures |= {f"validation_loss_t{level}": ordered[levels == level] for level in levels.unique().tolist()}
        return {name: float(values.mean()) for name, values in figures.items()}

    def _ordered_and_shuffled(self, network: nn.Module, places: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Which of the places (B,) could be read, and their losses (2, B), at one timestep each.

        Places count the held-back clips, from the first one again at the end; `timesteps` are those of all places.
        """
        clips = self.clips.validation
        rounds = [divmod(place, len(clips)) for place in places.tolist()]
        batch = self.clips.held_back(clips, [Position(epoch, sample, 1.0) for epoch, sample in rounds])
        places = batch["epochs"] * len(clips) + batch["indices"]
        if not len(places):
            return places, torch.empty(2, 0, device=self.device)
        timesteps = timesteps.to(self.device)[places]
        keys = partial(sample_keys, 0, batch["epochs"], batch["indices"])
        latents = self.clips.latents(batch, keys("latents"))
        noise = self._noise(keys("noise"), latents.shape[1:])
        text = self.conditioning(batch, None)
        order = uniform(keys("shuffle"), latents.shape[2]).argsort(dim=1)
        losses = []
        for x0 in (latents, shuffle_frames(latents, order)):
            output = network(self.schedule.add_noise(x0, noise, timesteps), timesteps, text, batch["fps"])
            losses.append(self.loss_of(output, x0, noise, timesteps))
        return places, torch.stack(losses)

    def sample(self, network: nn.Module) -> np.ndarray:
        """One video for each validation prompt: uint8 (N, F, H, W, 3)."""
        settings = self.config.validation
        channels, height, width = self.clips.latent_shape
        videos = []
        for place, (prompt, empty) in enumerate(embeds.split(1) for embeds in self.prompt_embeds):
            index = torch.tensor([place], device=self.device)
            keys = sample_keys(settings.seed, torch.zeros_like(index), index, "validation")
            noise = normal(keys, (channels, self.config.data.num_frames, height, width))
            noise = self.noise_prior.correlate(noise)

            def denoise(x: Tensor, timestep: Tensor, text: Tensor, /) -> Tensor:
                return network(x, timestep, text, settings.fps)

            guidance = prompt, empty, settings.guidance_scale
            if settings.guidance == "image":
                denoiser = image_guidance(denoise, frame_by_frame(denoise), *guidance)
            else:
                denoiser = batched_guidance(denoise, *guidance)
            latents = sample(settings.sampler, denoiser, self.schedule, noise, settings.num_inference_steps)
            video = self.autoencoder.decode(latents / self.autoencoder.config.scaling_factor)
            videos.append(to_pixels(video[0].transpose(0, 1)))
        return np.stack(videos)

    def export(self, output_dir: Path) -> Path:
        """Write motion/, model/ where the whole U-Net was trained, or motion_lora/."""
        fps_range = list(self.config.data.fps_range)
        return self.part.export(output_dir, {"scheduler": self.schedule.to_config(), "fps_range": fps_range})
