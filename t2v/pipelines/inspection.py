"""What a model is made of, read from its configs and the headers of its files: no weights are loaded."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import filterfalse
from pathlib import Path
from typing import Any

from t2v.diffusion.schedule import NoiseSchedule
from t2v.models.autoencoder_base import AutoencoderBaseConfig
from t2v.models.autoencoder_classes import read_autoencoder_config
from t2v.models.base import Header, load_config, load_header, load_json, weight_files
from t2v.models.checkpoint import STEMS, check_index
from t2v.models.distilled import LCM, Distilled, find_distilled
from t2v.models.folder import find_motion, find_source
from t2v.models.modelscope import is_modelscope, is_temporal_name, read_modelscope_config, refuse_motion
from t2v.models.motion import read_motion
from t2v.models.motion_module import AnimateDiffConfig
from t2v.models.single_file import headers_of_parts, read_configs
from t2v.models.unet import MotionConfig, VideoUNetConfig
from t2v.pipelines.advice import (
    NO_SHARED_NOISE_ADVICE,
    length_advice,
    noise_advice,
    rate_advice,
    scheduler_advice,
    scheduler_differences,
)
from t2v.pipelines.device import dtype_name, resolve_device, resolve_dtype
from t2v.pipelines.memory import Footprint, MemoryEstimate
from t2v.pipelines.offload import LEVELS
from t2v.pipelines.settings import GenerationSettings

GENERATION_CONFIG = "generation_config.json"  # beside model_index.json: fields of GenerationSettings


@dataclass(frozen=True)
class Part:
    """One network of a model."""

    name: str
    num_parameters: int
    num_bytes: int  # of its files


@dataclass(frozen=True)
class ModelInfo:
    """What `inspect_model` finds."""

    name: str
    kind: str  # for people: of which make, and in which form
    shapes: str  # for people: widths of the U-Net's levels, latents, text
    parts: tuple[Part, ...]  # text encoder, U-Net, autoencoder, and motion and its LoRA where there are any
    schedule: NoiseSchedule
    motion: MotionConfig | None
    settings: GenerationSettings
    dtype: str
    footprint: Footprint
    warnings: tuple[str, ...]

    @property
    def num_parameters(self) -> int:
        """Parameters of all parts."""
        return sum(part.num_parameters for part in self.parts)

    @property
    def temporal_share(self) -> float:
        """Motion's part of the parameters of the inflated U-Net, 0 to 1."""
        counts = {part.name: part.num_parameters for part in self.parts}
        return counts.get("motion", 0) / (counts["unet"] + counts.get("motion", 0))

    @property
    def memory(self) -> dict[str, MemoryEstimate]:
        """What a video takes, by level of offload."""
        return {level: self.footprint.estimate(self.settings, level) for level in LEVELS}

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        facts = dataclasses.asdict(self)
        del facts["footprint"]
        return {
            **facts,
            "schedule": self.schedule.to_config(),
            "num_parameters": self.num_parameters,
            "temporal_share": self.temporal_share,
            "memory": {
                level: dataclasses.asdict(found) | {"total": found.total} for level, found in self.memory.items()
            },
        }


