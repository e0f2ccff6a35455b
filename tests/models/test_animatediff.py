from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2v.errors import InputError
from t2v.models.animatediff import add_motion_modules, load_animatediff
from t2v.models.animatediff_files import is_animatediff, read_animatediff_config, write_adapter, write_original
from t2v.models.base import load_config
from t2v.models.motion_module import AnimateDiffConfig, MotionModule, frame_positions
from t2v.models.unet import VideoUNet, is_temporal
from tests.models.peers import randomise, relative

diffusers = pytest.importorskip("diffusers")
VERSIONS: dict[str, dict[str, Any]] = {
    "v1": {"motion_max_seq_length": 24, "use_motion_mid_block": False},
    "v2": {"motion_max_seq_length": 32, "use_motion_mid_block": True},
    "v3": {"motion_max_seq_length": 32, "use_motion_mid_block": False},
}


def make_adapter(version: str, **changes: Any) -> Any:
    """diffusers' MotionAdapter for the small Stable Diffusion 1 folder."""
    torch.manual_seed(0)
    options = {"block_out_channels": (32, 64), "motion_layers_per_block": 1, **VERSIONS[version], **changes}
    return randomise(diffusers.MotionAdapter(**options))


@pytest.fixture(params=VERSIONS)
def version(request) -> str:
    return request.param


@pytest.fixture
def adapter_folder(version, tmp_path) -> Path:
    make_adapter(version).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def inputs(num_frames: int, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 4, num_frames, 8, 10, generator=generator)
    return x, torch.randn(batch, 7, 32, generator=generator)


@pytest.mark.parametrize("num_frames", [5, 24])
def test_a_unet_with_motion_modules_is_diffusers_unet_motion_model(sd1_folder, adapter_folder, version, num_frames):
    image = diffusers.UNet2DConditionModel.from_pretrained(sd1_folder / "unet")
    peer = diffusers.UNetMotionModel.from_unet2d(image, diffusers.MotionAdapter.from_pretrained(adapter_folder)).eval()
    unet = VideoUNet.from_pretrained(sd1_folder / "unet").eval()
    config = load_animatediff(unet, adapter_folder)
    assert config.version == version and config.num_frames == 16
    x, text = inputs(num_frames)
    per_frame = text.repeat_interleave(num_frames, dim=0)
    with torch.no_grad():
        expected = peer(x, 500, per_frame).sample
        assert relative(unet(x, 500, text), expected) < 1e-5
        still = VideoUNet.from_pretrained(sd1_folder / "unet")(x, 500, text)
        assert relative(still, expected) > 1e-2
        unet.double(), peer.double()
        assert relative(unet(x.double(), 500, text.double()), peer(x.double(), 500, per_frame.double()).sample) < 1e-7


def test_original_files_are_read_as_diffusers_reads_them(adapter_folder, tmp_path, version):
    from diffusers.loaders.single_file_utils import convert_animatediff_checkpoint_to_diffusers

    write_original(adapter_folder, tmp_path / "mm.safetensors")
    original = load_file(tmp_path / "mm.safetensors")
    assert all(".temporal_transformer." in name for name in original)
    assert sum(name.endswith(".pos_encoder.pe") for name in original) == 2 * sum(
        ".ff_norm.weight" in n for n in original
    )
    converted = convert_animatediff_checkpoint_to_diffusers(original)
    expected = load_file(adapter_folder / "diffusion_pytorch_model.safetensors")
    learned = {name: tensor for name, tensor in expected.items() if not name.endswith(".pe")}
    assert converted.keys() == learned.keys()
    assert all(torch.equal(converted[name], tensor) for name, tensor in learned.items())
    assert read_animatediff_config(tmp_path / "mm.safetensors") == read_animatediff_config(adapter_folder)


