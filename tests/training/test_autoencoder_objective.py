import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from t2v.data.stills import find_stills, read_stills
from t2v.data.transforms import to_model_range
from t2v.errors import InputError
from t2v.models.autoencoder import AutoencoderKL
from t2v.training.config import TrainConfig
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


ADVERSARIAL = ("diffusion.adversarial_weight=0.5", "diffusion.discriminator_channels=8", "diffusion.edge_scales=2")


def test_autoencoder_is_judged_from_the_start_of_the_discriminator(configure: Configure) -> None:
    figures: list[dict[str, float]] = []
    trainer = Trainer(configure("autoencoder", *ADVERSARIAL), on_log=figures.append)
    before = trainer.objective.network.discriminator.conv_out.weight.detach().clone()  # type: ignore[attr-defined]
    assert trainer.run() == "finished"
    logged = [("discriminator" in line) for line in figures if "l1" in line]
    assert logged == [False, False, True, True]  # adversarial_start is 0.5
    assert all(line["adaptive_weight"] > 0 for line in figures if "adaptive_weight" in line)
    assert not torch.equal(trainer.objective.network.discriminator.conv_out.weight, before)  # type: ignore[attr-defined]
    exported = load_file(Path(trainer.config.output_dir) / "model" / "vae" / "diffusion_pytorch_model.safetensors")
    assert exported and not any("discriminator" in name for name in exported)


def test_autoencoder_with_a_discriminator_resumes_to_the_same_weights(configure: Configure, tmp_path: Path) -> None:
    options = (*ADVERSARIAL, "diffusion.adversarial_start=0")
    whole = Trainer(configure("autoencoder", *options))
    whole.run()
    shutil.rmtree(max((tmp_path / "run" / "checkpoints").glob("step-*")))
    resumed = Trainer(configure("autoencoder", *options), resume="auto")
    assert resumed.global_step == 2
    resumed.run()
    assert all(torch.equal(p, resumed.parameters[name]) for name, p in whole.parameters.items())


def test_autoencoder_has_verdicts_and_losses_in_full_precision_under_bf16(configure: Configure) -> None:
    trainer = Trainer(configure("autoencoder", *ADVERSARIAL, "diffusion.adversarial_start=0", "mixed_precision=bf16"))
    batch = next(trainer._batches())
    loss, figures = trainer.objective.loss(trainer.learner.network, batch, 0.0)
    assert {value.dtype for value in (loss, *figures.values())} == {torch.float32}


def test_autoencoder_validates_pictures_of_one_colour(configure: Configure) -> None:
    trainer = Trainer(configure("autoencoder"))
    trainer.objective.validation_pixels.zero_()  # type: ignore[attr-defined]
    with torch.no_grad():
        figures = trainer.objective.validate(trainer.learner.eager_network, trainer.folder.samples, 0)
    assert all(math.isfinite(value) for value in figures.values())


def test_autoencoder_decoder_alone_keeps_the_latents(
    configure: Configure, stills: Path, tiny_image_model: Path, tmp_path: Path
) -> None:
    options = (f"init_from={tiny_image_model}", "diffusion.decoder_only_fraction=1", *ADVERSARIAL)
    trainer = Trainer(configure("autoencoder", *options))
    parts = {name.split(".")[0] for name in trainer.parameters}
    assert parts == {"decoder", "post_quant_conv", "discriminator"}
    trainer.run()
    before = AutoencoderKL.from_pretrained(tiny_image_model / "vae")
    after = AutoencoderKL.from_pretrained(tmp_path / "run" / "model" / "vae")
    images = to_model_range(read_stills(find_stills(stills), 32))
    with torch.no_grad():
        latents = before.encode(images).mean
        assert torch.equal(after.encode(images).mean, latents)
        assert not torch.equal(after.decode(latents), before.decode(latents))
    assert after.config == before.config


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
        ("diffusion.edge_scales=6", r"edge_scales is 6, too many for 32 pixels"),
        ("diffusion.lpips_weights=nowhere", "nowhere"),
    ],
)
def test_autoencoder_refuses_bad_data_settings(configure: Configure, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Trainer(configure("autoencoder", override))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("diffusion.decoder_only_fraction=1",), "name it with init_from"),
        (("diffusion.adversarial_weight=0.5", "compile=true"), "compile does not go with .*: set compile=false"),
        (("diffusion.adversarial_weight=0.5", "mixed_precision=fp16"), "too coarse"),
        (("diffusion.adversarial_weight=0.5", "diffusion.discriminator_layers=4"), "at least 48 pixels, got 32"),
    ],
)
def test_autoencoder_refuses_losses_that_do_not_fit(
    configure: Configure, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Trainer(configure("autoencoder", *overrides))
