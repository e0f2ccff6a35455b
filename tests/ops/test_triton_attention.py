"""The kernel of attention over frames."""

import pytest
import torch

from t2v.ops import functional, library, reference, use_backend
from tests.ops.kernel_cases import DEVICE, DTYPES, check, kernels, randn

# batch, frames, pixels (not a multiple of the tile), heads, head size
SHAPES = [
    (2, 1, 5, 1, 40),
    (2, 2, 9, 1, 24),
    (1, 7, 3, 2, 40),
    (2, 15, 5, 1, 80),
    (1, 16, 1, 8, 40),
    (1, 76, 2, 1, 160),
    (1, 33, 1, 1, 8),
    (2, 3, 2, 2, 5),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_output_and_gradients(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = [randn(*shape, seed=i, dtype=dtype) for i in range(3)]
    check(functional.temporal_attention, reference.temporal_attention, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize(("masked", "causal"), [(False, False), (True, True)])
@pytest.mark.parametrize("shape", [(2, 7, 3, 2, 40), (1, 20, 2, 1, 24), (1, 40, 2, 1, 16), (1, 76, 1, 1, 8)], ids=str)
def test_bias_mask_and_causality(shape: tuple[int, ...], masked: bool, causal: bool, dtype: torch.dtype) -> None:
    b, f, _, heads, _ = shape
    mask = (torch.arange(b * f, device=DEVICE) % 3 != 0).view(b, f) if masked else None
    inputs = [*(randn(*shape, seed=i, dtype=dtype) for i in range(3)), randn(heads, f, f, seed=3, dtype=dtype)]
    check(
        lambda q, k, v, bias: functional.temporal_attention(q, k, v, bias, mask, causal),
        lambda q, k, v, bias: reference.temporal_attention(q, k, v, bias, mask, causal),
        inputs,
    )


@pytest.mark.parametrize(("masked", "causal"), [(True, False), (False, True)])
def test_mask_or_causality_alone(masked: bool, causal: bool) -> None:
    mask = torch.tensor([[True, False, True, True, False], [False] * 5], device=DEVICE) if masked else None
    check(
        lambda q, k, v: functional.temporal_attention(q, k, v, None, mask, causal),
        lambda q, k, v: reference.temporal_attention(q, k, v, None, mask, causal),
        [randn(2, 5, 3, 2, 16, seed=i) for i in range(3)],
    )


def test_packed_projections_are_read_in_place() -> None:
    packed = randn(2, 7, 5, 2, 3, 40)
    check(
        lambda x: functional.temporal_attention(*x.unbind(-2)),
        lambda x: reference.temporal_attention(*x.unbind(-2)),
        [packed],
    )
    apart = [x.contiguous() for x in packed.unbind(-2)]
    with kernels():
        expected = functional.temporal_attention(*apart)
        assert torch.equal(functional.temporal_attention(*packed.unbind(-2)), expected)


def test_other_strides_are_copied() -> None:
    q, k, v = (randn(2, 5, 7, 2, 40, seed=i).transpose(1, 2) for i in range(3))
    with kernels():
        expected = functional.temporal_attention(*(x.contiguous() for x in (q, k, v)))
        assert torch.equal(functional.temporal_attention(q, k, v), expected)


def test_follows_a_permutation_of_frames() -> None:
    q, k, v = (randn(1, 15, 3, 1, 40, seed=i) for i in range(3))
    order = torch.randperm(15, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    with kernels():
        expected = functional.temporal_attention(q, k, v)[:, order]
        got = functional.temporal_attention(*(x[:, order] for x in (q, k, v)))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_runs_are_equal_to_the_bit() -> None:
    inputs = [*(randn(1, 7, 9, 1, 40, seed=i) for i in range(3)), randn(1, 7, 7, seed=3)]
    runs = []
    with kernels():
        for _ in range(2):
            leaves = [x.detach().requires_grad_() for x in inputs]
            out = functional.temporal_attention(*leaves)
            runs.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_operator_passes_opcheck() -> None:
    inputs = [randn(1, 3, 2, 1, 16, seed=i).requires_grad_() for i in range(3)]
    bias = randn(1, 3, 3, seed=3).requires_grad_()
    mask = torch.tensor([[True, False, True]], device=DEVICE)
    torch.library.opcheck(library.temporal_attention, (*inputs, bias, mask, True))
    tensors = [x.detach() for x in (*inputs, bias)]
    grad = randn(1, 3, 2, 16, seed=4)
    torch.library.opcheck(library.temporal_attention_backward, (grad, *tensors, mask, True))
    torch.library.opcheck(library.temporal_attention_backward, (grad, *tensors[:3], None, None, False))


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="needs CUDA, and 18 GB of it")
def test_more_elements_than_an_int32_counts() -> None:
    pixels = 2**31 // (16 * 8 * 40) + 1000
    q, k, v = (torch.randn(1, 16, pixels, 8, 40, dtype=torch.bfloat16, device=DEVICE) for _ in range(3))
    with use_backend("triton"):
        got = functional.temporal_attention(q, k, v)[:, :, -50:]
    expected = reference.temporal_attention(*(x[:, :, -50:].double() for x in (q, k, v)))
    assert (got - expected).abs().max() < 0.02
