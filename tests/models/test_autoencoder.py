import pytest
import torch

from t2v.errors import InputError
from t2v.models.autoencoder import AutoencoderConfig, AutoencoderKL
from t2v.models.autoencoder_base import DiagonalGaussian, rename_old_keys
from t2v.models.autoencoder_blocks import GroupNorm
from t2v.models.base import load_config, load_state_dict, save_model

SD_LIKE = {"block_out_channels": (8, 16, 24, 24), "layers_per_block": 2, "norm_num_groups": 4}
SMALL = {"block_out_channels": (8, 16), "norm_num_groups": 4}
CONFIGS = {
    "sd-like": SD_LIKE,
    "mini-like": {**SMALL, "latent_channels": 8, "mid_block_add_attention": False},
    "no-quant-convs": {**SMALL, "latent_channels": 3, "use_quant_conv": False, "use_post_quant_conv": False},
    "one-level": {"block_out_channels": (8,), "norm_num_groups": 2, "layers_per_block": 3},
}
SD15 = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "sample_size": 512,
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randomize(model: torch.nn.Module, seed: int = 0) -> None:
    """Every parameter, affine ones of norms included, away from its initial value."""
    generator = seeded(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                spread = parameter[0].numel() ** -0.5
                parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
            else:
                center = 1.0 if "norm" in name and name.endswith("weight") else 0.0
                parameter.copy_(center + 0.2 * torch.randn(parameter.shape, generator=generator))


def make(config: dict, seed: int = 0) -> AutoencoderKL:
    model = AutoencoderKL(AutoencoderConfig(**config)).eval()
    randomize(model, seed)
    return model


def make_peer(config: dict, name: str = "AutoencoderKL"):
    diffusers = pytest.importorskip("diffusers")
    levels = len(config["block_out_channels"])
    peer = getattr(diffusers, name)(
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels, **config
    ).eval()
    randomize(peer)
    return peer


def relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


def largest_disagreement(ours: AutoencoderKL, peer, x: torch.Tensor) -> float:
    with torch.no_grad():
        expected, got = peer.encode(x).latent_dist, ours.encode(x)
        z = torch.randn(got.mean.shape, generator=seeded(1), dtype=x.dtype)
        pairs = [
            (got.mean, expected.mean),
            (got.logvar, expected.logvar),
            (got.std, expected.std),
            (ours.decode(z), peer.decode(z).sample),
        ]
    return max(relative_error(a, b) for a, b in pairs)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=["fp64", "fp32"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_agrees_with_diffusers(config, dtype, tolerance, tmp_path):
    peer = make_peer(config)
    peer.save_pretrained(tmp_path)
    ours = AutoencoderKL.from_pretrained(tmp_path, dtype)
    factor = ours.downsample_factor
    x = torch.randn(2, 3, 3 * factor, 5 * factor, generator=seeded(), dtype=dtype)
    assert largest_disagreement(ours, peer.to(dtype), x) <= tolerance


@pytest.mark.slow
def test_agrees_with_diffusers_at_full_size(tmp_path):
    peer = make_peer(SD15)
    peer.save_pretrained(tmp_path)
    ours = AutoencoderKL.from_pretrained(tmp_path)
    assert sum(parameter.numel() for parameter in ours.parameters()) == 83_653_863
    assert len(ours.state_dict()) == 248
    assert largest_disagreement(ours, peer, torch.randn(1, 3, 64, 64, generator=seeded())) <= 1e-4


def test_diffusers_opens_what_we_save(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    ours = make(SD_LIKE)
    ours.save_pretrained(tmp_path)
    peer, report = diffusers.AutoencoderKL.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert largest_disagreement(ours, peer.eval(), torch.randn(1, 3, 16, 16, generator=seeded())) <= 1e-5


@pytest.mark.parametrize("options", [{"variant": "fp16"}, {"max_shard_size": "20KB"}], ids=["fp16", "sharded"])
def test_from_pretrained_reads_variants(options, tmp_path):
    peer = make_peer(SD_LIKE).half()
    peer.save_pretrained(tmp_path, **options)
    assert not (tmp_path / "diffusion_pytorch_model.safetensors").exists()
    ours = AutoencoderKL.from_pretrained(tmp_path)
    assert ours.dtype == torch.float32
    assert all(torch.equal(value, peer.state_dict()[name].float()) for name, value in ours.state_dict().items())


def test_from_pretrained_reads_old_attention_names(tmp_path):
    ours = make(SD_LIKE)
    old = {}
    for name, tensor in ours.state_dict().items():
        for new_name, old_name in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            name = name.replace(f".attentions.0.{new_name}.", f".attentions.0.{old_name}.")
        is_matrix = "attentions" in name and tensor.ndim == 2
        old[name] = tensor[:, :, None, None] if is_matrix else tensor
    assert sum("proj_attn" in name for name in old) == 4
    save_model(tmp_path, ours.config.to_dict(), old)
    loaded = AutoencoderKL.from_pretrained(tmp_path)
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_rename_old_keys_leaves_todays_names_alone():
    state_dict = make(SD_LIKE).state_dict()
    assert list(rename_old_keys(state_dict)) == list(state_dict)


def test_save_pretrained_round_trip(tmp_path):
    ours = make(CONFIGS["mini-like"])
    ours.save_pretrained(tmp_path)
    loaded = AutoencoderKL.from_pretrained(tmp_path)
    assert loaded.config == ours.config
    assert not loaded.training
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert loaded.encoder.conv_out.weight.is_contiguous(memory_format=torch.channels_last)
    ours.save_pretrained(tmp_path, dtype=torch.float16)
    assert load_state_dict(tmp_path)["quant_conv.weight"].dtype == torch.float16


def test_from_pretrained_names_a_key_that_does_not_fit(tmp_path):
    ours = make(SMALL)
    save_model(tmp_path, {**ours.config.to_dict(), "latent_channels": 5}, ours.state_dict())
    with pytest.raises(InputError, match=r"encoder\.conv_out\.weight has shape \(8, 16, 3, 3\), expected \(10, 16"):
        AutoencoderKL.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"act_fn": "gelu"}, "act_fn"),
        ({"down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]}, "AttnDownEncoderBlock2D"),
        ({"up_block_types": ["UpDecoderBlock2D"]}, "each of 2 levels"),
        ({"norm_num_groups": 3}, "multiples of norm_num_groups 3"),
        ({"shift_factor": 0.1}, "shift_factor"),
        ({"latents_mean": [0.0] * 4}, "latents_mean"),
        ({"block_out_channels": 8}, "block_out_channels must be a list of widths, got 8"),
        ({"block_out_channels": []}, "block_out_channels must be a list of widths"),
        ({"block_out_channels": [8, "16"]}, "block_out_channels has '16'"),
        ({"layers_per_block": 0}, "layers_per_block has 0"),
        ({"norm_num_groups": None}, "norm_num_groups has None"),
    ],
)
def test_config_refuses_what_is_not_supported(change, message):
    with pytest.raises(InputError, match=message):
        AutoencoderConfig.from_dict({"block_out_channels": [8, 16], "norm_num_groups": 4, **change})


def test_config_ignores_fields_without_effect(tmp_path):
    config = AutoencoderConfig.from_dict(
        {
            "_class_name": "AutoencoderKL",
            "_diffusers_version": "0.6.0",
            "shift_factor": None,
            "block_out_channels": [64],
        }
    )
    assert config == AutoencoderConfig(block_out_channels=(64,))
    AutoencoderKL(AutoencoderConfig(**SMALL)).save_pretrained(tmp_path)
    assert AutoencoderConfig.from_dict(load_config(tmp_path)) == AutoencoderConfig(**SMALL)


@pytest.mark.parametrize("chunk_size", [None, 1, 4])
def test_video_is_its_frames(chunk_size):
    ours = make(CONFIGS["sd-like"]).double()
    video = torch.randn(2, 3, 5, 16, 8, generator=seeded(), dtype=torch.float64)
    with torch.no_grad():
        latents = ours.encode(video, chunk_size).mode()
        decoded = ours.decode(latents, chunk_size)
        frame = ours.encode(video[:, :, 3]).mode()
        assert latents.shape == (2, 4, 5, 2, 1)
        assert decoded.shape == video.shape
        assert relative_error(latents[:, :, 3], frame) < 1e-12
        assert relative_error(decoded[:, :, 3], ours.decode(frame)) < 1e-12


def test_decode_holds_few_frames_at_a_time():
    ours = make(SMALL)
    batches = []
    ours.decoder.conv_in.register_forward_hook(lambda module, inputs, output: batches.append(len(output)))
    with torch.no_grad():
        ours.decode(torch.zeros(1, 4, 19, 2, 2))
    assert batches == [8, 8, 3]


@pytest.mark.parametrize("size", [(15, 16), (16, 20)])
def test_encode_refuses_sizes_off_the_grid(size):
    with pytest.raises(InputError, match=f"{size[1]}x{size[0]}.*multiples of 8"):
        make(SD_LIKE).encode(torch.zeros(1, 3, *size))


def flat_norms(model: AutoencoderKL) -> None:
    """Norms without statistics: then a position of the output depends on its neighbourhood only."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, torch.nn.GroupNorm):
                setattr(parent, name, torch.nn.Identity())


def test_tiled_decode_equals_one_pass_where_only_the_neighbourhood_counts():
    ours = make(CONFIGS["mini-like"]).double()
    flat_norms(ours)
    z = torch.randn(3, 8, 70, 45, generator=seeded(), dtype=torch.float64)
    with torch.no_grad():
        whole, tiled = ours.decode(z), ours.decode(z, tile_size=32)
    assert tiled.shape == whole.shape
    error = (tiled - whole).abs().amax((0, 1)) / whole.abs().max()
    # Tiles start at 0, 19, 38 (rows) and 0, 13 (columns); a tile's padding reaches 11 latent positions into it.
    assert error[: 2 * 8, : 2 * 2].max() < 1e-12
    assert (error < 1e-12).double().mean() > 0.2
    assert error.max() < 0.2


def test_tiled_decode_has_no_seams():
    ours = make(CONFIGS["mini-like"])
    z = torch.nn.functional.interpolate(torch.randn(1, 8, 5, 5, generator=seeded()), (96, 96), mode="bicubic")
    with torch.no_grad():
        whole, tiled = ours.decode(z), ours.decode(z, tile_size=32)
    steps_whole, steps_tiled = whole.diff(dim=-1).abs().amax((0, 1, 2)), tiled.diff(dim=-1).abs().amax((0, 1, 2))
    assert steps_tiled.max() < 1.5 * steps_whole.max()


def test_tiled_decode_of_a_small_frame_is_one_pass():
    ours = make(SMALL)
    z = torch.randn(1, 4, 8, 8, generator=seeded())
    with torch.no_grad():
        assert torch.equal(ours.decode(z, tile_size=8), ours.decode(z))


def test_tiled_decode_of_video():
    ours = make(SMALL)
    z = torch.randn(2, 4, 3, 12, 9, generator=seeded())
    with torch.no_grad():
        tiled = ours.decode(z, tile_size=8)
        frame = ours.decode(z[:, :, 1], tile_size=8)
    assert tiled.shape == (2, 3, 3, 24, 18)
    assert relative_error(tiled[:, :, 1], frame) < 1e-5


def test_decode_in_float32_of_half_weights():
    ours = make(SMALL).half()
    z = torch.randn(1, 4, 8, 8, generator=seeded())
    expected_model = make(SMALL).half().float()
    with torch.no_grad():
        decoded = ours.decode(z, dtype=torch.float32)
        assert decoded.dtype == torch.float32
        assert relative_error(decoded, expected_model.decode(z)) < 1e-5
    assert ours.dtype == torch.float16


def test_force_upcast_runs_half_weights_in_float32():
    z = torch.zeros(1, 4, 8, 8)
    with torch.no_grad():
        assert make({**SMALL, "force_upcast": True}).half().decode(z).dtype == torch.float32
        assert make({**SMALL, "force_upcast": True}).bfloat16().decode(z).dtype == torch.bfloat16


def test_decode_in_float32_ignores_autocast():
    ours = make(SMALL)
    z = torch.randn(1, 4, 8, 8, generator=seeded())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert relative_error(ours.decode(z), ours.decode(z, dtype=torch.float32)) > 1e-4
        inside = ours.decode(z, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(inside, ours.decode(z))


def test_runs_in_channels_last():
    ours = make(SD_LIKE)
    formats = []
    for module in ours.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(
                lambda module, inputs, output: formats.append(
                    inputs[0].is_contiguous(memory_format=torch.channels_last)
                    and module.weight.is_contiguous(memory_format=torch.channels_last)
                )
            )
    with torch.no_grad():
        ours.decode(ours.encode(torch.randn(2, 3, 2, 32, 24, generator=seeded())).mode())
    assert len(formats) > 40
    assert all(formats)


def test_forward_trains_every_parameter():
    ours = make(SD_LIKE).train()
    x = torch.randn(2, 3, 16, 16, generator=seeded()).clamp(-1, 1)
    optimizer = torch.optim.Adam(ours.parameters(), 3e-3)
    losses = []
    for step in range(20):
        reconstruction, distribution = ours(x, seeded(step))
        loss = (reconstruction - x).square().mean() + 1e-6 * distribution.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in ours.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("num_channels", [8, 64])
def test_group_norm_has_the_gradients_of_torch_in_bfloat16(num_channels):
    ours, peer = GroupNorm(4, num_channels), torch.nn.GroupNorm(4, num_channels)
    randomize(ours)
    peer.load_state_dict(ours.state_dict())
    x = torch.randn(2, num_channels, 6, 5, generator=seeded()).to(torch.bfloat16, memory_format=torch.channels_last)
    grad = torch.randn(x.shape, generator=seeded(1)).to(torch.bfloat16)
    results = []
    for norm in (ours, peer):
        leaf = x.clone().requires_grad_()
        out = norm(leaf)
        out.backward(grad)
        assert out.is_contiguous(memory_format=torch.channels_last)
        results.append((out, leaf.grad, norm.weight.grad, norm.bias.grad))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, atol=0.05, rtol=0.02)


def test_moments_are_float32_under_autocast():
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert make(SMALL).encode(torch.zeros(1, 3, 8, 8)).mean.dtype == torch.float32


def test_init_weights_repeats():
    models = [AutoencoderKL(AutoencoderConfig(**SD_LIKE)) for _ in range(2)]
    for model in models:
        model.init_weights(seeded(3))
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)
    weight = first["decoder.conv_in.weight"]
    assert weight.std().item() == pytest.approx((3 * weight[0].numel()) ** -0.5, rel=0.1)


def test_normalize_latents_keeps_reconstruction():
    ours = make({**CONFIGS["mini-like"], "scaling_factor": 0.3}).double()
    x = torch.randn(16, 3, 16, 16, generator=seeded(), dtype=torch.float64)
    with torch.no_grad():
        before = ours.encode(x)
        expected = ours.decode(before.mode())
        mean, std = before.mode().mean((0, 2, 3)), before.mode().std((0, 2, 3), unbiased=False)
        ours.normalize_latents_(mean, std)
        after = ours.encode(x)
        assert relative_error(ours.decode(after.mode()), expected) < 1e-12
    assert after.mode().mean((0, 2, 3)).abs().max() < 1e-12
    assert (after.mode().std((0, 2, 3), unbiased=False) - 1).abs().max() < 1e-12
    assert relative_error(after.std, before.std / std[:, None, None]) < 1e-12
    assert ours.config.scaling_factor == 1.0


def test_normalize_latents_needs_quant_convs():
    with pytest.raises(InputError, match="quant_conv"):
        make(CONFIGS["no-quant-convs"]).normalize_latents_(torch.zeros(3), torch.ones(3))


def test_diagonal_gaussian_kl_is_that_of_torch():
    distribution = DiagonalGaussian.from_moments(torch.randn(3, 8, 4, 2, generator=seeded()))
    normal = torch.distributions.Normal(distribution.mean, distribution.std)
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum((1, 2, 3))
    torch.testing.assert_close(distribution.kl(), expected)


def test_diagonal_gaussian_sample():
    distribution = DiagonalGaussian.from_moments(
        torch.tensor([2.0, -1.0, 0.0, -4.0]).reshape(1, 4, 1, 1).expand(20000, 4, 1, 1)
    )
    sample = distribution.sample(seeded())
    assert torch.equal(sample, distribution.sample(seeded()))
    assert not torch.equal(sample, distribution.sample(seeded(1)))
    torch.testing.assert_close(sample.mean((0, 2, 3)), torch.tensor([2.0, -1.0]), atol=0.03, rtol=0)
    torch.testing.assert_close(sample.std((0, 2, 3)), torch.tensor([1.0, 0.1353]), atol=0.02, rtol=0.02)
    assert DiagonalGaussian.from_moments(torch.full((1, 2, 1, 1), 99.0)).logvar.item() == 20


def test_repr():
    assert "ResnetBlock" in repr(make(SMALL))
