"""Stage 3: temporal layers on clips without captions; the image model is frozen (arXiv 2209.14792, section 3.2)."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from t2v.data.clips import Clip, find_clips, frame_chunks
from t2v.data.stills import hold_back
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
from t2v.models.inflate import inflate, load_motion, save_motion, temporal_parameters
from t2v.models.text_encoder import TextEncoder
from t2v.models.unet import MotionConfig, VideoUNet
from t2v.training.config import ClipsConfig, TemporalTrainConfig
from t2v.training.latent_cache import LatentMoments, cache_key, cached, encode_pictures, note_tenths
from t2v.training.objectives.base import Batch, Context
from t2v.training.objectives.denoising import PRECISIONS, WeightedLoss
from t2v.training.randomness import integers, normal, sample_keys, uniform
from t2v.training.run_folder import write_text
from t2v.training.sampler import Position
from t2v.training.validation import label_pictures, picture_grid


def curriculum_fps(draw: float, progress: float, config: ClipsConfig, bounds: tuple[float, float]) -> float:
    """The frame rate of a sample: from high rates only, early on, to the whole range (arXiv 2209.14792, section 3.3).

    The lower end of the range falls from its top to its bottom over the first `curriculum_fraction` of the training.

    Args:
        draw: uniform in [0, 1).
        progress: of the training, 0 to 1.
        bounds: the rates that the clip allows; they win over the range.
    """
    low, high = config.fps_range
    passed = min(1.0, progress / config.curriculum_fraction) if config.curriculum_fraction else 1.0
    lowest = high - (high - low) * passed
    high = min(high, bounds[1])
    lowest = min(max(lowest, bounds[0]), high)
    return lowest + (high - lowest) * draw


class ClipBatches:
    """Batches of frame places in the concatenated latents of all clips, sampled by time."""

    def __init__(self, clips: list[Clip], offsets: list[int], config: ClipsConfig, seed: int) -> None:
        self.clips, self.offsets, self.config, self.seed = clips, offsets, config, seed

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, position: Position) -> Batch:
        return self.__getitems__([position])

    def __getitems__(self, positions: list[Position]) -> Batch:
        epochs = torch.tensor([position.epoch for position in positions])
        indices = torch.tensor([position.sample for position in positions])
        draws = uniform(sample_keys(self.seed, epochs, indices, "clip"), 2).tolist()
        num_frames = self.config.num_frames
        frames, rates = [], []
        for (_, index, progress), (fps_draw, start) in zip(positions, draws, strict=True):
            clip = self.clips[index]
            fps = curriculum_fps(fps_draw, progress, self.config, clip.sampling_bounds(num_frames))
            frames.append(self.offsets[index] + clip.sample(num_frames, fps, start))
            rates.append(fps)
        return {
            "frames": torch.from_numpy(np.stack(frames)),
            "fps": torch.tensor(rates, dtype=torch.float32),
            "epochs": epochs,
            "indices": indices,
        }


class TemporalObjective:
    """Denoising of clips' latents under the empty prompt; only temporal layers and the fps embedding learn."""

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
        self._read_text(config)

        clips = self._clips(context)
        offsets = np.cumsum([0, *(len(clip.timestamps) for clip in clips)]).tolist()
        self.latents = self._latents(clips, context)
        training, validation = hold_back(len(clips), config.data.num_validation)
        self.dataset = self._batches(clips, offsets, training)
        self.validation_dataset = self._batches(clips, offsets, validation)

    def _network(self) -> VideoUNet:
        config = self.config
        unet = VideoUNet.from_pretrained(self.base / "unet")
        if config.init_from is not None:
            folder = find_model(config.init_from)
            load_motion(unet, folder / "motion" if (folder / "motion").is_dir() else folder)
        else:
            motion = MotionConfig(
                num_attention_heads=config.model.num_attention_heads,
                attention_in_all_levels=config.model.attention_in_all_levels,
            )
            inflate(unet, motion, torch.Generator().manual_seed(config.seed))
        assert unet.motion is not None
        unet.motion = replace(
            unet.motion,
            num_frames=config.data.num_frames,
            fps=config.model.fps,
            shared_noise=config.diffusion.shared_noise,
        )
        unet.requires_grad_(False)
        for parameter in temporal_parameters(unet).values():
            parameter.requires_grad_(True)
        unet.gradient_checkpointing = config.model.gradient_checkpointing
        return unet.train()

    @torch.no_grad()
    def _read_text(self, config: TemporalTrainConfig) -> None:
        """Embed the empty prompt and the validation prompts; the text encoder is not needed after that."""
        text_encoder = TextEncoder.from_pretrained(self.base)
        embeds = text_encoder.encode(["", *config.validation.prompts]).to(self.device)
        self.null_embeds, self.prompt_embeds = embeds[:1], embeds[1:]

    def _clips(self, context: Context) -> list[Clip]:
        data = self.config.data
        if data.path is None:
            raise InputError("data.path is not set: give the folder of videos with --data")
        found, skipped = find_clips(data.path, data.max_samples)
        lines = [{"path": str(file.path), "reason": file.reason} for file in skipped]
        clips = []
        for clip in found:
            clip = clip.thinned(data.cache_fps)
            low, high = clip.sampling_bounds(data.num_frames)
            if max(low, data.fps_range[0]) <= min(high, data.fps_range[1]):
                clips.append(clip)
                continue
            reason = f"{data.num_frames} different frames fit at {low:.3g} to {high:.3g} fps only"
            lines.append({"path": str(clip.path), "reason": reason})
        write_text(context.output_dir / "skipped.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        if not clips:
            raise InputError(
                f"data: none of {len(found)} videos fits data.fps_range; {lines[0]['reason']} in the first"
            )
        return clips

    def _latents(self, clips: list[Clip], context: Context) -> LatentMoments:
        data = self.config.data
        folder = Path(data.cache_dir) if data.cache_dir is not None else context.output_dir / "cache"
        contents = (f"{clip.content}:{clip.frames.tobytes().hex()}" for clip in clips)
        key = cache_key(self.base, contents, {"resolution": data.resolution})

        def compute() -> LatentMoments:
            chunks = frame_chunks(clips, data.resolution, data.encode_batch_size)
            precision = PRECISIONS[self.config.mixed_precision]
            total = sum(len(clip.timestamps) for clip in clips)
            on_encoded = note_tenths(context.note, "frames encoded", total)
            return encode_pictures(self.autoencoder, chunks, self.device, precision, on_encoded)

        moments = cached(folder, key, compute)
        return moments.to(self.device) if data.cache_device else moments

    def _batches(self, clips: list[Clip], offsets: list[int], chosen: list[int]) -> ClipBatches:
        config = self.config
        return ClipBatches([clips[i] for i in chosen], [offsets[i] for i in chosen], config.data, config.seed)

    def trainable(self) -> dict[str, nn.Parameter]:
        return temporal_parameters(self.network)

    def loss(self, network: nn.Module, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        keys = partial(sample_keys, self.config.seed, batch["epochs"], batch["indices"])
        timesteps = integers(keys("timestep"), self.schedule.num_train_timesteps)
        return self._denoising_loss(network, batch, timesteps, keys).mean(), {"fps": batch["fps"].mean()}

    def _denoising_loss(self, network: nn.Module, batch: Batch, timesteps: Tensor, keys: partial[Tensor]) -> Tensor:
        frames = batch["frames"]
        shape = self.latents.mean.shape[1:]
        latent_noise = normal(keys("latents"), (frames.shape[1], *shape))
        drawn = self.latents.draw(frames, latent_noise if self.config.data.latents == "sample" else None)
        latents = drawn.to(self.device).transpose(1, 2)  # (B, C, F, h, w)
        noise = share_noise(normal(keys("noise"), latents.shape[1:]), self.config.diffusion.shared_noise)
        text = self.null_embeds.expand(len(frames), -1, -1)
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
        count = len(self.validation_dataset)
        all_timesteps = (torch.arange(count) * self.schedule.num_train_timesteps) // count
        losses = []
        for places in torch.arange(count).split(self.config.batch_size):
            batch = self.validation_dataset.__getitems__([Position(0, int(place), 1.0) for place in places])
            batch = {name: value.to(self.device) for name, value in batch.items()}
            keys = partial(sample_keys, 0, batch["epochs"], batch["indices"])
            losses.append(self._denoising_loss(network, batch, all_timesteps[places].to(self.device), keys))
        return float(torch.cat(losses).mean())

    def sample(self, network: nn.Module) -> np.ndarray:
        """One video for each validation prompt: uint8 (N, F, H, W, 3)."""
        settings = self.config.validation
        channels, height, width = self.latents.mean.shape[1:]
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
        """Write motion/."""
        metadata = {"scheduler": self.schedule.to_config(), "fps_range": list(self.config.data.fps_range)}
        dtype = getattr(torch, self.config.export_dtype)
        save_motion(self.network, output_dir / "motion", metadata, dtype)
        return output_dir / "motion"
