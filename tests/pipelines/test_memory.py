import dataclasses

import pytest
import torch

from t2v.errors import InputError
from t2v.models.autoencoder import AutoencoderConfig
from t2v.models.unet import MotionConfig, VideoUNet, VideoUNetConfig
from t2v.pipelines.memory import (
    Footprint,
    MemoryEstimate,
    decoder_tile,
    explain_out_of_memory,
    format_bytes,
    total_memory,
)
from t2v.pipelines.offload import LEVELS
from t2v.pipelines.settings import GenerationSettings
from tests.peak_allocation import peak_allocation

UNET = VideoUNetConfig(block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=768)
AUTOENCODER = AutoencoderConfig(block_out_channels=(128, 256, 512, 512), layers_per_block=2)
ESTIMATE = MemoryEstimate(weights=(2 * 10**9,) * 3, denoise=3 * 10**9, decode=10**9, frames=10**6)
STABLE_DIFFUSION = Footprint(UNET, AUTOENCODER, {"text_encoder": 10**8, "unet": 10**9, "vae": 8 * 10**7}, 2)


def test_estimate_halves_without_guidance_and_in_half_precision():
    single = dataclasses.replace(STABLE_DIFFUSION, bytes_per_value=4)
    guided, plain = single.estimate(GenerationSettings()), single.estimate(GenerationSettings(guidance_scale=1))
    half = STABLE_DIFFUSION.estimate(GenerationSettings())
    assert guided.denoise == 2 * plain.denoise == 2 * half.denoise
    assert guided.weights == (4 * 1_180_000_000,) * 3


def test_estimate_of_stable_diffusion_is_plausible():
    assert 4e9 < STABLE_DIFFUSION.estimate(GenerationSettings()).total < 16e9  # what such models are known to take


def test_estimate_of_what_is_offloaded():
    none, model, sequential = (STABLE_DIFFUSION.estimate(GenerationSettings(), level) for level in LEVELS)
    assert none.denoise == model.denoise == sequential.denoise
    assert model.weights == (2 * 10**8, 2 * 10**9, 16 * 10**7)
    assert max(sequential.weights) < 2e8
    assert none.total > model.total > sequential.total


def test_estimate_of_what_is_done_in_chunks():
    whole, half, one = (
        STABLE_DIFFUSION.estimate(GenerationSettings(attention_chunk_size=size)) for size in (None, 8, 1)
    )
    assert whole.denoise > half.denoise > one.denoise > whole.denoise / 3
    tiled = STABLE_DIFFUSION.estimate(GenerationSettings(tile_size=256))
    assert tiled.decode == STABLE_DIFFUSION.estimate(GenerationSettings(chunk_size=2)).decode == whole.decode / 4


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_estimate_is_within_a_factor_of_two_of_what_is_allocated(chunk_size):
    config = VideoUNetConfig(block_out_channels=(32, 64, 128, 128), cross_attention_dim=32, norm_num_groups=16)
    unet = VideoUNet(config, MotionConfig()).eval()
    unet.attention_chunk_size = chunk_size
    x, text = torch.randn(2, 4, 8, 16, 16), torch.randn(2, 5, 32)
    with torch.inference_mode():
        peak = peak_allocation(lambda: unet(x, 500, text))
    settings = GenerationSettings(8, height=128, width=128, attention_chunk_size=chunk_size)
    estimate = dataclasses.replace(STABLE_DIFFUSION, unet=config, bytes_per_value=4).estimate(settings)
    assert 0.5 < estimate.denoise / peak < 2


def test_decoder_tile_can_be_set():
    assert decoder_tile(GenerationSettings(height=512, width=512, tile_size=256), 8) == 32


@pytest.mark.parametrize(("height", "width", "tile"), [(768, 768, None), (776, 512, 64), (512, 776, 64)])
def test_decoder_tile_is_for_large_frames_alone(height, width, tile):
    assert decoder_tile(GenerationSettings(height=height, width=width), 8) == tile


def test_estimate_decodes_large_frames_by_the_tile():
    whole, tall, large = (
        STABLE_DIFFUSION.estimate(GenerationSettings(height=height, width=width))
        for height, width in ((512, 512), (1024, 256), (1024, 1024))
    )
    assert large.decode == whole.decode == 2 * tall.decode
    assert large.frames == 4 * whole.frames


def test_total_is_the_larger_stage_with_what_stays():
    assert ESTIMATE.total - dataclasses.replace(ESTIMATE, denoise=10**9).total == 2 * 10**9 - 10**6


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
