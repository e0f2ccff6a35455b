import pytest
import torch

from t2v.nn.spatial_attention import SpatialTransformer


@pytest.mark.parametrize("linear", [False, True])
def test_spatial_transformer_shares_text_between_frames(linear: bool) -> None:
    torch.manual_seed(0)
    block = SpatialTransformer(16, 12, 2, num_groups=4, use_linear_projection=linear)
    x = torch.randn(6, 4, 5, 16).permute(0, 3, 1, 2)
    text = torch.randn(2, 7, 12)
    repeated = block(x, text.repeat_interleave(3, dim=0))
    torch.testing.assert_close(block(x, text), repeated)
    with torch.no_grad():
        torch.testing.assert_close(block(x, text), repeated)


def test_spatial_transformer_keeps_the_layout_and_the_input() -> None:
    block = SpatialTransformer(16, 12, 2, num_groups=4)
    x = torch.randn(2, 4, 5, 16).permute(0, 3, 1, 2)
    before = x.clone()
    with torch.no_grad():
        assert block(x, torch.randn(2, 7, 12)).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, before)
