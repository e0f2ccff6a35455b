"""The clips of the temporal stage, as latents: which files, which frames of them, and their encodings."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from t2v.data.clips import Clip, find_clips, frame_chunks
from t2v.data.stills import hold_back
from t2v.errors import InputError
from t2v.models.autoencoder import AutoencoderKL
from t2v.training.config import ClipsConfig
from t2v.training.latent_cache import LatentMoments, cache_key, cached, encode_pictures, note_tenths
from t2v.training.objectives.base import Batch, Context
from t2v.training.randomness import normal, sample_keys, uniform
from t2v.training.run_folder import write_text
from t2v.training.sampler import Position


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


class ClipLatents:
    """All clips of a run through the frozen autoencoder, split into training and validation."""

    def __init__(
        self,
        base: Path,
        autoencoder: AutoencoderKL,
        config: ClipsConfig,
        seed: int,
        precision: torch.dtype | None,  # of the encoding's autocast
        context: Context,
    ) -> None:
        self.config, self.device = config, context.device
        clips = self._clips(context)
        offsets = np.cumsum([0, *(len(clip.timestamps) for clip in clips)]).tolist()
        self._moments = self._encode(base, autoencoder, clips, precision, context)
        training, validation = hold_back(len(clips), config.num_validation)
        self.training, self.validation = (
            ClipBatches([clips[i] for i in chosen], [offsets[i] for i in chosen], config, seed)
            for chosen in (training, validation)
        )

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of a frame."""
        channels, height, width = self._moments.mean.shape[1:]
        return channels, height, width

    def latents(self, batch: Batch, keys: Tensor) -> Tensor:
        """The scaled latents of a batch, fp32 (B, C, F, h, w); `keys` of the draw from their distribution."""
        frames = batch["frames"]
        noise = normal(keys, (frames.shape[1], *self.latent_shape)) if self.config.latents == "sample" else None
        return self._moments.draw(frames, noise).to(self.device).transpose(1, 2)

    def _clips(self, context: Context) -> list[Clip]:
        data = self.config
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

    def _encode(
        self,
        base: Path,
        autoencoder: AutoencoderKL,
        clips: list[Clip],
        precision: torch.dtype | None,
        context: Context,
    ) -> LatentMoments:
        data = self.config
        folder = Path(data.cache_dir) if data.cache_dir is not None else context.output_dir / "cache"
        contents = (f"{clip.content}:{clip.frames.tobytes().hex()}" for clip in clips)
        key = cache_key(base, contents, {"resolution": data.resolution})

        def compute() -> LatentMoments:
            chunks = frame_chunks(clips, data.resolution, data.encode_batch_size)
            total = sum(len(clip.timestamps) for clip in clips)
            on_encoded = note_tenths(context.note, "frames encoded", total)
            return encode_pictures(autoencoder, chunks, self.device, precision, on_encoded)

        moments = cached(folder, key, compute)
        return moments.to(self.device) if data.cache_device else moments
