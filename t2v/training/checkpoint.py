"""Checkpoints: a folder of safetensors and one JSON file, complete or not there at all; no pickles.

checkpoints/step-00001000/  state.json (scalars, sizes of the files)  <group>.safetensors (one per group of tensors)
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from t2v.errors import InputError

_STATE = "state.json"


@dataclass
class Checkpoint:
    """Everything a run needs to go on."""

    scalars: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # group -> name -> tensor


def save_checkpoint(folder: Path, global_step: int, checkpoint: Checkpoint, keep: int) -> Path:
    """Write `folder/step-XXXXXXXX` under a temporary name, rename it, and remove all but the newest `keep`."""
    target = folder / f"step-{global_step:08d}"
    temporary = folder / f".{target.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    sizes = {}
    for group, tensors in checkpoint.tensors.items():
        file = temporary / f"{group}.safetensors"
        save_file({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, file)
        sizes[file.name] = file.stat().st_size
    state = {"global_step": global_step, **checkpoint.scalars, "files": sizes}
    (temporary / _STATE).write_text(json.dumps(state, indent=1))
    if target.exists():
        remove_folder(target)
    os.replace(temporary, target)
    for old in complete_checkpoints(folder)[:-keep]:
        remove_folder(old)
    return target


def remove_folder(folder: Path) -> None:
    """Remove a folder so that an interrupt never leaves half of it under its own name."""
    doomed = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    os.replace(folder, doomed)
    shutil.rmtree(doomed)


def complete_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder` whose files are all there, oldest first."""
    return [path for path in sorted(folder.glob("step-*")) if _is_complete(path)]


def _is_complete(path: Path) -> bool:
    try:
        sizes = json.loads((path / _STATE).read_text())["files"]
        return all((path / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError):
        return False


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        InputError: no such folder, or a file is missing or damaged.
    """
    if not _is_complete(path):
        raise InputError(f"checkpoint: {path} is no complete checkpoint; use --resume auto for the newest complete one")
    scalars = json.loads((path / _STATE).read_text())
    tensors = {}
    for name in scalars.pop("files"):
        try:
            tensors[Path(name).stem] = load_file(path / name)
        except SafetensorError as error:
            raise InputError(f"checkpoint: {path / name} is damaged ({error}); resume from an older one") from error
    return Checkpoint(scalars, tensors)


def check_names(expected: Mapping[str, Tensor], got: Mapping[str, Tensor], what: str) -> None:
    """Refuse tensors that are not those of this run's network, naming the first that differs."""
    for name in sorted({*expected, *got}):
        if name not in got:
            raise InputError(f"checkpoint: {what} has no {name}; was it saved with another model section?")
        if name not in expected:
            raise InputError(
                f"checkpoint: {what} has {name}, which this model lacks; was it saved with another config?"
            )
        if expected[name].shape != got[name].shape:
            shapes = f"{tuple(got[name].shape)}, expected {tuple(expected[name].shape)}"
            raise InputError(f"checkpoint: {what}: {name} is {shapes}; was it saved with another model section?")
