"""From one checkpoint format to another: files of all kinds into safetensors, single files to folders and back."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import CLIPTokenizerFast

from t2v.errors import InputError
from t2v.models.animatediff_files import is_animatediff, write_adapter, write_original
from t2v.models.autoencoder_base import rename_old_keys
from t2v.models.autoencoder_classes import autoencoder_class
from t2v.models.base import PICKLE_SUFFIXES, check_state_dict, load_header, load_state_dict, save_state_dict
from t2v.models.checkpoint import Checkpoint, read_folder, write_folder
from t2v.models.detection import detect
from t2v.models.diffusers_folder import what_is_lost, write_animatediff_folder
from t2v.models.folder import find_motion, find_tokenizer, load_model_tokenizer
from t2v.models.modelscope import refuse_motion
from t2v.models.motion import read_motion
from t2v.models.motion_module import AnimateDiffConfig
from t2v.models.pickle_file import load_pickle
from t2v.models.single_file import from_ldm, use_ema, write_single_file
from t2v.models.text_encoder import fitting_text_weights, load_tokenizer
from t2v.models.unet import VideoUNet, VideoUNetConfig
from t2v.models.unet_config import VIDEO_UNET

PICKLE_STEMS = {"model": "pytorch_model"}  # other names of a network's file when it is a pickle


@dataclass(frozen=True)
class _Weights:
    """What one file holds."""

    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str]


def convert(
    source: Path, target: Path, tokenizer: str | None = None, ema: bool = False, motion: str | None = None
) -> list[str]:
    """Read `source` and write `target`, whose name says as what: FILE.safetensors, or a folder.

    Args:
        source: a model folder, or a .safetensors, .ckpt, .bin, .pt or .pth file.
        tokenizer: for a folder made of a single file, see `find_tokenizer`.
        ema: take the moving average of a training checkpoint's U-Net.
        motion: for a folder of a whole model, see `find_motion`.

    Returns:
        Notes about what the new format cannot hold.

    Raises:
        InputError: what cannot be read, or has no such form; nothing is written.
    """
    to_file = target.suffix == ".safetensors"
    if motion is not None and to_file:
        raise InputError(f"a single file has no place for motion: give a folder instead of {target}")
    if source.is_dir():
        return _convert_folder(source, target, motion)
    weights = _read(source)
    if ema:
        weights = _Weights(use_ema(weights.tensors), weights.metadata)
    if to_file:
        save_state_dict(target, weights.tensors, metadata=weights.metadata)
        return []
    kind = detect(weights.tensors)
    if kind in ("AnimateDiff", "LoRA", "motion LoRA") and motion is not None:
        raise InputError(f"{source} is a {kind} file: --motion is for whole models")
    if kind == "AnimateDiff":
        write_whole(target, lambda folder: write_adapter(weights.tensors, folder, source, weights.metadata))
        return []
    if kind in ("LoRA", "motion LoRA"):
        raise InputError(f"{source} is a {kind} file, which has no folder form: give a target named .safetensors")
    checkpoint = from_ldm(weights.tensors, weights.metadata, source)
    words = load_model_tokenizer(source, find_tokenizer(source, tokenizer), checkpoint.parts["unet"].config)
    return _write_folder(checkpoint, source, target, words, motion)


def _read(path: Path) -> _Weights:
    if path.suffix in PICKLE_SUFFIXES:
        return _Weights(load_pickle(path), {})
    if not path.is_file():
        raise InputError(f"no file or folder at {path}: check the path")
    return _Weights(load_state_dict(path), load_header(path).metadata)


def _check(checkpoint: Checkpoint, source: Path) -> None:
    """Raise InputError, which names the first mismatch, for an image model of incomplete or of different parts."""
    unet, vae, text = (checkpoint.parts[name] for name in ("unet", "vae", "text_encoder"))
    if unet.config.get("_class_name") == VIDEO_UNET:
        return  # its layers are checked where it is loaded
    with torch.device("meta"):
        image = VideoUNet(VideoUNetConfig.from_dict(unet.config))
        autoencoder = autoencoder_class(vae.config).from_config(vae.config)
    check_state_dict(image, unet.weights, f"{source}: unet")
    check_state_dict(autoencoder, rename_old_keys(vae.weights), f"{source}: vae")
    words, _ = fitting_text_weights(text.config, text.weights, f"{source}: text_encoder")
    width, context = words.config.hidden_size, image.config.cross_attention_dim
    if width != context or autoencoder.latent_channels != image.config.in_channels:
        raise InputError(f"{source}: unet, vae and text_encoder are of different models: use parts of one")


def _write_folder(
    checkpoint: Checkpoint, source: Path, target: Path, words: CLIPTokenizerFast, motion: str | None
) -> list[str]:
    """Write a folder of diffusers, with the motion where that has a place there; what is lost."""
    _check(checkpoint, source)
    path = find_motion(source, motion)
    if checkpoint.parts["unet"].config.get("_class_name") == VIDEO_UNET:
        refuse_motion(str(source), path)
    found = None if path is None else read_motion(path)
    if found is not None and isinstance(found.config, AnimateDiffConfig):
        write_whole(target, lambda folder: write_animatediff_folder(checkpoint, folder, words, found))
    else:
        write_whole(target, lambda folder: write_folder(checkpoint, folder, words))
    return what_is_lost(source, found)


def _convert_folder(source: Path, target: Path, motion: str | None) -> list[str]:
    if is_animatediff(source) and motion is not None:
        raise InputError(f"{source} is a MotionAdapter folder: --motion is for whole models")
    if is_animatediff(source):
        if target.suffix != ".safetensors":
            raise InputError(f"{source} is a MotionAdapter folder already: give a target named .safetensors")
        write_original(source, target)
        return []
    checkpoint = read_folder(source, _read_part)
    if target.suffix != ".safetensors":
        return _write_folder(checkpoint, source, target, load_tokenizer(source / "tokenizer"), motion)
    _check(checkpoint, source)
    write_single_file(checkpoint, target)
    notes = [f"a single file has no tokenizer: give --tokenizer {source} with it"]
    own = find_motion(source, None)
    return notes + ([f"nor motion: give --motion {own} with it"] if own is not None else [])


def _read_part(folder: Path, stem: str) -> dict[str, torch.Tensor]:
    """The weights of one network's folder, a pickle where there are no safetensors."""
    pickled = folder / f"{PICKLE_STEMS.get(stem, stem)}.bin"
    if pickled.is_file() and not list(folder.glob("*.safetensors")):
        return load_pickle(pickled)
    return load_state_dict(folder, stem)


def write_whole(target: Path, write: Callable[[Path], None]) -> None:
    """Make a folder under a temporary name, then rename it: it is there whole, or not at all."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        write(partial)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
