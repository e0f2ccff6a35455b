"""A model as a whole: a plain Stable Diffusion folder with `motion/` beside, or a single file; found by name."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import CLIPTokenizerFast

from t2v.errors import InputError
from t2v.models.autoencoder_base import Autoencoder
from t2v.models.autoencoder_classes import autoencoder_class
from t2v.models.base import DIFFUSERS_STEM, PICKLE_REFUSED, PICKLE_SUFFIXES, save_json, weight_files
from t2v.models.checkpoint import STEMS, model_index, read_folder
from t2v.models.distilled import Distilled, find_distilled
from t2v.models.lora_file import parse_lora, read_lora
from t2v.models.modelscope import is_modelscope, load_modelscope, refuse_motion
from t2v.models.motion import motion_norm as norm_of
from t2v.models.motion import read_motion, use_motion, write_motion
from t2v.models.single_file import check_single_file, read_single_file
from t2v.models.text_encoder import EOS_TOKEN, TextEncoder, load_tokenizer
from t2v.models.unet import VideoUNet

ZOO = Path(__file__).parents[1] / "zoo"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")  # OWNER/NAME, or OWNER/NAME@REVISION
TOKENIZER_FILES = ["vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
CONFIG_PATTERNS = ["model_index.json", "generation_config.json", "vocabulary.json", "tokenizer/*.txt"]
CONFIG_PATTERNS += [f"{part}/*.json" for part in (*STEMS, "tokenizer", "scheduler", "motion", "interpolation")]
CONFIG_PATTERNS += ["motion/*.safetensors", "interpolation/*.safetensors"]
TRUE = ("1", "ON", "YES", "TRUE")  # of an environment variable, as the hub client reads it


@dataclass
class Components:
    """A loaded model folder."""

    name: str  # `mini`, a hub id, or the absolute path of a folder or single file: loads the same model again
    path: Path  # the folder or file on this machine
    unet: VideoUNet  # unet.motion is None when there are no temporal weights
    autoencoder: Autoencoder
    text_encoder: TextEncoder
    scheduler: dict[str, Any]  # scheduler_config.json
    motion_path: str | None = None  # absolute path of the motion that was asked for; None: the folder's own, if any
    motion_norm: str = "clip"  # of AnimateDiff modules
    motion_scheduler: dict[str, Any] | None = None  # scheduler config that the motion was trained with
    tokenizer_path: str | None = None  # of the tokenizer that was asked for
    loras: tuple[str, ...] = ()  # absolute paths with weights, as in "/a/style.safetensors:0.8"
    distilled: Distilled | None = None  # the motion or LoRA that was distilled to few steps
    notes: tuple[str, ...] = ()  # what loading did besides reading weights, one line each
    vocabulary: frozenset[str] | None = None  # words of the training captions, where the folder lists them
    weight_files: tuple[Path, ...] = ()  # in the order text encoder, U-Net, autoencoder, motion

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256, in hexadecimal, over the SHA-256 of every weight file: the same weights, wherever they lie."""
        total = hashlib.sha256()
        for path in self.weight_files:
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        return total.hexdigest()


def find_model(name: str) -> Path:
    """The folder of a model.

    Args:
        name: `mini`, a folder, or a hub id `owner/model`, whose safetensors are downloaded on first use.

    Raises:
        InputError: no such model, a single file, a pickle, or a download that failed.
    """
    path = find_source(name)
    if path.is_file():
        raise InputError(f"{name} is a single file: make a folder of it first, with `t2v convert {name} FOLDER`")
    return path


def find_source(name: str) -> Path:
    """The folder of a model, as `find_model`, or the single safetensors file that it is."""
    path = Path(name)
    if name == "mini":
        return ZOO / name
    if name and path.is_dir():
        return path
    if path.suffix in PICKLE_SUFFIXES:
        raise InputError(f"{name}: {PICKLE_REFUSED}")
    if path.suffix == ".safetensors" and path.is_file():
        return path
    if HUB_ID.fullmatch(name) and not path.exists():
        return _download(name)
    raise InputError(
        f"no model at {name}: give mini, a Stable Diffusion folder or .safetensors file, or a hub id, as in owner/model"
    )


