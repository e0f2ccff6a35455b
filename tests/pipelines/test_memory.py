import pytest
import torch

from t2v.errors import InputError
from t2v.models.autoencoder import AutoencoderConfig
from t2v.models.unet import VideoUNetConfig
from t2v.pipelines.memory import (
    MemoryEstimate,
    decoder_tile,
    estimate_memory,
    explain_out_of_memory,
    format_bytes,
    total_memory,
)
from t2v.pipelines.settings import GenerationSettings

UNET = VideoUNetConfig(block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=768)
AUTOENCODER = AutoencoderConfig(block_out_channels=(128, 256, 512, 512), layers_per_block=2)
ESTIMATE = MemoryEstimate(weights=2 * 10**9, denoise=3 * 10**9, decode=10**9, frames=10**6)


def test_estimate_memory_halves_without_guidance_and_in_half_precision():
    guided = estimate_memory(UNET, AUTOENCODER, GenerationSettings(), 10**9, 4)
    plain = estimate_memory(UNET, AUTOENCODER, GenerationSettings(guidance_scale=1), 10**9, 4)
    half = estimate_memory(UNET, AUTOENCODER, GenerationSettings(), 10**9, 2)
    assert guided.denoise == 2 * plain.denoise == 2 * half.denoise
    assert guided.weights == 4 * 10**9


def test_estimate_memory_of_stable_diffusion_is_plausible():
    estimate = estimate_memory(UNET, AUTOENCODER, GenerationSettings(), 1_500_000_000, 2)
    assert 4e9 < estimate.total < 16e9  # what such models are known to take on a GPU


@pytest.mark.parametrize(("height", "width", "tile"), [(768, 768, None), (776, 512, 64), (512, 776, 64)])
def test_decoder_tile_is_for_large_frames_alone(height, width, tile):
    assert decoder_tile(GenerationSettings(height=height, width=width), 8) == tile


def test_estimate_memory_decodes_large_frames_by_the_tile():
    whole, tall, large = (
        estimate_memory(UNET, AUTOENCODER, GenerationSettings(height=height, width=width), 10**9, 4)
        for height, width in ((512, 512), (1024, 256), (1024, 1024))
    )
    assert large.decode == whole.decode == 2 * tall.decode
    assert large.frames == 4 * whole.frames


def test_total_is_the_larger_stage_with_what_stays():
    assert ESTIMATE.total - MemoryEstimate(2 * 10**9, 10**9, 10**9, 10**6).total == 2 * 10**9


def test_total_memory_of_this_machine():
    assert 2**28 < total_memory(torch.device("cpu")) < 2**50


@pytest.mark.parametrize(("count", "text"), [(1_400_000_000, "1.4 GB"), (999_000_000, "999 MB")])
def test_format_bytes(count, text):
    assert format_bytes(count) == text


def test_explain_out_of_memory_gives_the_estimate_and_its_parts():
    with (
        pytest.raises(InputError, match=r"about 5\.5 GB \(weights 2\.0 GB, denoising 3\.0 GB, decoding 1\.0 GB\)"),
        explain_out_of_memory(ESTIMATE),
    ):
        torch.empty(10**15)


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), KeyError("memory"), KeyboardInterrupt()])
def test_explain_out_of_memory_lets_other_errors_through(error):
    with pytest.raises(type(error)), explain_out_of_memory(ESTIMATE):
        raise error
