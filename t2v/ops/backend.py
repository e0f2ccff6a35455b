"""Which implementation the ops run: plain torch, or the Triton kernels.

`T2V_BACKEND` in the environment says `auto` (the default), `torch` or `triton`; `use_backend` changes it for a while.
`auto` is plain torch: the kernels are proved by triton's interpreter and by building them, and no GPU has run them yet.
`triton` takes them wherever they can run, and is refused where triton cannot run at all.
"""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from t2v.errors import InputError

BACKENDS = ("auto", "torch", "triton")
MIN_CAPABILITY = (8, 0)  # bfloat16 in the matrix units
TRITON_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_INSTALLED = importlib.util.find_spec("triton") is not None


def _checked(name: str) -> str:
    if name not in BACKENDS:
        raise InputError(f"T2V_BACKEND is {name!r}; it is one of {', '.join(BACKENDS)}")
    return name


_backend = _checked(os.environ.get("T2V_BACKEND", "auto"))


def current_backend() -> str:
    """The backend in force: auto, torch or triton."""
    return _backend


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run the ops of a block by this backend; for one thread at a time."""
    global _backend
    before, _backend = _backend, _checked(name)
    try:
        yield
    finally:
        _backend = before


def runs_triton(x: torch.Tensor) -> bool:
    """Whether an op on this tensor takes its kernel."""
    if _backend != "triton":
        return False
    if not (triton_runs_on(x.device) and x.dtype in TRITON_DTYPES):
        raise InputError(
            "the triton backend needs the package triton, a CUDA device of compute capability 8.0 or more, and "
            f"float16, bfloat16 or float32; got {x.dtype} on {x.device}: set T2V_BACKEND=auto"
        )
    return True


@torch.compiler.assume_constant_result
def triton_runs_on(device: torch.device) -> bool:
    """Whether the kernels can run there: a CUDA GPU, or the CPU by triton's interpreter."""
    if not _INSTALLED:
        return False
    if device.type == "cuda":
        return torch.version.hip is None and torch.cuda.get_device_capability(device) >= MIN_CAPABILITY
    return device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"
