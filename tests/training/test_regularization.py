from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from t2v.data.stills import find_stills, read_stills
from t2v.data.transforms import to_model_range
from t2v.errors import InputError
from t2v.models.autoencoder_classes import load_autoencoder
from t2v.models.folder import load_components
from t2v.models.vq_model import VQConfig, VQModel
from t2v.training.config import TrainConfig
from t2v.training.objectives.autoencoder import AutoencoderObjective
from t2v.training.regularization import codebook_shares, perplexity, start_codebook_
from t2v.training.trainer import Trainer

Configure = Callable[..., TrainConfig]
VQ = ("model.regularization=vq", "model.num_vq_embeddings=64")


def vq_autoencoder(trainer: Trainer) -> VQModel:
    assert isinstance(trainer.objective, AutoencoderObjective)
    assert isinstance(trainer.objective.autoencoder, VQModel)
    return trainer.objective.autoencoder


def test_codebook_learns(configure: Configure) -> None:
    options = ("max_steps=40", "batch_size=6", "optim.learning_rate=1e-2", "save_every=40", "optim.ema_decay=null")
    options += ("optim.weight_decay=0",)  # which would move entries that no latent is near to
    figures: list[dict[str, float]] = []
    trainer = Trainer(configure("autoencoder", *VQ, *options, "validate_every=5"), on_log=figures.append)
    before = vq_autoencoder(trainer).quantize.embedding.weight.detach().clone()
    trainer.run()
    losses, perplexities, psnr = (
        [line[name] for line in figures if name in line] for name in ("l1", "perplexity", "psnr")
    )
    assert losses[-1] < 0.5 * losses[0]
    assert psnr[-1] > psnr[0]
    assert all(1 < value < 64 for value in perplexities)
    (use, in_effect), *_ = [(line["codebook_use"], line["codebook_perplexity"]) for line in figures if "psnr" in line]
    assert 1 < in_effect <= 64 * use <= 64
    moved = (vq_autoencoder(trainer).quantize.embedding.weight != before).any(dim=1)
    assert moved.sum() > 10


def test_export_with_a_codebook_normalises_latents_and_reconstructs_the_same(
    configure: Configure, stills: Path, tmp_path: Path
) -> None:
    trainer = Trainer(configure("autoencoder", *VQ, "optim.ema_decay=null"))
    trainer.run()
    exported, raw = load_autoencoder(tmp_path / "run" / "model" / "vae"), vq_autoencoder(trainer)
    assert isinstance(exported, VQModel) and exported.config.scaling_factor == 1.0
    images = to_model_range(read_stills(find_stills(stills), 32))
    with torch.no_grad():
        latents, trained = exported.encode(images).mean, raw.encode(images).mean
        assert torch.equal(exported.quantize.nearest(latents), raw.quantize.nearest(trained))
        assert torch.allclose(exported.decode(latents), raw.decode(trained), atol=1e-4)
    assert abs(trained.std() - 1) > 0.2
    assert latents.mean(dim=(0, 2, 3)).abs().max() < 0.1
    assert latents.var(dim=(0, 2, 3)).mean() == pytest.approx(1, abs=0.1)


def test_later_stages_learn_on_a_codebook(configure: Configure, tmp_path: Path) -> None:
    Trainer(configure("autoencoder", *VQ)).run()
    base, image = tmp_path / "run" / "model", tmp_path / "image"
    Trainer(configure("image", f"model.base={base}", f"output_dir={image}")).run()
    trained = load_components(str(image / "model")).autoencoder.state_dict()
    expected = load_autoencoder(base / "vae").state_dict()
    assert "quantize.embedding.weight" in trained
    assert all(torch.equal(tensor, expected[name]) for name, tensor in trained.items())
    Trainer(configure("temporal", f"model.base={image / 'model'}", f"output_dir={tmp_path / 'temporal'}")).run()
    assert load_components(str(image / "model"), motion=str(tmp_path / "temporal")).unet.motion is not None


