import shutil

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from t2v.models.autoencoder import AutoencoderConfig, AutoencoderKL
from t2v.models.unet import VideoUNet, VideoUNetConfig
from t2v.nn.enlarge import enlarge


@pytest.mark.parametrize("size", [(10, 6), (9, 6), (10, 5), (9, 5), (7, 7)])
def test_enlarge_by_views_is_that_of_torch(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 5, 3, dtype=torch.float64, generator=generator)
    images = images.to(memory_format=torch.channels_last).requires_grad_()
    ours, theirs = enlarge(images, size), F.interpolate(images, size=size, mode="nearest")
    assert torch.equal(ours, theirs)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    upstream = torch.randn(theirs.shape, dtype=torch.float64, generator=generator)
    (gradient,) = torch.autograd.grad(ours, images, upstream)
    (expected,) = torch.autograd.grad(theirs, images, upstream)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_compiled_networks_enlarge_by_views(size: tuple[int, int]) -> None:
    config = VideoUNetConfig(
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=2,
    )
    unet, text = VideoUNet(config), torch.randn(2, 5, 8)
    autoencoder = AutoencoderKL(AutoencoderConfig(block_out_channels=(8, 16), norm_num_groups=4))
    latents = torch.randn(2, 4, *size)
    for network, inputs in ((unet, (latents, torch.tensor(500), text)), (autoencoder.decoder, (latents,))):
        torch._dynamo.reset()
        called: list[str] = []

        def backend(graph: torch.fx.GraphModule, _: list[torch.Tensor], called: list[str] = called) -> object:
            called += [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
            return graph

        torch.compile(network, backend=backend, fullgraph=True)(*inputs)
        assert any("conv2d" in name for name in called)
        assert not any("interpolate" in name or "upsample" in name for name in called)


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
def test_compiled_enlargement_passes_the_gradient_on() -> None:
    """In bfloat16 between convolutions of this width, that of F.interpolate is lost (torch 2.13, a CPU with AMX)."""
    torch.manual_seed(0)
    before = nn.Conv2d(128, 128, 1).to(memory_format=torch.channels_last)
    after = nn.Conv2d(128, 128, 3, padding=1).to(memory_format=torch.channels_last)
    images = torch.randn(2, 128, 8, 8).to(memory_format=torch.channels_last)
    gradients = []

    def network(images: torch.Tensor) -> torch.Tensor:
        return after(enlarge(before(images), (16, 16)))

    for function in (network, torch.compile(network)):
        before.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            out = function(images)
        out.float().square().mean().backward()
        assert before.weight.grad is not None
        gradients.append(before.weight.grad.clone())
    eager, compiled = gradients
    assert (compiled - eager).norm() < 0.05 * eager.norm()
