"""Stage 3: temporal layers on clips without captions; the image model is frozen (arXiv 2209.14792, section 3.2)."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from t2v.data.transforms import to_pixels
from t2v.data.video_io import write_video
from t2v.diffusion.guidance import batched_guidance
from t2v.diffusion.noise import share_noise
from t2v.diffusion.sampling import check_sampler, sample
from t2v.diffusion.schedule import NoiseSchedule
from t2v.errors import InputError
from t2v.models.autoencoder import AutoencoderKL
from t2v.models.base import load_json
from t2v.models.folder import find_model
from t2v.models.inflate import inflate, load_motion
from t2v.models.lora import LORA_FILE
from t2v.models.text_encoder import TextEncoder
from t2v.models.unet import MotionConfig, VideoUNet
from t2v.training.config import TemporalTrainConfig
from t2v.training.objectives.base import Batch, Context
from t2v.training.objectives.clip_latents import ClipLatents
from t2v.training.objectives.denoising import PRECISIONS, WeightedLoss
from t2v.training.objectives.trained_part import TRAINED_PARTS
from t2v.training.randomness import integers, normal, sample_keys
from t2v.training.sampler import Position
from t2v.training.validation import label_pictures, picture_grid


class TemporalObjective:
    """Denoising of clips' latents; temporal layers and fps embedding learn, and more of the U-Net if so configured."""

    def __init__(self, config: TemporalTrainConfig, context: Context) -> None:
        self.config, self.device = config, context.device
        check_sampler(config.validation.sampler)
        if config.model.base is None:
            raise InputError("model.base is not set: give the text-to-image model by --model")
        self.base = find_model(config.model.base)
        scheduler = load_json(self.base / "scheduler" / "scheduler_config.json")
        self.schedule = NoiseSchedule.from_config(scheduler)
        self.loss_of = WeightedLoss(self.schedule, config.diffusion, context.device)
        self.autoencoder = AutoencoderKL.from_pretrained(self.base / "vae").to(context.device).requires_grad_(False)
        self.network = self._network().to(context.device)
        self.part = TRAINED_PARTS[config.model.train](self.network, self.base, config)
        self._read_text(config)

        precision = PRECISIONS[config.mixed_precision]
        self.clips = ClipLatents(self.base, self.autoencoder, config.data, config.seed, precision, context)
        self.dataset = self.clips.training

    def _network(self) -> VideoUNet:
        config = self.config
        unet = VideoUNet.from_pretrained(self.base / "unet")
        if config.init_from is not None:
            load_motion(unet, self._initial_motion(find_model(config.init_from)))
        else:
            motion = MotionConfig(
                num_attention_heads=config.model.num_attention_heads,
                attention_in_all_levels=config.model.attention_in_all_levels,
                temporal_conv=config.model.temporal.conv,
                temporal_attention=config.model.temporal.attention,
            )
            inflate(unet, motion, torch.Generator().manual_seed(config.seed))
        assert unet.motion is not None
        unet.motion = replace(
            unet.motion,
            num_frames=config.data.num_frames,
            fps=config.model.fps,
            shared_noise=config.diffusion.shared_noise,
        )
        unet.gradient_checkpointing = config.model.gradient_checkpointing
        return unet.train()

    @staticmethod
    def _initial_motion(folder: Path) -> Path:
        motion = folder / "motion" if (folder / "motion").is_dir() else folder
        if (motion / LORA_FILE).is_file():
            raise InputError(f"init_from: {motion} has a LoRA, which only its own run goes on with; use --resume there")
        return motion

    @torch.no_grad()
    def _read_text(self, config: TemporalTrainConfig) -> None:
        """Embed the empty prompt and the validation prompts; the text encoder is not needed after that."""
        text_encoder = TextEncoder.from_pretrained(self.base)
        embeds = text_encoder.encode(["", *config.validation.prompts]).to(self.device)
        self.null_embeds, self.prompt_embeds = embeds[:1], embeds[1:]

    def trainable(self) -> dict[str, nn.Parameter]:
        return self.part.parameters()

    def loss(self, network: nn.Module, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        keys = partial(sample_keys, self.config.seed, batch["epochs"], batch["indices"])
        timesteps = integers(keys("timestep"), self.schedule.num_train_timesteps)
        return self._denoising_loss(network, batch, timesteps, keys).mean(), {"fps": batch["fps"].mean()}

    def _denoising_loss(self, network: nn.Module, batch: Batch, timesteps: Tensor, keys: partial[Tensor]) -> Tensor:
        latents = self.clips.latents(batch, keys("latents"))
        noise = share_noise(normal(keys("noise"), latents.shape[1:]), self.config.diffusion.shared_noise)
        text = self.null_embeds.expand(len(latents), -1, -1)
        noisy_latents = self.schedule.add_noise(latents, noise, timesteps)
        output = network(noisy_latents, timesteps, text, batch["fps"])
        return self.loss_of(output, latents, noise, timesteps)

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing beyond the network."""

    # ------------------------------------------------------------ what comes out

    def validate(self, network: nn.Module, folder: Path, global_step: int) -> dict[str, float]:
        """Denoising loss of held-back clips, and one video with a picture for each validation prompt."""
        prompts = list(self.config.validation.prompts)
        if prompts:
            video = self.sample(network)  # (N, F, H, W, 3)
            grids = [picture_grid(label_pictures(pictures, prompts), 4) for pictures in video.swapaxes(0, 1)]
            path = folder / f"samples-{global_step:08d}.mp4"
            write_video(path, np.stack(grids), self.config.validation.fps, overwrite=True)
        return {"validation_loss": self._validation_loss(network)}

    def _validation_loss(self, network: nn.Module) -> float:
        """At the lower end of the frame rates that training reaches last, timesteps spread evenly."""
        count = len(self.clips.validation)
        all_timesteps = (torch.arange(count) * self.schedule.num_train_timesteps) // count
        losses = []
        for places in torch.arange(count).split(self.config.batch_size):
            batch = self.clips.validation.__getitems__([Position(0, int(place), 1.0) for place in places])
            batch = {name: value.to(self.device) for name, value in batch.items()}
            keys = partial(sample_keys, 0, batch["epochs"], batch["indices"])
            losses.append(self._denoising_loss(network, batch, all_timesteps[places].to(self.device), keys))
        return float(torch.cat(losses).mean())

    def sample(self, network: nn.Module) -> np.ndarray:
        """One video for each validation prompt: uint8 (N, F, H, W, 3)."""
        settings = self.config.validation
        channels, height, width = self.clips.latent_shape
        videos = []
        for place, embeds in enumerate(self.prompt_embeds.split(1)):
            index = torch.tensor([place], device=self.device)
            keys = sample_keys(settings.seed, torch.zeros_like(index), index, "validation")
            noise = normal(keys, (channels, self.config.data.num_frames, height, width))
            noise = share_noise(noise, self.config.diffusion.shared_noise)

            def denoise(x: Tensor, timestep: Tensor, text: Tensor, /) -> Tensor:
                return network(x, timestep, text, settings.fps)

            denoiser = batched_guidance(denoise, embeds, self.null_embeds, settings.guidance_scale)
            latents = sample(settings.sampler, denoiser, self.schedule, noise, settings.num_inference_steps)
            video = self.autoencoder.decode(latents / self.autoencoder.config.scaling_factor)
            videos.append(to_pixels(video[0].transpose(0, 1)))
        return np.stack(videos)

    def export(self, output_dir: Path) -> Path:
        """Write motion/, or model/ where the whole U-Net was trained."""
        fps_range = list(self.config.data.fps_range)
        return self.part.export(output_dir, {"scheduler": self.schedule.to_config(), "fps_range": fps_range})
