"""U-Nets of ModelScope's kind against diffusers' UNet3DConditionModel; wrong and broken ones."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2v.errors import InputError
from t2v.models.folder import load_components
from t2v.models.modelscope import load_modelscope, public_name, read_modelscope_config
from t2v.models.unet import VideoUNet, VideoUNetConfig, is_temporal
from tests.models.peers import make_video_unet, relative

WEIGHTS = Path("unet/diffusion_pytorch_model.safetensors")


def load(peer: Any) -> VideoUNet:
    return load_modelscope(dict(peer.config), peer.state_dict(), "the peer").eval()


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, (5, 8, 8)),
        ({}, (1, 8, 8)),  # a single frame goes through the temporal layers, too
        ({}, (3, 7, 5)),
        ({"layers_per_block": 2, "attention_head_dim": 16, "downsample_padding": 0}, (4, 8, 12)),
    ],
    ids=["video", "one frame", "odd size", "other config"],
)
@torch.no_grad()
def test_it_is_diffusers_unet(changes, size):
    peer = make_video_unet(**changes)
    unet = load(peer)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, *size, generator=generator)
    text = torch.randn(2, 7, 64, generator=generator)
    assert relative(unet(x, 500, text), peer(x, 500, text).sample) < 1e-5
    got, expected = unet.double()(x.double(), 500, text.double()), peer.double()(x.double(), 500, text.double()).sample
    assert relative(got, expected) < 1e-7  # the sinusoids of the timestep are float32


@torch.no_grad()
def test_text_may_differ_from_frame_to_frame():
    unet = load(make_video_unet())
    x, text = torch.randn(1, 4, 3, 8, 8), torch.randn(1, 7, 64)
    same = unet(x, 500, text[:, None].expand(-1, 3, -1, -1))
    assert relative(same, unet(x, 500, text)) < 1e-5


def test_names_shapes_and_sizes_of_the_public_checkpoint():
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        peer = diffusers.UNet3DConditionModel(sample_size=32)
    unet = load_modelscope(dict(peer.config), peer.state_dict(), "the peer")
    own, public = unet.state_dict(), peer.state_dict()
    assert {public_name(name) for name in own} == public.keys() and len(own) == len(public) == 1480
    counts = {
        part: sum(math.prod(tensor.shape) for name, tensor in own.items() if is_temporal(name) is part)
        for part in (True, False)
    }
    assert counts == {True: 545_323_136, False: 1_411_233_860 - 545_323_136}


@pytest.mark.slow
@torch.no_grad()
def test_the_full_size_equals_diffusers():
    """About 12 GB of memory."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    peer = diffusers.UNet3DConditionModel(sample_size=32).eval()
    for parameter in peer.parameters():
        parameter += 0.01 * torch.randn(parameter.shape)
    x, text = torch.randn(1, 4, 4, 16, 16), torch.randn(1, 77, 1024)
    expected = peer(x, 500, text).sample
    weights, config = peer.state_dict(), dict(peer.config)
    del peer
    difference = relative(load_modelscope(config, weights, "the peer").eval()(x, 500, text), expected)
    print(f"relative difference {difference:.2e}")
    assert difference < 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"down_block_types": ["SimpleCrossAttnDownBlock3D", "DownBlock3D"]},
            "'SimpleCrossAttnDownBlock3D', supported",
        ),
        ({"mid_block_type": "UNetMidBlock3DSimpleCrossAttn"}, "mid_block_type has"),
        ({"act_fn": "gelu"}, "act_fn is 'gelu'"),
        ({"attention_head_dim": [8, 8]}, "attention_head_dim must be one positive integer"),
        ({"attention_head_dim": 24}, r"attention_head_dim 24 does not divide block_out_channels \[32, 64\]"),
        ({"num_attention_heads": 8}, "num_attention_heads is 8"),
        ({"time_cond_proj_dim": 256}, "time_cond_proj_dim is 256"),
    ],
    ids=str,
)
def test_what_is_not_supported_is_named(changes, message):
    config = {**make_video_unet().config, **changes}
    with pytest.raises(InputError, match=message) as caught:
        read_modelscope_config(config)
    assert "\n" not in str(caught.value)


def test_the_config_of_2023_is_read():
    """Fields that early versions of diffusers wrote."""
    config = {**make_video_unet().config, "mid_block_type": "UNetMidBlock3DCrossAttn", "use_linear_projection": True}
    config |= {"center_input_sample": False, "class_embed_type": None, "time_embedding_type": "positional"}
    assert read_modelscope_config(config) == read_modelscope_config(make_video_unet().config)


def test_an_image_network_is_not_made_of_it(modelscope_folder):
    with pytest.raises(InputError, match="UNet3DConditionModel has temporal layers of its own"):
        VideoUNet.from_pretrained(modelscope_folder / "unet")
    assert VideoUNetConfig.from_dict(dict(read_modelscope_config({})[0].to_dict())).cross_attention_dim == 1024


def test_broken_weights_are_named_as_the_file_has_them(modelscope_folder, tmp_path):
    folder = shutil.copytree(modelscope_folder, tmp_path / "model")
    weights = load_file(folder / WEIGHTS)
    bad = {
        "down_blocks.0.temp_convs.0.conv1.2.weight is missing": {"down_blocks.0.temp_convs.0.conv1.2.weight": None},
        "conv4.3.weight has shape": {"mid_block.temp_convs.1.conv4.3.weight": torch.zeros(64, 64, 3, 1)},
        "transformer_in.norm.weight is missing": {"transformer_in.norm.weight": None},
        "up_blocks.9.x is not expected": {"up_blocks.9.x": torch.zeros(1)},
    }
    for message, changes in bad.items():
        changed = {name: tensor for name, tensor in {**weights, **changes}.items() if tensor is not None}
        save_file(changed, folder / WEIGHTS)
        with pytest.raises(InputError, match=message):
            load_components(str(folder))
    (folder / WEIGHTS).write_bytes((modelscope_folder / WEIGHTS).read_bytes()[:-1000])
    with pytest.raises(InputError, match="truncated"):
        load_components(str(folder))


def test_a_folder_of_mixed_parts_is_refused(modelscope_folder, sd1_folder, tmp_path):
    folder = shutil.copytree(modelscope_folder, tmp_path / "model")
    shutil.rmtree(folder / "text_encoder")
    shutil.copytree(sd1_folder / "text_encoder", folder / "text_encoder")
    with pytest.raises(InputError, match=r"unet/ takes text 64 wide, text_encoder/ gives 32"):
        load_components(str(folder))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "unet": ["diffusers", "I2VGenXLUNet"]}))
    with pytest.raises(InputError, match="unet is I2VGenXLUNet, supported is UNet2DConditionModel or UNet3D"):
        load_components(str(folder))


def test_it_takes_no_motion(modelscope_folder, tiny_model):
    with pytest.raises(InputError, match="temporal layers of its own: use it without"):
        load_components(str(modelscope_folder), motion=str(tiny_model / "motion"))
