import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from t2v.data.video_io import probe, write_video
from t2v.diffusion.loss import diffusion_loss
from t2v.diffusion.schedule import NoiseSchedule
from t2v.errors import InputError
from t2v.models.base import save_json
from t2v.models.folder import load_components
from t2v.models.inflate import is_temporal, load_motion_config
from t2v.models.unet import VideoUNet
from t2v.training.config import TrainConfig
from t2v.training.config_sections import VideoNoiseConfig
from t2v.training.objectives.denoising import WeightedLoss
from t2v.training.objectives.temporal import shuffle_frames
from t2v.training.sampler import Position
from t2v.training.trainer import Trainer

Configure = Callable[..., TrainConfig]


def test_temporal_trains_temporal_parameters_alone(configure: Configure, tiny_image_model: Path) -> None:
    trainer = Trainer(configure("temporal", "max_steps=3"))
    network = trainer.objective.network
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    trainer.run()
    changed = {name for name, parameter in network.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed and all(is_temporal(name) for name in changed)
    assert any("fps_embedding" in name for name in changed) and any("temporal_conv" in name for name in changed)
    image_unet = VideoUNet.from_pretrained(tiny_image_model / "unet").state_dict()
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in image_unet.items())


def test_temporal_overfits_a_few_clips(configure: Configure) -> None:
    options = ("max_steps=30", "batch_size=6", "optim.learning_rate=2e-2", "save_every=30", "validate_every=30")
    figures: list[dict[str, float]] = []
    Trainer(configure("temporal", *options, "log_every=10"), on_log=figures.append).run()
    losses = [line["loss"] for line in figures if "loss" in line]
    assert losses[-1] < 0.9 * losses[0]


def test_temporal_export_plugs_into_the_base(configure: Configure, tiny_image_model: Path, tmp_path: Path) -> None:
    trainer = Trainer(configure("temporal", "optim.ema_decay=null"))
    trainer.run()
    components = load_components(str(tiny_image_model), motion=str(tmp_path / "run" / "motion"))
    assert components.motion_scheduler == trainer.objective.schedule.to_config()  # type: ignore[attr-defined]
    assert components.unet.motion is not None and components.unet.motion.num_frames == 4
    x, text = torch.randn(1, 4, 4, 8, 8), torch.randn(1, 16, 16)
    network = trainer.objective.network.eval()
    with torch.no_grad():
        arguments = x, torch.tensor([10]), text, torch.tensor([12.0])
        assert torch.equal(network(*arguments), components.unet(*arguments))


def test_temporal_goes_on_from_given_motion(configure: Configure, tmp_path: Path) -> None:
    Trainer(configure("temporal", "optim.ema_decay=null")).run()
    (tmp_path / "run").rename(tmp_path / "first")
    trainer = Trainer(configure("temporal", f"init_from={tmp_path / 'first'}"))
    first = load_components(str(trainer.objective.base), str(tmp_path / "first" / "motion")).unet  # type: ignore[attr-defined]
    assert all(torch.equal(p, first.state_dict()[name]) for name, p in trainer.parameters.items())
    with pytest.raises(InputError, match="other temporal modules"):
        Trainer(configure("temporal", f"init_from={tmp_path / 'first'}", "model.temporal.conv=false"))


@pytest.mark.parametrize("guidance", ["video", "image"])
def test_temporal_samples_a_video_of_each_prompt(configure: Configure, tmp_path: Path, guidance: str) -> None:
    trainer = Trainer(configure("temporal", "max_steps=1", "validation.fps=6", f"validation.guidance={guidance}"))
    images = []  # calls with single images
    trainer.objective.network.register_forward_pre_hook(lambda _, inputs: images.append(inputs[0].ndim == 4))
    trainer.run()
    info = probe(tmp_path / "run" / "samples" / "samples-00000001.mp4")
    assert (info.num_frames, float(info.fps)) == (4, 6.0)
    assert any(images) == (guidance == "image")
    assert ("--guidance image" in (tmp_path / "run" / "README.md").read_text()) == (guidance == "image")


