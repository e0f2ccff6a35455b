"""From one checkpoint format to another: files of all kinds into safetensors, single files to folders and back."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from t2v.errors import InputError
from t2v.models.animatediff_files import is_animatediff, write_adapter, write_original
from t2v.models.base import PICKLE_SUFFIXES, load_header, load_state_dict, save_state_dict
from t2v.models.checkpoint import read_folder, write_folder
from t2v.models.detection import detect
from t2v.models.folder import find_tokenizer, load_model_tokenizer
from t2v.models.pickle_file import load_pickle
from t2v.models.single_file import from_ldm, use_ema, write_single_file
from t2v.models.text_encoder import load_tokenizer

PICKLE_STEMS = {"model": "pytorch_model"}  # other names of a network's file when it is a pickle


@dataclass(frozen=True)
class _Weights:
    """What one file holds."""

    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str]


def convert(source: Path, target: Path, tokenizer: str | None = None, ema: bool = False) -> list[str]:
    """Read `source` and write `target`, whose name says as what: FILE.safetensors, or a folder.

    Args:
        source: a model folder, or a .safetensors, .ckpt, .bin, .pt or .pth file.
        tokenizer: for a folder made of a single file, see `find_tokenizer`.
        ema: take the moving average of a training checkpoint's U-Net.

    Returns:
        Notes about what the new format cannot hold.

    Raises:
        InputError: what cannot be read, or has no such form; nothing is written.
    """
    if source.is_dir():
        return _convert_folder(source, target)
    weights = _read(source)
    if ema:
        weights = _Weights(use_ema(weights.tensors), weights.metadata)
    if target.suffix == ".safetensors":
        save_state_dict(target, weights.tensors, metadata=weights.metadata)
        return []
    kind = detect(weights.tensors)
    if kind == "AnimateDiff":
        write_whole(target, lambda folder: write_adapter(weights.tensors, folder, source))
        return []
    if kind in ("LoRA", "motion LoRA"):
        raise InputError(f"{source} is a {kind} file, which has no folder form: give a target named .safetensors")
    _convert_single_file(source, weights, target, tokenizer)
    return []


def _read(path: Path) -> _Weights:
    if path.suffix in PICKLE_SUFFIXES:
        return _Weights(load_pickle(path), {})
    if not path.is_file():
        raise InputError(f"no file or folder at {path}: check the path")
    return _Weights(load_state_dict(path), load_header(path).metadata)


def _convert_single_file(source: Path, weights: _Weights, target: Path, tokenizer: str | None) -> None:
    checkpoint = from_ldm(weights.tensors, weights.metadata, source)
    words = load_model_tokenizer(source, find_tokenizer(source, tokenizer), checkpoint.parts["unet"].config)
    write_whole(target, lambda folder: write_folder(checkpoint, folder, words))


def _convert_folder(source: Path, target: Path) -> list[str]:
    if is_animatediff(source):
        if target.suffix != ".safetensors":
            raise InputError(f"{source} is a MotionAdapter folder already: give a target named .safetensors")
        write_original(source, target)
        return []
    checkpoint = read_folder(source, _read_part)
    if target.suffix != ".safetensors":
        words = load_tokenizer(source / "tokenizer")
        write_whole(target, lambda folder: write_folder(checkpoint, folder, words))
        return [f"only the image model was written: {source / 'motion'} is as it was"] if _has_motion(source) else []
    write_single_file(checkpoint, target)
    notes = [f"a single file has no tokenizer: give --tokenizer {source} with it"]
    return notes + ([f"nor motion: give --motion {source / 'motion'} with it"] if _has_motion(source) else [])


def _has_motion(folder: Path) -> bool:
    return (folder / "motion").is_dir()


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
