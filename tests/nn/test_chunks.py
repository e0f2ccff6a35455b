import pytest
import torch

from t2v.models.motion_module import MotionModule
from t2v.models.unet import MotionConfig, VideoUNet, VideoUNetConfig
from t2v.nn.chunks import by_frames, by_pixels
from t2v.nn.init import init_parameters
from t2v.nn.spatial_attention import SpatialTransformer
from t2v.nn.temporal_attention import TemporalAttention
from tests.peak_allocation import peak_allocation

SIZES = (1, 2, 3, 5, 100)


def random(module: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.double().parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return module.eval()


def images(*shape: int) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("num_texts", [2, 10], ids=["a text for a video", "a text for a frame"])
@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_spatial_transformer_by_frames(size, num_texts):
    layer = random(SpatialTransformer(8, 6, 2, num_groups=4))
    x, text = images(10, 8, 3, 5), torch.randn(num_texts, 4, 6, dtype=torch.float64)
    expected = layer(x, text)
    layer.chunk_size = size
    out = layer(x, text)
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", [lambda: TemporalAttention(8, 2), lambda: MotionModule(8, 2, 2, 4)])
@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_attention_over_frames_by_pixels(size, make):
    layer = random(make())
    x, positions = images(10, 8, 3, 5), torch.tensor([[0, 1, 2, 3, 4], [0, 2, 3, 5, 9.5]])
    expected = layer(x, 5, positions)
    layer.chunk_size = size
    torch.testing.assert_close(layer(x, 5, positions), expected, rtol=1e-12, atol=1e-12)


def test_no_chunk_is_larger_than_asked_for():
    seen = []

    def note(*tensors):
        seen.append(tuple(tensor.shape[:3] for tensor in tensors))
        return tensors[0]

    x = images(6, 4, 2, 2)
    assert torch.equal(by_frames(note, x, torch.zeros(2, 3, 4), 2), x)
    assert seen == [((2, 4, 2), (1, 3, 4)), ((1, 4, 2), (1, 3, 4))] * 2
    seen.clear()
    tokens = torch.randn(2, 4, 10, 3)
    assert torch.equal(by_pixels(note, tokens, 2), tokens)
    assert seen == [((2, 4, 5),)] * 2


@torch.inference_mode()
def test_unet_in_chunks_takes_half_the_memory():
    config = VideoUNetConfig(block_out_channels=(32, 32, 32, 32), cross_attention_dim=32, norm_num_groups=16)
    unet = VideoUNet(config, MotionConfig()).eval()
    init_parameters(unet, torch.Generator().manual_seed(0))
    x, text = torch.randn(2, 4, 8, 16, 16), torch.randn(2, 5, 32)
    expected, outputs, peaks = unet(x, 500, text), [], []
    for size in (None, 2):
        unet.attention_chunk_size = size
        assert unet.attention_chunk_size == size
        peaks.append(peak_allocation(lambda: outputs.append(unet(x, 500, text))))
    assert torch.equal(outputs[0], expected)
    torch.testing.assert_close(outputs[1], expected, rtol=1e-5, atol=1e-5)
    assert peaks[1] < 0.6 * peaks[0]
