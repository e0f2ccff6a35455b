"""Frames made by the interpolation network."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from t2v.diffusion.known_frames import put_back, two_scale_guidance
from t2v.diffusion.noise import NoisePrior
from t2v.diffusion.sampling import check_sampler, sample
from t2v.diffusion.schedule import NoiseSchedule
from t2v.errors import InputError
from t2v.models.folder import Components, find_model, load_components
from t2v.models.interpolation import crossfaded, frame_positions, load_interpolation_config, network_input
from t2v.models.interpolation import load_interpolation as load_network
from t2v.models.tiles import blend_tiles
from t2v.pipelines.device import dtype_name, resolve_device, resolve_dtype
from t2v.pipelines.inspection import default_settings
from t2v.pipelines.interpolation.baselines import Crossfade, Flow
from t2v.pipelines.interpolation.filling import Pictures
from t2v.pipelines.interpolation.residual import Guesses, KnownFrames, give_back
from t2v.pipelines.memory import explain_out_of_memory
from t2v.pipelines.offload import Placement
from t2v.pipelines.settings import FRAME_GUIDANCE, Hint


@dataclass(frozen=True)
class FillSettings:
    """How the network is sampled."""

    prompt: str = ""
    seed: int = 0
    num_inference_steps: int | None = None  # None: those of the weights' config, else the model's
    sampler: str | None = None
    frame_guidance: float = FRAME_GUIDANCE  # how closely to follow the known frames; 1 is without guidance
    guidance_scale: float = 2.0  # how closely to follow the prompt, where there is one
    hint: Hint = Hint.CROSSFADE  # what the network is shown in place of frames between known ones
    scale: float | None = None  # size the network works at, relative to the frames'; None: the area it was trained at

    def __post_init__(self) -> None:
        for name in ("frame_guidance", "guidance_scale"):
            if not (math.isfinite(value := getattr(self, name)) and value >= 0):
                raise InputError(f"{name} must be a number of at least 0, got {value}")
        if self.scale is not None and not 0 < self.scale <= 4:
            raise InputError(f"scale must be above 0 and at most 4, got {self.scale}")
        if self.num_inference_steps is not None and self.num_inference_steps < 1:
            raise InputError(f"num_inference_steps must be at least 1, got {self.num_inference_steps}")
        if self.sampler is not None:
            check_sampler(self.sampler)
        if self.hint not in list(Hint):
            raise InputError(f"unknown hint {self.hint!r}: known are {', '.join(Hint)}")


def find_interpolation(model: str, interpolation: str | None) -> Path:
    """The folder of the interpolation weights: the one that is named, or the model's own.

    Raises:
        InputError: there is none.
    """
    if interpolation is not None:
        if not Path(interpolation).is_dir():
            raise InputError(f"no interpolation weights at {interpolation}: give an interpolation/ folder")
        return Path(interpolation)
    folder = find_model(model) / "interpolation"
    if not folder.is_dir():
        raise InputError(
            f"{model} has no interpolation weights: use --method crossfade, hold or flow, give --interpolation "
            f"PATH, or train them with `t2v train interpolation --model {model} --data VIDEOS`"
        )
    return folder


def load_interpolation(
    name: str,
    device: str = "auto",
    dtype: str = "auto",
    interpolation: str | None = None,
    settings: FillSettings | None = None,
    offload: str = "none",
) -> "DiffusionFill":
    """Load the interpolation network of a model.

    Args:
        name: `mini`, a model folder with `interpolation/`, or a hub id.
        device, dtype, offload: as `t2v.load` takes them.
        interpolation: folder of interpolation weights; None takes the model's own.

    Raises:
        InputError: no such model, or no interpolation weights, or broken ones.
    """
    folder, on = find_interpolation(name, interpolation), resolve_device(device)
    placement = Placement(on, offload)
    components = load_components(name, None, resolve_dtype(dtype, on), placement.load_device)
    return DiffusionFill(components, folder, settings or FillSettings(), placement)


class DiffusionFill:
    """The interpolation network with its autoencoder and text encoder, as a way to make frames (`Fill`).

    Each call draws its own noise: call i of a run uses seed + i.
    """

    def __init__(
        self, components: Components, folder: Path, settings: FillSettings, placement: Placement | None = None
    ) -> None:
        config = load_interpolation_config(folder)
        self.placement = placement or Placement(components.unet.conv_in.weight.device)
        self.placement.release()
        self.components, self.settings, self.folder = components, settings, folder
        self.unet = load_network(components.unet, folder).eval().requires_grad_(False)
        self.autoencoder = components.autoencoder.eval().requires_grad_(False)
        self.schedule = NoiseSchedule.from_config(components.scheduler)
        motion = self.unet.motion
        assert motion is not None
        self.max_frames: int | None = motion.num_frames
        self.min_frames = int(config.get("min_frames", 2))
        self.fps_range = tuple(config.get("fps_range", (0.0, math.inf)))
        self.noise_prior = NoisePrior(motion.noise_of_samples, motion.noise_prior)
        self.device, self.dtype = self.placement.device, self.unet.conv_in.weight.dtype
        self.placement.place(components.text_encoder, self.unet, self.autoencoder)
        self.defaults = default_settings(components.path, self.unet.config, motion, self.autoencoder.config)
        self.sampler = settings.sampler or self.defaults.sampler
        steps = settings.num_inference_steps or config.get("num_inference_steps")
        self.num_inference_steps = int(steps or self.defaults.num_inference_steps)
        self.flow = Flow() if settings.hint == Hint.FLOW else None
        self.on_step: Callable[[int, int], None] = lambda done, total: None
        self.num_calls = 0
        with torch.inference_mode():
            texts = [settings.prompt, ""] if settings.prompt.strip() else [""]
            self.placement.bring(components.text_encoder)
            self._embeds = list(components.text_encoder.encode(texts, self.device).split(1))

    def record(self) -> dict[str, Any]:
        """How the frames are made, for a report."""
        return {
            "model": self.components.name,
            "interpolation": str(self.folder.resolve()),
            "device": str(self.device),
            "dtype": dtype_name(self.dtype),
            "offload": self.placement.offload,
            **asdict(self.settings),
            "num_inference_steps": self.num_inference_steps,
            "sampler": self.sampler,
            "shared_noise": self.noise_prior.shared_noise,
            "noise_prior": self.noise_prior.kind,
        }

    @torch.inference_mode()
    def __call__(self, known: Pictures, known_times: Sequence[float], times: Sequence[float], /) -> Pictures:
        """Frames at `times` (see `Fill`). Alpha is cross-faded. Frame rates are told to the network as trained on."""
        height, width = self._size(*known.shape[1:3])
        needs = f"{len(known_times) + len(times)} frames at once, {width}x{height} in the network"
        with explain_out_of_memory(needs, _LESS_MEMORY):
            return self._fill(known, known_times, times, (height, width))

    def _fill(
        self, known: Pictures, known_times: Sequence[float], times: Sequence[float], size: tuple[int, int]
    ) -> Pictures:
        """Frames at `times`, made at `size` (height, width)."""
        pixels = _to_model_range(known[..., :3], self.device)
        small = _resized(pixels, size)
        more = _enough_times(known_times, times, self.min_frames)
        guessed = self._guess(known[..., :3], known_times, more)
        latents = self._encode(small)
        clip = _Clip.of(latents, known_times, more)
        shown = self._shown(clip, guessed, size)
        wanted = [clip.times.index(time) for time in times]
        made = self._decode(self._sample(clip, shown)[:, :, wanted])
        neighbours = KnownFrames(known_times, pixels, small, self._decode(latents))
        pictures = (_to_model_range(guessed[[more.index(time)]], self.device)[0] for time in times)
        whole = give_back(made, times, neighbours, Guesses(pictures, self._decode(shown[:, :, wanted])))
        frames = np.concatenate([_to_pictures(frame[None], known.shape[1:3]) for frame in whole])
        if known.shape[-1] == 3:
            return frames
        alpha = Crossfade()(known[..., 3:], known_times, times)
        return np.concatenate([frames, alpha], axis=-1)

    def _guess(self, known: Pictures, known_times: Sequence[float], times: Sequence[float]) -> Pictures:
        """Pictures at `times` by the hint. Beyond the ends the nearest known frame: flow moves things out there."""
        pictures = Crossfade()(known, known_times, times)
        inner = [place for place, time in enumerate(times) if known_times[0] < time < known_times[-1]]
        if self.flow is not None and inner:
            pictures[inner] = self.flow(known, known_times, [times[place] for place in inner])
        return pictures

    def _shown(self, clip: "_Clip", guessed: Pictures, size: tuple[int, int]) -> Tensor:
        """What the network is shown (1, C, N, h, w): the known frames, and `guessed` in place of those to be made.

        A cross-fade is one of latents, as in training.
        """
        shown = crossfaded(clip.known, clip.mask, clip.positions)
        if self.flow is not None:
            small = [_resized(_to_model_range(picture[None], self.device), size) for picture in guessed]
            shown[:, :, clip.mask[0] == 0] = self._encode(torch.cat(small))
        return shown

    @torch.inference_mode()
    def round_trip(self, pictures: Pictures, /) -> Pictures:
        """Pictures (F, H, W, 3) as the autoencoder gives them back: what no frame made here can be better than."""
        pixels = _to_model_range(pictures, self.device)
        small = _resized(pixels, self._size(*pictures.shape[1:3]))
        return _to_pictures(self._decode(self._encode(small)), pictures.shape[1:3])

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """The size that the network works at."""
        factor = self.autoencoder.downsample_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        scale = self.settings.scale or math.sqrt(self.defaults.height * self.defaults.width / (height * width))
        return tuple(max(factor, round(side * scale / factor) * factor) for side in (height, width))

    def _tile(self, height: int, width: int) -> int | None:
        """Latent positions along a side of a tile; None where the latents are small enough for one pass."""
        side = round(math.sqrt(self.defaults.height * self.defaults.width)) // self.autoencoder.downsample_factor
        return side if height * width > _WHOLE * side**2 else None

    def _encode(self, pictures: Tensor) -> Tensor:
        """Scaled latents (1, C, K, h, w) fp32 of pictures (K, 3, H, W) from -1 to 1."""
        self.placement.bring(self.autoencoder)
        factor = self.autoencoder.downsample_factor
        tile = self._tile(*(side // factor for side in pictures.shape[2:]))

        def encode(part: Tensor) -> Tensor:
            return self.autoencoder.encode(part.to(self.dtype)).mean

        if tile is None:
            mean = torch.cat([encode(part) for part in pictures.split(_CHUNK)])
        else:
            parts = [blend_tiles(encode, part, tile * factor, shrink=factor) for part in pictures.split(_CHUNK)]
            mean = torch.cat(parts)
        return (mean.float() * self.autoencoder.config.scaling_factor).transpose(0, 1)[None]

    def _decode(self, latents: Tensor) -> Tensor:
        """Pictures (F, 3, H, W) fp32 of latents (1, C, F, h, w)."""
        self.placement.bring(self.autoencoder)
        z = (latents / self.autoencoder.config.scaling_factor).to(self.dtype)
        video = self.autoencoder.decode(z, chunk_size=_CHUNK, tile_size=self._tile(*z.shape[3:]))[0].float()
        if not torch.isfinite(video).all():
            raise InputError(f"the model overflowed in {dtype_name(self.dtype)}: use --dtype fp32")
        return video.transpose(0, 1)

    def _sample(self, clip: "_Clip", shown: Tensor) -> Tensor:
        """Latents (1, C, N, h, w) of a clip, known frames as they are.

        Of large latents the network sees overlapping tiles; its estimates are blended at every step, so that all tiles
        are cut out of one sample and of one field of noise (MultiDiffusion, arXiv 2302.08113).
        """
        known, mask, positions = clip.known, clip.mask, clip.positions
        fps = clip.fps.clamp(*self.fps_range)
        generator = torch.Generator().manual_seed(self.settings.seed + self.num_calls)
        self.num_calls += 1
        noise = self.noise_prior.correlate(torch.randn(known.shape, generator=generator)).to(self.device)

        tile_size = self._tile(*known.shape[3:])

        def network(x: Tensor, timestep: Tensor, shown: Tensor, mask: Tensor, embeds: Tensor, /) -> Tensor:
            self.placement.bring(self.unet)
            times = positions.expand(len(x), -1)
            inputs = network_input(x, shown, mask).to(self.dtype)

            def unet(tile: Tensor) -> Tensor:
                return self.unet(tile, timestep, embeds, fps.expand(len(x)), times).float()

            return unet(inputs) if tile_size is None else blend_tiles(unet, inputs, tile_size)

        prompt_embeds, null_embeds = self._embeds[0], self._embeds[-1]
        scales = self.settings.frame_guidance, self.settings.guidance_scale
        denoiser = two_scale_guidance(network, shown, mask, prompt_embeds, null_embeds, *scales)
        denoiser = put_back(denoiser, self.schedule, known, mask)
        return sample(
            self.sampler,
            denoiser,
            self.schedule,
            noise,
            self.num_inference_steps,
            generator=generator,
            noise_prior=self.noise_prior,
            callback=lambda index, total, _: self.on_step(index + 1, total),
        )


class _Clip(NamedTuple):
    """Known frames in their places among those to be made."""

    known: Tensor  # latents (1, C, N, h, w), zero where a frame is to be made
    mask: Tensor  # (1, N), 1 where a frame is known
    times: list[float]  # seconds, ascending
    fps: Tensor  # (1,)
    positions: Tensor  # (1, N), in units of 1 / fps

    @classmethod
    def of(cls, latents: Tensor, known_times: Sequence[float], times: Sequence[float]) -> "_Clip":
        """The clip of known frames (1, C, K, h, w) and of frames to be made at `times`."""
        everything = sorted([*known_times, *times])
        places = [everything.index(time) for time in known_times]
        known = latents.new_zeros(1, latents.shape[1], len(everything), *latents.shape[3:])
        known[:, :, places] = latents
        mask = latents.new_zeros(1, len(everything))
        mask[:, places] = 1
        return cls(known, mask, everything, *frame_positions(torch.tensor([everything], device=latents.device)))


_CHUNK = 8  # frames in the autoencoder at once
_LESS_MEMORY = "use --offload model or sequential, --dtype bf16, or (not with generate) a smaller --scale"
_WHOLE = 2.0  # latents of up to so many times the area that was trained on are not split into tiles


def _to_model_range(pictures: Pictures, device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(pictures)).to(device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def _resized(pictures: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(pictures, tuple(size), mode="bicubic", antialias=True).clamp(-1, 1)


def _to_pictures(frames: Tensor, size: Sequence[int]) -> Pictures:
    """Frames (N, 3, h, w) from -1 to 1 as uint8 (N, *size, 3)."""
    return _resized(frames, size).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def _enough_times(known_times: Sequence[float], times: Sequence[float], least: int) -> list[float]:
    """`times`, and more of them in the widest gaps until with the known ones they are as many as were trained on.

    The additional frames are made and thrown away.
    """
    added = list(times)
    while len(known_times) + len(added) < least:
        everything = sorted([*known_times, *added])
        gaps = [(after - before, before) for before, after in pairwise(everything)]
        width, start = max(gaps)
        added.append(start + width / 2)
    return sorted(added)
