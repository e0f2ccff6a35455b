"""Checkpoints: folders of safetensors and JSON, complete and proved by their hashes or not there at all; no pickles.

    checkpoints/step-00001000/  <group>.safetensors (one per group of tensors)  state.json (scalars)
                                manifest.json (size and SHA-256 of each file; written last)

Tensors are stored whole, also those that were spread over processes: any number of processes reads them. (The metadata
of torch.distributed.checkpoint is a pickle.)
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from t2v.errors import InputError

_STATE = "state.json"
_MANIFEST = "manifest.json"
_LEFTOVERS = (".tmp", ".old", ".partial")  # of names that begin with a dot


@dataclass
class Checkpoint:
    """Everything a run needs to go on."""

    scalars: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # group -> name -> tensor


# ---------------------------------------------------------------- writing


def save_checkpoint(folder: Path, global_step: int, checkpoint: Checkpoint, keep: int) -> Path:
    """Write `folder/step-XXXXXXXX` under a temporary name and rename it, then remove old ones.

    The newest `keep` stay, and the one with the lowest `validation_loss` among its scalars.

    Raises:
        OSError, SafetensorError: the disk is full, say; nothing of the new one is left then, the old ones are there.
    """
    target = folder / f"step-{global_step:08d}"
    temporary = folder / f".{target.name}.{os.getpid()}.tmp"
    try:
        _write(temporary, {"global_step": global_step, **checkpoint.scalars}, checkpoint.tensors)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if target.exists():
        os.replace(target, _doomed(target))
    os.replace(temporary, target)
    _sync(folder)
    shutil.rmtree(_doomed(target), ignore_errors=True)
    _rotate(folder, keep)
    return target


def _write(folder: Path, state: dict[str, Any], tensors: dict[str, dict[str, Tensor]]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for group, named in tensors.items():
        whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in named.items()}
        save_file(whole, folder / f"{group}.safetensors")
    (folder / _STATE).write_text(json.dumps(state, indent=1))
    manifest = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(folder.iterdir())}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1))
    for path in folder.iterdir():
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _doomed(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _rotate(folder: Path, keep: int) -> None:
    complete = complete_checkpoints(folder)
    kept = {*complete[-keep:], best_checkpoint(folder)}
    for path in complete:
        if path not in kept:
            os.replace(path, _doomed(path))  # an interrupt never leaves half of it under its own name
            shutil.rmtree(_doomed(path))


def clean_up(run: Path, checkpoints: Path) -> None:
    """Remove what a killed run left half-written below `run`; finish its half-done renames in `checkpoints`."""
    for old in checkpoints.glob(".step-*.old"):
        target = old.with_name(old.name.removeprefix(".").removesuffix(".old"))
        if _is_complete(old) and not target.exists():
            os.replace(old, target)
    for path in [path for path in run.rglob(".*") if path.suffix in _LEFTOVERS]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


# ---------------------------------------------------------------- finding


def complete_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder` whose files are all there in their full size, oldest first."""
    return [path for path in sorted(folder.glob("step-*")) if _is_complete(path)]


def best_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint with the lowest validation loss; None where none was validated."""
    losses = {path: read_state(path).get("validation_loss") for path in complete_checkpoints(folder)}
    validated = {path: loss for path, loss in losses.items() if loss is not None}
    return min(validated, key=lambda path: validated[path]) if validated else None


def newest_sound_checkpoint(folder: Path, note: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose content is what was written; damaged ones above it are set aside with a note."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        reason = _damage(path)
        if reason is None:
            return path
        aside = path.with_name(f"damaged-{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(path, aside)
        note(f"checkpoint {path.name} is damaged ({reason}): left out, and kept as {aside}")
    return None


def _damage(path: Path) -> str | None:
    if not _is_complete(path):
        return "a file is missing or cut short"
    for name, entry in _manifest(path).items():
        if _sha256(path / name) != entry["sha256"]:
            return f"{name} has changed since it was written"
    return None


def _is_complete(path: Path) -> bool:
    try:
        sizes = {name: entry["bytes"] for name, entry in _manifest(path).items()}
        return _STATE in sizes and all((path / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _manifest(path: Path) -> dict[str, Any]:
    return json.loads((path / _MANIFEST).read_text())


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------- reading


def read_state(path: Path) -> dict[str, Any]:
    """The scalars of a complete checkpoint."""
    return json.loads((path / _STATE).read_text())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        InputError: no such folder, or a file is missing or damaged.
    """
    reason = _damage(path)
    if reason is not None:
        raise InputError(
            f"checkpoint: {path} is damaged ({reason}); use --resume auto for the newest that can be trusted"
        )
    tensors = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
    return Checkpoint(read_state(path), tensors)


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
