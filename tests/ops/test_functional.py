"""Each op against its plain version in float64: output, every gradient, layout."""

from collections.abc import Callable

import pytest
import torch

from t2v.ops import functional, reference

# odd and even lengths; a single frame; longer than the plain path takes on the CPU
NUM_FRAMES = [1, 3, 5, 16, functional.MAX_PLAIN_FRAMES + 1]
# heads and size of each: sizes of the mini model and of Stable Diffusion's outer level
HEADS = [(2, 8), (3, 40)]


def check_op(op: Callable, plain: Callable, inputs: list[torch.Tensor], tolerance: float = 1e-4) -> None:
    """Compare `op` in float32 with `plain` in float64, with and without gradient mode."""
    exact = [x.double().requires_grad_() for x in inputs]
    approximate = [x.clone(memory_format=torch.preserve_format).requires_grad_() for x in inputs]
    expected, got = plain(*exact), op(*approximate)
    torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=tolerance)
    with torch.no_grad():
        torch.testing.assert_close(op(*inputs).double(), expected, rtol=tolerance, atol=tolerance)

    seed = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    expected_gradients = torch.autograd.grad(expected, exact, seed.double())
    gradients = torch.autograd.grad(got, approximate, seed)
    for value, gradient in zip(expected_gradients, gradients, strict=True):
        torch.testing.assert_close(gradient.double(), value, rtol=tolerance, atol=tolerance * value.abs().max().item())


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def images(n: int, c: int, h: int, w: int) -> torch.Tensor:
    return randn(n, h, w, c).permute(0, 3, 1, 2)


def test_to_tokens_is_a_view() -> None:
    x = images(6, 4, 3, 5)
    tokens = functional.to_tokens(x, 3)
    assert tokens.shape == (2, 3, 15, 4)
    assert tokens.is_contiguous()
    assert tokens.data_ptr() == x.data_ptr()
    assert torch.equal(functional.to_images(tokens, 3, 5), x)


def test_to_tokens_refuses_a_layout_that_needs_a_copy() -> None:
    with pytest.raises(AssertionError):
        functional.to_tokens(randn(6, 4, 3, 5), 3)


@pytest.mark.parametrize("num_frames", NUM_FRAMES)
@pytest.mark.parametrize(("batch", "channels", "out_channels"), [(2, 8, 8), (1, 5, 7)])
def test_temporal_conv_matches_conv3d(num_frames: int, batch: int, channels: int, out_channels: int) -> None:
    check_op(
        lambda *args: functional.temporal_conv(*args, num_frames),
        lambda *args: reference.temporal_conv(*args, num_frames),
        [
            images(batch * num_frames, channels, 3, 5),
            randn(out_channels, channels, 3, 1, seed=2),
            randn(out_channels, seed=3),
        ],
    )


@pytest.mark.parametrize("num_frames", [2, 3, 16])
@pytest.mark.parametrize("channels", [4, 40, 64])
def test_temporal_conv_with_dirac_weight_is_exact(num_frames: int, channels: int) -> None:
    weight = torch.nn.init.dirac_(torch.empty(channels, channels, 3, 1))
    x = images(2 * num_frames, channels, 7, 5)
    out = functional.temporal_conv(x, weight, torch.zeros(channels), num_frames)
    assert torch.equal(out, x)
    assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("num_frames", NUM_FRAMES)
@pytest.mark.parametrize(("heads", "head_dim"), HEADS)
@pytest.mark.parametrize(("batch", "pixels"), [(1, 15), (2, 7)])
def test_temporal_attention_matches_reference(
    num_frames: int, heads: int, head_dim: int, batch: int, pixels: int
) -> None:
    check_op(
        functional.temporal_attention,
        reference.temporal_attention,
        [randn(batch, num_frames, pixels, heads, head_dim, seed=i) for i in range(3)],
    )