def test_temporal_skips_what_it_cannot_use_and_says_so(configure: Configure, clips: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for index in range(4):
        (folder / f"{index}.mp4").write_bytes((clips / f"{index}.mp4").read_bytes())
    (folder / "broken.mp4").write_bytes(b"not a video")
    write_video(folder / "short.mp4", np.zeros((3, 32, 32, 3), np.uint8), 24)
    trainer = Trainer(configure("temporal", f"data.path={folder}"))
    assert len(trainer.objective.dataset) == 2  # two of four are held back
    skipped = (tmp_path / "run" / "skipped.jsonl").read_text()
    assert skipped.count("\n") == 2 and "broken.mp4" in skipped and "short.mp4" in skipped


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.base=null", "--model"),
        ("data.path=null", "--data"),
        ("data.num_frames=49", "49 different frames"),
        ("validation.sampler=magic", "magic"),
        ("diffusion.noise_prior=progressive", "set shared_noise above 0"),
    ],
)
def test_temporal_refuses_bad_settings(configure: Configure, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Trainer(configure("temporal", override))


def test_the_noise_prior_is_kept_in_the_motion_and_follows_the_new_training(
    configure: Configure, tmp_path: Path
) -> None:
    noise = ("diffusion.shared_noise=0.5", "diffusion.noise_prior=progressive")
    Trainer(configure("temporal", "max_steps=1", *noise)).run()
    motion = load_motion_config(tmp_path / "run" / "motion")
    assert (motion["shared_noise"], motion["noise_prior"]) == (0.5, "progressive")
    (tmp_path / "run").rename(tmp_path / "first")
    overrides = (f"init_from={tmp_path / 'first'}", "diffusion.shared_noise=0.8")
    motion = Trainer(configure("temporal", *overrides)).objective.network.motion
    assert (motion.shared_noise, motion.noise_prior) == (0.8, "mixed")


@pytest.mark.parametrize("num_validation", [1, 5])
def test_validation_tells_noise_levels_and_the_order_of_frames_apart(num_validation: int, configure: Configure) -> None:
    lines: list[dict[str, float]] = []
    overrides = (f"data.num_validation={num_validation}", "max_steps=1")
    Trainer(configure("temporal", *overrides), on_log=lines.append).run()
    (figures,) = [line for line in lines if "validation_loss" in line]
    levels = [figures[f"validation_loss_t{level}"] for level in range(5)]  # each of two samples
    assert sum(levels) / 5 == pytest.approx(figures["validation_loss"], rel=1e-5)
    assert len(set(levels)) == 5 and figures["validation_loss_shuffled"] > 0


@pytest.mark.parametrize("stage", ["temporal", "interpolation"])
@pytest.mark.parametrize("num_validation", [1, 2])
def test_a_held_back_clip_that_cannot_be_read_is_left_out(
    num_validation: int, stage: str, configure: Configure, clips: Path, tmp_path: Path
) -> None:
    shutil.copytree(clips, tmp_path / "data")
    overrides = (f"data.path={tmp_path / 'data'}", f"data.num_validation={num_validation}", "max_steps=1")
    lines: list[dict[str, float]] = []
    trainer = Trainer(configure(stage, *overrides), on_log=lines.append)
    broken = trainer.objective.clips.validation.clips.clips[0].path  # type: ignore[attr-defined]
    broken.write_bytes(b"broken")
    assert trainer.run() == "finished"
    losses = [line["validation_loss"] for line in lines if "validation_loss" in line]
    assert len(losses) == num_validation - 1 and all(loss > 0 for loss in losses)
    assert str(broken) in (tmp_path / "run" / "skipped.jsonl").read_text()


@pytest.mark.parametrize("stage", ["temporal", "interpolation"])
def test_one_video_is_enough_to_train_on(stage: str, configure: Configure, clips: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    shutil.copy(clips / "0.mp4", tmp_path / "data")
    lines: list[dict[str, float]] = []
    overrides = (f"data.path={tmp_path / 'data'}", "data.num_validation=null", "max_steps=1", "batch_size=1")
    assert Trainer(configure(stage, *overrides), on_log=lines.append).run() == "finished"
    assert not any("validation_loss" in line for line in lines)
    assert "at most a tenth held back" in (tmp_path / "run" / "README.md").read_text()


def test_shuffle_frames_takes_whole_frames() -> None:
    latents = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5, 1)
    order = torch.tensor([[3, 1, 0, 2], [0, 1, 2, 3]])
    shuffled = shuffle_frames(latents, order)
    assert torch.equal(shuffled[0], latents[0][:, [3, 1, 0, 2]]) and torch.equal(shuffled[1], latents[1])


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample", "flow"])
@pytest.mark.parametrize("weighting", ["none", "min_snr_plus_one"])
def test_objective_is_that_of_the_base(prediction_type: str, weighting: str) -> None:
    schedule = NoiseSchedule(prediction_type=prediction_type)  # type: ignore[arg-type]
    loss_of = WeightedLoss(schedule, VideoNoiseConfig(weighting=weighting), torch.device("cpu"))  # type: ignore[arg-type]
    latents, noise, output = torch.randn(3, 4, 4, 2, 8, 8).unbind()
    timesteps = torch.tensor([0, 10, 500, 999])
    expected = diffusion_loss(schedule, output, latents, noise, timesteps, weighting=weighting)  # type: ignore[arg-type]
    torch.testing.assert_close(loss_of(output, latents, noise, timesteps), expected)


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample", "flow"])
def test_temporal_takes_the_prediction_type_of_its_base(
    prediction_type: str, configure: Configure, tiny_image_model: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_image_model, tmp_path / "base")
    save_json(base / "scheduler" / "scheduler_config.json", NoiseSchedule(prediction_type=prediction_type).to_config())  # type: ignore[arg-type]
    overrides = (f"model.base={base}", "validation.sampler=euler", "max_steps=1")
    trainer = Trainer(configure("temporal", *overrides))
    assert trainer.objective.schedule.prediction_type == prediction_type  # type: ignore[attr-defined]
    trainer.run()
    assert (tmp_path / "run" / "samples" / "samples-00000001.mp4").is_file()


def test_gradient_checkpointing_trains_alike_and_keeps_less(configure: Configure, tmp_path: Path) -> None:
    weights, kept = [], []
    for checkpointing in ("false", "true"):
        overrides = (f"output_dir={tmp_path / checkpointing}", f"model.gradient_checkpointing={checkpointing}")
        trainer = Trainer(configure("temporal", *overrides, "max_steps=2"))
        count = 0

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal count
            count += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            batch = trainer.objective.dataset.__getitems__([Position(0, index, 1.0) for index in range(3)])
            trainer.objective.loss(trainer.learner.network, batch, 0.0)
        kept.append(count)
        trainer.run()
        weights.append(trainer.parameters)
    assert kept[1] < 0.5 * kept[0]
    for name, parameter in weights[0].items():
        torch.testing.assert_close(parameter, weights[1][name], msg=name)
