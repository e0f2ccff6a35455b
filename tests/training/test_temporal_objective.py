from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from t2v.data.video_io import probe, write_video
from t2v.errors import InputError
from t2v.models.folder import load_components
from t2v.models.inflate import is_temporal, load_motion_config
from t2v.models.unet import VideoUNet
from t2v.training.config import ClipsConfig, TrainConfig
from t2v.training.objectives.clip_latents import curriculum_fps
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


def test_temporal_samples_a_video_of_each_prompt(configure: Configure, tmp_path: Path) -> None:
    Trainer(configure("temporal", "max_steps=1", "validation.fps=6")).run()
    info = probe(tmp_path / "run" / "samples" / "samples-00000001.mp4")
    assert (info.num_frames, float(info.fps)) == (4, 6.0)


def test_clip_batches_draw_different_frames_at_the_given_rate(configure: Configure) -> None:
    dataset = Trainer(configure("temporal", "data.fps_range=[3, 24]")).objective.dataset
    for progress in (0.0, 0.3, 1.0):
        batch = dataset.__getitems__([Position(epoch, epoch % 4, progress) for epoch in range(40)])
        steps = batch["frames"].diff(dim=1)
        assert (steps > 0).all()
        assert ((steps - 24 / batch["fps"][:, None]).abs() <= 1).all()  # frames are 1/24 s apart
    assert batch["fps"].min() < 6 < 18 < batch["fps"].max()


def test_clip_batches_depend_on_epoch_and_clip_alone(configure: Configure) -> None:
    dataset = Trainer(configure("temporal")).objective.dataset
    alone = dataset.__getitems__([Position(1, 2, 0.5)])
    among = dataset.__getitems__([Position(0, 1, 0.5), Position(1, 2, 0.5)])
    assert torch.equal(alone["frames"][0], among["frames"][1]) and alone["fps"][0] == among["fps"][1]


@pytest.mark.parametrize(
    ("progress", "bounds", "lowest", "highest"),
    [
        (0.0, (3.0, 24.0), 24.0, 24.0),
        (0.25, (3.0, 60.0), 16.0, 30.0),
        (0.5, (3.0, 24.0), 3.0, 24.0),  # the clip is too short for 2 fps
        (1.0, (1.0, 60.0), 2.0, 30.0),
    ],
)
def test_curriculum_fps_falls_from_high_rates(
    progress: float, bounds: tuple[float, float], lowest: float, highest: float
) -> None:
    config = ClipsConfig(fps_range=(2.0, 30.0), curriculum_fraction=0.5)
    assert curriculum_fps(0.0, progress, config, bounds) == pytest.approx(lowest)
    assert curriculum_fps(1.0, progress, config, bounds) == pytest.approx(highest)


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
    ],
)
def test_temporal_refuses_bad_settings(configure: Configure, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Trainer(configure("temporal", override))


def test_shared_noise_is_kept_in_the_motion_and_follows_the_new_training(configure: Configure, tmp_path: Path) -> None:
    Trainer(configure("temporal", "max_steps=1", "diffusion.shared_noise=0.5")).run()
    assert load_motion_config(tmp_path / "run" / "motion")["shared_noise"] == 0.5
    (tmp_path / "run").rename(tmp_path / "first")
    overrides = (f"init_from={tmp_path / 'first'}", "diffusion.shared_noise=0.8")
    assert Trainer(configure("temporal", *overrides)).objective.network.motion.shared_noise == 0.8