def find_tokenizer(model: Path, name: str | None) -> Path:
    """The `tokenizer/` folder of a model.

    Args:
        model: folder or single file. A single file holds none: one beside the file is taken, or the named one.
        name: a tokenizer folder, a model folder that has one, or a hub id, from which it is downloaded; None: the
            model's.

    Raises:
        InputError: there is none.
    """
    if name is None:
        folder = model / "tokenizer" if model.is_dir() else model.parent / "tokenizer"
        if model.is_file() and not folder.is_dir():
            raise InputError(
                f"{model} has no tokenizer, as no single file has: give --tokenizer with the folder of one (any Stable "
                "Diffusion model has it as tokenizer/) or a hub id such as openai/clip-vit-large-patch14 to download"
            )
        return folder
    folder = Path(name)
    if not folder.exists() and HUB_ID.fullmatch(name):
        folder = _snapshot(name, TOKENIZER_FILES + [f"tokenizer/{file}" for file in TOKENIZER_FILES])
    if not folder.is_dir():
        raise InputError(f"no tokenizer at {name}: give a tokenizer/ folder, a model folder, or a hub id")
    return folder / "tokenizer" if (folder / "tokenizer").is_dir() else folder


def find_motion(model: Path, name: str | None) -> Path | None:
    """The motion of a model.

    Args:
        model: folder or single file.
        name: folder or safetensors file of temporal weights or AnimateDiff modules, or the hub id of a MotionAdapter,
            which is downloaded on first use; of a folder with a `motion/` in it (a run, a model) that; None: the
            model's `motion/`, if it has one.
    """
    if name is None:
        folders = (model / "motion", model / "motion_adapter")  # the second: in a folder of diffusers
        return next((folder for folder in folders if folder.is_dir()), None)
    if not Path(name).exists():
        if HUB_ID.fullmatch(name) and not name.endswith((".safetensors", *PICKLE_SUFFIXES)):
            return _snapshot(name, ["config.json", f"{DIFFUSERS_STEM}.safetensors"])
        raise InputError(
            f"no motion at {name}: give a motion/ folder, a MotionAdapter folder, a safetensors file of either, or a "
            "hub id"
        )
    inner = Path(name) / "motion"
    return inner if inner.is_dir() and not (Path(name) / "config.json").exists() else Path(name)


def load_model_tokenizer(model: Path, folder: Path, unet_config: Mapping[str, Any]) -> CLIPTokenizerFast:
    """The tokenizer in `folder` for a model folder or single file.

    The words are those of CLIP in every Stable Diffusion; what prompts are filled up with differs, and is set for a
    single file: "!" in Stable Diffusion 2, which has linear projections, the end token in 1.
    """
    tokenizer = load_tokenizer(folder)
    if model.is_file():
        tokenizer.pad_token = "!" if unet_config.get("use_linear_projection") else EOS_TOKEN
    return tokenizer


def _download(name: str) -> Path:
    """Snapshot of a hub model: configs, tokenizer, and one set of safetensors of each network."""
    patterns = [f"{part}/{stem}{shard}.safetensors" for part, stem in STEMS.items() for shard in ("", "-*-of-*")]
    folder = _snapshot(name, CONFIG_PATTERNS + patterns)
    lacking = [part for part in STEMS if not list((folder / part).glob("*.safetensors"))]
    if lacking:
        folder = _snapshot(name, CONFIG_PATTERNS + patterns + [f"{part}/*.fp16*.safetensors" for part in lacking])
    return folder


