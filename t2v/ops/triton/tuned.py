"""Tiles that `t2v tune` found on a GPU, in place of those of `t2v.ops.triton.configs`.

They are for half precision, and lie in a JSON file by the name of the GPU and of the kernel:
{"NVIDIA H200": {"conv_320_320_4096": {"BM": 128, ...}}}. `T2V_TILES` names the file; it is by default `tiles.json` in
the user's cache folder, if it is there.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch

from t2v.errors import InputError
from t2v.ops.triton.configs import AttentionConfig, Config, ConvConfig, NormConfig

ConfigT = TypeVar("ConfigT", AttentionConfig, NormConfig, ConvConfig)
_KINDS: dict[str, type[Config]] = {"attention": AttentionConfig, "norm": NormConfig, "conv": ConvConfig}

_trial: dict[str, Config] = {}


def attention_key(num_frames: int, head_dim: int, backward: bool, biased: bool) -> str:
    """The name of a kernel of attention over frames; lengths up to the same power of two share it."""
    mode = "backward" if backward else "forward"
    return f"attention_{mode}_f{1 << (num_frames - 1).bit_length()}_d{head_dim}{'_bias' * biased}"


def norm_key(channels: int) -> str:
    """The name of the kernels of a group norm."""
    return f"norm_c{channels}"


def conv_key(in_channels: int, out_channels: int, pixels: int) -> str:
    """The name of a kernel of the convolution over frames; frame sizes up to the same power of two share it."""
    return f"conv_i{in_channels}_o{out_channels}_p{1 << (pixels - 1).bit_length()}"


def chosen(key: str, default: ConfigT, x: torch.Tensor) -> ConfigT:
    """The tile of a kernel that works on x: one that is on trial, the tuned one of the GPU, or the default."""
    config: Config | None = _trial.get(key)
    if config is None and x.is_cuda and x.dtype.itemsize == 2 and (path := tiles_path()).is_file():
        config = read_tiles(path).get(torch.cuda.get_device_name(x.device), {}).get(key)
    if config is None:
        return default
    assert isinstance(config, type(default))
    return config


@contextmanager
def trial(key: str, config: Config) -> Iterator[None]:
    """Run a kernel with this tile for a while."""
    _trial[key] = config
    try:
        yield
    finally:
        del _trial[key]


def tiles_path() -> Path:
    """The file of tuned tiles, which need not be there, unless it was named."""
    named = os.environ.get("T2V_TILES")
    if named and not Path(named).is_file():
        raise InputError(f"T2V_TILES names {named}, which is not a file: make it with `t2v tune -o {named}`")
    return Path(named) if named else default_path()


def default_path() -> Path:
    """`tiles.json` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "t2v" / "tiles.json"


@lru_cache
def read_tiles(path: Path) -> Mapping[str, Mapping[str, Config]]:
    """The tiles of each GPU, checked.

    Raises:
        InputError: not such a file.
    """
    try:
        gpus = json.loads(path.read_text(encoding="utf-8"))
        return {gpu: {key: parse(key, values) for key, values in tiles.items()} for gpu, tiles in gpus.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no file of tiles ({error}): make it anew with `t2v tune`, or delete it") from None


def parse(key: str, values: dict[str, Any]) -> Config:
    """The tile of a kernel by its name. Raises ValueError, KeyError or TypeError if it is none."""
    config = _KINDS[key.partition("_")[0]](**values)
    if isinstance(config, AttentionConfig):
        whole = config.backward_with_bias or not ("backward" in key and key.endswith("_bias"))
        if f"_f{config.FP}_" not in key or not whole:
            raise ValueError(f"{key} cannot have {config}")
    return config
