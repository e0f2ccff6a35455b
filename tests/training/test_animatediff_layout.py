"""Training for AnimateDiff's tools: what learns, that a run goes on to the bit, and that diffusers makes our video."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import t2v
from t2v.data.video_io import write_video
from t2v.diffusion.schedule import NoiseSchedule
from t2v.errors import InputError
from t2v.models.animatediff_files import is_animatediff, read_animatediff_config, read_facts, write_original
from t2v.models.folder import ZOO, load_components
from t2v.models.inflate import is_temporal, spatial_hash
from t2v.models.lora import LORA_FILE, ORIGINAL_FILE, is_lora
from t2v.models.unet import VideoUNet
from t2v.training.config import TemporalTrainConfig, TrainConfig
from t2v.training.config_files import dump_config, load_config
from t2v.training.trainer import Trainer
from tests.models.peers import relative
from tests.pipelines.test_animatediff import own_steps, peer_steps
from tests.training.test_trained_part import changed_names, stop

Configure = Callable[..., TrainConfig]
LAYOUT = "model.temporal.layout=animatediff"
FAST = ("optim.learning_rate=1e-2", "optim.ema_decay=null")


@pytest.fixture
def base(sd1_folder: Path) -> str:
    """A model wide enough for AnimateDiff's eight heads; latents half as wide as its pictures."""
    return f"model.base={sd1_folder}"


@pytest.fixture
def trained(configure: Configure, base: str, tmp_path: Path) -> Path:
    """motion/ of a short run."""
    Trainer(configure("temporal", base, LAYOUT, "max_steps=2", *FAST)).run()
    return tmp_path / "run" / "motion"


def test_motion_modules_alone_learn_from_identity(configure: Configure, base: str, sd1_folder: Path) -> None:
    notes: list[str] = []
    trainer = Trainer(configure("temporal", base, LAYOUT, "max_steps=3"), on_note=notes.append)
    network = trainer.objective.network
    image = VideoUNet.from_pretrained(sd1_folder / "unet")
    x, text = torch.randn(1, 4, 4, 8, 8), torch.randn(1, 16, 32)
    with torch.no_grad():
        assert torch.equal(network(x, 500, text), image(x, 500, text))
    changed = changed_names(trainer)
    assert changed == {name for name in network.state_dict() if is_temporal(name)}
    assert all(".temporal_attentions." in name for name in changed)
    assert spatial_hash(network) == spatial_hash(image)  # type: ignore[arg-type]
    with torch.no_grad():
        assert not torch.equal(network(x, 500, text), image(x, 500, text))
    assert any("linear betas" in note for note in notes) and any("not told frame rates" in note for note in notes)


def test_the_layout_trains_to_the_bit_after_a_stop(configure: Configure, base: str, tmp_path: Path) -> None:
    whole = Trainer(configure("temporal", base, LAYOUT, f"output_dir={tmp_path / 'whole'}"))
    whole.run()
    first = Trainer(configure("temporal", base, LAYOUT), on_step=lambda step, _: stop(first, step))
    assert first.run() == "stopped"
    rest = Trainer(configure("temporal", base, LAYOUT), resume="auto")
    rest.run()
    assert all(torch.equal(p, whole.parameters[name]) for name, p in rest.parameters.items())


def test_what_a_run_leaves_is_a_motion_adapter_and_says_how_it_was_trained(trained: Path, sd1_folder: Path) -> None:
    assert is_animatediff(trained)
    config = read_animatediff_config(trained)
    assert (config.num_frames, config.version, config.mid_block, config.max_length) == (4, "v3", False, 32)
    facts = read_facts(trained)
    assert facts["fps_range"] == [4.0, 24.0] and facts["scheduler"]["beta_schedule"] == "linear"
    write_original(trained, trained / "mm.safetensors")
    assert read_animatediff_config(trained / "mm.safetensors") == config
    assert "MotionAdapter.from_pretrained" in (trained / "README.md").read_text()
    components = load_components(str(sd1_folder), str(trained))
    assert NoiseSchedule.from_config(components.motion_scheduler or {}) == NoiseSchedule.from_config(
        components.scheduler
    )


