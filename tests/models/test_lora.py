"""Adapters on the spatial layers: what they touch, their file, and that diffusers reads it alike."""

from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from t2v.errors import InputError
from t2v.models.base import load_state_dict
from t2v.models.folder import load_components
from t2v.models.inflate import inflate, is_temporal, save_motion
from t2v.models.lora import LORA_FILE, LoraSettings, add_lora, is_lora, lora_parameters, merge_lora, save_lora
from t2v.models.unet import MotionConfig, VideoUNet

SETTINGS = LoraSettings(rank=3, alpha=6.0, targets=("to_q", "to_out.0", "conv1", "proj_in"))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def adapted_unet(model: Path, trained: bool = True) -> VideoUNet:
    unet = inflate(VideoUNet.from_pretrained(model / "unet"), MotionConfig(num_frames=4), seeded())
    add_lora(unet, SETTINGS, seeded())
    if trained:
        with torch.no_grad():
            for parameter in lora_parameters(unet).values():
                parameter += 0.1 * torch.randn(parameter.shape, generator=seeded(len(parameter)))
    return unet.eval()


@torch.no_grad()
def output(unet: VideoUNet) -> torch.Tensor:
    x, text = torch.randn(1, 4, 3, 8, 8, generator=seeded(1)), torch.randn(1, 16, 16, generator=seeded(2))
    return unet(x, torch.tensor([300]), text)


def test_add_lora_adapts_the_named_spatial_layers_alone_and_changes_nothing(tiny_image_model: Path) -> None:
    plain = inflate(VideoUNet.from_pretrained(tiny_image_model / "unet"), MotionConfig(num_frames=4), seeded())
    unet = adapted_unet(tiny_image_model, trained=False)
    assert torch.equal(output(unet), output(plain))
    names = {name for name, parameter in unet.named_parameters() if parameter.requires_grad}
    assert names == set(lora_parameters(unet)) and not any(is_temporal(name) for name in names)
    adapted = {name.split(".lora_")[0] for name in names}
    layers = {name for name, _ in plain.named_modules() if name.endswith((".to_q", ".to_out.0", ".conv1", ".proj_in"))}
    assert adapted == {name for name in layers if not is_temporal(name)}


def test_add_lora_depends_on_its_generator_alone(tiny_image_model: Path) -> None:
    first = lora_parameters(adapted_unet(tiny_image_model))
    torch.manual_seed(99)
    again = lora_parameters(adapted_unet(tiny_image_model))
    assert all(torch.equal(parameter, again[name]) for name, parameter in first.items())


def test_add_lora_refuses_a_target_that_is_nowhere(tiny_image_model: Path) -> None:
    unet = VideoUNet.from_pretrained(tiny_image_model / "unet")
    with pytest.raises(InputError, match="called to_x"):
        add_lora(unet, LoraSettings(targets=("to_q", "to_x")), seeded())
    assert not any(is_lora(name) for name, _ in unet.named_parameters())


def test_merged_lora_is_what_was_trained(tiny_image_model: Path, tmp_path: Path) -> None:
    unet = adapted_unet(tiny_image_model)
    save_motion(unet, tmp_path)
    save_lora(unet, tmp_path, SETTINGS)
    components = load_components(str(tiny_image_model), motion=str(tmp_path))
    assert components.weight_files[-1] == tmp_path / LORA_FILE
    torch.testing.assert_close(output(components.unet), output(unet), rtol=1e-5, atol=1e-6)
    image = load_components(str(tiny_image_model), motion=str(tmp_path / "diffusion_pytorch_model.safetensors"))
    assert (output(image.unet) - output(unet)).abs().max() > 1e-3  # the file of the motion alone is without it


def test_diffusers_reads_the_lora_alike(tiny_image_model: Path, tmp_path: Path) -> None:
    unet = adapted_unet(tiny_image_model)
    save_lora(unet, tmp_path, SETTINGS)
    peer = diffusers.UNet2DConditionModel.from_pretrained(tiny_image_model / "unet")
    peer.load_lora_adapter(load_state_dict(tmp_path / LORA_FILE), prefix="unet")
    own = merge_lora(VideoUNet.from_pretrained(tiny_image_model / "unet"), tmp_path / LORA_FILE)
    x, text = torch.randn(2, 4, 8, 8, generator=seeded(1)), torch.randn(2, 16, 16, generator=seeded(2))
    with torch.no_grad():
        torch.testing.assert_close(own(x, 300, text), peer(x, 300, text).sample, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", ["name", "shape", "half"])
def test_merge_lora_names_what_does_not_fit_and_changes_nothing(
    change: str, tiny_image_model: Path, tmp_path: Path
) -> None:
    save_lora(adapted_unet(tiny_image_model), tmp_path, SETTINGS)
    weights = load_state_dict(tmp_path / LORA_FILE)
    last = [name for name in weights if name.endswith("lora_A.weight")][-1]
    tensor = weights.pop(last)
    if change == "name":
        weights[f"unet.else{last}"] = tensor
    elif change == "shape":
        weights[last] = tensor[:, 1:].contiguous()
    else:
        weights[last] = tensor
        del weights[last.replace("lora_A", "lora_B")]
    save_file(weights, tmp_path / LORA_FILE)
    unet = VideoUNet.from_pretrained(tiny_image_model / "unet")
    before = output(unet)
    with pytest.raises(InputError, match="does not fit this U-Net"):
        merge_lora(unet, tmp_path / LORA_FILE)
    assert torch.equal(output(unet), before)


def test_merge_lora_refuses_a_file_without_adapters(tiny_image_model: Path, tmp_path: Path) -> None:
    save_file({"conv_in.weight": torch.zeros(1)}, tmp_path / LORA_FILE)
    with pytest.raises(InputError, match="no tensor named"):
        merge_lora(VideoUNet.from_pretrained(tiny_image_model / "unet"), tmp_path / LORA_FILE)
