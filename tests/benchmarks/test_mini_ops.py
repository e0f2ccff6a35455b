import torch

from t2v.models.unet import MotionConfig, VideoUNet, VideoUNetConfig
from t2v.ops import reference
from tests.benchmarks import mini_ops


def test_plain_ops_give_the_same_network(monkeypatch) -> None:
    config = VideoUNetConfig(
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        block_out_channels=(8,),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=2,
    )
    torch.manual_seed(0)
    unet = VideoUNet(config, MotionConfig()).eval().requires_grad_(False)
    for parameter in unet.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    x, text = torch.randn(1, 4, 3, 4, 4), torch.randn(1, 5, 8)
    calls = []
    plain = reference.temporal_attention
    monkeypatch.setattr(reference, "temporal_attention", lambda *args: (calls.append(1), plain(*args))[1])
    expected = unet(x, 500, text)
    assert not calls
    with mini_ops.plain_ops():
        got = unet(x, 500, text)
    assert calls
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