@pytest.mark.parametrize("form", ["folder", "file"])
def test_a_run_goes_on_from_given_modules(
    form: str, configure: Configure, base: str, trained: Path, tmp_path: Path
) -> None:
    source = trained.parent if form == "folder" else tmp_path / "mm.safetensors"
    write_original(trained, tmp_path / "mm.safetensors")
    options = (base, LAYOUT, f"init_from={source}", f"output_dir={tmp_path / 'next'}", "data.num_frames=6")
    trainer = Trainer(configure("temporal", *options))
    weights = load_file(trained / "diffusion_pytorch_model.safetensors")
    for name, parameter in trainer.parameters.items():
        assert torch.equal(parameter, weights[name.replace("temporal_attentions", "motion_modules")])
    assert trainer.objective.network.motion.num_frames == 6
    with pytest.raises(InputError, match=r"is of AnimateDiff: set model\.temporal\.layout"):
        Trainer(configure("temporal", base, f"init_from={source}", f"output_dir={tmp_path / 'other'}"))


def test_the_norm_and_the_shared_noise_of_the_training_come_back(
    configure: Configure, base: str, sd1_folder: Path, tmp_path: Path
) -> None:
    noise = ("diffusion.shared_noise=0.5", "diffusion.noise_prior=progressive")
    options = ("model.temporal={layout: animatediff, norm: frame}", *noise, "max_steps=1")
    trainer = Trainer(configure("temporal", base, *options, *FAST))
    trainer.run()
    components = load_components(str(sd1_folder), str(tmp_path / "run" / "motion"))
    assert components.motion_norm == "frame"
    assert (components.unet.motion.shared_noise, components.unet.motion.noise_prior) == (0.5, "progressive")
    x, text = torch.randn(1, 4, 4, 8, 8), torch.randn(1, 16, 32)
    with torch.no_grad():
        assert torch.equal(components.unet(x, 500, text), trainer.objective.network.eval()(x, 500, text))
    other = load_components(str(sd1_folder), str(tmp_path / "run" / "motion"), motion_norm="clip")
    assert other.motion_norm == "clip"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.temporal={layout: animatediff, conv: true}"], "leave conv, attention and fps out"),
        (["model.temporal={layout: animatediff, attention: false}"], "leave conv, attention and fps out"),
        (["model.temporal={layout: animatediff, fps: true}"], "leave conv, attention and fps out"),
        (["model.temporal.norm=frame"], "norm is an option of layout animatediff"),
        ([LAYOUT, "model.num_attention_heads=4"], "num_attention_heads is 8"),
        ([LAYOUT, "model.attention_in_all_levels=true"], "is in all levels"),
        (["model.motion=motion"], "motion is what motion_lora adapts"),
        (["model.train=motion_lora", LAYOUT], "motion_lora adds no layers"),
        (["model.train=motion_lora", "model.lora.targets=[proj_in]"], "targets of motion_lora are of to_q"),
    ],
)
def test_options_without_a_meaning_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_config("temporal", overrides=overrides)
    assert "\n" not in str(error.value)


def test_the_settings_of_a_run_are_read_back(tmp_path: Path) -> None:
    config = load_config("temporal", overrides=[LAYOUT])
    assert isinstance(config, TemporalTrainConfig) and not config.model.temporal.conv
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config("temporal", [tmp_path / "config.yaml"]) == config


def test_a_base_that_eight_heads_do_not_divide_is_refused(configure: Configure, sd1_folder: Path) -> None:
    unet = VideoUNet.from_pretrained(sd1_folder / "unet")
    from t2v.models.animatediff import new_animatediff
    from t2v.models.motion_module import AnimateDiffConfig

    with pytest.raises(InputError, match="5 heads and 32 groups do not divide"):
        new_animatediff(unet, AnimateDiffConfig(num_attention_heads=5), torch.Generator())


