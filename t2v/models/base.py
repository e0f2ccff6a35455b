"""Reading and writing one network: `config.json` beside safetensors weights, as public model folders have it."""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from t2v.errors import InputError

DIFFUSERS_STEM = "diffusion_pytorch_model"
PICKLE_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
PICKLE_REFUSED = (
    "pickle checkpoints can run code when opened and are refused: read its tensors, and nothing else, with "
    "`t2v convert FILE NEW.safetensors`, or download the safetensors version"
)


def load_json(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file; InputError when it is missing, broken or not an object."""
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        missing = f"{path} is missing: a model folder needs it; check the path or download the model again"
        raise InputError(missing) from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}): restore the file") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a JSON {type(content).__name__}, expected an object: restore the file")
    return content


def save_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text to a temporary name beside `path`, then rename it."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def save_json(path: str | Path, content: Mapping[str, Any] | list[Any]) -> None:
    """Write an object or list as JSON, as `save_text` does; numbers that are not finite, which JSON lacks, as null."""
    save_text(path, json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def load_config(folder: str | Path) -> dict[str, Any]:
    """`config.json` of a network's folder."""
    return load_json(Path(folder) / "config.json")


def weight_files(folder_or_file: str | Path, stem: str = DIFFUSERS_STEM) -> list[Path]:
    """The safetensors files that hold one network's weights, sorted by name.

    A folder is searched for `STEM.safetensors`, its shards, then the `fp16` variant of both. Raises InputError when
    there are none, or only pickles.
    """
    path = Path(folder_or_file)
    if path.suffix in PICKLE_SUFFIXES:
        raise InputError(f"{path}: {PICKLE_REFUSED}")
    if path.is_file():
        return [path]
    for name in (f"{stem}.safetensors", f"{stem}.fp16.safetensors"):
        if (path / name).is_file():
            return [path / name]
        for index in (f"{name}.index.json", f"{stem}.safetensors.index.fp16.json"):
            if (path / index).is_file():
                return _shards(path / index)
    pickles = sorted(file.name for file in path.glob("*") if file.suffix in PICKLE_SUFFIXES)
    if pickles:
        raise InputError(f"{path} has {pickles[0]} and no {stem}.safetensors; {PICKLE_REFUSED}")
    raise InputError(f"{path / stem}.safetensors is missing: check the path or download the model again")


def _shards(index: Path) -> list[Path]:
    weight_map = load_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{index} names no weight files: download the model again")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise InputError(f"{index} names {name!r}, expected safetensors files beside it: download the model again")
        if not (index.parent / name).is_file():
            raise InputError(f"{index.parent / name} is missing, {index.name} names it: download the model again")
    return [index.parent / name for name in names]


def load_state_dict(folder_or_file: str | Path, stem: str = DIFFUSERS_STEM) -> dict[str, torch.Tensor]:
    """All tensors of one network, on the CPU, in the dtype of the file.

    Accepts a safetensors file or a folder (see `weight_files`). Raises InputError for a missing, truncated or corrupted
    file and for pickles.
    """
    state_dict: dict[str, torch.Tensor] = {}
    for file in weight_files(folder_or_file, stem):
        try:
            state_dict.update(load_file(file))
        except _UNREADABLE as error:
            raise _broken_file(file, error) from error
    return state_dict


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself."""

    shapes: dict[str, tuple[int, ...]]  # of every tensor
    dtypes: dict[str, str]  # of every tensor, in safetensors' words: F32, F16, BF16, I64, ...
    metadata: dict[str, str]

    @property
    def num_parameters(self) -> int:
        """Floating-point values in all tensors."""
        return sum(math.prod(shape) for name, shape in self.shapes.items() if "F" in self.dtypes[name])

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        bits = {dtype: int(re.sub(r"\D", "", dtype.split("_")[0]) or 8) for dtype in set(self.dtypes.values())}
        return sum(math.prod(shape) * bits[self.dtypes[name]] // 8 for name, shape in self.shapes.items())

    def select(self, names: Iterable[str]) -> "Header":
        """The header of these tensors alone."""
        names = list(names)
        dtypes = {name: self.dtypes[name] for name in names}
        return Header({name: self.shapes[name] for name in names}, dtypes, self.metadata)


def load_header(path: str | Path) -> Header:
    """The header of one safetensors file, which is checked against its size; no tensor is read."""
    (file,) = weight_files(path)
    try:
        with safe_open(file, framework="pt") as content:
            tensors = {name: content.get_slice(name) for name in content.keys()}  # noqa: SIM118
            shapes = {name: tuple(tensor.get_shape()) for name, tensor in tensors.items()}
            dtypes = {name: tensor.get_dtype() for name, tensor in tensors.items()}
            return Header(shapes, dtypes, dict(content.metadata() or {}))
    except _UNREADABLE as error:
        raise _broken_file(file, error) from error


_UNREADABLE = (SafetensorError, OSError, ValueError, KeyError, UnicodeDecodeError)


def _broken_file(file: Path, error: Exception) -> InputError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"{file} is truncated or not a safetensors file ({reason}): download or export it again")


def save_state_dict(
    path: str | Path,
    state_dict: Mapping[str, torch.Tensor],
    dtype: torch.dtype | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors to one safetensors file: a temporary name beside it first, then a rename.

    Args:
        dtype: storage type of the floating-point tensors; None keeps each as it is.
        metadata: strings for the file's header.
    """
    path = Path(path)
    tensors = {}
    for name, tensor in state_dict.items():
        tensor = tensor.detach().cpu()
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        tensors[name] = tensor.contiguous()
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.touch()
        mode = partial.stat().st_mode  # of a new file; safetensors would leave it to its owner alone
        save_file(tensors, partial, metadata={"format": "pt", **(metadata or {})})
        partial.chmod(mode)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def save_model(
    folder: str | Path,
    config: Mapping[str, Any],
    state_dict: Mapping[str, torch.Tensor],
    stem: str = DIFFUSERS_STEM,
    dtype: torch.dtype | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `config.json` and `STEM.safetensors` into `folder`, which is made if needed."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_state_dict(folder / f"{stem}.safetensors", state_dict, dtype, metadata)
    save_json(folder / "config.json", config)


def check_state_dict(
    expected: torch.nn.Module | Mapping[str, torch.Tensor], state_dict: Mapping[str, torch.Tensor], what: str
) -> None:
    """Raise InputError naming the first key that is missing, has another shape, or is not expected.

    Args:
        expected: what must be in `state_dict`: the parameters and buffers of a network, or these tensors.
        what: how the message calls the file, e.g. its path.
    """
    own = expected.state_dict() if isinstance(expected, torch.nn.Module) else expected
    for name, tensor in own.items():
        if name not in state_dict:
            raise InputError(f"{what}: {name} is missing: the weights do not belong to this config.json")
        got, want = tuple(state_dict[name].shape), tuple(tensor.shape)
        if got != want:
            raise InputError(f"{what}: {name} has shape {got}, expected {want}: the weights belong to another config")
    for name in state_dict:
        if name not in own:
            raise InputError(f"{what}: {name} is not expected: the weights do not belong to this config.json")
