"""Text to video: the text encoder, the inflated U-Net under guidance, a sampler, and the decoder."""

import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import t2v
from t2v.diffusion.context import in_windows
from t2v.diffusion.guidance import batched_guidance, frame_by_frame, image_guidance
from t2v.diffusion.noise import NoisePrior
from t2v.diffusion.sampling import OWN_TIMESTEPS, check_sampler, sample
from t2v.diffusion.schedule import NoiseSchedule
from t2v.errors import InputError
from t2v.models.folder import Components, load_components
from t2v.models.modelscope import ModelScopeConfig
from t2v.models.text_encoder import unseen_words
from t2v.pipelines.advice import MOTION_GUIDANCE_ADVICE, memory_advice, spacing_advice, word_advice
from t2v.pipelines.deflicker import deflicker
from t2v.pipelines.device import dtype_name, resolve_device, resolve_dtype
from t2v.pipelines.inspection import default_settings, inspect_model, motion_warnings
from t2v.pipelines.memory import Footprint, MemoryEstimate, decoder_tile, explain_out_of_memory, total_memory
from t2v.pipelines.memory_plan import MemoryPlan, parse_bytes, plan_memory
from t2v.pipelines.offload import LEVELS, Placement
from t2v.pipelines.prompt_travel import embeds_of_frames
from t2v.pipelines.settings import GenerationOptions, GenerationSettings, check_prompt, check_seed
from t2v.pipelines.video import Video


class Callback(Protocol):
    """Is told of every finished denoising step."""

    def __call__(self, step_index: int, num_steps: int, estimate: Callable[[], Video], /) -> None:
        """step_index counts from 0; `estimate()` decodes the running estimate of the clean video."""


class MemoryOptions(TypedDict, total=False):
    """How a model is to fit into the memory of its device."""

    offload: str | None  # none, model or sequential: which weights stay in main memory until they are used
    max_vram: str | None  # as in "8GB": picks offload, unless it is given, and defaults that fit


def load(
    name: str,
    device: str = "auto",
    dtype: str = "auto",
    motion: str | None = None,
    tokenizer: str | None = None,
    loras: Sequence[str] = (),
    motion_norm: str | None = None,
    compile: bool = False,
    **memory: Unpack[MemoryOptions],
) -> "TextToVideoPipeline":
    """Load a text-to-video model.

    Args:
        name: `mini`, a Stable Diffusion folder with `motion/`, a single Stable Diffusion file, a ModelScope folder, or
            a hub id.
        device: auto (the first of cuda, mps and cpu that is here), cpu, cuda, cuda:1, mps.
        dtype: fp32, fp16, bf16, or auto: fp16 on CUDA, bf16 on a CPU that multiplies it natively, fp32 elsewhere.
        motion: folder or file of temporal weights or AnimateDiff modules, or the hub id of a MotionAdapter; None takes
            the model's own `motion/`.
        tokenizer: for a single file, which has none: folder of a tokenizer or of a model that has one, or a hub id;
            None takes `tokenizer/` beside the file.
        loras: LoRA files, each with its weight as in "style.safetensors:0.8"; they are merged into the weights.
        motion_norm: statistics of the GroupNorm in AnimateDiff modules: clip, over all frames as in diffusers, or
            frame, each frame's own as in AnimateDiff's code; None: as they were trained where the file says it, else
            clip.
        compile: let torch compile the U-Net; on a GPU each step is then one CUDA graph. The first video of a size takes
            minutes longer. Not with `offload`.
        memory: `offload`, see `Placement`; `max_vram`, which makes `plan_memory` pick it, and the new `pipe.defaults`,
            for a video of the model's default size.

    Raises:
        InputError: no such model or device, a file that is missing or broken, an image model without motion; nothing
            fits into `max_vram`.
    """
    on = resolve_device(device)
    offload, limit = memory.get("offload") or ("none" if compile else None), memory.get("max_vram")
    if compile and offload != "none":
        raise InputError(f"--compile keeps the weights on the device, but offload is {offload}: leave one out")
    plan = None if limit is None else plan_model(name, limit, offload, device, dtype, motion)
    placement = Placement(on, offload or ("none" if plan is None else plan.offload))
    networks = (tokenizer, loras, motion_norm)
    components = load_components(name, motion, resolve_dtype(dtype, on), placement.load_device, *networks)
    pipe = TextToVideoPipeline(components, placement)
    pipe.defaults = replace(pipe.defaults, **(plan.options if plan is not None else {}))
    if compile:
        from t2v.pipelines.compilation import compiled  # torch's compiler takes long to import

        pipe.network = compiled(pipe.unet)
    return pipe


def plan_model(
    name: str,
    max_vram: str,
    offload: str | None,
    device: str,
    dtype: str,
    motion: str | None,
    options: GenerationOptions | None = None,
    fixed: Collection[str] = (),
) -> MemoryPlan:
    """How a model, which is looked at but not loaded, makes a video in so much memory.

    Args:
        name, device, dtype, motion: as `load` takes them.
        max_vram: as in "8GB".
        offload: the level that it must be; None: any that helps.
        options: settings of the video, over the model's defaults.
        fixed: names of settings that stay as they are.
    """
    limit = parse_bytes(max_vram)
    found = inspect_model(name, motion, dtype, options, device)
    levels = ("none",) if resolve_device(device).type == "cpu" else LEVELS
    return plan_memory(found.footprint, found.settings, limit, levels if offload is None else (offload,), fixed)


