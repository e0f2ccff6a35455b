from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from t2v.data.video_io import probe
from t2v.diffusion.noise import NoisePrior
from t2v.errors import InputError
from t2v.models.folder import load_components
from t2v.models.inflate import is_temporal
from t2v.models.interpolation import (
    crossfaded,
    fading,
    frame_positions,
    load_interpolation,
    load_interpolation_config,
    network_input,
)
from t2v.pipelines.interpolation.diffusion import DiffusionFill, FillSettings
from t2v.training.config import TrainConfig
from t2v.training.objectives.interpolation import InterpolationObjective
from t2v.training.sampler import Position
from t2v.training.trainer import Trainer

Configure = Callable[..., TrainConfig]
NEW = "conv_in.known.weight"


def test_interpolation_trains_temporal_weights_and_new_columns_alone(configure: Configure, tiny_model: Path) -> None:
    trainer = Trainer(configure("interpolation", "max_steps=3"))
    network = trainer.objective.network
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    motion = load_components(str(tiny_model)).unet.state_dict()
    assert all(torch.equal(before[name], tensor) for name, tensor in motion.items())  # starts as the temporal U-Net
    assert not before[NEW].any()
    trainer.run()
    changed = {name for name, parameter in network.named_parameters() if not torch.equal(parameter, before[name])}
    assert NEW in changed and any("temporal_attentions" in name for name in changed)
    assert all(is_temporal(name) or name == NEW for name in changed)


def test_interpolation_loss_falls_and_validation_tells_patterns_apart(configure: Configure, tmp_path: Path) -> None:
    options = ("max_steps=60", "batch_size=4", "optim.learning_rate=2e-2", "save_every=60", "validate_every=60")
    lines: list[dict[str, float]] = []
    Trainer(configure("interpolation", *options, "log_every=15"), on_log=lines.append).run()
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.9 * losses[0]
    figures = lines[-1]
    names = ("endpoints", "strided", "first", "last", "swapped")
    assert all(figures[f"validation_loss_{name}"] > 0 for name in names)
    info = probe(tmp_path / "run" / "samples" / "samples-00000060.mp4")
    assert (info.width, info.height) == (64, 64)  # two clips, and what is made of their ends