@pytest.mark.parametrize("num_frames", [1, 2, 7, 15, 76])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_temporal_attention_with_bias_mask_and_causality_matches_reference(
    num_frames: int, causal: bool, masked: bool
) -> None:
    mask = torch.arange(num_frames) % 3 != 0  # the first frame too: with causality it has nothing to attend to
    mask = torch.stack([mask, torch.ones_like(mask)]) if masked else None
    inputs = [randn(2, num_frames, 3, 2, 8, seed=i) for i in range(3)]
    check_op(
        lambda q, k, v, table: functional.temporal_attention(
            q, k, v, functional.relative_position_bias(table), mask, causal
        ),
        lambda q, k, v, table: reference.temporal_attention(
            q, k, v, functional.relative_position_bias(table), mask, causal
        ),
        [*inputs, randn(2, 2 * num_frames - 1, seed=4)],
    )
    check_op(
        lambda *args: functional.temporal_attention(*args, mask=mask, causal=causal),
        lambda *args: reference.temporal_attention(*args, mask=mask, causal=causal),
        inputs,
    )


def test_relative_position_bias_counts_from_the_query() -> None:
    bias = functional.relative_position_bias(torch.tensor([[-2, -1, 0, 1, 2]]))
    assert bias.tolist() == [[[0, 1, 2], [-1, 0, 1], [-2, -1, 0]]]


@pytest.mark.parametrize("num_frames", [5, functional.MAX_PLAIN_FRAMES + 1])
def test_temporal_attention_takes_packed_projections(num_frames: int) -> None:
    packed = randn(2, num_frames, 7, 2, 3, 8)
    got = functional.temporal_attention(*packed.unbind(-2))
    expected = functional.temporal_attention(*(x.contiguous() for x in packed.unbind(-2)))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_frames", [5, functional.MAX_PLAIN_FRAMES + 1])
def test_temporal_attention_follows_a_permutation_of_frames(num_frames: int) -> None:
    q, k, v = (randn(2, num_frames, 7, 2, 8, seed=i) for i in range(3))
    order = torch.randperm(num_frames, generator=torch.Generator().manual_seed(0))
    expected = functional.temporal_attention(q, k, v)[:, order]
    got = functional.temporal_attention(*(x[:, order] for x in (q, k, v)))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_temporal_attention_crosses_the_edge_of_a_portion() -> None:
    pixels = functional.CPU_PORTION // 2 + 3
    inputs = [randn(2, 3, pixels, 2, 8, seed=i) for i in range(3)]
    check_op(functional.temporal_attention, reference.temporal_attention, inputs)


def test_temporal_attention_output_is_contiguous() -> None:
    for num_frames in (5, functional.MAX_PLAIN_FRAMES + 1):
        q, k, v = (randn(2, num_frames, 7, 2, 8, seed=i) for i in range(3))
        assert functional.temporal_attention(q, k, v).is_contiguous()


@pytest.mark.parametrize("limit", [1, 3, 5, 14, 20])
def test_fused_attention_in_portions_equals_the_whole(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = (randn(4, 14, 5, 8, seed=i) for i in range(3))
    fused = torch.nn.functional.scaled_dot_product_attention
    expected, shapes = fused(q, k, v), []

    def recorded(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        shapes.append(q.shape)
        return fused(q, k, v)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", recorded)
    torch.testing.assert_close(functional._attention_in_portions(q, k, v, limit), expected)
    assert all(shape[0] <= limit and shape[1] <= limit for shape in shapes)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_more_images_and_pixels_than_the_fused_kernels_number() -> None:
    shapes = {"attention": (functional.CUDA_LIMIT + 9, 2, 1, 16), "temporal_attention": (1, 2, 70000, 1, 16)}
    for name, shape in shapes.items():
        q, k, v = (randn(*shape, seed=i).to("cuda", torch.bfloat16) for i in range(3))
        expected = getattr(reference, name)(q.double(), k.double(), v.double())
        assert (getattr(functional, name)(q, k, v) - expected).abs().max() < 0.05


def test_temporal_attention_keeps_pixels_apart() -> None:
    q, k, v = (randn(1, 4, 6, 2, 8, seed=i) for i in range(3))
    before = functional.temporal_attention(q, k, v)
    k[:, :, 2] += 1
    v[:, :, 2] += 1
    changed = (functional.temporal_attention(q, k, v) != before).any(dim=-1).any(dim=1)
    assert changed[0].tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize(("heads", "head_dim"), HEADS)
@pytest.mark.parametrize(("queries", "keys"), [(15, 15), (35, 77), (1, 3)])
def test_attention_matches_reference(heads: int, head_dim: int, queries: int, keys: int) -> None:
    check_op(
        functional.attention,
        reference.attention,
        [randn(2, length, heads, head_dim, seed=i) for i, length in enumerate((queries, keys, keys))],
    )


def test_attention_upcast_computes_half_precision_in_float32() -> None:
    q, k, v = (randn(1, 9, 2, 8, seed=i).to(torch.bfloat16) for i in range(3))
    expected = reference.attention(q.double(), k.double(), v.double())
    got = functional.attention(q, k, v, upcast=True)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, expected.to(torch.bfloat16), rtol=0.01, atol=1e-3)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.02)])