def inspect_model(
    name: str,
    motion: str | None = None,
    dtype: str = "auto",
    options: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> ModelInfo:
    """Describe a model without loading it.

    Args:
        name, motion, dtype, device: as `t2v.load` takes them; a model without motion is described too.
        options: fields of `GenerationSettings` for the memory estimate, over the model's defaults.

    Raises:
        InputError: no such model, or a file that is missing or broken.
    """
    path = find_source(name)
    parts, configs = _inspect_file(path) if path.is_file() else _inspect_folder(path)
    motion_path = find_motion(path, motion)
    source = None if motion_path is None else read_motion(motion_path)
    if source is not None:
        parts += (_part("motion", weight_files(source.path)),)
        parts += (_part("lora", [source.lora]),) if source.lora is not None else ()
        configs["scheduler"] = source.scheduler(configs["scheduler"])
    trained = None if source is None else source.config
    if is_modelscope(configs["unet"]):
        refuse_motion(name, motion_path)
        unet, trained = read_modelscope_config(configs["unet"])
    else:
        unet = VideoUNetConfig.from_dict(configs["unet"])
    autoencoder = read_autoencoder_config(configs["vae"])
    compared = None if source is None else source.trained_scheduler
    defaults = default_settings(path, unet, trained, autoencoder, find_distilled([motion or ""]))
    settings = dataclasses.replace(defaults, **(options or {}))
    settings.check_size(2 ** (len(autoencoder.block_out_channels) - 1))
    schedule = NoiseSchedule.from_config(configs["scheduler"])
    precision = resolve_dtype(dtype, resolve_device(device))
    num_parameters = {part.name: part.num_parameters for part in parts}
    num_parameters["unet"] += num_parameters.get("motion", 0)
    return ModelInfo(
        name=name,
        kind=_kind(path, configs["unet"]),
        shapes=_shapes(unet),
        parts=parts,
        schedule=schedule,
        motion=trained,
        settings=settings,
        dtype=dtype_name(precision),
        footprint=Footprint(unet, autoencoder, num_parameters, precision.itemsize),
        warnings=tuple(motion_warnings(schedule, compared, trained, settings)),
    )


def motion_warnings(
    schedule: NoiseSchedule,
    trained_scheduler: Mapping[str, Any] | None,
    motion: MotionConfig | None,
    settings: GenerationSettings,
) -> list[str]:
    """Warnings about motion weights that are used otherwise than they were trained."""
    messages = []
    if motion is not None and motion.shared_noise and settings.noise_prior != motion.noise_prior:
        messages.append(noise_advice(settings.noise_prior, motion.noise_prior))
    if settings.noise_prior == "progressive" and settings.shared_noise == 0:
        messages.append(NO_SHARED_NOISE_ADVICE)
    if motion is not None and settings.frames_at_once > motion.max_num_frames:
        messages.append(length_advice(settings.frames_at_once, motion.max_num_frames))
    if motion is not None and motion.fps_range is not None:
        low, high = motion.fps_range
        messages += [] if low <= settings.fps <= high else [rate_advice(settings.fps, low, high)]
    if trained_scheduler is not None:
        differences = scheduler_differences(schedule, NoiseSchedule.from_config(trained_scheduler))
        messages += [scheduler_advice(differences)] if differences else []
    return messages


def default_settings(
    path: Path,
    unet: VideoUNetConfig,
    motion: MotionConfig | None,
    autoencoder: AutoencoderBaseConfig,
    distilled: Distilled | None = None,
) -> GenerationSettings:
    """What a model makes unless told otherwise: as it was trained, over that its generation_config.json, over that what
    `distilled` weights need."""
    factor = 2 ** (len(autoencoder.block_out_channels) - 1)
    size = unet.sample_size or GenerationSettings.height // factor
    height, width = (size, size) if isinstance(size, int) else size
    options: dict[str, Any] = {"height": height * factor, "width": width * factor}
    if motion is not None:
        options |= {"num_frames": motion.num_frames, "fps": motion.fps}
        options |= {"shared_noise": motion.noise_of_samples, "noise_prior": motion.noise_prior}
    if isinstance(motion, AnimateDiffConfig):
        overlap = min(GenerationSettings.context_overlap, motion.num_frames - 1)
        options |= {"context_frames": motion.num_frames, "context_overlap": overlap}
        if motion.version == "LCM":
            options |= LCM
    file = path / GENERATION_CONFIG
    options |= load_json(file) if file.is_file() else {}
    options |= distilled.settings if distilled is not None else {}
    return GenerationSettings(**GenerationSettings.check_options(options, str(file)))


def _inspect_folder(folder: Path) -> tuple[tuple[Part, ...], dict[str, dict[str, Any]]]:
    check_index(folder)
    parts = tuple(_part(part, weight_files(folder / part, stem)) for part, stem in STEMS.items())
    configs = {part: load_config(folder / part) for part in STEMS}
    if is_modelscope(configs["unet"]):
        parts = (parts[0], *_split(weight_files(folder / "unet")), parts[2])
    return parts, configs | {"scheduler": load_json(folder / "scheduler" / "scheduler_config.json")}


def _inspect_file(path: Path) -> tuple[tuple[Part, ...], dict[str, dict[str, Any]]]:
    header = load_header(path)
    configs = read_configs(header.shapes, header.metadata, path)
    parts = headers_of_parts(header)
    return tuple(Part(part, parts[part].num_parameters, parts[part].num_bytes) for part in STEMS), configs


def _split(files: list[Path]) -> tuple[Part, Part]:
    """The spatial and the temporal part of a ModelScope U-Net."""
    headers = [load_header(file) for file in files]
    spatial = [header.select(filterfalse(is_temporal_name, header.shapes)) for header in headers]
    temporal = [header.select(filter(is_temporal_name, header.shapes)) for header in headers]
    return _sum("unet", spatial), _sum("motion", temporal)


def _sum(name: str, headers: list[Header]) -> Part:
    return Part(name, sum(header.num_parameters for header in headers), sum(header.num_bytes for header in headers))


def _kind(path: Path, unet: Mapping[str, Any]) -> str:
    version = f", written by diffusers {unet['_diffusers_version']}" if "_diffusers_version" in unet else ""
    if is_modelscope(unet):
        return f"text-to-video model of ModelScope's kind: folder with a {unet['_class_name']}{version}"
    return f"Stable Diffusion, {'a folder' if path.is_dir() else 'a single file'}{version}"


def _shapes(unet: VideoUNetConfig) -> str:
    size = unet.sample_size if isinstance(unet.sample_size, tuple | None) else (unet.sample_size,) * 2
    latents = f"{unet.in_channels} channels" + (f" of {size[0]}x{size[1]}" if size else "")
    widths = ", ".join(map(str, unet.block_out_channels))
    return f"levels of {widths} channels; latents of {latents}; text {unet.cross_attention_dim} wide"


def _part(name: str, files: list[Path]) -> Part:
    headers = [load_header(file) for file in files]
    return Part(name, sum(header.num_parameters for header in headers), sum(file.stat().st_size for file in files))
