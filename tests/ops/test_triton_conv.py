"""The kernel of the convolution over frames, and the group norm that takes its statistics."""

import pytest
import torch

from t2v.ops import functional, library, reference, use_backend
from tests.ops.kernel_cases import DEVICE, DTYPES, check, images, kernels, randn

# videos, frames, channels in and out, size
SHAPES = [
    (2, 1, 40, 40, (3, 5)),
    (2, 2, 40, 96, (9, 9)),
    (1, 7, 20, 70, (3, 3)),
    (1, 15, 8, 8, (1, 1)),
    (1, 76, 24, 8, (1, 3)),
    (1, 3, 320, 320, (2, 3)),
    (2, 3, 7, 5, (2, 3)),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_output_and_gradients(shape: tuple, dtype: torch.dtype) -> None:
    b, f, i, o, size = shape
    check(
        lambda x, weight, bias, residual: functional.temporal_conv(x, weight, bias, f, residual),
        lambda x, weight, bias, residual: reference.temporal_conv(x, weight, bias, f) + residual,
        [
            images(b * f, i, *size, dtype=dtype),
            randn(o, i, 3, 1, seed=1, dtype=dtype),
            randn(o, seed=2, dtype=dtype),
            images(b * f, o, *size, seed=3, dtype=dtype),
        ],
    )


@pytest.mark.parametrize("frames", [1, 2, 15])
def test_dirac_weight_is_exact(frames: int) -> None:
    for dtype in DTYPES:
        x = images(2 * frames, 40, 3, 5, dtype=dtype)
        weight = torch.nn.init.dirac_(torch.empty_like(randn(40, 40, 3, 1, dtype=dtype)))
        with kernels():
            assert torch.equal(functional.temporal_conv(x, weight, weight.new_zeros(40), frames), x)


@pytest.mark.parametrize(("channels", "size"), [(96, (9, 17)), (40, (3, 5))])
def test_statistics_serve_the_norm_that_follows(channels: int, size: tuple[int, int]) -> None:
    def op(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        hidden, statistics = functional.temporal_conv_with_statistics(x, weight, bias, 2, shift)
        ones = torch.ones_like(bias)
        return functional.group_norm_silu(hidden, 8, ones, 0 * ones, 1e-5, statistics)

    def plain(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        hidden = reference.temporal_conv(x, weight, bias, 2) + shift.repeat_interleave(2, 0)[:, :, None, None]
        ones = torch.ones_like(bias)
        return reference.group_norm_silu(hidden, 8, ones, 0 * ones, 1e-5)

    inputs = [images(4, channels, *size), randn(channels, channels, 3, 1, seed=1), randn(channels, seed=2)]
    check(op, plain, [*inputs, randn(2, channels, seed=3)])


def test_other_layouts_are_taken_too() -> None:
    """Images in contiguous memory, a part of wider images, and the gradient of a sum, which is one number."""
    weight, bias = randn(40, 40, 3, 1, seed=1), randn(40, seed=2)
    for x in (randn(4, 40, 3, 5), images(4, 80, 3, 5)[:, 20:60]):
        results = []
        for layout in (x, x.contiguous(memory_format=torch.channels_last)):
            leaves = [y.detach().requires_grad_() for y in (layout, weight, bias)]
            with kernels():
                out = functional.temporal_conv(*leaves, 2)
                results.append([out, *torch.autograd.grad(out.sum(), leaves)])
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_runs_are_equal_to_the_bit() -> None:
    inputs = [images(6, 40, 9, 9), randn(40, 40, 3, 1, seed=1), randn(40, seed=2), randn(2, 40, seed=3)]
    runs = []
    with kernels():
        for _ in range(2):
            leaves = [x.detach().requires_grad_() for x in inputs]
            out, statistics = functional.temporal_conv_with_statistics(*leaves[:3], 3, leaves[3])
            runs.append([out, statistics, *torch.autograd.grad(out.square().sum(), leaves)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_a_frozen_weight_or_input_costs_no_gradient() -> None:
    x, weight = images(2, 8, 2, 2), randn(8, 8, 3, 1, seed=1)
    for leaf in (x.requires_grad_(), weight.requires_grad_()):
        with kernels():
            out = functional.temporal_conv(x, weight, None, 2)
            assert torch.autograd.grad(out.sum(), leaf)[0].shape == leaf.shape
        leaf.requires_grad_(False)


def test_a_frame_moves_with_its_neighbours() -> None:
    x, weight = images(8, 16, 3, 3), randn(16, 16, 3, 1, seed=1)
    with kernels():
        out = functional.temporal_conv(x, weight, None, 8)
        later = functional.temporal_conv(x.roll(1, 0), weight, None, 8)
    torch.testing.assert_close(later[2:-1], out[1:-2], rtol=0, atol=0)


def test_operator_passes_opcheck() -> None:
    x, weight = images(2, 4, 2, 2).requires_grad_(), randn(4, 4, 3, 1, seed=1).requires_grad_()
    bias, shift = randn(4, seed=2).requires_grad_(), randn(1, 4, seed=3).requires_grad_()
    residual = images(2, 4, 2, 2, seed=4).requires_grad_()
    torch.library.opcheck(library.temporal_conv, (x, weight, bias, 2, shift, residual, True))


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="needs CUDA, and 18 GB of it")
def test_more_elements_than_an_int32_counts() -> None:
    videos = 2**31 // (16 * 64 * 64 * 320) + 1
    x = torch.randn(videos * 16, 64, 64, 320, dtype=torch.bfloat16, device=DEVICE).permute(0, 3, 1, 2)
    weight = torch.randn(320, 320, 3, 1, dtype=torch.bfloat16, device=DEVICE) / 30
    with use_backend("triton"):
        got = functional.temporal_conv(x, weight, None, 16)[-16:]
    expected = reference.temporal_conv(x[-16:].double(), weight.double(), None, 16)
    assert (got - expected).abs().max() < 0.1