def _snapshot(name: str, patterns: list[str]) -> Path:
    """Files of a hub id, OWNER/NAME or OWNER/NAME@REVISION; with HF_HUB_OFFLINE=1 those in the cache."""
    repository, _, revision = name.partition("@")
    options: dict[str, Any] = {"revision": revision} if revision else {}
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in TRUE
    options |= {"local_files_only": True} if offline else {}
    try:
        return Path(huggingface_hub.snapshot_download(repository, allow_patterns=patterns, **options))
    except Exception as error:  # the HTTP library, and with it the errors, depends on the version of the hub client
        if isinstance(error, LocalEntryNotFoundError) and offline:
            raise InputError(
                f"{name} is no folder here and not in the hub's cache, and nothing is downloaded with --offline or "
                "HF_HUB_OFFLINE=1: check the name, or run once without"
            ) from error
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{name} is no folder here, and getting it from the hub failed ({reason}): check the name and the network"
        ) from error


def load_components(
    name: str,
    motion: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    tokenizer: str | None = None,
    loras: Sequence[str] = (),
    motion_norm: str | None = None,
) -> Components:
    """Load a whole model.

    Args:
        name: see `find_source`.
        motion: see `find_motion`: None takes the model's `motion/`, and without one the
            U-Net stays an image network (`unet.motion is None`). A folder's LoRA is merged into the spatial weights.
        tokenizer: see `find_tokenizer`.
        motion_norm: of AnimateDiff modules, see `use_motion`.
        loras: files, each with its weight as in "style.safetensors:0.8" or of weight 1; merged in this order.

    Raises:
        InputError: anything that is missing (which file is said), broken, not supported or not fitting.
    """
    path = find_source(name)
    if path.is_file():
        check_single_file(path)
    motion_path = find_motion(path, motion)
    tokenizer_folder = find_tokenizer(path, tokenizer)
    checkpoint = read_single_file(path) if path.is_file() else read_folder(path)
    source = None if motion_path is None else read_motion(motion_path)
    if is_modelscope(checkpoint.parts["unet"].config):
        refuse_motion(name, motion_path)
    words = load_model_tokenizer(path, tokenizer_folder, checkpoint.parts["unet"].config)
    files = [path] if path.is_file() else _weight_files(path)
    vocabulary = _load_vocabulary(path / "vocabulary.json")
    labels = {part: str(path if path.is_file() else path / part) for part in STEMS}
    merges = bool(loras) or (source is not None and source.lora is not None)
    read_as = torch.float32 if merges else dtype  # what is merged is merged in full precision
    part = checkpoint.parts.pop("text_encoder")  # one network's file at a time
    text_encoder = TextEncoder.from_parts(part.config, part.weights, words, labels["text_encoder"], read_as)
    part = checkpoint.parts.pop("vae")
    autoencoder = autoencoder_class(part.config).from_parts(part.config, part.weights, labels["vae"], dtype)
    part = checkpoint.parts.pop("unet")
    load_unet = load_modelscope if is_modelscope(part.config) else VideoUNet.from_parts
    unet = load_unet(part.config, part.weights, labels["unet"], read_as)
    del part
    _check_fit(path, unet, autoencoder, text_encoder)
    if source is not None:
        use_motion(unet, source, motion_norm)
        files += source.files
    notes = [source.note] if source is not None and source.note is not None else []
    notes += [note for lora in loras for note in _merge(lora, unet, text_encoder)]
    distilled = find_distilled([motion or "", *(parse_lora(lora)[0] for lora in loras)])
    notes += [distilled.note] if distilled is not None else []
    files += [Path(parse_lora(lora)[0]) for lora in loras]
    return Components(
        name=str(path.resolve()) if Path(name).exists() and name != "mini" else name,
        path=path,
        unet=unet.eval().to(device, dtype),
        autoencoder=autoencoder.to(device, dtype),
        text_encoder=text_encoder.to(device, dtype),
        scheduler=checkpoint.scheduler if source is None else source.scheduler(checkpoint.scheduler),
        motion_path=None if motion is None else _absolute(motion),
        motion_norm=norm_of(unet),
        tokenizer_path=None if tokenizer is None else _absolute(tokenizer),
        motion_scheduler=None if source is None else source.trained_scheduler,
        loras=tuple(_absolute_lora(lora) for lora in loras),
        distilled=distilled,
        notes=tuple(notes),
        vocabulary=vocabulary,
        weight_files=tuple(files),
    )


