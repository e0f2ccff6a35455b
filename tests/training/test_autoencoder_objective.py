from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from t2v.data.stills import find_stills, read_stills
from t2v.data.transforms import to_model_range
from t2v.errors import InputError
from t2v.models.autoencoder import AutoencoderKL
from t2v.training.config import TrainConfig
from t2v.training.objectives.autoencoder import between, edge_loss
from t2v.training.trainer import Trainer

Configure = Callable[..., TrainConfig]


def test_autoencoder_learns_to_reconstruct(configure: Configure) -> None:
    options = ("max_steps=30", "batch_size=6", "optim.learning_rate=1e-2", "save_every=30", "validate_every=15")
    figures: list[dict[str, float]] = []
    Trainer(configure("autoencoder", *options, "log_every=5"), on_log=figures.append).run()
    losses = [line["l1"] for line in figures if "l1" in line]
    psnr = [line["psnr"] for line in figures if "psnr" in line]
    assert losses[-1] < 0.5 * losses[0]
    assert psnr[-1] > psnr[0]


def test_autoencoder_export_has_normalised_latents(configure: Configure, stills: Path, tmp_path: Path) -> None:
    trainer = Trainer(configure("autoencoder", "optim.ema_decay=null"))
    trainer.run()
    exported = AutoencoderKL.from_pretrained(tmp_path / "run" / "model" / "vae")
    assert exported.config.scaling_factor == 1.0
    images = to_model_range(read_stills(find_stills(stills), 32))
    with torch.no_grad():
        posterior = exported.encode(images)
        raw = trainer.objective.network.autoencoder  # type: ignore[attr-defined]
        ours = exported.decode(posterior.mean)
        theirs = raw.decode(raw.encode(images).mean)
    assert torch.allclose(ours, theirs, atol=1e-4)
    moments = posterior.mean.var(dim=(0, 2, 3)) + posterior.logvar.exp().mean(dim=(0, 2, 3))
    assert torch.allclose(moments, torch.ones_like(moments), atol=0.15)


def test_autoencoder_decoder_only_phase_leaves_the_encoder(configure: Configure) -> None:
    trainer = Trainer(configure("autoencoder", "diffusion.decoder_only_fraction=0.99", "max_steps=3"))
    trainer.global_step = 1  # past the first hundredth
    before = {name: parameter.detach().clone() for name, parameter in trainer.parameters.items()}
    trainer.run()
    changed = {name for name, parameter in trainer.parameters.items() if not torch.equal(parameter, before[name])}
    encoder = {name for name in before if "encoder." in name or name.startswith("quant_conv")}
    assert changed == before.keys() - encoder


@pytest.mark.parametrize(("target", "rises"), [(0.01, True), (100.0, False)])
def test_autoencoder_steers_the_kl_weight(configure: Configure, target: float, rises: bool) -> None:
    figures: list[dict[str, float]] = []
    Trainer(configure("autoencoder", f"diffusion.kl_target={target}"), on_log=figures.append).run()
    weights = [line["kl_weight"] for line in figures if "kl_weight" in line]
    assert (weights[-1] > weights[0]) is rises


def test_autoencoder_trains_on_crops(configure: Configure) -> None:
    trainer = Trainer(configure("autoencoder", "data.crop_size=16", "max_steps=1"))
    assert next(trainer._batches())["pixels"].shape == (3, 16, 16, 3)
    assert trainer.run() == "finished"


def test_autoencoder_starts_from_given_weights(configure: Configure, tiny_image_model: Path) -> None:
    trainer = Trainer(configure("autoencoder", f"init_from={tiny_image_model}"))
    expected = AutoencoderKL.from_pretrained(tiny_image_model / "vae").state_dict()
    assert all(torch.equal(p, expected[name]) for name, p in trainer.parameters.items())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.path=null", "--data"),
        ("data.path=nowhere", "nowhere"),
        ("data.resolution=30", r"data\.resolution must be a multiple of 4"),
        ("data.crop_size=64", r"data\.crop_size"),
        ("data.num_validation=12", "num_validation"),
    ],
)
def test_autoencoder_refuses_bad_data_settings(configure: Configure, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Trainer(configure("autoencoder", override))


def test_edge_loss_sees_gradients_alone() -> None:
    assert edge_loss(torch.full((1, 3, 4, 4), 0.7)) == 0
    ramp = torch.arange(4.0).expand(1, 3, 4, 4)
    assert edge_loss(ramp) == 1


def test_between_is_linear_and_clamped() -> None:
    assert [between((4.0, 0.0), fraction) for fraction in (-1, 0, 0.25, 1, 2)] == [4, 4, 3, 0, 0]
