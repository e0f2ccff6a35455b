"""Inflation: what it adds, that it changes nothing at first, and the motion file."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from t2v.errors import InputError
from t2v.models.inflate import (
    inflate,
    is_temporal,
    load_motion,
    load_motion_config,
    save_motion,
    temporal_parameters,
)
from t2v.models.unet import MotionConfig, VideoUNet, VideoUNetConfig

CONFIG = {
    "block_out_channels": [32, 64],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "cross_attention_dim": 24,
    "norm_num_groups": 8,
    "layers_per_block": 1,
    "attention_head_dim": [2, 4],
}
MOTION = MotionConfig(attention_in_all_levels=True)
ATTENTION_ALONE, CONV_ALONE = MotionConfig(temporal_conv=False), MotionConfig(temporal_attention=False)


def image_unet(seed: int = 0, **changes: Any) -> VideoUNet:
    torch.manual_seed(seed)
    return VideoUNet(VideoUNetConfig.from_dict({**CONFIG, **changes})).eval()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trained_unet(motion: MotionConfig = MOTION) -> VideoUNet:
    """An inflated U-Net whose temporal modules do something."""
    unet = inflate(image_unet(), motion, seeded())
    generator = seeded(1)
    with torch.no_grad():
        for parameter in temporal_parameters(unet).values():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return unet


def inputs(num_frames: int = 5, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = seeded(2)
    x = torch.randn(batch, 4, num_frames, 8, 8, generator=generator)
    return x, torch.tensor([3, 741])[:batch], torch.randn(batch, 7, 24, generator=generator)


@pytest.mark.parametrize("name", ["temporal_conv_in.weight", "down_blocks.0.resnets.1.temporal_conv2.bias"])
def test_is_temporal_knows_temporal_modules(name: str) -> None:
    assert is_temporal(name)


@pytest.mark.parametrize(
    "name", ["conv_in.weight", "time_embedding.linear_1.weight", "mid_block.attentions.0.norm.bias"]
)
def test_is_temporal_knows_spatial_modules(name: str) -> None:
    assert not is_temporal(name)


def test_inflate_adds_a_temporal_module_to_every_3x3_convolution_and_attention() -> None:
    unet = image_unet()
    before = set(unet.state_dict())
    inflate(unet, MotionConfig(), seeded())
    names = set(unet.state_dict())
    assert before <= names
    assert {name for name in names if is_temporal(name)} == names - before
    for name, module in unet.named_modules():
        parent, _, leaf = name.rpartition(".")
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3):
            weight = unet.get_submodule(f"{parent}.temporal_{leaf}" if parent else f"temporal_{leaf}").weight
            assert weight.shape == (module.out_channels, module.out_channels, 3, 1)
        if name.endswith("attentions.0") and not is_temporal(name):
            assert unet.get_submodule(f"{parent.replace('attentions', 'temporal_attentions')}.0")
    assert not any("down_blocks.1.temporal_attentions" in name for name in names)
    assert "fps_embedding.linear_2.weight" in names


def test_inflate_adds_attention_to_all_levels_if_so_configured() -> None:
    names = set(inflate(image_unet(), MOTION, seeded()).state_dict())
    for name in ("down_blocks.1.temporal_attentions.0", "up_blocks.0.temporal_attentions.1"):
        assert f"{name}.to_q.weight" in names


@pytest.mark.parametrize(("motion", "other"), [(ATTENTION_ALONE, "temporal_conv"), (CONV_ALONE, "temporal_attention")])
def test_inflate_adds_one_kind_of_layers_alone(motion: MotionConfig, other: str) -> None:
    names = set(temporal_parameters(inflate(image_unet(), motion, seeded())))
    both = set(temporal_parameters(inflate(image_unet(), MotionConfig(), seeded())))
    assert names < both and "fps_embedding.linear_2.weight" in names
    assert {name for name in both if other in name} == both - names


def test_without_fps_conditioning_the_frame_rate_changes_nothing() -> None:
    unet, told = trained_unet(MotionConfig(fps_conditioning=False)), trained_unet(MotionConfig())
    names = {name for name in temporal_parameters(told) if name.startswith("fps_embedding")}
    assert names and set(temporal_parameters(told)) - set(temporal_parameters(unet)) == names
    with torch.no_grad():
        slow, fast = (unet(*inputs(), fps=fps) for fps in (4.0, 24.0))
        assert torch.equal(slow, fast)
        assert not torch.equal(told(*inputs(), fps=4.0), told(*inputs(), fps=24.0))


@pytest.mark.parametrize(
    "motion",
    [
        MOTION, MotionConfig(), MotionConfig(num_attention_heads=8), ATTENTION_ALONE, CONV_ALONE,
        MotionConfig(fps_conditioning=False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("num_frames", [2, 5, 16])
def test_inflated_unet_at_first_equals_the_image_unet_bit_for_bit(motion: MotionConfig, num_frames: int) -> None:
    unet = image_unet()
    x, timesteps, text = inputs(num_frames)
    with torch.no_grad():
        expected = unet(x, timesteps, text)
        inflate(unet, motion, seeded())
        out = unet(x, timesteps, text, fps=torch.tensor([8.0, 24.0]))
        assert torch.equal(out, expected)
        for frame in range(num_frames):
            image = unet(x[:, :, frame], timesteps, text)
            assert (out[:, :, frame] - image).abs().max() < 1e-6 * image.abs().max()


def test_single_frames_run_the_image_path_whatever_the_motion() -> None:
    unet, image = trained_unet(), image_unet()
    x, timesteps, text = inputs(1)
    with torch.no_grad():
        expected = image(x, timesteps, text)
        assert torch.equal(unet(x, timesteps, text, fps=8), expected)
        assert torch.equal(unet(x[:, :, 0], timesteps, text), expected[:, :, 0])
        two = x.expand(-1, -1, 2, -1, -1)
        assert not torch.allclose(unet(two, timesteps, text)[:, :, :1], expected)


def test_motion_mixes_frames_and_hears_the_fps() -> None:
    unet = trained_unet()
    x, timesteps, text = inputs()
    with torch.no_grad():
        out = unet(x, timesteps, text, fps=8.0)
        assert torch.equal(unet(x, timesteps, text), out)  # the motion config's fps
        assert torch.equal(unet(x, timesteps, text, fps=torch.tensor([8, 8])), out)
        assert (unet(x, timesteps, text, fps=24.0) - out).abs().max() > 1e-3
        x[:, :, 4] += 1
        assert (unet(x, timesteps, text)[:, :, 0] - out[:, :, 0]).abs().max() > 1e-3


@torch.no_grad()
def test_temporal_attention_sees_true_times() -> None:
    """Frames at half the rate are those of twice the distance; the fps embedding aside, which says the rate itself."""
    unet, (x, timesteps, text) = trained_unet(), inputs()
    assert unet.fps_embedding is not None
    unet.fps_embedding.linear_2.weight.zero_()
    unet.fps_embedding.linear_2.bias.zero_()
    apart = torch.arange(x.shape[2]).expand(len(x), -1) * 2
    out = unet(x, timesteps, text, fps=torch.tensor([4.0, 8.0]))
    torch.testing.assert_close(out[0], unet(x, timesteps, text, fps=8.0, positions=apart)[0])
    torch.testing.assert_close(out[1], unet(x, timesteps, text)[1])
    assert not torch.allclose(out[0], unet(x, timesteps, text)[0])


def test_videos_of_a_batch_do_not_mix() -> None:
    unet = trained_unet()
    x, timesteps, text = inputs()
    with torch.no_grad():
        out = unet(x, timesteps, text)
        alone = unet(x[1:], timesteps[1:], text[1:])
    assert (out[1:] - alone).abs().max() < 1e-5 * alone.abs().max()


def test_inflate_depends_on_the_generator_alone_and_leaves_the_global_source() -> None:
    weights = []
    for seed in (0, 1):
        unet = image_unet()
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        inflate(unet, MOTION, seeded(3))
        assert torch.equal(torch.get_rng_state(), before)
        weights.append(temporal_parameters(unet))
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name
    other = temporal_parameters(inflate(image_unet(), MOTION, seeded(4)))
    assert not torch.equal(
        other["mid_block.temporal_attentions.0.to_q.weight"], weights[0]["mid_block.temporal_attentions.0.to_q.weight"]
    )


def test_inflate_takes_the_dtype_of_the_unet() -> None:
    unet = inflate(image_unet().to(torch.bfloat16), MOTION, seeded())
    assert {parameter.dtype for parameter in unet.parameters()} == {torch.bfloat16}


def test_inflate_refuses_a_second_time() -> None:
    with pytest.raises(InputError, match="inflated already"):
        inflate(trained_unet(), MOTION, seeded())


def test_every_temporal_parameter_gets_a_gradient() -> None:
    unet = trained_unet()
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(is_temporal(name))
    x, timesteps, text = inputs()
    unet(x, timesteps, text, fps=8).square().mean().backward()
    for name, parameter in unet.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == is_temporal(name), name


@pytest.mark.parametrize("as_file", [False, True])
def test_motion_survives_saving_and_loading(as_file: bool, tmp_path: Path) -> None:
    unet = trained_unet()
    save_motion(unet, tmp_path, metadata={"scheduler": {"prediction_type": "v_prediction"}})
    path = tmp_path / "diffusion_pytorch_model.safetensors" if as_file else tmp_path
    again = load_motion(image_unet(), path)
    assert again.motion == unet.motion
    assert load_motion_config(path)["scheduler"] == {"prediction_type": "v_prediction"}
    for name, tensor in unet.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    x, timesteps, text = inputs()
    with torch.no_grad():
        assert torch.equal(again(x, timesteps, text), unet(x, timesteps, text))


def test_motion_file_holds_temporal_weights_alone_in_the_asked_dtype(tmp_path: Path) -> None:
    unet = trained_unet()
    save_motion(unet, tmp_path, dtype=torch.float16)
    weights = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    assert set(weights) == set(temporal_parameters(unet))
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    again = load_motion(image_unet(), tmp_path)
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}


def test_motion_plugs_into_another_fine_tune(tmp_path: Path) -> None:
    unet = trained_unet()
    save_motion(unet, tmp_path)
    other = load_motion(image_unet(seed=7), tmp_path)
    for name, tensor in other.state_dict().items():
        expected = unet if is_temporal(name) else image_unet(seed=7)
        assert torch.equal(tensor, expected.state_dict()[name]), name
    again = load_motion(trained_unet(), tmp_path)  # in place of other motion of the same structure
    assert torch.equal(again.temporal_conv_in.weight, unet.temporal_conv_in.weight)


def test_load_motion_names_the_first_mismatch_and_changes_nothing(tmp_path: Path) -> None:
    save_motion(trained_unet(), tmp_path)
    wider = image_unet(block_out_channels=[64, 64])
    with pytest.raises(
        InputError, match=r"temporal_conv1\.weight has shape \(32, 32, 3, 1\), expected \(64, 64, 3, 1\)"
    ):
        load_motion(wider, tmp_path)
    assert wider.motion is None
    deeper = image_unet(layers_per_block=2)
    with pytest.raises(InputError, match=r"down_blocks\.0\.resnets\.1\.temporal_conv1\.weight is missing"):
        load_motion(deeper, tmp_path)
    assert not temporal_parameters(deeper)


@pytest.mark.parametrize("motion", [ATTENTION_ALONE, CONV_ALONE])
def test_load_motion_makes_the_layers_of_the_file(motion: MotionConfig, tmp_path: Path) -> None:
    unet = trained_unet(motion)
    save_motion(unet, tmp_path)
    again = load_motion(image_unet(), tmp_path)
    assert again.motion == motion
    with torch.no_grad():
        assert torch.equal(again(*inputs()), unet(*inputs()))
    with pytest.raises(InputError, match="other temporal modules"):
        load_motion(trained_unet(MotionConfig()), tmp_path)


def test_motion_of_a_file_that_does_not_name_its_layers_has_both() -> None:
    known = {name: value for name, value in MotionConfig().to_dict().items() if not name.startswith("temporal_")}
    assert MotionConfig.from_dict(known) == MotionConfig(temporal_conv=True, temporal_attention=True)


def test_load_motion_refuses_another_structure(tmp_path: Path) -> None:
    save_motion(trained_unet(MotionConfig(num_attention_heads=8)), tmp_path)
    with pytest.raises(InputError, match="num_attention_heads"):
        load_motion(trained_unet(MotionConfig()), tmp_path)


def test_load_motion_refuses_a_file_without_config(tmp_path: Path) -> None:
    save_file({"temporal_conv_in.weight": torch.zeros(1)}, tmp_path / "motion.safetensors")
    with pytest.raises(InputError, match="no motion config"):
        load_motion(image_unet(), tmp_path / "motion.safetensors")


def test_load_motion_refuses_foreign_and_broken_files(tmp_path: Path) -> None:
    save_motion(trained_unet(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "_class_name": "MotionAdapter"}))
    with pytest.raises(InputError, match="MotionAdapter"):
        load_motion(image_unet(), tmp_path)
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    (tmp_path / "motion.ckpt").write_bytes(b"pickle")
    for name, message in (("broken.safetensors", "truncated"), ("motion.ckpt", "pickle"), ("none", "missing")):
        for load in (load_motion_config, lambda path: load_motion(image_unet(), path)):
            with pytest.raises(InputError, match=message):
                load(tmp_path / name)


def test_save_motion_refuses_an_image_unet(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no motion"):
        save_motion(image_unet(), tmp_path / "motion")
    assert not (tmp_path / "motion").exists()


def test_save_motion_writes_the_config_beside_and_inside(tmp_path: Path) -> None:
    save_motion(trained_unet(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    with safe_open(tmp_path / "diffusion_pytorch_model.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["config"]) == config
    assert MotionConfig.from_dict(config) == MOTION


@pytest.mark.parametrize(
    "change",
    [
        {"num_attention_heads": 5},
        {"num_frames": 0},
        {"num_frames": 1.5},
        {"fps": 0.0},
        {"fps": "8"},
        {"shared_noise": 1.0},
        {"sampling_shared_noise": 1.0},
        {"noise_prior": "pink"},
        {"fps_range": 8.0},
        {"fps_range": [8.0, 4.0]},
        {"fps_range": ["4", "8"]},
        {"temporal_conv": False, "temporal_attention": False},
    ],
)
def test_motion_config_refuses_what_cannot_be(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        inflate(image_unet(), MotionConfig(**change), seeded())