# ---------------------------------------------------------------- motion LoRA


def motion_lora(motion: Path, *more: str) -> tuple[str, ...]:
    return ("model.train=motion_lora", f"model.motion={motion}", "model.lora={rank: 2, alpha: 4}", *FAST, *more)


def test_a_motion_lora_learns_alone_and_both_its_files_are_what_was_trained(
    configure: Configure, base: str, trained: Path, sd1_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "lora"
    trainer = Trainer(configure("temporal", base, *motion_lora(trained, f"output_dir={run}", "max_steps=3")))
    changed = changed_names(trainer)
    assert changed and all(is_temporal(name) and is_lora(name) for name in changed)
    assert sorted(path.name for path in (run / "motion_lora").iterdir()) == ["README.md", ORIGINAL_FILE, LORA_FILE]
    original = load_file(run / "motion_lora" / ORIGINAL_FILE)
    module = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks"
    assert {name for name in original if name.startswith(f"{module}.1.processor.to_o")} == {
        f"{module}.1.processor.to_out_lora.{side}.weight" for side in ("down", "up")
    }
    x, text = torch.randn(1, 4, 4, 8, 8), torch.randn(1, 16, 32)
    for file in (LORA_FILE, ORIGINAL_FILE):
        loaded = load_components(str(sd1_folder), str(trained), loras=[str(run / "motion_lora" / file)])
        assert len(loaded.notes) == 2, loaded.notes
        with torch.no_grad():
            assert relative(loaded.unet(x, 500, text), trainer.objective.network.eval()(x, 500, text)) < 1e-5


def test_a_motion_lora_goes_on_to_the_bit(configure: Configure, base: str, trained: Path, tmp_path: Path) -> None:
    options = (base, *motion_lora(trained))
    whole = Trainer(configure("temporal", *options, f"output_dir={tmp_path / 'whole'}"))
    whole.run()
    rest_of = f"output_dir={tmp_path / 'rest'}"
    first = Trainer(configure("temporal", *options, rest_of), on_step=lambda step, _: stop(first, step))
    assert first.run() == "stopped"
    rest = Trainer(configure("temporal", *options, rest_of), resume="auto")
    rest.run()
    assert all(torch.equal(p, whole.parameters[name]) for name, p in rest.parameters.items())


def test_a_motion_lora_of_our_own_layers(configure: Configure, tiny_model: Path, tmp_path: Path) -> None:
    options = ("model.train=motion_lora", f"model.base={tiny_model}", "max_steps=2", *FAST)
    trainer = Trainer(configure("temporal", *options))
    trainer.run()
    folder = tmp_path / "run" / "motion_lora"
    assert not (folder / ORIGINAL_FILE).exists()
    loaded = load_components(str(tiny_model), loras=[str(folder / LORA_FILE)])
    assert len(loaded.notes) == 1  # nothing is left out
    x, text = torch.randn(1, 4, 4, 8, 8), torch.randn(1, 16, 16)
    with torch.no_grad():
        assert relative(loaded.unet(x, 500, text), trainer.objective.network.eval()(x, 500, text)) < 1e-5


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model.motion=null",), "has no motion/: a motion LoRA adapts one"),
        (("init_from=mini",), "starts from nothing"),
        (("diffusion.shared_noise=0.5",), "was trained with 0 mixed noise, got 0.5 mixed: leave"),
        (("data.num_frames=33",), "has positions for 32 frames, got 33"),
    ],
)
def test_settings_that_do_not_fit_the_motion_are_refused(
    overrides: tuple[str, ...], message: str, configure: Configure, base: str, tmp_path: Path
) -> None:
    from tests.models.test_animatediff import make_adapter

    make_adapter("v3").save_pretrained(tmp_path / "adapter")
    with pytest.raises(InputError, match=message):
        Trainer(configure("temporal", base, *motion_lora(tmp_path / "adapter"), *overrides))