@torch.no_grad()
def test_temporal_attention_without_gradients_is_as_exact_as_its_dtype(dtype: torch.dtype, error: float) -> None:
    q, k, v = (randn(2, 16, 6, 2, 8, seed=i).to(dtype) for i in range(3))
    expected = reference.temporal_attention(q.double(), k.double(), v.double())
    got = functional.temporal_attention(q, k, v)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), expected, rtol=error, atol=error)


@pytest.mark.parametrize(("channels", "groups"), [(8, 2), (40, 8)])
@pytest.mark.parametrize("size", [(3, 5), (1, 1)])
def test_group_norm_matches_reference(channels: int, groups: int, size: tuple[int, int]) -> None:
    check_op(
        lambda x, weight, bias: functional.group_norm(x, groups, weight, bias, 1e-5),
        lambda x, weight, bias: reference.group_norm(x, groups, weight, bias, 1e-5),
        [images(4, channels, *size), randn(channels, seed=2), randn(channels, seed=3)],
    )


@pytest.mark.parametrize(("channels", "groups"), [(8, 2), (40, 8)])
@pytest.mark.parametrize("size", [(3, 5), (1, 1)])
def test_group_norm_silu_matches_reference(channels: int, groups: int, size: tuple[int, int]) -> None:
    check_op(
        lambda x, weight, bias: functional.group_norm_silu(x, groups, weight, bias, 1e-5),
        lambda x, weight, bias: reference.group_norm_silu(x, groups, weight, bias, 1e-5),
        [images(4, channels, *size), randn(channels, seed=2), randn(channels, seed=3)],
    )


@pytest.mark.parametrize("channels", [8, 64])  # narrow and wide groups
def test_group_norm_in_bfloat16_agrees_and_keeps_the_layout(channels: int) -> None:
    x, weight, bias = images(4, channels, 3, 5).to(torch.bfloat16), randn(channels, seed=2), randn(channels, seed=3)
    results = []
    for dtype in (torch.bfloat16, torch.float64):
        leaf = x.to(dtype).requires_grad_()
        out = functional.group_norm(leaf, 4, weight.to(dtype), bias.to(dtype), 1e-5)
        assert out.is_contiguous(memory_format=torch.channels_last)
        results.append((out.double(), torch.autograd.grad(out.square().sum(), leaf)[0].double()))
    for got, expected in zip(*results, strict=True):
        assert (got - expected).abs().max() < 0.02 * expected.abs().max()


def test_geglu_matches_reference_and_leaves_its_input() -> None:
    x = randn(3, 5, 14)
    check_op(functional.geglu, reference.geglu, [x])
    assert torch.equal(x, randn(3, 5, 14))


def test_group_norm_of_images_that_need_no_gradient() -> None:
    images = torch.randn(2, 32, 4, 4).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.ones(32, requires_grad=True), torch.zeros(32, requires_grad=True)
    functional.group_norm(images, 32, weight, bias, 1e-5).square().sum().backward()
    expected = 2 * reference.group_norm(images, 32, weight.detach(), bias.detach(), 1e-5).square().sum((0, 2, 3))
    torch.testing.assert_close(weight.grad, expected, rtol=1e-4, atol=1e-4)


def test_group_norm_silu_keeps_the_layout_and_the_input() -> None:
    x = images(4, 8, 3, 5)
    before = x.clone()
    with torch.no_grad():
        out = functional.group_norm_silu(x, 2, torch.ones(8), torch.zeros(8), 1e-5)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, before)


def test_add_writes_in_place_only_without_gradients() -> None:
    x = randn(3)
    assert functional.add(x, torch.ones(3)).data_ptr() != x.data_ptr()
    with torch.no_grad():
        assert functional.add(x, torch.ones(3)).data_ptr() == x.data_ptr()
