"""The network as a way to make frames: the size it works at, tiles of large frames."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from t2v.errors import InputError
from t2v.models.folder import load_components
from t2v.models.interpolation import save_interpolation, widen
from t2v.pipelines.interpolation.diffusion import DiffusionFill, FillSettings, _Clip, _to_model_range
from t2v.pipelines.interpolation.residual import Guesses, KnownFrames


@pytest.fixture(scope="module")
def weights(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interpolation") / "interpolation"
    unet = widen(load_components(str(tiny_model)).unet)
    unet.conv_in.known.weight.data += 0.1
    save_interpolation(unet, folder)
    return folder


def fill_with(tiny_model: Path, weights: Path, **settings: Any) -> DiffusionFill:
    components = load_components(str(tiny_model), None, torch.float32, torch.device("cpu"))
    return DiffusionFill(components, weights, FillSettings(num_inference_steps=2, **settings))


def ends(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)


def test_the_network_works_at_the_area_it_was_trained_at_or_as_asked(tiny_model: Path, weights: Path) -> None:
    fill = fill_with(tiny_model, weights)
    assert fill._size(64, 64) == (32, 32) and fill._size(16, 64) == (16, 64) and fill._size(2160, 3840) == (24, 40)
    assert fill_with(tiny_model, weights, scale=0.5)._size(96, 64) == (48, 32)
    for scale in (0.0, -1.0, 5.0):
        with pytest.raises(InputError, match="scale must be above 0"):
            FillSettings(scale=scale)


def test_a_hint_by_flow_is_shown_in_place_of_the_cross_fade(tiny_model: Path, weights: Path) -> None:
    pytest.importorskip("cv2")
    noise = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(noise, (32, 44), mode="bicubic")[0].clamp(0, 1).mul(255).byte()
    wide = smooth.permute(1, 2, 0).numpy()
    start, between, end = (wide[:, x : x + 32] for x in (0, 3, 6))
    seen: dict[str, list[torch.Tensor]] = {"crossfade": [], "flow": []}
    for hint, inputs in seen.items():
        fill = fill_with(tiny_model, weights, hint=hint)
        fill.unet.register_forward_pre_hook(lambda module, args, inputs=inputs: inputs.append(args[0]))
        made = fill(np.stack([start, end]), [0.0, 1.0], [0.5])
        assert made.shape == (1, 32, 32, 3) and fill.record()["hint"] == hint
    truth = fill._encode(_to_model_range(np.stack([start, between, end]), fill.device))[0]
    faded, moved = (inputs[0][1] for inputs in seen.values())  # the first is without known frames, for guidance
    assert torch.equal(moved[8], faded[8])  # the mask still says which frames are known
    torch.testing.assert_close(moved[4:8, [0, 2]], truth[:, [0, 2]])
    errors = [(shown[4:8, 1] - truth[:, 1])[:, 1:-1, 1:-1].abs().mean() for shown in (moved, faded)]
    assert errors[0] < 0.5 * errors[1]
    fill(np.stack([start, between, end]), [0.0, 0.5, 1.0], [0.25, 0.75, 2.0])
    fill(end[None], [0.0], [1.0])
    several, single = (shown[1, 4:8] for shown in seen["flow"][-3::2])  # two steps each
    assert not torch.allclose(several[:, 1], (several[:, 0] + several[:, 2]) / 2, atol=1e-3)  # not a cross-fade
    torch.testing.assert_close(several[:, 5], several[:, 4])  # beyond the end: held
    torch.testing.assert_close(single[:, 1], single[:, 0])
    with pytest.raises(InputError, match="unknown hint 'zero': known are crossfade, flow"):
        FillSettings(hint="zero")


def test_guesses_are_those_of_the_times_asked_for_and_not_of_frames_thrown_away(
    tiny_model: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def record(made: torch.Tensor, times: list[float], known: KnownFrames, guesses: Guesses) -> Iterator[torch.Tensor]:
        seen.append((times, torch.stack(list(guesses.pictures)), guesses.returned))
        yield from made

    monkeypatch.setattr("t2v.pipelines.interpolation.diffusion.give_back", record)
    fill = fill_with(tiny_model, weights)
    fill.min_frames = 7
    black_to_white = np.stack([np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)])
    fill(black_to_white, [0.0, 1.0], [0.25, 0.8])
    ((times, pictures, returned),) = seen
    assert times == [0.25, 0.8]
    torch.testing.assert_close(pictures.mean((1, 2, 3)), torch.tensor([-0.5, 0.6]), atol=0.01, rtol=0)
    ends = fill._encode(_to_model_range(black_to_white, fill.device))
    shown = torch.stack([(1 - time) * ends[:, :, 0] + time * ends[:, :, 1] for time in times], dim=2)
    torch.testing.assert_close(returned, fill._decode(shown))


def test_out_of_memory_names_what_was_asked_and_the_options(
    tiny_model: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill = fill_with(tiny_model, weights)
    monkeypatch.setattr(fill.unet, "forward", lambda *_: torch.empty(10**15))
    with pytest.raises(
        InputError, match=r"this takes 3 frames at once, 32x32 in the network; use --offload .* --scale"
    ):
        fill(ends(64, 64), [0.0, 1.0], [0.5])


def test_large_frames_are_made_in_tiles_of_the_trained_size(tiny_model: Path, weights: Path) -> None:
    fill, seen = fill_with(tiny_model, weights, scale=1.0), []
    fill.unet.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    made = fill(ends(72, 120), [0.0, 1.0], [0.5])
    assert made.shape == (1, 72, 120, 3)
    assert {tuple(x.shape) for x in seen} == {(2, 9, 3, 8, 8)} and len(seen) == 2 * 3 * 5  # guided; latents are 18 x 30
    by_place = [x[0, :4, 1] for x in seen[:15]]  # the first step: noise of the frame to be made, tiles row by row
    assert torch.equal(by_place[0][:, :, -2:], by_place[1][:, :, :2])  # one field of noise, neighbours share columns
    assert not torch.equal(by_place[0], by_place[1])


def test_tiles_of_a_network_that_looks_at_single_places_are_one_pass(
    tiny_model: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, tiled = fill_with(tiny_model, weights, scale=1.0), fill_with(tiny_model, weights, scale=1.0)
    for fill in (whole, tiled):
        monkeypatch.setattr(fill.unet, "forward", lambda x, *_: 0.3 * x[:, :4] + 0.1 * x[:, 4:8])
    monkeypatch.setattr(whole, "_tile", lambda *_: None)
    latents = torch.randn(1, 4, 2, 18, 30, generator=torch.Generator().manual_seed(0))
    clip = _Clip.of(latents, [0.0, 1.0], [0.25, 0.5])
    both = [fill._sample(clip, clip.known) for fill in (whole, tiled)]
    torch.testing.assert_close(*both, atol=1e-5, rtol=1e-5)


def test_frames_of_4k_are_made_within_reach(tiny_model: Path, weights: Path) -> None:
    """By default at the trained area, whatever the size of the frames."""
    made = fill_with(tiny_model, weights)(ends(2160, 3840), [0.0, 1.0], [0.5])
    assert made.shape == (1, 2160, 3840, 3)
