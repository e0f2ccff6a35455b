"""Folders of ModelScope's kind on the command line."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SMALL = ("--num-frames", 3, "--num-inference-steps", 2, "--sampler", "ddim")


def test_generate_and_repeat(t2v_command, modelscope_folder):
    done = t2v_command("generate", "a robot dancing", "--model", modelscope_folder, *SMALL, "-o", "a.webp")
    assert (done.code, done.out) == (0, "a.webp\n"), done.err
    again = t2v_command("generate", "--from", "a.json", "-o", "b.webp")
    assert again.code == 0, again.err
    assert Path("a.webp").read_bytes() == Path("b.webp").read_bytes()


def test_info(t2v_command, modelscope_folder):
    done = t2v_command("info", modelscope_folder)
    assert (done.code, done.err) == (0, "")
    for text in (
        "ModelScope",
        "UNet3DConditionModel",
        "levels of 32, 64",
        "trained on 16 to 24 frames",
        "scaled_linear",
    ):
        assert text in done.out


@pytest.mark.parametrize(
    "command",
    [
        ("inflate", "MODEL", "-o", "out"),
        ("convert", "MODEL", "out.safetensors"),
        ("train", "temporal", "--model", "MODEL", "--data", "DATA", "output_dir=out"),
        ("generate", "a cat", "--model", "MODEL", "--motion", "MOTION"),
    ],
    ids=lambda command: command[0],
)
def test_what_needs_an_image_model_says_so(t2v_command, modelscope_folder, tiny_model, command):
    paths = {"MODEL": modelscope_folder, "MOTION": tiny_model / "motion", "DATA": modelscope_folder}
    done = t2v_command(*(paths.get(word, word) for word in command))
    assert done.code == 2 and done.err.count("\n") == 1
    assert "temporal layers of its own" in done.err
    assert not Path("out.safetensors").exists() and not Path("out/motion").exists()


def test_pickles_are_converted(t2v_command, modelscope_folder, tmp_path):
    folder = shutil.copytree(modelscope_folder, tmp_path / "pickled")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    refused = t2v_command("generate", "a cat", "--model", "pickled", *SMALL)
    assert refused.code == 2 and refused.err.count("\n") == 1 and "t2v convert" in refused.err
    done = t2v_command("convert", "pickled", "whole")
    assert done.code == 0, done.err
    one, other = (load_file(path / "unet" / weights.name) for path in (modelscope_folder, tmp_path / "whole"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    diffusers = pytest.importorskip("diffusers")
    assert diffusers.TextToVideoSDPipeline.from_pretrained("whole").unet.config.attention_head_dim == 8
    assert t2v_command("info", "whole").code == 0
