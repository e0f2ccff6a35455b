"""What the tests of the kernels share: tensors between guard bands, outputs in memory full of NaN, and tolerances."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from t2v.ops import use_backend

tl = pytest.importorskip("triton.language", reason="the kernels need the package triton")

from triton.runtime.interpreter import InterpreterBuilder, TensorHandle  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
GUARD = 64  # elements before and after a tensor


def between_guards(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A tensor of the size and strides of x, which has no gaps, and the memory around it; NaN everywhere."""
    memory = torch.full((x.numel() + 2 * GUARD,), torch.nan, dtype=x.dtype, device=DEVICE)
    return memory.as_strided(x.shape, x.stride(), GUARD), memory


def guarded(x: torch.Tensor) -> torch.Tensor:
    """x in the middle of memory that is NaN before and after it, with its strides."""
    return between_guards(x)[0].copy_(x)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Standard normal numbers, rounded to `dtype`."""
    return guarded(torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype))


def images(n: int, c: int, h: int, w: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Random (N, C, H, W) in channels_last."""
    return randn(n, h, w, c, seed=seed, dtype=dtype).permute(0, 3, 1, 2)


@contextmanager
def kernels() -> Iterator[None]:
    """Run the kernels, with NaN in and around all memory that is handed out uninitialised; around it, it must stay."""
    if DEVICE == "cpu":
        assert os.environ["TRITON_INTERPRET"] == "1"
    memories: list[torch.Tensor] = []

    def poisoned(allocate: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def call(*args: Any, **kwargs: Any) -> torch.Tensor:
            tensor = allocate(*args, **kwargs)
            if tensor.is_floating_point():
                tensor, memory = between_guards(tensor)
                memories.append(memory)
            return tensor

        return call

    with (
        mock.patch.object(torch.Tensor, "new_empty", poisoned(torch.Tensor.new_empty)),
        mock.patch.object(torch, "empty_like", poisoned(torch.empty_like)),
        mock.patch.object(InterpreterBuilder, "create_dot", _dot),
        use_backend("triton"),
    ):
        yield
    bands = torch.cat([band for memory in memories for band in (memory[:GUARD].float(), memory[-GUARD:].float())])
    assert bool(bands.isnan().all()), "a kernel wrote beside its output"


_interpreted_dot = InterpreterBuilder.create_dot


def _dot(builder: Any, a: Any, b: Any, *args: Any) -> Any:
    """The interpreter's matrix product, which takes the bits of bfloat16, kept as uint16, for numbers."""
    return _interpreted_dot(builder, *(_as_float32(x) if x.dtype == tl.bfloat16 else x for x in (a, b)), *args)


def _as_float32(x: Any) -> Any:
    return TensorHandle((x.data.astype(np.uint32) << 16).view(np.float32), tl.float32)


def check(op: Callable, plain: Callable, inputs: list[torch.Tensor]) -> None:
    """Output and every gradient of the kernel against `plain` in float64.

    The error is at most twice that of `op` in torch in the same dtype, plus a few roundings.
    """

    def results(function: Callable, dtype: torch.dtype | None = None) -> list[torch.Tensor]:
        leaves = [x.detach().to(dtype or x.dtype).requires_grad_() for x in inputs]
        out = function(*leaves)
        seed = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(inputs[0].dtype)
        return [out.detach(), *torch.autograd.grad(out, leaves, seed.to(DEVICE, out.dtype))]

    expected = results(plain, torch.float64)
    with use_backend("torch"):
        peers = results(op)
    with kernels():
        got = results(op)
    for value, peer, exact, x in zip(got, peers, expected, [inputs[0], *inputs], strict=True):
        assert value.dtype == peer.dtype
        error, peer_error = ((y.double() - exact).abs().max().item() for y in (value, peer))
        assert error <= 2 * peer_error + 4 * torch.finfo(x.dtype).eps * exact.abs().max().item()
