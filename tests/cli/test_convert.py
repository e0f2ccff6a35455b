import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2v.models.checkpoint import STEMS, read_folder


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    parts = read_folder(folder).parts
    return {
        f"{part}.{name.removeprefix('text_model.')}": tensor
        for part in STEMS
        for name, tensor in parts[part].weights.items()
    }


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_folder_to_file_to_folder(t2v_command, tiny_model, tmp_path):
    done = t2v_command("convert", tiny_model, "model.safetensors")
    assert (done.code, done.out) == (0, "model.safetensors\n"), done.err
    assert "give --tokenizer" in done.err and f"--motion {tiny_model / 'motion'}" in done.err
    done = t2v_command("convert", "model.safetensors", "again", "--tokenizer", tiny_model)
    assert (done.code, done.out, done.err) == (0, "again\n", "")
    assert_same(weights_of(tiny_model), weights_of(tmp_path / "again"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "model.safetensors"]
    done = t2v_command("info", "again", "--json", "--height", 32, "--width", 32)
    assert done.code == 0, done.err


def test_a_pickled_file_and_folder(t2v_command, tiny_model, tmp_path):
    t2v_command("convert", tiny_model, "model.safetensors")
    torch.save({"state_dict": load_file("model.safetensors"), "global_step": 3}, "model.ckpt")
    done = t2v_command("convert", "model.ckpt", "plain.safetensors")
    assert (done.code, done.err) == (0, "")
    assert_same(load_file("model.safetensors"), load_file("plain.safetensors"))

    folder = shutil.copytree(tiny_model, tmp_path / "pickled")
    for part, stem in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        weights = folder / part / f"{stem}.safetensors"
        torch.save(load_file(weights), folder / part / ("pytorch_model.bin" if stem == "model" else f"{stem}.bin"))
        weights.unlink()
    refused = t2v_command("info", "pickled")
    assert refused.code == 2 and "t2v convert" in refused.err
    done = t2v_command("convert", "pickled", "whole")
    assert done.code == 0 and "only the image model was written" in done.err
    assert_same(weights_of(tiny_model), weights_of(tmp_path / "whole"))


@pytest.mark.parametrize("command", [("generate", "a cat", "--model"), ("info",), ("inflate", "-o", "out")], ids=str)
@pytest.mark.parametrize("suffix", [".ckpt", ".bin", ".pt", ".pth"])
def test_other_commands_refuse_pickles_and_name_this_one(t2v_command, command, suffix):
    Path(f"model{suffix}").write_bytes(b"not even looked at")
    done = t2v_command(*command, f"model{suffix}")
    assert done.code == 2 and done.err.count("\n") == 1
    assert "refused" in done.err and "t2v convert" in done.err


def test_a_malicious_pickle_leaves_nothing(t2v_command, tmp_path):
    class Malicious:
        def __reduce__(self):
            return Path.mkdir, (tmp_path / "victim",)

    torch.save({"state_dict": {"a": Malicious()}}, "evil.ckpt")
    done = t2v_command("convert", "evil.ckpt", "evil.safetensors")
    assert done.code == 2 and done.err.count("\n") == 1 and "nothing was run" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["evil.ckpt"]


def lora(path: Path) -> None:
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(1)}, path)


def stable_diffusion_xl(path: Path) -> None:
    names = ("conditioner.embedders.0.transformer.x", "model.diffusion_model.input_blocks.0.0.weight")
    save_file({name: torch.zeros(1) for name in names}, path)


def garbage(path: Path) -> None:
    path.write_bytes(b"\xff" * 64)


@pytest.mark.parametrize(
    ("write", "target", "message"),
    [
        (lora, "folder", "has no folder form"),
        (stable_diffusion_xl, "folder", "a Stable Diffusion XL checkpoint: use a Stable Diffusion 1 or 2"),
        (garbage, "folder", "truncated or not a safetensors file"),
        (lora, "there", "there exists"),
        (lora, "there.safetensors", "there.safetensors exists"),
        (None, "folder", "no file or folder at source.safetensors"),
    ],
)
def test_what_cannot_be_converted_is_one_line(t2v_command, tmp_path, write, target, message):
    (tmp_path / "there").mkdir()
    (tmp_path / "there.safetensors").touch()
    if write is not None:
        write(tmp_path / "source.safetensors")
    before = sorted(tmp_path.rglob("*"))
    done = t2v_command("convert", "source.safetensors", target)
    assert done.code == 2 and message in done.err and done.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_the_moving_average_is_chosen_by_an_option(t2v_command, tiny_model):
    t2v_command("convert", tiny_model, "model.safetensors")
    weights = load_file("model.safetensors")
    names = [name for name in weights if name.startswith("model.")]
    ema = {"model_ema." + name.removeprefix("model.").replace(".", ""): weights[name] + 1 for name in names}
    save_file({**weights, **ema}, "training.safetensors")
    assert t2v_command("convert", "training.safetensors", "ema.safetensors", "--ema").code == 0
    found = load_file("ema.safetensors")
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name] + (name in names)) for name in weights)


