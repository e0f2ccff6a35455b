from pathlib import Path

import pytest
import torch

from t2v.errors import InputError
from t2v.models.base import load_state_dict, save_json
from t2v.models.folder import load_components
from t2v.models.inflate import is_temporal
from t2v.models.interpolation import (
    InterpolationUNet,
    crossfaded,
    fading,
    frame_positions,
    interpolation_parameters,
    load_interpolation,
    network_input,
    save_interpolation,
    widen,
)
from t2v.models.unet import VideoUNet


@pytest.fixture
def unet(tiny_model: Path) -> VideoUNet:
    """A temporal U-Net whose temporal layers do something."""
    return load_components(str(tiny_model)).unet.eval()


@pytest.fixture
def inputs() -> tuple[torch.Tensor, ...]:
    """x (2, 4, 5, 8, 8), known frames, mask (2, 5), timesteps, text."""
    generator = torch.Generator().manual_seed(0)
    x, known = (torch.randn(2, 4, 5, 8, 8, generator=generator) for _ in range(2))
    mask = torch.tensor([[1, 0, 0, 0, 1], [0, 1, 0, 1, 1]])
    return x, known, mask, torch.tensor([10, 700]), torch.randn(2, 3, 16, generator=generator)


EVEN = torch.arange(5.0).expand(2, -1)


def told(x: torch.Tensor, known: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return network_input(x, crossfaded(known, mask, EVEN), mask)


@torch.no_grad()
def trained(unet: VideoUNet) -> InterpolationUNet:
    """A network whose new columns are not zero."""
    wide = widen(unet)
    wide.conv_in.known.weight.add_(torch.randn(wide.conv_in.known.weight.shape) * 0.1)
    return wide


@torch.no_grad()
def test_widen_gives_the_output_of_the_temporal_unet_exactly(unet: VideoUNet, inputs: tuple[torch.Tensor, ...]) -> None:
    x, known, mask, timesteps, text = inputs
    wide, fps = widen(unet), torch.tensor([8.0, 24.0])
    expected = unet(x, timesteps, text, fps)
    even = frame_positions(torch.arange(5.0)[None] / fps[:, None])[1].round(decimals=4)
    for some in (mask, torch.zeros_like(mask), torch.ones_like(mask)):
        assert torch.equal(wide(told(x, known, some), timesteps, text, fps), expected)
        assert torch.equal(wide(told(x, known, some), timesteps, text, fps, even), expected)


@torch.no_grad()
def test_known_frames_mask_and_times_all_matter(unet: VideoUNet, inputs: tuple[torch.Tensor, ...]) -> None:
    x, known, mask, timesteps, text = inputs
    wide = trained(unet)
    out = wide(told(x, known, mask), timesteps, text)
    unknown = (mask == 0)[:, None, :, None, None].expand_as(known)
    assert torch.equal(wide(told(x, known + unknown, mask), timesteps, text), out)  # not looked at
    assert not torch.allclose(wide(told(x, known + ~unknown, mask), timesteps, text), out)
    assert not torch.allclose(wide(told(x, torch.zeros_like(known), 1 - mask), timesteps, text), out)
    uneven = torch.tensor([[0.0, 0.4, 0.8, 3.0, 4.0]]).expand(2, -1)
    assert not torch.allclose(wide(told(x, known, mask), timesteps, text, positions=uneven), out)


def test_network_input_is_what_is_shown_beside_the_level_of_noise() -> None:
    known, x, times = torch.full((1, 2, 3, 4, 4), torch.nan), torch.ones(1, 2, 3, 4, 4), torch.arange(3.0)[None]
    known[:, :, 2] = 5
    mask = torch.tensor([[0, 0, 0.97]])
    out = network_input(x, crossfaded(known, mask, times), mask)  # blind to unknown frames
    assert out.shape == (1, 5, 3, 4, 4)
    assert torch.equal(out[0, :2], x[0]) and (out[0, 2:4] == 5).all()
    assert torch.equal(out[0, 4, :, 0, 0], torch.tensor([0, 0, 0.97]))
    assert torch.equal(crossfaded(known, torch.zeros(1, 3), times), torch.zeros_like(known))


def test_fading_mixes_the_known_frames_on_both_sides_by_time() -> None:
    known = torch.tensor([[False, True, False, False, True, False]])
    mix = fading(known, torch.tensor([[0.0, 1.0, 1.5, 2.0, 3.0, 4.0]]))[0]
    expected = torch.zeros(6, 6)
    expected[:, 1], expected[:, 4] = torch.tensor([[1, 1, 0.75, 0.5, 0, 0], [0, 0, 0.25, 0.5, 1, 1]])
    assert torch.equal(mix, expected)
    assert torch.equal(fading(torch.zeros(1, 6).bool(), torch.arange(6.0)[None]), torch.zeros(1, 6, 6))


def test_frame_positions_count_frames_of_the_mean_rate() -> None:
    fps, positions = frame_positions(torch.tensor([[1.0, 1.1, 1.5], [0.0, 0.25, 0.5]]))
    torch.testing.assert_close(fps, torch.tensor([4.0, 4.0]))
    torch.testing.assert_close(positions, torch.tensor([[0.0, 0.4, 2.0], [0.0, 1.0, 2.0]]))


@torch.no_grad()
def test_save_and_load_only_what_differs(
    unet: VideoUNet, inputs: tuple[torch.Tensor, ...], tmp_path: Path, tiny_image_model: Path
) -> None:
    x, known, mask, timesteps, text = inputs
    wide = trained(unet)
    save_interpolation(wide, tmp_path / "interpolation", {"scheduler": {"a": 1}})
    stored = load_state_dict(tmp_path / "interpolation")
    assert stored.keys() == interpolation_parameters(wide).keys()
    assert not [name for name in stored if not is_temporal(name) and name != "conv_in.known.weight"]
    image = VideoUNet.from_pretrained(tiny_image_model / "unet").eval()
    for base in (unet, image):  # the temporal layers of the base are not needed, and not used
        loaded = load_interpolation(base, tmp_path / "interpolation")
        arguments = told(x, known, mask), timesteps, text
        if base is unet:
            assert torch.equal(loaded(*arguments), wide(*arguments))
    assert image.motion is None and loaded.motion == wide.motion


def test_load_refuses_what_does_not_fit(unet: VideoUNet, tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(InputError, match=r"config.json is missing"):
        load_interpolation(unet, tmp_path)
    with pytest.raises(InputError, match="'Motion', expected 'Interpolation'"):
        load_interpolation(unet, tiny_model / "motion")
    save_interpolation(widen(unet), tmp_path)
    config = {"_class_name": "Interpolation", "motion": {"_class_name": "Motion", "attention_in_all_levels": True}}
    save_json(tmp_path / "config.json", config)
    with pytest.raises(InputError, match="is missing: the weights do not belong"):
        load_interpolation(unet, tmp_path)


def test_widen_needs_temporal_layers(tiny_image_model: Path) -> None:
    with pytest.raises(InputError, match="starts from a temporal U-Net"):
        widen(VideoUNet.from_pretrained(tiny_image_model / "unet"))
