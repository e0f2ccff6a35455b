"""Where a model runs and in which precision."""

import torch

from t2v.errors import InputError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_LONG_NAMES = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES.values()}


def resolve_device(name: str) -> torch.device:
    """The device of a name: auto (the first of cuda, mps and cpu that is here), cpu, cuda, cuda:1, mps.

    Raises:
        InputError: no such device in this machine.
    """
    if name == "auto":
        mps = "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device("cuda" if torch.cuda.is_available() else mps)
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"unknown device {name!r}: use auto, cpu, cuda, cuda:1 or mps") from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"unknown device {name!r}: use auto, cpu, cuda, cuda:1 or mps")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {name} was asked for, but torch finds no CUDA GPU here: use --device cpu or auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name} was asked for, but this machine has {torch.cuda.device_count()} CUDA GPU(s)")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("device mps was asked for, but this machine has none: use --device cpu or auto")
    return device


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The precision of a name: fp32, fp16, bf16, or auto.

    auto is fp16 on CUDA, bf16 on a CPU that multiplies it natively (AMX or AVX512-BF16), fp32 elsewhere.

    Raises:
        InputError: unknown name.
    """
    if name == "auto":
        if device.type == "cuda":
            return torch.float16
        return torch.bfloat16 if device.type == "cpu" and _has_native_bf16() else torch.float32
    dtype = {**DTYPES, **_LONG_NAMES}.get(name)
    if dtype is None:
        raise InputError(f"unknown dtype {name!r}: use auto, {', '.join(DTYPES)}")
    return dtype


def dtype_name(dtype: torch.dtype) -> str:
    """The short name of a precision, as `resolve_dtype` takes it."""
    return next(name for name, value in DTYPES.items() if value == dtype)


def _has_native_bf16() -> bool:
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