# ---------------------------------------------------------------- the embedded model, in diffusers


@pytest.fixture(scope="module")
def mini_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mini-clips")
    for index in range(2):
        frames = np.full((12, 64, 64, 3), 200, np.uint8)
        for time in range(12):
            frames[time, 20:40, 4 * time : 4 * time + 16] = (220, 60 * index, 40)
        write_video(folder / f"{index}.mp4", frames, 12)
    return folder


@pytest.fixture(scope="module")
def on_mini(configure_in: Callable[..., TrainConfig], mini_clips: Path, tmp_path_factory: Any) -> Path:
    """A folder with motion/ and motion_lora/ of two short runs on `mini`."""
    folder = tmp_path_factory.mktemp("mini-run")
    options = ("model.base=mini", f"data.path={mini_clips}", "data.resolution=64", "validation.prompts=[]", *FAST)
    options += ("batch_size=1", "max_steps=2", "trackers=[]", "data.num_validation=0")
    Trainer(configure_in(folder, "temporal", *options, LAYOUT)).run()
    more = motion_lora(folder / "run" / "motion", f"output_dir={folder / 'lora'}")
    Trainer(configure_in(folder, "temporal", *options, *more)).run()
    return folder


@torch.no_grad()
def test_diffusers_makes_our_video_from_modules_trained_on_mini(on_mini: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    motion, lora = on_mini / "run" / "motion", on_mini / "lora" / "motion_lora"
    write_original(motion, on_mini / "mm.safetensors")
    by_name = diffusers.MotionAdapter.from_pretrained(motion)
    by_file = diffusers.MotionAdapter.from_single_file(str(on_mini / "mm.safetensors"), config=str(motion))
    for name, value in by_name.state_dict().items():  # tables of positions are made anew
        torch.testing.assert_close(by_file.state_dict()[name], value, rtol=0, atol=1e-5 if name.endswith(".pe") else 0)
    parts = {"motion_adapter": by_name, "feature_extractor": None, "torch_dtype": torch.float32}
    peer = diffusers.AnimateDiffPipeline.from_pretrained(ZOO / "mini", **parts)
    changes = {"beta_schedule": "linear", "clip_sample": False, "steps_offset": 1, "rescale_betas_zero_snr": False}
    peer.scheduler = diffusers.DDIMScheduler.from_config(peer.scheduler.config, **changes)
    peer.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = compare(t2v.load("mini", "cpu", "fp32", str(motion)), peer, noise)
    peer.load_lora_weights(lora)
    adapted = compare(t2v.load("mini", "cpu", "fp32", str(motion), loras=[str(lora / LORA_FILE)]), peer, noise)
    still = t2v.load("mini", "cpu", "fp32", str(zeroed(motion, on_mini / "zero")))
    assert relative(own_steps(still, noise)[-1], plain) > 1e-3 and relative(plain, adapted) > 1e-3


def compare(pipe: Any, peer: Any, noise: torch.Tensor) -> torch.Tensor:
    """Our last latents, which are those of diffusers, as all before."""
    ours, (theirs, _) = own_steps(pipe, noise), peer_steps(peer, noise)
    assert len(ours) == len(theirs) == 4
    difference = max(relative(one, other) for one, other in zip(ours, theirs, strict=True))
    print(f"largest relative difference {difference:.1e}")
    assert difference < 1e-4
    return ours[-1]


def zeroed(motion: Path, folder: Path) -> Path:
    """The modules before training: without an output."""
    folder.mkdir()
    weights = load_file(motion / "diffusion_pytorch_model.safetensors")
    weights = {name: tensor * 0 if ".proj_out." in name else tensor for name, tensor in weights.items()}
    save_file(weights, folder / "diffusion_pytorch_model.safetensors")
    (folder / "config.json").write_text((motion / "config.json").read_text())
    return folder
