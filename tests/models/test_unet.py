"""VideoUNet against diffusers' UNet2DConditionModel on random weights, and its own contract."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from t2v.errors import InputError
from t2v.models.unet import MotionConfig, VideoUNet, VideoUNetConfig

SMALL = {
    "block_out_channels": [32, 64],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "cross_attention_dim": 24,
    "norm_num_groups": 8,
}
SD1 = {
    **SMALL,
    "block_out_channels": [32, 48, 64],
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "attention_head_dim": 4,
}
PEERS: dict[str, dict[str, Any]] = {
    "sd1": SD1,
    "sd2": {**SD1, "attention_head_dim": [2, 3, 4], "use_linear_projection": True, "upcast_attention": True},
    "one_layer_without_middle": {**SMALL, "layers_per_block": 1, "mid_block_type": None},
    "middle_without_attention": {**SMALL, "mid_block_type": "UNetMidBlock2D", "in_channels": 9, "out_channels": 8},
    "two_transformer_layers": {**SMALL, "transformer_layers_per_block": 2, "norm_eps": 1e-6},
    "other_embedding": {**SMALL, "flip_sin_to_cos": False, "freq_shift": 1, "downsample_padding": 0},
    "one_level": {
        **SMALL,
        "block_out_channels": [32],
        "down_block_types": ["CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D"],
    },
}
SD15 = {"cross_attention_dim": 768, "sample_size": 64}


def save_peer(config: dict[str, Any], folder: Path, **kwargs: Any) -> Any:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    peer = diffusers.UNet2DConditionModel(**config).eval()
    peer.save_pretrained(folder, **kwargs)
    return peer


def inputs(config: VideoUNetConfig, size: tuple[int, ...], batch: int = 2) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, config.in_channels, *size, generator=generator)
    text = torch.randn(batch, 7, config.cross_attention_dim, generator=generator)
    return x, torch.tensor([3, 741])[:batch], text


def small_unet(motion: MotionConfig | None = None, **changes: Any) -> VideoUNet:
    torch.manual_seed(0)
    return VideoUNet(VideoUNetConfig.from_dict({**SMALL, **changes}), motion).eval()


def relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    return ((got - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("name", PEERS)
def test_forward_equals_diffusers(name: str, tmp_path: Path) -> None:
    peer = save_peer(PEERS[name], tmp_path)
    unet = VideoUNet.from_pretrained(tmp_path).eval()
    assert set(unet.state_dict()) == set(peer.state_dict())
    x, timesteps, text = inputs(unet.config, (16, 24))
    with torch.no_grad():
        assert relative(unet(x, timesteps, text), peer(x, timesteps, text).sample) < 1e-5
        unet.double(), peer.double()
        x, text = x.double(), text.double()
        assert relative(unet(x, timesteps, text), peer(x, timesteps, text).sample) < 1e-9
        assert relative(unet(x, 500, text), peer(x, 500, text).sample) < 1e-9


def test_gradients_equal_diffusers(tmp_path: Path) -> None:
    peer = save_peer(PEERS["sd1"], tmp_path).double()
    unet = VideoUNet.from_pretrained(tmp_path).double()
    x, timesteps, text = (
        value.double() if value.is_floating_point() else value for value in inputs(unet.config, (8, 8))
    )
    unet(x, timesteps, text).square().sum().backward()
    peer(x, timesteps, text).sample.square().sum().backward()
    expected = dict(peer.named_parameters())
    for parameter_name, parameter in unet.named_parameters():
        assert relative(parameter.grad, expected[parameter_name].grad) < 1e-9, parameter_name


def test_forward_takes_sizes_that_do_not_halve_evenly(tmp_path: Path) -> None:
    peer = save_peer(PEERS["sd1"], tmp_path)
    unet = VideoUNet.from_pretrained(tmp_path)
    x, timesteps, text = inputs(unet.config, (13, 10))
    with torch.no_grad():
        assert relative(unet(x, timesteps, text), peer(x, timesteps, text).sample) < 1e-5


@pytest.mark.slow
def test_forward_equals_diffusers_at_the_size_of_stable_diffusion(tmp_path: Path) -> None:
    peer = save_peer(SD15, tmp_path)
    unet = VideoUNet.from_pretrained(tmp_path).eval()
    assert len(unet.state_dict()) == 686
    assert sum(parameter.numel() for parameter in unet.parameters()) == 859_520_964
    x, timesteps, text = inputs(unet.config, (64, 64), batch=1)
    with torch.no_grad():
        assert relative(unet(x, timesteps, text), peer(x, timesteps, text).sample) < 1e-4


@pytest.mark.parametrize("name", PEERS)
def test_save_pretrained_is_read_by_diffusers(name: str, tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    unet = VideoUNet(VideoUNetConfig.from_dict(PEERS[name]), MotionConfig()).eval()
    unet.save_pretrained(tmp_path)
    peer, info = diffusers.UNet2DConditionModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    x, timesteps, text = inputs(unet.config, (16, 16))
    with torch.no_grad():
        assert relative(unet(x, timesteps, text), peer.eval()(x, timesteps, text).sample) < 1e-5


def test_from_pretrained_reads_shards_and_half_precision_variants(tmp_path: Path) -> None:
    peer = save_peer(PEERS["sd1"], tmp_path / "shards", max_shard_size="100KB")
    peer.half().save_pretrained(tmp_path / "half", variant="fp16")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert (tmp_path / "half/diffusion_pytorch_model.fp16.safetensors").is_file()
    whole, half = (VideoUNet.from_pretrained(tmp_path / name).state_dict() for name in ("shards", "half"))
    for name, tensor in half.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(whole[name].half(), tensor.half())


def test_save_and_load_keep_every_bit(tmp_path: Path) -> None:
    unet = small_unet()
    unet.save_pretrained(tmp_path)
    again = VideoUNet.from_pretrained(tmp_path)
    assert again.config == unet.config
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, unet.state_dict()[name])


def test_from_pretrained_names_the_first_key_that_does_not_fit(tmp_path: Path) -> None:
    unet = small_unet()
    unet.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "cross_attention_dim": 32}))
    with pytest.raises(InputError, match=r"attn2\.to_k\.weight has shape \(32, 24\), expected \(32, 32\)"):
        VideoUNet.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("addition_embed_type", "text_time"),
        ("class_embed_type", "timestep"),
        ("resnet_time_scale_shift", "scale_shift"),
        ("time_embedding_type", "fourier"),
        ("only_cross_attention", [True, False]),
        ("layers_per_block", [1, 2]),
        ("transformer_layers_per_block", [1, 2]),
        ("cross_attention_dim", [24, 24]),
        ("down_block_types", ["AttnDownBlock2D", "DownBlock2D"]),
        ("up_block_types", ["UpBlock2D"]),
        ("mid_block_type", "UNetMidBlock2DSimpleCrossAttn"),
        ("attention_head_dim", [2, 3, 4]),
        ("attention_head_dim", 5),
        ("norm_num_groups", None),
        ("downsample_padding", 2),
        ("block_out_channels", [32, 60]),
    ],
)
def test_config_from_dict_refuses_what_is_not_supported(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=field):
        VideoUNetConfig.from_dict({**SMALL, field: value})


def test_config_from_dict_reads_what_diffusers_writes(tmp_path: Path) -> None:
    save_peer(PEERS["sd2"], tmp_path)
    config = VideoUNetConfig.from_dict(json.loads((tmp_path / "config.json").read_text()))
    assert config.attention_head_dim == (2, 3, 4)
    assert config == VideoUNetConfig.from_dict(json.loads(json.dumps(config.to_dict())))


def test_video_without_motion_is_a_batch_of_images() -> None:
    unet = small_unet()
    x, timesteps, text = inputs(unet.config, (5, 8, 8))
    with torch.no_grad():
        out = unet(x, timesteps, text)
        images = unet(x.transpose(1, 2).flatten(0, 1), timesteps.repeat_interleave(5), text.repeat_interleave(5, dim=0))
    assert out.shape == x.shape
    assert out.is_contiguous()
    assert relative(out.transpose(1, 2).flatten(0, 1), images) < 1e-5


def test_text_of_each_frame_equals_shared_text_when_they_are_the_same() -> None:
    unet = small_unet()
    x, timesteps, text = inputs(unet.config, (3, 8, 8))
    with torch.no_grad():
        shared = unet(x, timesteps, text)
        each = text[:, None].repeat(1, 3, 1, 1)
        assert relative(unet(x, timesteps, each), shared) < 1e-5
        each[:, 1] = 0
        changed = (unet(x, timesteps, each) - shared).abs().amax(dim=(0, 1, 3, 4))
    assert (changed > 1e-3).tolist() == [False, True, False]


def test_timesteps_may_be_one_number() -> None:
    unet = small_unet()
    x, _, text = inputs(unet.config, (3, 8, 8))
    with torch.no_grad():
        expected = unet(x, torch.tensor([7, 7]), text)
        assert torch.equal(unet(x, 7, text), expected)
        assert torch.equal(unet(x, torch.tensor(7), text), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_forward_in_half_precision(dtype: torch.dtype) -> None:
    unet = small_unet(MotionConfig(attention_in_all_levels=True))
    x, timesteps, text = inputs(unet.config, (4, 8, 8))
    with torch.no_grad():
        expected = unet(x, timesteps, text)
        out = unet.to(dtype)(x.to(dtype), timesteps, text.to(dtype))
    assert out.dtype == dtype
    assert relative(out.float(), expected) < 0.05


@pytest.mark.parametrize("autocast", [False, True])
def test_gradient_checkpointing_changes_no_gradient(autocast: bool) -> None:
    unet = small_unet(MotionConfig(attention_in_all_levels=True))
    for parameter in unet.parameters():  # no zero projection, so that every gradient is there
        torch.nn.init.normal_(parameter, std=0.05)
    x, timesteps, text = inputs(unet.config, (4, 8, 8))
    gradients = []
    for checkpointing in (False, True):
        unet.gradient_checkpointing = checkpointing
        assert unet.gradient_checkpointing is checkpointing
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = unet(x, timesteps, text, fps=8).float().square().mean()
        gradients.append(torch.autograd.grad(loss, list(unet.parameters())))
    for (name, _), a, b in zip(unet.named_parameters(), *gradients, strict=True):
        assert a.any(), name
        torch.testing.assert_close(a, b, msg=name)


def test_inference_and_training_agree() -> None:
    unet = small_unet(MotionConfig(attention_in_all_levels=True))
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, timesteps, text = inputs(unet.config, (4, 8, 8))
    with torch.no_grad():
        expected = unet(x, timesteps, text)
    assert relative(unet(x, timesteps, text).detach(), expected) < 1e-5


def test_unet_prints() -> None:
    assert "TemporalConv" in repr(small_unet(MotionConfig()))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_forward_and_gradients_on_cuda_equal_those_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    unet = small_unet(MotionConfig(attention_in_all_levels=True))
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    arguments = inputs(unet.config, (4, 8, 8))
    expected = unet(*arguments)
    gradients = torch.autograd.grad(expected.square().mean(), list(unet.parameters()))
    unet.cuda()
    out = unet(*(value.cuda() for value in arguments))
    assert relative(out.cpu(), expected) < 1e-4
    for gradient, value in zip(
        torch.autograd.grad(out.square().mean(), list(unet.parameters())), gradients, strict=True
    ):
        assert relative(gradient.cpu(), value) < 1e-3


def test_forward_compiles_without_graph_breaks() -> None:
    config = {
        **SMALL,
        "block_out_channels": [8, 16],
        "norm_num_groups": 4,
        "layers_per_block": 1,
        "attention_head_dim": 2,
    }
    unet = VideoUNet(VideoUNetConfig.from_dict(config), MotionConfig(attention_in_all_levels=True))
    x, timesteps, text = inputs(unet.config, (4, 8, 8))
    compiled = torch.compile(unet, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, timesteps, text, 8.0), unet(x, timesteps, text, 8.0))
