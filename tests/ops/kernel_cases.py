"""What the tests of the kernels share: inputs between guard bands, outputs in memory full of NaN, and tolerances."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
import torch

from t2v.ops import use_backend

pytest.importorskip("triton", reason="the kernels need the package triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float16, *([torch.bfloat16] if DEVICE == "cuda" else [])]
GUARD = 64  # elements before and after an input


def guarded(x: torch.Tensor) -> torch.Tensor:
    """x in the middle of memory that is NaN before and after it, with its strides."""
    memory = torch.full((x.numel() + 2 * GUARD,), torch.nan, dtype=x.dtype, device=DEVICE)
    inner = memory[GUARD:-GUARD].as_strided(x.shape, x.stride(), GUARD)
    return inner.copy_(x)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Standard normal numbers, rounded to `dtype`."""
    return guarded(torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype))


def images(n: int, c: int, h: int, w: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Random (N, C, H, W) in channels_last."""
    return randn(n, h, w, c, seed=seed, dtype=dtype).permute(0, 3, 1, 2)


@contextmanager
def kernels() -> Iterator[None]:
    """Run the kernels, with NaN in all memory that is handed out uninitialised."""
    if DEVICE == "cpu":
        assert os.environ["TRITON_INTERPRET"] == "1"
    new_empty, empty_like = torch.Tensor.new_empty, torch.empty_like
    with (
        mock.patch.object(torch.Tensor, "new_empty", lambda x, *args, **kw: new_empty(x, *args, **kw).fill_(torch.nan)),
        mock.patch.object(torch, "empty_like", lambda *args, **kw: empty_like(*args, **kw).fill_(torch.nan)),
        use_backend("triton"),
    ):
        yield


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
