"""The clips of the temporal stage, as latents: which files, what is wrong with the others, and the encoding."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor

from t2v.data.buckets import nearest_bucket, standard_buckets
from t2v.data.clips import Clip, Decoding
from t2v.data.holding_back import hold_back_clips
from t2v.data.search import find_clips
from t2v.errors import InputError
from t2v.models.autoencoder_base import Autoencoder
from t2v.models.base import load_json
from t2v.training.clip_cache import ClipCache
from t2v.training.config_sections import ClipsConfig
from t2v.training.latent_cache import LatentMoments, cache_key, encode, make_cache_folder, note_tenths
from t2v.training.objectives.base import Batch, Context
from t2v.training.objectives.clip_batches import ClipBatches, ClipSet, PixelReader, ReadFrames, Size
from t2v.training.randomness import normal
from t2v.training.sampler import Position
from t2v.training.skip_log import BadFile, BrokenFrames, SkipLog

_MAX_ELONGATION = 8.0  # longer pictures would be enlarged beyond all measure before most of them is cut away


class ClipLatents:
    """The clips of a run, split into training and validation, and their way through the frozen autoencoder.

    Without `cache_latents` the batches hold pixels, which are encoded on the device; with it, latents from disk.
    """

    def __init__(
        self,
        base: Path,
        autoencoder: Autoencoder,
        config: ClipsConfig,
        seed: int,
        precision: torch.dtype | None,  # of the encoding's autocast
        context: Context,
    ) -> None:
        self.config, self.device = config, context.device
        self.autoencoder, self.precision = autoencoder, precision
        self.decoding = Decoding(config.decoder, config.sequence_fps)
        self.cache_dir = make_cache_folder(config.cache_dir, context.output_dir)
        self.skip_log = SkipLog(context.output_dir / "skipped.jsonl", config.max_bad_share)
        clips = self._clips(context.note)
        training, validation = hold_back_clips([clip.path for clip in clips], config.num_validation)
        context.note(f"{len(training)} clips to train on, {len(validation)} held back")
        sets = [self._in_buckets([clips[i] for i in training], base), self._square([clips[i] for i in validation])]
        broken = BrokenFrames(file for file in self.skip_log.read() if file.is_broken)
        read: ReadFrames = PixelReader(self.decoding, config.read_timeout)
        if config.cache_latents:
            key = cache_key(base, (), {"precision": str(precision)})
            cache = ClipCache(self.cache_dir / f"latents-{key}", self.decoding, config.read_timeout)
            sets = self._fill(cache, sets, broken, context)
            read = cache.read
        self.training = ClipBatches(sets[0], config, seed, read, broken)
        self.validation = ClipBatches(sets[1], config, seed, read, broken, is_held_back=True)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of a frame at `data.resolution`."""
        side = self.config.resolution // self.autoencoder.downsample_factor
        return self.autoencoder.latent_channels, side, side

    def held_back(self, batches: ClipBatches, positions: list[Position]) -> Batch:
        """A batch of what can be read of held-back clips, on the device; the others are listed in skipped.jsonl.

        Raises:
            InputError: too many files have turned out to be broken.
        """
        batch: Batch = send_to_device(batches.__getitems__(positions), self.device)
        self._list_skipped(batch)
        return batch

    def _list_skipped(self, batch: Batch) -> None:
        for bad in batch["skipped"]:
            self.skip_log.add(bad)

    def latents(self, batch: Batch, keys: Tensor) -> Tensor:
        """The scaled latents of a batch: fp32 (B, C, F, h, w), on the device.

        Args:
            keys: int64 (B,), of the draw from the latents' distribution.

        Raises:
            InputError: no clip could be read for one of the samples, or too many files have turned out to be broken.
        """
        self._list_skipped(batch)
        if "unreadable" in batch:
            raise InputError(f"{batch['unreadable']}; {self.skip_log.path} lists it, --resume auto goes on without it")
        mean, std = (part.float() for part in self._moments(batch))
        if self.config.latents == "sample":
            mean = mean + std * normal(keys, mean.shape[1:])
        return mean.transpose(1, 2)

    def _moments(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of the latents of each frame: (B, F, C, h, w)."""
        if "mean" in batch:
            return batch["mean"], batch["std"]
        pixels: Tensor = batch["pixels"]
        moments = self._encode(pixels.flatten(0, 1))
        mean, std = (part.unflatten(0, pixels.shape[:2]) for part in moments)
        return mean, std

    def _encode(self, pixels: Tensor) -> LatentMoments:
        """Latents of frames (N, h, w, 3), a few at a time."""
        chunks = pixels.split(self.config.encode_batch_size)
        parts = [encode(self.autoencoder, chunk, self.device, self.precision) for chunk in chunks]
        return LatentMoments(*(torch.cat(column) for column in zip(*parts, strict=True)))

    # ------------------------------------------------------------ which clips

    def _clips(self, note: Callable[[str], None]) -> list[Clip]:
        """The clips that `num_frames` different frames can be drawn from at a wanted rate; the log of the others."""
        data = self.config
        if data.path is None:
            raise InputError("data.path is not set: give the folder of videos with --data")
        found = find_clips(
            data.path,
            self.decoding,
            max_clips=data.max_samples,
            timeout=data.read_timeout,
            index_file=self.cache_dir / "indices.parquet",
            on_opened=lambda count: note(f"{count} clips found"),
        )
        bad = [BadFile(str(file.path), file.reason) for file in found.skipped]
        clips = []
        for clip in (clip.thinned(data.cache_fps) for clip in found.clips):
            reason = _misfit(clip, data)
            if reason is None:
                clips.append(clip)
            else:
                bad.append(BadFile(str(clip.path), reason, is_broken=False))
        files = {file.path for file in bad} | {str(clip.path) for clip in clips}
        self.skip_log.start(bad, [(str(clip.path), clip.content) for clip in clips], len(files))
        if not clips:
            unfit = [file.reason for file in bad if not file.is_broken]
            raise InputError(f"data: none of {len(found.clips)} videos can be used; the first: {unfit[0]}")
        return clips

    def _in_buckets(self, clips: list[Clip], base: Path) -> ClipSet:
        sizes = self._bucket_sizes(base)
        return ClipSet(clips, sizes, [nearest_bucket(clip.aspect, sizes) for clip in clips])

    def _square(self, clips: list[Clip]) -> ClipSet:
        """Held-back clips are all seen at one size, whatever the buckets: their losses compare."""
        return ClipSet(clips, [(self.config.resolution, self.config.resolution)], [0] * len(clips))

    def _bucket_sizes(self, base: Path) -> list[Size]:
        resolution, buckets = self.config.resolution, self.config.aspect_buckets
        if buckets is False:
            return [(resolution, resolution)]
        levels = len(load_json(base / "unet" / "config.json")["block_out_channels"])
        multiple = self.autoencoder.downsample_factor * 2 ** (levels - 1)
        if buckets is True:
            return standard_buckets(resolution, multiple)
        for size in buckets:
            if any(side % multiple for side in size):
                raise InputError(
                    f"data.aspect_buckets: {size[0]}x{size[1]} is no multiple of {multiple}, which the model needs"
                )
        return [(height, width) for width, height in buckets]

    # ------------------------------------------------------------ cache

    def _fill(self, cache: ClipCache, sets: list[ClipSet], broken: BrokenFrames, context: Context) -> list[ClipSet]:
        """Encode what is not on disk; the sets without the clips that cannot be read."""
        wanted = [
            (clip, clips.sizes[group])
            for clips in sets
            for clip, group in zip(clips.clips, clips.groups, strict=True)
            if not broken.hit(str(clip.path), clip.frames)
        ]
        total = sum(len(part.places) for pair in wanted for part in cache.parts(*pair) if not part.path.is_file())
        count = note_tenths(context.note, "frames encoded", total)

        def encode_part(pixels: np.ndarray) -> LatentMoments:
            moments = self._encode(torch.from_numpy(pixels))
            count(len(pixels))
            return LatentMoments(*(part.half().cpu().contiguous() for part in moments))

        def report(clip: Clip, error: InputError) -> None:
            self.skip_log.add(BadFile(str(clip.path), str(error), clip.content, getattr(error, "frame", None)))

        cache.fill(wanted, encode_part, report, num_threads=max(1, self.config.num_workers))
        complete = [self._complete(cache, clips) for clips in sets]
        if not complete[0].clips:
            raise InputError(f"data: no clip can be read to its end; {self.skip_log.path} lists why")
        return complete

    def _complete(self, cache: ClipCache, clips: ClipSet) -> ClipSet:
        def is_there(place: int) -> bool:
            parts = cache.parts(clips.clips[place], clips.sizes[clips.groups[place]])
            return all(part.path.is_file() for part in parts)

        return clips.subset([place for place in range(len(clips.clips)) if is_there(place)])


def _misfit(clip: Clip, config: ClipsConfig) -> str | None:
    """Why no sample can be drawn from a clip; None where one can."""
    low, high = clip.sampling_bounds(config.num_frames)
    frames = f"{config.num_frames} different frames"
    if low > high:
        return f"{clip.path} is too short: {frames}, evenly spaced in time, are not in its {len(clip.frames)}"
    if low > config.fps_range[1] or high < config.fps_range[0]:
        return f"{clip.path} has {frames} at {low:.3g} to {high:.3g} fps only, outside data.fps_range"
    if not 1 / _MAX_ELONGATION <= clip.aspect <= _MAX_ELONGATION:
        return f"{clip.path} is {clip.video.info.width}x{clip.video.info.height}, too long and thin to be cut from"
    return None