def test_motion_modules_go_both_ways_and_info_knows_them(t2v_command, tmp_path):
    pytest.importorskip("diffusers")
    from tests.models.test_animatediff import make_adapter

    make_adapter("v2").save_pretrained("adapter")
    assert t2v_command("convert", "adapter", "mm.safetensors").code == 0
    torch.save({"state_dict": {f"module.{name}": w for name, w in load_file("mm.safetensors").items()}}, "mm.ckpt")
    assert t2v_command("convert", "mm.ckpt", "again").code == 0
    first, second = (load_file(f"{name}/diffusion_pytorch_model.safetensors") for name in ("adapter", "again"))
    assert_same(first, second)
    for name, form in (("mm.safetensors", "a single file"), ("again", "a MotionAdapter folder")):
        done = t2v_command("info", name)
        assert (done.code, done.err) == (0, "")
        assert f"AnimateDiff v2, {form}" in done.out and "16 frames; table of positions for 32" in done.out
    refused = t2v_command("convert", "adapter", "other")
    assert refused.code == 2 and "MotionAdapter folder already" in refused.err
    assert not Path("other").exists()


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """Motion modules for the small Stable Diffusion 1 folder."""
    pytest.importorskip("diffusers")
    from tests.models.test_animatediff import make_adapter

    make_adapter("v3").save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize("form", ["folder", "files"])
def test_a_model_with_modules_becomes_what_diffusers_opens(t2v_command, sd1_folder, adapter, tmp_path, form):
    import diffusers

    import t2v
    from tests.models.peers import relative
    from tests.pipelines.test_animatediff import own_steps, peer_steps

    source, motion, more = sd1_folder, adapter, []
    if form == "files":
        source, motion, more = "model.safetensors", "mm.safetensors", ["--tokenizer", sd1_folder]
        t2v_command("convert", sd1_folder, source)
        t2v_command("convert", adapter, motion)
    done = t2v_command("convert", source, "whole", "--to", "diffusers", "--motion", motion, *more)
    assert (done.code, done.out, done.err) == (0, "whole\n", "")
    peer = diffusers.AnimateDiffPipeline.from_pretrained(tmp_path / "whole")
    assert (peer.scheduler.config.beta_schedule, peer.scheduler.config.steps_offset) == ("linear", 1)
    noise = torch.randn(1, 4, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, _ = peer_steps(peer, noise)
        assert relative(own_steps(t2v.load("whole", "cpu", "fp32"), noise)[-1], expected[-1]) < 1e-4
    assert_same(weights_of(sd1_folder), weights_of(tmp_path / "whole"))
    first, second = (
        load_file(folder / "diffusion_pytorch_model.safetensors")
        for folder in (adapter, tmp_path / "whole/motion_adapter")
    )
    assert_same(first, second)


def test_what_a_folder_of_diffusers_cannot_hold_is_said(t2v_command, sd1_folder, tiny_model, adapter):
    done = t2v_command("convert", tiny_model, "plain")
    assert done.code == 0 and "diffusers has nothing like" in done.err and "convolution and attention" in done.err
    assert "left out, being for t2v alone: generation_config.json, vocabulary.json" in done.err
    file = adapter / "diffusion_pytorch_model.safetensors"
    facts = json.dumps({"norm_over_frames": False, "shared_noise": 0.5, "noise_prior": "progressive"})
    save_file(load_file(file), file, {"t2v_motion": facts})
    save_file({"a": torch.zeros(1)}, adapter / "pytorch_lora_weights.safetensors")
    done = t2v_command("convert", sd1_folder, "whole", "--motion", adapter)
    assert done.code == 0 and done.err.count("\n") == 3
    assert (
        "each frame's own norm" in done.err
        and "to share 0.5 (progressive)" in done.err
        and "load_lora_weights" in done.err
    )
    assert Path("whole/motion_adapter/pytorch_lora_weights.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("model", "out", "--motion", "wide"), "level widths (32, 96), this one has (32, 64)"),
        (("model", "out", "--motion", "nowhere"), "no motion at nowhere"),
        (("model", "out.safetensors", "--motion", "adapter"), "no place for motion"),
        (("adapter", "out", "--motion", "adapter"), "--motion is for whole models"),
        (("model", "out.safetensors", "--to", "diffusers"), "--to diffusers is a folder, got out.safetensors"),
        (("model", "out", "--to", "single-file"), "--to single-file is NAME.safetensors, got out"),
    ],
)
def test_motion_that_has_no_place_is_one_line(t2v_command, sd1_folder, adapter, tmp_path, arguments, message):
    from tests.models.test_animatediff import make_adapter

    make_adapter("v3", block_out_channels=(32, 96)).save_pretrained("wide")
    before = sorted(tmp_path.rglob("*"))
    done = t2v_command("convert", *[sd1_folder if part == "model" else part for part in arguments])
    assert done.code == 2 and message in done.err and done.err.count("\n") == 1, done.err
    assert sorted(tmp_path.rglob("*")) == before