def test_conversions_are_bit_exact_both_ways(adapter_folder, tmp_path, version):
    write_original(adapter_folder, tmp_path / "mm.safetensors")
    weights = load_file(tmp_path / "mm.safetensors")
    write_adapter(weights, tmp_path / "again", tmp_path / "mm.safetensors")
    write_original(tmp_path / "again", tmp_path / "again.safetensors")
    pairs = [
        (
            adapter_folder / "diffusion_pytorch_model.safetensors",
            tmp_path / "again/diffusion_pytorch_model.safetensors",
        ),
        (tmp_path / "mm.safetensors", tmp_path / "again.safetensors"),
    ]
    for one, other in pairs:
        first, second = load_file(one), load_file(other)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    opened = diffusers.MotionAdapter.from_pretrained(tmp_path / "again")
    assert opened.config.use_motion_mid_block == VERSIONS[version]["use_motion_mid_block"]
    assert opened.config.motion_max_seq_length == VERSIONS[version]["motion_max_seq_length"]
    ours, theirs = load_config(tmp_path / "again"), load_config(adapter_folder)
    assert ours == {name: theirs[name] for name in ours}


def test_every_form_of_a_module_makes_the_same_network(sd1_folder, adapter_folder, tmp_path):
    write_original(adapter_folder, tmp_path / "mm.safetensors")
    parallel = {f"module.{name}": tensor for name, tensor in load_file(tmp_path / "mm.safetensors").items()}
    save_file(parallel, tmp_path / "parallel.safetensors")
    half = {name: tensor.half() for name, tensor in parallel.items() if name.endswith(".pe")}
    save_file({**parallel, **half}, tmp_path / "half.safetensors")
    forms = [adapter_folder, adapter_folder / "diffusion_pytorch_model.safetensors"]
    forms += [tmp_path / f"{name}.safetensors" for name in ("mm", "parallel", "half")]
    networks = []
    for form in forms:
        assert is_animatediff(form)
        unet = VideoUNet.from_pretrained(sd1_folder / "unet")
        load_animatediff(unet, form)
        networks.append(unet.state_dict())
    for network in networks[1:]:
        assert all(torch.equal(network[name], tensor) for name, tensor in networks[0].items())


def test_the_norm_of_each_frame_on_its_own_is_the_other_rule(sd1_folder, tmp_path):
    """AnimateDiff's own code: GroupNorm of (b f) c h w; diffusers: of b c f h w."""
    make_adapter("v2").save_pretrained(tmp_path)
    x, text = inputs(4)
    module = make_adapter("v2").down_blocks[0].motion_modules[0]
    own = MotionModule(32, 8, 1, 32, norm_over_frames=False)
    own.load_state_dict({name: tensor for name, tensor in module.state_dict().items() if not name.endswith(".pe")})
    hidden = torch.randn(8, 32, 8, 10, generator=torch.Generator().manual_seed(0))
    hidden += torch.arange(8.0)[:, None, None, None]
    with torch.no_grad():
        normed = torch.nn.functional.group_norm(hidden, 32, module.norm.weight, module.norm.bias, 1e-6)
        expected = hidden + self_without_norm(module, normed)
        got = own(hidden.contiguous(memory_format=torch.channels_last), 4)
        assert relative(got, expected) < 1e-5
        assert relative(got, module(hidden, num_frames=4)) > 1e-3
    outputs = []
    for over_frames in (True, False):
        unet = VideoUNet.from_pretrained(sd1_folder / "unet")
        assert load_animatediff(unet, tmp_path, over_frames).norm_over_frames == over_frames
        with torch.no_grad():
            outputs.append(unet(x, 500, text))
    assert relative(*outputs) > 1e-4


def self_without_norm(module: Any, normed: torch.Tensor) -> torch.Tensor:
    """What a module of diffusers adds to its input, from the normalised input of 2 videos of 4 frames."""
    tokens = normed.unflatten(0, (2, 4)).permute(0, 3, 4, 1, 2).reshape(-1, 4, 32)
    tokens = module.proj_in(tokens)
    for block in module.transformer_blocks:
        tokens = block(tokens)
    return module.proj_out(tokens).view(2, 8, 10, 4, 32).permute(0, 3, 4, 1, 2).flatten(0, 1)


def test_frame_positions_are_the_table_of_diffusers():
    table = make_adapter("v2").down_blocks[0].motion_modules[0].transformer_blocks[0].pos_embed.pe[0]
    assert (frame_positions(torch.arange(32), 32) - table).abs().max() < 1e-5
    assert frame_positions(torch.zeros(2, 3), 8).shape == (2, 3, 8)