class TextToVideoPipeline:
    """A loaded model that makes videos from sentences. Made by `t2v.load`."""

    def __init__(self, components: Components, placement: Placement | None = None) -> None:
        if components.unet.motion is None:
            raise InputError(
                f"{components.name} is an image model without motion: give its temporal weights with --motion PATH, "
                "or make them with `t2v train temporal` (or `t2v inflate`, for motion that is not trained yet)"
            )
        self.components = components
        self.unet = components.unet.eval().requires_grad_(False)
        self.network: Callable[..., Tensor] = self.unet  # as it is called: possibly compiled
        self.autoencoder = components.autoencoder.eval().requires_grad_(False)
        self.text_encoder = components.text_encoder.eval().requires_grad_(False)
        self.schedule = NoiseSchedule.from_config(components.scheduler)
        configs = self.unet.config, components.unet.motion, self.autoencoder.config
        self.defaults = default_settings(components.path, *configs, components.distilled)
        weight = self.unet.conv_in.weight
        self.placement = placement or Placement(weight.device)
        self.device, self.dtype = self.placement.device, weight.dtype
        self._weights_hash = ThreadPoolExecutor(1).submit(lambda: components.weights_hash)

    @property
    def weights_sha256(self) -> str:
        """One hash for all weight files, in hexadecimal; taken in the background from when the model was loaded."""
        return self._weights_hash.result()

    @property
    def facts(self) -> dict[str, Any]:
        """What all its videos have in common besides the settings, as plain values."""
        return {
            "t2v": t2v.__version__,
            "torch": str(torch.__version__),
            "model": self.components.name,
            "motion": self.components.motion_path,
            "weights_sha256": self.weights_sha256,
            "device": str(self.device),
            "dtype": dtype_name(self.dtype),
        }

    @overload
    def __call__(
        self,
        prompt: str,
        *,
        seed: int = 0,
        num_videos: Literal[1] = 1,
        callback: Callback | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Video: ...

    @overload
    def __call__(
        self,
        prompt: str,
        *,
        seed: int = 0,
        num_videos: int,
        callback: Callback | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Video | list[Video]: ...

    def __call__(
        self,
        prompt: str,
        *,
        seed: int = 0,
        num_videos: int = 1,
        callback: Callback | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Video | list[Video]:
        """Make one video, or a list of `num_videos` > 1 of them.

        Args:
            prompt: what the video shows.
            seed: of the initial noise, drawn on the CPU; video i uses seed + i, and is the same alone as among others.
            callback: told of every finished denoising step of each video.
            options: the fields of `GenerationSettings`; what is left out is the model's default (`pipe.defaults`).

        Raises:
            InputError: a setting out of range or that this model cannot take, or not enough memory.
        """
        settings = replace(self.defaults, **options)
        check_prompt(prompt)
        check_seed(seed, num_videos)
        self.check(settings)
        for message in self.advice(prompt, settings):
            warnings.warn(message, stacklevel=2)
        with explain_out_of_memory(self.memory(settings)):
            videos = [self._make(prompt, seed + index, settings, callback) for index in range(num_videos)]
        return videos if num_videos > 1 else videos[0]

    def check(self, settings: GenerationSettings) -> None:
        """Raise InputError for settings that this model cannot take."""
        check_sampler(settings.sampler)
        if settings.guidance == "image" and isinstance(self.unet.motion, ModelScopeConfig):
            raise InputError("ModelScope's temporal layers cannot be left out, as --guidance image does: use video")
        settings.check_size(self.autoencoder.downsample_factor)
        settings.check_frames()

    def advice(self, prompt: str, settings: GenerationSettings) -> list[str]:
        """Warnings about a request that the model was not trained for, or that may not fit into memory."""
        components, messages = self.components, []
        if components.vocabulary is not None:
            prompts = " ".join([prompt, *settings.prompt_at.values(), settings.negative_prompt])
            words = unseen_words(prompts, components.vocabulary)
            messages += [word_advice(Path(components.name).name, words)] if words else []
        messages += motion_warnings(self.schedule, components.motion_scheduler, self.unet.motion, settings)
        if settings.timestep_spacing is not None and settings.sampler in OWN_TIMESTEPS:
            messages.append(spacing_advice(settings.sampler))
        if settings.motion_guidance != 1 and settings.guidance != "image":
            messages.append(MOTION_GUIDANCE_ADVICE)
        needed, present = self.memory(settings).total, total_memory(self.device)
        messages += [memory_advice(needed, present)] if needed > present else []
        return messages

    def memory(self, settings: GenerationSettings) -> MemoryEstimate:
        """A rough estimate of the memory that one video takes."""
        networks = {"text_encoder": self.text_encoder, "unet": self.unet, "vae": self.autoencoder}
        num_parameters = {
            part: sum(parameter.numel() for parameter in network.parameters()) for part, network in networks.items()
        }
        footprint = Footprint(self.unet.config, self.autoencoder.config, num_parameters, self.dtype.itemsize)
        return footprint.estimate(settings, self.placement.offload)

    @torch.inference_mode()
    def _make(self, prompt: str, seed: int, settings: GenerationSettings, callback: Callback | None) -> Video:
        seconds: dict[str, float] = {}
        self.placement.place(self.text_encoder, self.unet, self.autoencoder)
        self.unet.attention_chunk_size = settings.attention_chunk_size
        with self._timed(seconds, "text"):
            self.placement.bring(self.text_encoder)
            embeds = self._encode(prompt, settings)
        with self._timed(seconds, "denoise"):
            latents = self._denoise(embeds, seed, settings, callback)
        with self._timed(seconds, "decode"):
            frames = self._decode(latents, settings)
        return Video(frames, settings.fps, {**self._record(prompt, seed, settings), "seconds": seconds})

    def _encode(self, prompt: str, settings: GenerationSettings) -> Tensor:
        """Embeddings of prompt and negative prompt, (2, L, D), or with prompts of later frames (2, F, L, D)."""
        texts = [prompt, *settings.prompt_at.values(), settings.negative_prompt]
        embeds = self.text_encoder.encode(texts, self.device)
        if not settings.prompt_at:
            return embeds
        positive = embeds_of_frames(embeds[:-1], [0, *settings.prompt_at], settings.num_frames)
        return torch.stack([positive, embeds[-1].expand_as(positive)])

    def _denoise(self, embeds: Tensor, seed: int, settings: GenerationSettings, callback: Callback | None) -> Tensor:
        """Latents (1, C, F, h, w) fp32, scaled as the U-Net sees them; embeds: see `_encode`."""

        def network(x: Tensor, timestep: Tensor, embeds: Tensor, /) -> Tensor:
            self.placement.bring(self.unet)
            return self.network(x.to(self.dtype), timestep, embeds, fps=settings.fps)

        at_once = settings.frames_at_once
        windows = in_windows(network, at_once, min(settings.context_overlap, at_once - 1))

        def tell(step_index: int, num_steps: int, x0: Tensor, /) -> None:
            if callback is not None:
                callback(step_index, num_steps, lambda: Video(self._decode(x0, settings), settings.fps))

        guidance = embeds[:1], embeds[1:], settings.guidance_scale, settings.guidance_rescale
        if settings.guidance == "image":
            image = in_windows(frame_by_frame(network), at_once, 0)  # windows only for the memory
            denoiser = image_guidance(windows, image, *guidance, settings.motion_guidance)
        else:
            denoiser = batched_guidance(windows, *guidance)
        factor, channels = self.autoencoder.downsample_factor, self.unet.config.in_channels
        shape = (1, channels, settings.num_frames, settings.height // factor, settings.width // factor)
        generator = torch.Generator().manual_seed(seed)
        spacing = settings.timestep_spacing
        schedule = replace(self.schedule, timestep_spacing=spacing) if spacing else self.schedule
        noise_prior = NoisePrior(settings.shared_noise, settings.noise_prior)
        noise = noise_prior.correlate(torch.randn(shape, generator=generator)).to(self.device)
        return sample(
            settings.sampler,
            denoiser,
            schedule,
            noise,
            settings.num_inference_steps,
            generator=generator,
            noise_prior=noise_prior,
            callback=tell,
        )

    def _decode(self, latents: Tensor, settings: GenerationSettings) -> NDArray[np.uint8]:
        """Frames (F, H, W, 3) of latents (1, C, F, h, w)."""
        self.placement.bring(self.autoencoder)
        steady = deflicker(latents, settings.deflicker) if settings.deflicker else latents
        z = (steady / self.autoencoder.config.scaling_factor).to(self.dtype)
        tile = decoder_tile(settings, self.autoencoder.downsample_factor)
        video = self.autoencoder.decode(z, chunk_size=settings.chunk_size, tile_size=tile)[0].float()
        if not torch.isfinite(video).all():
            raise InputError(f"the model overflowed in {dtype_name(self.dtype)}: use --dtype fp32")
        frames = ((video + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return frames.permute(1, 2, 3, 0).contiguous().cpu().numpy()

    def _record(self, prompt: str, seed: int, settings: GenerationSettings) -> dict[str, Any]:
        """Everything needed to make a video again."""
        return {
            **self.facts,
            "prompt": prompt,
            "seed": seed,
            "settings": settings.to_dict(),
            "motion_norm": self.components.motion_norm,
            "tokenizer": self.components.tokenizer_path,
            "loras": list(self.components.loras),
            "compile": self.network is not self.unet,
            "offload": self.placement.offload,
            "threads": torch.get_num_threads(),
        }

    @contextmanager
    def _timed(self, seconds: dict[str, float], stage: str) -> Iterator[None]:
        """Add the seconds that a stage takes on the device."""
        started = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds[stage] = time.perf_counter() - started