def test_decoder_only_phase_leaves_encoder_and_codebook(configure: Configure) -> None:
    trainer = Trainer(configure("autoencoder", *VQ, "diffusion.decoder_only_fraction=0.99", "max_steps=3"))
    trainer.global_step = 1  # past the first hundredth
    before = {name: parameter.detach().clone() for name, parameter in trainer.parameters.items()}
    trainer.run()
    changed = {name for name, parameter in trainer.parameters.items() if not torch.equal(parameter, before[name])}
    assert changed == {name for name in before if name.startswith(("decoder.", "post_quant_conv."))}


def test_run_with_a_codebook_resumes_to_the_same_weights(configure: Configure) -> None:
    whole = Trainer(configure("autoencoder", *VQ))
    whole.run()
    stopped = Trainer(configure("autoencoder", *VQ, f"output_dir={whole.folder.path}-2"))
    stopped.on_step = lambda *_: setattr(stopped, "stop_requested", stopped.global_step == 2)
    assert stopped.run() == "stopped"
    resumed = Trainer(stopped.config, resume="auto")
    assert resumed.global_step == 2 and resumed.run() == "finished"
    assert all(torch.equal(p, whole.parameters[name]) for name, p in resumed.parameters.items())


def test_autoencoder_starts_from_a_given_codebook(configure: Configure, tmp_path: Path) -> None:
    autoencoder = VQModel(VQConfig(block_out_channels=(8, 16), norm_num_groups=4, vq_embed_dim=5))
    autoencoder.save_pretrained(tmp_path / "model" / "vae")
    start = f"init_from={tmp_path / 'model'}"
    trainer = Trainer(configure("autoencoder", start, "model.regularization=vq"))
    assert all(torch.equal(p, autoencoder.state_dict()[name]) for name, p in trainer.parameters.items())
    assert trainer.run() == "finished"
    with pytest.raises(InputError, match=r"class VQModel, got model\.regularization=kl: set vq"):
        Trainer(configure("autoencoder", start, f"output_dir={tmp_path / 'other'}"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model.regularization=vq", "diffusion.kl_target=3"), r"diffusion\.kl_target does not go with .* vq.*null"),
        (("model.regularization=vq", "diffusion.kl_weight=1e-6"), r"diffusion\.kl_weight does not go with .* vq"),
        (("model.regularization=vq", "diffusion.initial_logvar=-9"), r"diffusion\.initial_logvar does not go"),
        (("model.num_vq_embeddings=64",), r"model\.num_vq_embeddings does not go with model\.regularization kl"),
        (("diffusion.commitment_weight=1",), r"diffusion\.commitment_weight does not go .* default, 0\.25"),
        (("model.regularization=gan",), "regularization"),
    ],
)
def test_options_of_the_other_regularization_are_refused(
    configure: Configure, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        configure("autoencoder", *overrides)


def test_codebook_starts_from_latents() -> None:
    autoencoder = VQModel(VQConfig(block_out_channels=(8,), norm_num_groups=4, num_vq_embeddings=20))
    latents = torch.randn(2, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    old = autoencoder.quantize.embedding.weight.detach().clone()
    start_codebook_(autoencoder, latents, seed=1)
    codebook = autoencoder.quantize.embedding.weight
    assert sorted(codebook[:16].tolist()) == sorted(latents.movedim(1, -1).reshape(-1, 3).tolist())
    assert torch.equal(codebook[16:], old[16:])


def test_perplexity_counts_entries_in_effect() -> None:
    indices = torch.tensor([[[0, 1], [2, 3]], [[0, 1], [2, 3]]])
    torch.testing.assert_close(perplexity(codebook_shares(indices, 9)), torch.tensor(4.0))
    torch.testing.assert_close(perplexity(codebook_shares(torch.full((3, 2, 2), 5), 9)), torch.tensor(1.0))
    uneven = codebook_shares(torch.tensor([0, 0, 0, 8]), 9)
    assert uneven.tolist() == [0.75, 0, 0, 0, 0, 0, 0, 0, 0.25]
    assert 1 < perplexity(uneven) < 2
