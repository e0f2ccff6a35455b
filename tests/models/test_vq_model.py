import pytest
import torch

from t2v.errors import InputError
from t2v.models.autoencoder_classes import load_autoencoder
from t2v.models.base import load_config, save_json
from t2v.models.vq_model import VectorQuantizer, VQConfig, VQModel
from tests.models.test_autoencoder import SMALL, make_peer, randomize, relative_error, seeded

CONFIGS = {
    "ldm-like": {"block_out_channels": (8, 16, 24), "layers_per_block": 2, "norm_num_groups": 4},
    "other-width": {**SMALL, "latent_channels": 4, "vq_embed_dim": 2, "num_vq_embeddings": 33},
    "no-attention": {**SMALL, "num_vq_embeddings": 5, "mid_block_add_attention": False},
}


def make(config: dict, seed: int = 0) -> VQModel:
    model = VQModel(VQConfig(**config)).eval()
    randomize(model, seed)
    return model


def largest_disagreement(ours: VQModel, peer, x: torch.Tensor) -> float:
    with torch.no_grad():
        latents, got = peer.encode(x).latents, ours.encode(x)
        z = torch.randn(latents.shape, generator=seeded(1), dtype=x.dtype)
        pairs = [(got.mean, latents), (ours.decode(latents), peer(x).sample), (ours.decode(z), peer.decode(z).sample)]
    assert not got.std.any()
    return max(relative_error(a, b) for a, b in pairs)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=["fp64", "fp32"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_agrees_with_diffusers(config, dtype, tolerance, tmp_path):
    peer = make_peer(config, "VQModel")
    peer.save_pretrained(tmp_path)
    ours = load_autoencoder(tmp_path, dtype)
    assert isinstance(ours, VQModel)
    factor = ours.downsample_factor
    x = torch.randn(2, 3, 3 * factor, 5 * factor, generator=seeded(), dtype=dtype)
    assert largest_disagreement(ours, peer.to(dtype), x) <= tolerance


def test_diffusers_opens_what_we_save(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    ours = make(CONFIGS["other-width"])
    ours.save_pretrained(tmp_path)
    peer, report = diffusers.VQModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert (peer.config.vq_embed_dim, peer.config.num_vq_embeddings) == (2, 33)
    assert largest_disagreement(ours, peer.eval(), torch.randn(1, 3, 16, 16, generator=seeded())) <= 1e-5


def test_round_trip(tmp_path):
    ours = make(CONFIGS["other-width"])
    ours.save_pretrained(tmp_path)
    loaded = load_autoencoder(tmp_path)
    assert loaded.config == ours.config and not loaded.training
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm_type": "spatial"}, "norm_type is 'spatial', supported is 'group'"),
        ({"num_vq_embeddings": 0}, "num_vq_embeddings has 0"),
        ({"vq_embed_dim": "3"}, "vq_embed_dim has '3'"),
        ({"_class_name": "AutoencoderTiny"}, "'AutoencoderTiny', supported is AutoencoderKL or VQModel"),
        ({"_class_name": ["VQModel"]}, "supported is AutoencoderKL or VQModel"),
        ({"_class_name": "AutoencoderKL"}, r"encoder\.conv_out\.weight has shape \(3, "),
        ({"num_vq_embeddings": 9}, r"quantize\.embedding\.weight has shape \(256, 3\), expected \(9, 3\)"),
    ],
)
def test_refuses_what_is_not_supported(change, message, tmp_path):
    make(CONFIGS["ldm-like"]).save_pretrained(tmp_path)
    save_json(tmp_path / "config.json", {**load_config(tmp_path), "latent_channels": 3, **change})
    with pytest.raises(InputError, match=message):
        load_autoencoder(tmp_path)


@pytest.mark.parametrize("options", [{}, {"chunk_size": 2}, {"tile_size": 8}, {"dtype": torch.float64}])
def test_decode_quantises_first(options):
    """Latents in the same cell of the codebook make the same frames, and encoded latents are not yet entries."""
    ours = make(CONFIGS["no-attention"])
    with torch.no_grad():
        z = ours.encode(torch.randn(1, 3, 3, 24, 20, generator=seeded())).mode()
        entries = torch.stack([ours.quantize(frame) for frame in z.unbind(2)], dim=2)
        assert (z - entries).abs().mean() > 0.1
        assert torch.equal(ours.decode(z, **options), ours.decode(entries, **options))


def test_quantiser_finds_the_nearest_entries(monkeypatch):
    monkeypatch.setattr("t2v.models.vq_model.MAX_DISTANCES", 100)  # several parts
    quantizer = VectorQuantizer(17, 3)
    z = torch.randn(2, 3, 5, 4, generator=seeded())
    distances = (z[:, None] - quantizer.embedding.weight[None, :, :, None, None]).square().sum(2)
    assert torch.equal(quantizer.nearest(z), distances.argmin(1))
    assert torch.equal(quantizer(z), quantizer.entries(distances.argmin(1)))
    found = quantizer.with_losses(z)
    torch.testing.assert_close(found.codebook_loss, distances.amin(1).mean() / 3)
    assert torch.equal(quantizer.nearest(z.bfloat16()), quantizer.nearest(z.bfloat16().float()))


def test_gradients_of_the_quantiser():
    """Equation 3: what comes from the decoder reaches the latents alone, each loss its own side."""
    quantizer = VectorQuantizer(7, 2)
    z = torch.randn(3, 2, 4, 4, generator=seeded(), requires_grad=True)
    weights = (z, quantizer.embedding.weight)
    grad = torch.randn(z.shape, generator=seeded(1))
    through, codebook = torch.autograd.grad(quantizer(z), weights, grad, allow_unused=True)
    assert torch.equal(through, grad) and codebook is None
    found = quantizer.with_losses(z)
    latents, codebook = torch.autograd.grad(found.codebook_loss, weights, allow_unused=True, retain_graph=True)
    assert latents is None and codebook[found.indices.unique()].abs().min() > 0
    latents, codebook = torch.autograd.grad(found.commitment_loss, weights, allow_unused=True)
    torch.testing.assert_close(latents, 2 * (z - quantizer(z)).detach() / z.numel())
    assert codebook is None


def test_normalised_latents_keep_their_entries_and_reconstruction():
    ours = make({**CONFIGS["other-width"], "scaling_factor": 0.3}).double()
    ours.quant_conv.weight.data[0] *= 8  # channels of different widths
    x = torch.randn(16, 3, 16, 16, generator=seeded(), dtype=torch.float64)
    with torch.no_grad():
        before = ours.encode(x).mode()
        expected, indices = ours.decode(before), ours.quantize.nearest(before)
        assert len(indices.unique()) > 10
        ours.normalize_latents_(before.mean((0, 2, 3)), before.std((0, 2, 3), unbiased=False))
        after = ours.encode(x).mode()
        assert relative_error(ours.decode(after), expected) < 1e-12
    assert torch.equal(ours.quantize.nearest(after), indices)
    assert after.mean((0, 2, 3)).abs().max() < 1e-12
    assert abs(after.var((0, 2, 3), unbiased=False).mean() - 1) < 1e-12
    assert ours.config.scaling_factor == 1.0


def test_init_weights_repeats():
    models = [VQModel(VQConfig(**CONFIGS["ldm-like"])) for _ in range(2)]
    for model in models:
        model.init_weights(seeded(3))
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert 0.9 < 256 * first["quantize.embedding.weight"].abs().max() <= 1
