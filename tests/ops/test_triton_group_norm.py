"""The kernels of group norm."""

import pytest
import torch

from t2v.ops import functional, library, reference, use_backend
from tests.ops.kernel_cases import DEVICE, DTYPES, check, images, kernels, randn

CASES = [
    ("group_norm", (2, 40, 7, 11)),
    ("group_norm_silu", (2, 40, 7, 11)),
    ("group_norm_silu", (1, 96, 3, 5)),
    ("group_norm_silu", (1, 320, 1, 1)),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("name", "shape"), CASES, ids=str)
def test_output_and_gradients(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    weight, bias = randn(shape[1], seed=1, dtype=dtype), randn(shape[1], seed=2, dtype=dtype)
    check(
        lambda x, weight, bias: getattr(functional, name)(x, 8, weight, bias, 1e-5),
        lambda x, weight, bias: getattr(reference, name)(x, 8, weight, bias, 1e-5),
        [2 * images(*shape, dtype=dtype) + 3, weight, bias],
    )


def test_a_large_mean_costs_no_precision() -> None:
    x = images(1, 40, 9, 9) + 1000
    with kernels():
        got = functional.group_norm(x, 8, torch.ones(40, device=DEVICE), torch.zeros(40, device=DEVICE), 1e-5)
    expected = reference.group_norm(x.double(), 8, torch.ones(40).to(x), torch.zeros(40).to(x), 1e-5)
    assert (got - expected).abs().max() < 1e-3


def test_keeps_the_layout_and_takes_a_whole_video_as_a_view() -> None:
    x = images(4, 16, 3, 5)
    video = functional.to_images(functional.to_tokens(x, 4).view(1, -1, 16), 12, 5)  # (1, C, F*H, W)
    weight, bias = randn(16, seed=1), randn(16, seed=2)
    with kernels():
        got = functional.group_norm(video, 4, weight, bias, 1e-5)
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, reference.group_norm(video, 4, weight, bias, 1e-5), rtol=1e-4, atol=1e-5)


def test_other_layouts_are_taken_too() -> None:
    """Images in contiguous memory, a part of wider images, and the gradient of a sum, which is one number."""
    weight, bias = randn(40, seed=1), randn(40, seed=2)
    for x in (randn(2, 40, 3, 5), images(2, 80, 3, 5)[:, 20:60]):
        results = []
        for layout in (x, x.contiguous(memory_format=torch.channels_last)):
            leaves = [y.detach().requires_grad_() for y in (layout, weight, bias)]
            with kernels():
                out = functional.group_norm_silu(leaves[0], 8, *leaves[1:], 1e-5)
                results.append([out, *torch.autograd.grad(out.sum(), leaves)])
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_runs_are_equal_to_the_bit() -> None:
    runs = []
    with kernels():
        for _ in range(2):
            leaves = [x.requires_grad_() for x in (images(3, 40, 9, 17), randn(40, seed=1), randn(40, seed=2))]
            out = functional.group_norm_silu(leaves[0], 8, *leaves[1:], 1e-5)
            runs.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_operator_passes_opcheck() -> None:
    x, weight, bias = images(1, 4, 2, 2).requires_grad_(), randn(4, seed=1).requires_grad_(), randn(4).requires_grad_()
    torch.library.opcheck(library.group_norm, (x, 2, weight, bias, 1e-5, True, None))
    x, weight, bias = x.detach(), weight.detach(), bias.detach()
    mean, rstd = library.group_norm(x, 2, weight, bias, 1e-5, True, None)[1:]
    torch.library.opcheck(library.group_norm_backward, (images(1, 4, 2, 2, seed=2), x, mean, rstd, weight, bias, True))


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="needs CUDA, and 18 GB of it")
def test_more_elements_than_an_int32_counts() -> None:
    x = torch.randn(2**31 // (64 * 64 * 320) + 2, 64, 64, 320, dtype=torch.bfloat16, device=DEVICE).permute(0, 3, 1, 2)
    weight, bias = (torch.randn(320, dtype=torch.bfloat16, device=DEVICE) for _ in range(2))
    with use_backend("triton"):
        got = functional.group_norm_silu(x, 32, weight, bias, 1e-5)[-1:]
    expected = reference.group_norm_silu(x[-1:].double(), 32, weight.double(), bias.double(), 1e-5)
    assert (got - expected).abs().max() < 0.1
