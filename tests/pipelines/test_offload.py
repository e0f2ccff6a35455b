import dataclasses
import shutil
import warnings

import numpy as np
import pytest
import torch

import t2v
from t2v.errors import InputError
from t2v.models.autoencoder import AutoencoderKL
from t2v.models.autoencoder_classes import load_autoencoder
from t2v.models.folder import load_components
from t2v.models.interpolation import save_interpolation, widen
from t2v.models.vq_model import VQConfig, VQModel
from t2v.pipelines.interpolation.diffusion import DiffusionFill, FillSettings
from t2v.pipelines.offload import LEVELS, Placement
from t2v.pipelines.text_to_video import TextToVideoPipeline

PROMPT = "a robot dancing in times square"
OFFLOADED = [level for level in LEVELS if level != "none"]
pytestmark = pytest.mark.filterwarnings("ignore:--offload")


def load(model, offload, **options):
    return t2v.load(str(model), device="cpu", dtype="fp32", offload=offload, **options)


def is_there(module):
    """Whether weights are on the device; those that are not are on the meta device."""
    return {parameter.device.type for parameter in module.parameters()} == {"cpu"}


@pytest.fixture(scope="module")
def plain(tiny_model):
    return load(tiny_model, "none")


@pytest.fixture(scope="module")
def animatediff_model(tiny_image_model, tmp_path_factory):
    diffusers = pytest.importorskip("diffusers")
    sizes = {"block_out_channels": (8, 16), "motion_layers_per_block": 1, "motion_num_attention_heads": 2}
    folder = shutil.copytree(tiny_image_model, tmp_path_factory.mktemp("models") / "animatediff")
    diffusers.MotionAdapter(**sizes, motion_norm_num_groups=4).save_pretrained(folder / "motion")
    return folder


@pytest.mark.parametrize("level", OFFLOADED)
def test_videos_are_those_without_offload_to_the_bit(tiny_model, plain, level):
    pipe = load(tiny_model, level)
    for seed in (0, 1):
        video, expected = (each(PROMPT, seed=seed, guidance_scale=3, chunk_size=3) for each in (pipe, plain))
        assert np.array_equal(video.frames, expected.frames)
    assert video.metadata["offload"] == level


@pytest.mark.parametrize("model", ["animatediff_model", "modelscope_folder"])
@pytest.mark.parametrize("level", OFFLOADED)
def test_other_temporal_layers_come_and_go(request, model, level):
    options = {"num_frames": 3, "num_inference_steps": 2, "height": 32, "width": 32}
    videos = [load(request.getfixturevalue(model), offload)(PROMPT, **options) for offload in ("none", level)]
    assert np.array_equal(videos[0].frames, videos[1].frames)


def watch(pipe, module, seen):
    """Note which networks have all their weights when a module is called."""
    networks = {"text": pipe.text_encoder, "unet": pipe.unet, "vae": pipe.autoencoder}
    module.register_forward_pre_hook(
        lambda *_: seen.append({name for name, network in networks.items() if is_there(network)})
    )


def test_with_model_one_network_is_there_at_a_time(tiny_model):
    pipe, seen = load(tiny_model, "model"), []
    for module in (pipe.text_encoder.model, pipe.unet.conv_in, pipe.autoencoder.decoder.conv_in):
        watch(pipe, module, seen)
    pipe(PROMPT, num_inference_steps=2, callback=lambda index, count, estimate: index == 0 and estimate())
    assert seen == [{"text"}, {"unet"}, {"vae"}, {"unet"}, {"vae"}]


def test_with_sequential_one_block_is_there_at_a_time(tiny_model):
    pipe, present = load(tiny_model, "sequential"), []
    networks = (pipe.text_encoder, pipe.unet, pipe.autoencoder)
    total = sum(parameter.numel() for network in networks for parameter in network.parameters())

    def note(*_):
        there = (p.numel() for network in networks for p in network.parameters() if p.device.type == "cpu")
        present.append(sum(there))

    for network in networks:
        for module in network.modules():
            if not list(module.children()):
                module.register_forward_pre_hook(note)
    pipe(PROMPT)
    largest = max(
        sum(p.numel() for p in block.parameters()) for level in pipe.unet.up_blocks for block in level.resnets
    )
    assert 0 < max(present) <= max(largest, pipe.text_encoder.model.config.vocab_size * 16) < total / 4
    assert not any(is_there(network) for network in networks)


