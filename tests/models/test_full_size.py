"""Names, shapes and configs at the sizes of the public checkpoints: tensors without memory (device meta)."""

import math
import resource
from typing import Any

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from t2v.models.animatediff import add_motion_modules, load_animatediff
from t2v.models.animatediff_files import _adapter_config, _file_config, to_original
from t2v.models.base import save_model, save_state_dict
from t2v.models.checkpoint import Checkpoint, Part
from t2v.models.single_file import SCHEDULER, from_ldm, to_ldm
from t2v.models.unet import VideoUNet, VideoUNetConfig, is_temporal
from tests.models.peers import relative

diffusers = pytest.importorskip("diffusers")
SD15: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
SD21: dict[str, Any] = {
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": [5, 10, 20, 20],
    "use_linear_projection": True,
}
CLIP_L = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
OPEN_CLIP_H = {"hidden_size": 1024, "num_hidden_layers": 23, "num_attention_heads": 16, "intermediate_size": 4096}
VAE: dict[str, Any] = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}
MODULES = {
    "v1": ({"motion_max_seq_length": 24, "use_motion_mid_block": False}, 417_137_600, 20),
    "v2": ({"motion_max_seq_length": 32, "use_motion_mid_block": True}, 453_209_280, 21),
    "v3": ({"motion_max_seq_length": 32, "use_motion_mid_block": False}, 417_137_600, 20),
}


def meta_checkpoint(unet: dict[str, Any], text: dict[str, Any]) -> Checkpoint:
    with torch.device("meta"):
        networks = {
            "unet": diffusers.UNet2DConditionModel(**unet),
            "vae": diffusers.AutoencoderKL(**VAE),
            "text_encoder": CLIPTextModel(CLIPTextConfig(vocab_size=49408, **text)),
        }
    configs = {"unet": unet, "vae": VAE, "text_encoder": {"model_type": "clip_text_model", "vocab_size": 49408, **text}}
    parts = {name: Part(configs[name], dict(network.state_dict())) for name, network in networks.items()}
    return Checkpoint(parts, SCHEDULER)


def shapes(weights: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix("text_model."): tuple(tensor.shape) for name, tensor in weights.items()}


@pytest.mark.parametrize(("unet", "text"), [(SD15, CLIP_L), (SD21, OPEN_CLIP_H)], ids=["1.5", "2.1"])
def test_single_files_of_stable_diffusion(unet, text):
    checkpoint = meta_checkpoint(unet, text)
    tensors = to_ldm(checkpoint)
    assert tensors["model.diffusion_model.output_blocks.11.0.skip_connection.weight"].shape == (320, 640, 1, 1)
    context = tensors["model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight"].shape[1]
    assert context == unet["cross_attention_dim"]
    again = from_ldm(tensors, {"modelspec.prediction_type": "v" if unet is SD21 else "epsilon"}, "the file")
    for name, part in checkpoint.parts.items():
        assert shapes(again.parts[name].weights) == shapes(part.weights)
    assert len(again.parts["unet"].weights) == 686 and len(again.parts["vae"].weights) == 248
    for name in ("cross_attention_dim", "attention_head_dim"):
        assert again.parts["unet"].config[name] == unet[name]
    assert again.parts["unet"].config["block_out_channels"] == [320, 640, 1280, 1280]
    assert {name: again.parts["text_encoder"].config[name] for name in text} == text
    assert again.scheduler["prediction_type"] == ("v_prediction" if unet is SD21 else "epsilon")


@pytest.mark.parametrize("version", MODULES)
def test_motion_modules(version):
    options, num_parameters, num_modules = MODULES[version]
    with torch.device("meta"):
        adapter = diffusers.MotionAdapter(**options)
        unet = VideoUNet(VideoUNetConfig.from_dict(SD15))
    original = {name: torch.empty(tensor.shape, device="meta") for name, tensor in adapter.state_dict().items()}
    renamed = to_original({name: tensor for name, tensor in original.items() if not name.endswith(".pe")})
    tables = {name: tensor for name, tensor in to_original(original).items() if name.endswith(".pe")}
    config = _file_config({name: tuple(tensor.shape) for name, tensor in (renamed | tables).items()}, "the file")
    assert config == _adapter_config(dict(adapter.config), "the folder")
    assert config.version == version
    with torch.device("meta"):
        add_motion_modules(unet, config)
    own = {name: tensor for name, tensor in unet.state_dict().items() if is_temporal(name)}
    assert sum(math.prod(tensor.shape) for tensor in own.values()) == num_parameters
    assert sum(name.endswith(".proj_in.weight") for name in own) == num_modules
    theirs = {name.replace(".motion_modules.", ".temporal_attentions."): tuple(t.shape) for name, t in original.items()}
    assert shapes(own) == {name: shape for name, shape in theirs.items() if not name.endswith(".pe")}


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v2", "v3"])
def test_motion_modules_in_stable_diffusion_15_equal_diffusers(version, tmp_path):
    """16 frames of 128 pixels through all 1.3 billion parameters; one network in memory at a time, through files."""
    torch.manual_seed(0)
    peer = diffusers.UNetMotionModel(
        **{name: SD15[name] for name in ("sample_size", "cross_attention_dim")},
        num_attention_heads=SD15["attention_head_dim"],
        motion_max_seq_length=MODULES[version][0]["motion_max_seq_length"],
        use_motion_mid_block=MODULES[version][0]["use_motion_mid_block"],
    ).eval()
    x = torch.randn(1, 4, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    text = torch.randn(1, 77, 768, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = peer(x, 500, text.repeat_interleave(16, dim=0)).sample
    spatial, motion = {}, {}
    for name, tensor in peer.state_dict().items():
        (motion if "motion_modules" in name else spatial)[name] = tensor
    save_model(tmp_path / "unet", {"_class_name": "UNet2DConditionModel", **SD15}, spatial)
    save_state_dict(tmp_path / "mm.safetensors", to_original(motion))
    del peer, spatial, motion
    unet = VideoUNet.from_pretrained(tmp_path / "unet").eval()
    with torch.no_grad():
        still = relative(unet(x, 500, text), expected)
    assert load_animatediff(unet, tmp_path / "mm.safetensors").version == version
    with torch.no_grad():
        difference = relative(unet(x, 500, text), expected)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{version}: relative difference {difference:.2e}, without the modules {still:.2e}; peak {peak:.1f} GB")
    assert difference < 1e-4 and still > 1e-2
