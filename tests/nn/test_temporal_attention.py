import torch

from t2v.nn.embeddings import sinusoidal_embedding
from t2v.nn.temporal_attention import TemporalAttention
from t2v.ops import reference


def images(n: int, c: int, h: int, w: int) -> torch.Tensor:
    x = torch.randn(n, h, w, c, generator=torch.Generator().manual_seed(0))
    return x.permute(0, 3, 1, 2)


def trained(channels: int, heads: int) -> TemporalAttention:
    torch.manual_seed(0)
    module = TemporalAttention(channels, heads)
    torch.nn.init.normal_(module.to_out.weight)
    torch.nn.init.normal_(module.to_out.bias)
    torch.nn.init.normal_(module.norm.bias)
    return module


def test_temporal_attention_is_identity_at_first() -> None:
    x = images(10, 16, 3, 5)
    assert torch.equal(TemporalAttention(16, 2)(x, 5), x)


def test_temporal_attention_adds_positions_before_the_projections() -> None:
    module, x = trained(16, 2), images(10, 16, 3, 5)
    tokens = x.permute(0, 2, 3, 1).reshape(2, 5, 15, 16)
    normed = module.norm(tokens) + sinusoidal_embedding(torch.arange(5), 16)[:, None]
    q, k, v = (to(normed).unflatten(-1, (2, 8)) for to in (module.to_q, module.to_k, module.to_v))
    expected = tokens + module.to_out(reference.temporal_attention(q, k, v))
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            got = module(x, 5)
        torch.testing.assert_close(got.permute(0, 2, 3, 1).reshape(2, 5, 15, 16), expected, rtol=1e-4, atol=1e-4)


def test_temporal_attention_tells_the_order_of_frames() -> None:
    module, x = trained(16, 2), images(4, 16, 3, 5)
    forward, backward = module(x, 4), module(x.flip(0), 4).flip(0)
    assert (forward - backward).abs().max() > 1e-3


def test_temporal_attention_leaves_its_input() -> None:
    module, x = trained(16, 2), images(4, 16, 3, 5)
    before = x.clone()
    with torch.no_grad():
        module(x, 4)
    assert torch.equal(x, before)


def test_temporal_attention_prints_its_heads() -> None:
    assert "num_heads=2" in repr(TemporalAttention(16, 2))