@pytest.mark.parametrize("level", OFFLOADED)
def test_release_gives_the_weights_back(tiny_model, plain, level):
    pipe = load(tiny_model, level)
    pipe(PROMPT)
    pipe.placement.release()
    for network, expected in ((pipe.unet, plain.unet), (pipe.autoencoder, plain.autoencoder)):
        assert all(
            torch.equal(got, want) for got, want in zip(network.parameters(), expected.parameters(), strict=True)
        )
    with torch.inference_mode():
        latents = torch.zeros(1, 4, 2, 8, 8)
        assert torch.equal(pipe.autoencoder.decode(latents), plain.autoencoder.decode(latents))


@pytest.mark.parametrize("level", OFFLOADED)
def test_autoencoder_that_overflows_in_fp16_is_upcast(tiny_model, level):
    videos = []
    for offload in ("none", level):
        components = load_components(str(tiny_model), dtype=torch.float16)
        components.autoencoder.config = dataclasses.replace(components.autoencoder.config, force_upcast=True)
        pipe = TextToVideoPipeline(components, Placement(torch.device("cpu"), offload))
        videos.append(pipe(PROMPT, num_frames=2).frames)
    assert np.array_equal(*videos)


@pytest.mark.parametrize("level", OFFLOADED)
def test_interpolation_takes_turns_with_the_pipeline(tiny_model, plain, level, tmp_path):
    save_interpolation(widen(load_components(str(tiny_model)).unet), tmp_path / "interpolation")
    pipe = load(tiny_model, level)
    pictures = pipe(PROMPT, num_frames=2).frames
    made = []
    for components, placement in ((plain.components, None), (pipe.components, pipe.placement)):
        settings = FillSettings(num_inference_steps=2, sampler="ddim", scale=1.0)
        fill = DiffusionFill(components, tmp_path / "interpolation", settings, placement)
        made.append(fill(pictures, [0.0, 1.0], [0.5]))
    assert np.array_equal(*made)
    assert np.array_equal(pipe(PROMPT, num_frames=2).frames, pictures)


def test_offload_on_a_cpu_says_that_it_saves_nothing(tiny_model):
    with pytest.warns(UserWarning, match="--offload model saves nothing on a CPU"):
        load(tiny_model, "model")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Placement(torch.device("cuda"), "model")


def test_an_unknown_level_is_refused(tiny_model):
    with pytest.raises(InputError, match="unknown offload 'disk': use none, model, sequential"):
        load(tiny_model, "disk")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("level", OFFLOADED)
def test_gpu_holds_less(tiny_model, level):
    peaks, frames = [], []
    for offload in ("none", level):
        pipe = t2v.load(str(tiny_model), device="cuda", dtype="fp32", offload=offload)
        torch.cuda.reset_peak_memory_stats()
        frames.append(pipe(PROMPT).frames)
        peaks.append(torch.cuda.max_memory_allocated())
        del pipe
    assert np.array_equal(*frames)
    assert peaks[1] < peaks[0]


@pytest.mark.parametrize("level", OFFLOADED)
def test_codebook_comes_and_goes(tmp_path, level):
    VQModel(VQConfig(block_out_channels=(8, 8, 8), norm_num_groups=4)).save_pretrained(tmp_path)
    placed, plain = load_autoencoder(tmp_path).requires_grad_(False), load_autoencoder(tmp_path).requires_grad_(False)
    placement = Placement(torch.device("cpu"), level)
    placement.place(placed)
    assert not is_there(placed)
    placement.bring(placed)
    z = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(placed.decode(z), plain.decode(z))


def test_encoder_is_brought_too(tiny_model):
    components = load_components(str(tiny_model))
    placement = Placement(torch.device("cpu"), "sequential")
    placement.place(components.autoencoder)
    assert isinstance(components.autoencoder, AutoencoderKL) and not is_there(components.autoencoder)
    frames = torch.zeros(1, 3, 16, 16)
    expected = load_components(str(tiny_model)).autoencoder.encode(frames).mean
    assert torch.equal(components.autoencoder.encode(frames).mean, expected)
