"""A whole U-Net by the kernels and by torch."""

import torch
from torch._dynamo.testing import EagerAndRecordGraphs

from t2v.models.unet import MotionConfig, VideoUNet, VideoUNetConfig
from t2v.ops import use_backend
from tests.ops.kernel_cases import DEVICE, kernels, randn


def tiny_unet() -> VideoUNet:
    config = VideoUNetConfig(
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        block_out_channels=(16,),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=1,
    )
    torch.manual_seed(0)
    unet = VideoUNet(config, MotionConfig()).to(DEVICE)
    for parameter in unet.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return unet


def test_network_by_the_kernels_equals_the_network_by_torch() -> None:
    unet = tiny_unet()
    x, text = randn(1, 4, 3, 2, 3), randn(1, 5, 8, seed=1)

    def run() -> list[torch.Tensor]:
        out = unet(x, 500.0, text, 8.0)
        return [out, *torch.autograd.grad(out.square().mean(), list(unet.parameters()))]

    with use_backend("torch"):
        expected = run()
    with kernels():
        got = run()
    for value, other in zip(got, expected, strict=True):
        assert (value - other).abs().max() < 1e-4 * max(1, other.abs().max().item())


@torch.no_grad()
def test_the_kernels_do_not_break_the_graph_of_a_compiled_network() -> None:
    torch._dynamo.reset()
    unet, x, text = tiny_unet(), randn(1, 4, 3, 2, 3), randn(1, 5, 8, seed=1)
    expected, recorder = unet(x, 500.0, text, 8.0), EagerAndRecordGraphs()
    with use_backend("triton"):
        got = torch.compile(unet, fullgraph=True, backend=recorder)(x, 500.0, text, 8.0)
    (graph,) = recorder.graphs
    called = {str(node.target).partition(".default")[0] for node in graph.graph.nodes}
    assert called >= {"t2v.temporal_attention", "t2v.temporal_conv", "t2v.group_norm"}
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
