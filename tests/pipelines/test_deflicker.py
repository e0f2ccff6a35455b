import math

import pytest
import torch

from t2v.pipelines.deflicker import REACH, deflicker


def non_local_means(latents, strength):
    """Frame by frame and place by place, in fp64."""
    batch, _, num_frames, height, width = latents.shape
    latents, result = latents.double(), torch.zeros_like(latents, dtype=torch.float64)
    for b in range(batch):
        for frame in range(num_frames):
            for y in range(height):
                for x in range(width):
                    near = slice(max(y - 1, 0), y + 2), slice(max(x - 1, 0), x + 2)
                    total, weights = 0.0, 0.0
                    for other in range(max(0, frame - REACH), min(num_frames, frame + REACH + 1)):
                        patches = latents[b, :, frame, *near] - latents[b, :, other, *near]
                        weight = math.exp(-patches.square().mean().item() / (2 * strength**2))
                        total, weights = total + weight * latents[b, :, other, y, x], weights + weight
                    result[b, :, frame, y, x] = total / weights
    return result


@pytest.mark.parametrize("shape", [(2, 3, 5, 4, 7), (1, 4, REACH + 4, 1, 2), (1, 4, 1, 3, 3), (1, 1, 2, 1, 1)], ids=str)
@pytest.mark.parametrize("strength", [0.001, 0.1, 10.0])
def test_deflicker_is_non_local_means_over_time(shape, strength):
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.3
    before = latents.clone()
    assert torch.allclose(deflicker(latents, strength).double(), non_local_means(latents, strength), atol=1e-6)
    assert torch.equal(latents, before)


def test_deflicker_averages_flicker_away_and_leaves_motion():
    still = torch.randn(1, 4, 1, 16, 16, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 16, -1, -1).clone()
    flicker = 0.05 * torch.randn(still.shape, generator=torch.Generator().manual_seed(1))
    for frame in range(16):  # an actor that crosses the lower half
        still[:, :, frame, 10:13, frame] += 3
    calm = deflicker(still + flicker, 0.1)
    assert (calm - still)[..., :8, :].std() < 0.4 * flicker.std()
    passed = (calm - still)[:, :, range(16), 11, range(16)]
    assert passed.abs().max() < 0.2 and passed.std() < 1.1 * flicker.std()


def test_deflicker_does_not_hide_an_overflow():
    latents = torch.zeros(1, 4, 3, 4, 4)
    latents[0, 0, 1, 2, 2] = math.inf
    assert not torch.isfinite(deflicker(latents, 0.1)).all()