def _weight_files(folder: Path) -> list[Path]:
    return [file for part, stem in STEMS.items() for file in weight_files(folder / part, stem)]


def _merge(lora: str, unet: VideoUNet, text_encoder: TextEncoder) -> list[str]:
    """Merge one LoRA; returns what a person should know of it."""
    path, weight = parse_lora(lora)
    found = read_lora(path, unet, text_encoder)
    for update in found.updates:
        update.merge(weight)
    notes = [f"{Path(path).name}: merged into {len(found.updates)} layers with weight {weight:g}"]
    if found.unmatched:
        count = f"{len(found.unmatched)} of {len(found.unmatched) + len(found.updates)} layers"
        notes.append(f"{Path(path).name}: {count} are not in this model and left out, such as {found.unmatched[0]}")
    return notes


def _absolute_lora(lora: str) -> str:
    path, weight = parse_lora(lora)
    return f"{Path(path).resolve()}:{weight:g}"


def _absolute(name: str) -> str:
    """A path that holds from any folder; a hub id as it is."""
    return str(Path(name).resolve()) if Path(name).exists() else name


def _load_vocabulary(path: Path) -> frozenset[str] | None:
    if not path.is_file():
        return None
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}): restore the file or remove it") from error
    if not isinstance(words, list):
        raise InputError(f"{path} holds a JSON {type(words).__name__}, expected a list of words: restore or remove it")
    return frozenset(words)


def _check_fit(folder: Path, unet: VideoUNet, autoencoder: Autoencoder, text_encoder: TextEncoder) -> None:
    """Raise InputError for networks of different models in one folder."""
    latent, inner = autoencoder.latent_channels, unet.config.in_channels
    if latent != inner:
        raise InputError(f"{folder}: unet/ takes {inner} latent channels, vae/ makes {latent}: use parts of one model")
    width, context = text_encoder.hidden_size, unet.config.cross_attention_dim
    if width != context:
        raise InputError(
            f"{folder}: unet/ takes text {context} wide, text_encoder/ gives {width}: use parts of one model"
        )


def save_model_folder(
    folder: str | Path,
    unet: VideoUNet,
    autoencoder: Autoencoder,
    text_encoder: TextEncoder,
    scheduler_config: Mapping[str, Any],
    dtype: torch.dtype | None = None,
    vocabulary: Iterable[str] | None = None,
) -> None:
    """Write a plain Stable Diffusion folder, which diffusers' StableDiffusionPipeline opens, and `motion/` beside.

    The pipeline of diffusers opens a VQModel too, but makes latents only: it cannot call that class to decode them.

    Args:
        scheduler_config: `NoiseSchedule.to_config()`; also kept in `motion/config.json` as `scheduler`.
        dtype: storage type of all weights; None keeps each network's.
        vocabulary: words of the training captions, for `vocabulary.json`.
    """
    folder = Path(folder)
    text_encoder.save_pretrained(folder, dtype)
    autoencoder.save_pretrained(folder / "vae", dtype)
    unet.save_pretrained(folder / "unet", dtype)
    if unet.motion is not None:
        write_motion(unet, folder / "motion", {"scheduler": dict(scheduler_config)}, dtype)
    (folder / "scheduler").mkdir(exist_ok=True)
    save_json(folder / "scheduler" / "scheduler_config.json", scheduler_config)
    if vocabulary is not None:
        save_json(folder / "vocabulary.json", sorted(set(vocabulary)))
    save_json(folder / "model_index.json", model_index(dict(scheduler_config), autoencoder.config.class_name))