def test_a_file_without_tables_is_animate_lcm(sd1_folder, tmp_path):
    make_adapter("v3").save_pretrained(tmp_path / "adapter")
    write_original(tmp_path / "adapter", tmp_path / "mm.safetensors")
    bare = {name: tensor for name, tensor in load_file(tmp_path / "mm.safetensors").items() if not name.endswith(".pe")}
    save_file(bare, tmp_path / "lcm.safetensors")
    assert read_animatediff_config(tmp_path / "lcm.safetensors").version == "LCM"
    write_adapter(bare, tmp_path / "lcm", "lcm")
    first, second = (load_file(tmp_path / name / "diffusion_pytorch_model.safetensors") for name in ("adapter", "lcm"))
    assert first.keys() == second.keys()
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)


def test_the_modules_are_the_motion_part_of_the_network(sd1_folder):
    unet = VideoUNet.from_pretrained(sd1_folder / "unet")
    spatial = set(unet.state_dict())
    add_motion_modules(unet, AnimateDiffConfig(block_out_channels=(32, 64), layers_per_block=1))
    assert {name for name in unet.state_dict() if is_temporal(name)} == set(unet.state_dict()) - spatial


def other_positions(weights):
    return {name: tensor + 1 if name.endswith(".pe") else tensor for name, tensor in weights.items()}


def pia(weights):
    return {**weights, "conv_in.weight": torch.zeros(32, 9, 3, 3)}


def hotshot(weights):
    return {name.replace("pos_encoder.pe", "pos_encoder.positional_encoding"): w for name, w in weights.items()}


def cut(weights):
    return {name: tensor for name, tensor in weights.items() if "up_blocks.1.motion_modules.1.temporal" not in name}


def for_sdxl(weights):
    more = {name.replace("blocks.1", "blocks.2"): w.clone() for name, w in weights.items() if "down_blocks.1" in name}
    return {**weights, **more}


def no_modules(weights):
    return {"a.motion_modules.0.weight": torch.zeros(1)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_positions, "no table of sinusoids"),
        (pia, "conv_in.weight belongs to no motion module"),
        (hotshot, "positional_encoding is not expected"),
        (cut, r"up_blocks\.1\.temporal_attentions\.1\.norm\.weight is missing"),
        (for_sdxl, "for SDXL"),
        (no_modules, "belongs to no motion module"),
    ],
)
def test_other_modules_are_refused_and_change_nothing(sd1_folder, tmp_path, change, message):
    make_adapter("v1").save_pretrained(tmp_path / "adapter")
    write_original(tmp_path / "adapter", tmp_path / "mm.safetensors")
    save_file(change(load_file(tmp_path / "mm.safetensors")), tmp_path / "mm.safetensors")
    unet = VideoUNet.from_pretrained(sd1_folder / "unet")
    with pytest.raises(InputError, match=message) as error:
        load_animatediff(unet, tmp_path / "mm.safetensors")
    assert "\n" not in str(error.value)
    assert unet.motion is None and not any(is_temporal(name) for name in unet.state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_out_channels": (32, 96)}, r"level widths \(32, 96\), this one has \(32, 64\)"),
        ({"motion_layers_per_block": 2}, "layers per level 2, this one has 1"),
        ({"motion_num_attention_heads": (4, 8)}, "motion_num_attention_heads is .* one whole number"),
        ({"conv_in_channels": 9}, "PIA"),
    ],
)
def test_adapters_for_other_networks_are_refused(sd1_folder, tmp_path, changes, message):
    make_adapter("v1", **changes).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=message):
        load_animatediff(VideoUNet.from_pretrained(sd1_folder / "unet"), tmp_path)


def test_what_is_no_motion_module(tmp_path, sd1_folder):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    (tmp_path / "a.ckpt").touch()
    for path in (tmp_path, tmp_path / "a.safetensors", tmp_path / "a.ckpt", sd1_folder / "unet", tmp_path / "none"):
        assert not is_animatediff(path)