@pytest.mark.slow
def test_interpolation_learns_to_look_at_known_frames(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Still clips of noise, a new one each time: only known frames can tell what the others are.

    All weights learn, since the spatial ones of the tiny model are random and of no use.
    """
    objective = Trainer(configure("interpolation", "data.num_validation=3", "validation.num_clips=0")).objective
    assert isinstance(objective, InterpolationObjective)

    def still(batch: dict[str, torch.Tensor], keys: torch.Tensor) -> torch.Tensor:
        seeds = (batch["epochs"] * 100 + batch["indices"]).tolist()
        noise = [torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(noise).expand(-1, -1, batch["timestamps"].shape[1], -1, -1).clone()

    monkeypatch.setattr(objective.clips, "latents", still)
    network = objective.network.requires_grad_(True)
    before = objective.validate(network, Path(), 0)
    assert before["validation_loss_swapped"] == pytest.approx(before["validation_loss_endpoints"], rel=1e-4)
    optimizer, indices = torch.optim.Adam(network.parameters(), 1e-2), torch.arange(8)
    times = (torch.arange(5) / 8).expand(8, -1)
    for step in range(400):
        batch = {"epochs": torch.full((8,), step + 1), "indices": indices, "timestamps": times}
        loss, _ = objective.loss(network, batch, 0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = objective.validate(network, Path(), 1)
    endpoints, swapped = after["validation_loss_endpoints"], after["validation_loss_swapped"]
    print(f"endpoints {before['validation_loss_endpoints']:.3f} before, {endpoints:.3f} after; swapped {swapped:.3f}")
    assert swapped > 1.15 * endpoints and endpoints < 0.3 * before["validation_loss_endpoints"]


def test_interpolation_loss_counts_unknown_frames_alone(configure: Configure) -> None:
    objective = Trainer(configure("interpolation", "data.masks={strided: 1}", "diffusion.known_noise=0")).objective
    batch = objective.dataset.__getitems__([Position(0, 0, 1.0), Position(0, 1, 1.0)])
    seen = []

    def network(x: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        mask = x[:, 8:]
        return mask.expand(-1, 4, -1, -1, -1) * 1e6  # wrong, but only where frames are known

    loss, figures = objective.loss(network, batch, 0.5)  # type: ignore[arg-type]
    assert loss < 10 and 0 < figures["known"] < 1
    x = seen[0]
    mix = fading(x[:, 8, :, 0, 0] > 0, frame_positions(batch["timestamps"])[1])
    assert x.shape[1] == 9  # of the unknown frames, nothing but what the known ones tell
    torch.testing.assert_close(x[:, 4:8], torch.einsum("bfg,bcghw->bcfhw", mix, x[:, 4:8]))


def test_interpolation_batches_vary_in_length_and_spacing(configure: Configure) -> None:
    config = configure("interpolation", "data.num_frames=12", "data.uneven=0.5", "data.fps_range=[6, 12]")
    dataset = Trainer(config).objective.dataset
    batches = [dataset.__getitems__([Position(epoch, epoch % 4, 1.0), Position(epoch, 1, 1.0)]) for epoch in range(40)]
    lengths = {batch["pixels"].shape[1] for batch in batches}
    assert min(lengths) >= 5 and max(lengths) <= 12 and len(lengths) >= 5
    even = 0
    for batch in batches:
        steps = batch["timestamps"].diff(dim=1)
        assert batch["timestamps"].shape == batch["pixels"].shape[:2] and (steps > 0).all()
        even += bool((steps.max() - steps.min()) < 2 / 24 + 1e-3)
    assert 8 < even < 35
    again = dataset.__getitems__([Position(3, 3, 1.0), Position(3, 1, 1.0)])
    assert torch.equal(again["pixels"], batches[3]["pixels"])


def test_interpolation_export_plugs_into_the_base(configure: Configure, tiny_model: Path, tmp_path: Path) -> None:
    trainer = Trainer(configure("interpolation", "optim.ema_decay=null"))
    trainer.run()
    folder = tmp_path / "run" / "interpolation"
    loaded = load_interpolation(load_components(str(tiny_model)).unet, folder)
    config = load_interpolation_config(folder)
    assert config["motion"]["num_frames"] == 8 and config["min_frames"] == 5 and config["scheduler"]
    x, known, mask = torch.randn(1, 4, 6, 8, 8), torch.randn(1, 4, 6, 8, 8), torch.tensor([[1, 0, 0, 0, 0, 1]])
    inputs = network_input(x, crossfaded(known, mask, torch.arange(6.0)[None]), mask)
    arguments = inputs, torch.tensor([10]), torch.randn(1, 16, 16), torch.tensor([12.0])
    with torch.no_grad():
        assert torch.equal(trainer.objective.network.eval()(*arguments), loaded(*arguments))
    again = Trainer(configure("interpolation", f"init_from={tmp_path / 'run'}", f"output_dir={tmp_path / 'next'}"))
    assert torch.equal(again.parameters[NEW], loaded.state_dict()[NEW])


def test_interpolation_resumes_as_if_never_stopped(configure: Configure, tmp_path: Path) -> None:
    constant = ("validation.num_clips=0", "optim.schedule=constant", "data.curriculum_fraction=0")
    whole = Trainer(configure("interpolation", *constant))
    whole.run()
    (tmp_path / "run").rename(tmp_path / "whole")
    Trainer(configure("interpolation", "max_steps=2", *constant)).run()
    resumed = Trainer(configure("interpolation", *constant), resume="auto")
    resumed.run()
    assert all(torch.equal(value, whole.parameters[name]) for name, value in resumed.parameters.items())


def test_the_noise_is_that_of_the_temporal_model_unless_chosen(configure: Configure, tmp_path: Path) -> None:
    noise = ("diffusion.shared_noise=0.5", "diffusion.noise_prior=progressive")
    Trainer(configure("temporal", "max_steps=1", *noise)).run()
    motion = (f"model.motion={tmp_path / 'run' / 'motion'}", f"output_dir={tmp_path / 'between'}")
    for chosen, expected in (
        ((), NoisePrior(0.5, "progressive")),
        (("diffusion.shared_noise=0.8",), NoisePrior(0.8, "progressive")),
        (("diffusion.shared_noise=0.8", "diffusion.noise_prior=mixed"), NoisePrior(0.8, "mixed")),
    ):
        objective = Trainer(configure("interpolation", *motion, *chosen)).objective
        assert isinstance(objective, InterpolationObjective)
        assert objective.noise_prior == objective.loss_of.noise_prior == expected
    with pytest.raises(InputError, match="set shared_noise above 0, too"):
        configure("interpolation", "diffusion.noise_prior=progressive")


def test_progressive_noise_of_an_interpolation_network_is_that_of_its_videos(
    configure: Configure, tmp_path: Path
) -> None:
    noise = ("diffusion.shared_noise=0.5", "diffusion.noise_prior=progressive", "max_steps=1")
    trainer = Trainer(configure("interpolation", *noise))
    trainer.run()
    components = load_components(str(trainer.config.model.base))
    fill = DiffusionFill(components, tmp_path / "run" / "interpolation", FillSettings())
    assert fill.noise_prior == NoisePrior(0.5, "progressive")
    assert (fill.record()["shared_noise"], fill.record()["noise_prior"]) == (0.5, "progressive")


def test_interpolation_needs_motion(configure: Configure, tiny_image_model: Path) -> None:
    with pytest.raises(InputError, match="has no motion/, which the interpolation network starts from"):
        Trainer(configure("interpolation", f"model.base={tiny_image_model}"))


def test_interpolation_objective_is_the_stage(configure: Configure) -> None:
    assert isinstance(Trainer(configure("interpolation")).objective, InterpolationObjective)
