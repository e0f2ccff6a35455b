import pytest
import torch

from t2v.training.config_sections import MaskMix
from t2v.training.objectives.masks import PATTERNS, draw_masks
from t2v.training.randomness import sample_keys, uniform


def keys(count: int, epoch: int = 0) -> torch.Tensor:
    return sample_keys(0, torch.full((count,), epoch), torch.arange(count), "mask")


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("num_frames", [5, 6, 9, 16])
def test_every_pattern_leaves_a_frame_to_be_made(name: str, num_frames: int) -> None:
    for draw, other in [*uniform(keys(50), 2).tolist(), [0.0, 0.0], [0.9999999, 0.9999999]]:
        mask = PATTERNS[name](num_frames, draw, other)
        assert mask.shape == (num_frames,) and set(mask.tolist()) <= {0.0, 1.0}
        assert 0 <= mask.sum() < num_frames


def test_patterns_are_what_they_are_called() -> None:
    assert PATTERNS["strided"](9, 0.0, 0.0).tolist() == [1, 0, 1, 0, 1, 0, 1, 0, 1]
    assert PATTERNS["strided"](8, 0.99, 0.0).tolist() == [1, 0, 0, 0, 0, 1, 0, 1]
    assert PATTERNS["endpoints"](6, 0.3, 0.3).tolist() == [1, 0, 0, 0, 0, 1]
    assert PATTERNS["first"](6, 0.2, 0.9).tolist() == [1, 0, 0, 0, 0, 0]
    assert PATTERNS["first"](6, 0.7, 0.99).tolist() == [1, 1, 1, 1, 0, 0]
    assert PATTERNS["last"](6, 0.7, 0.0).tolist() == [0, 0, 0, 0, 1, 1]
    assert PATTERNS["both_ends"](9, 0.5, 0.0).tolist() == [1, 1, 1, 0, 0, 0, 1, 1, 1]
    assert PATTERNS["both_ends"](5, 0.99, 0.0).tolist() == [1, 1, 0, 1, 1]
    assert PATTERNS["scattered"](9, 0.99, 0.4).sum() == 4
    assert PATTERNS["none"](7, 0.5, 0.5).sum() == 0


def test_draw_masks_follows_the_mix_and_the_keys_alone() -> None:
    mix = MaskMix(strided=3, endpoints=1, first=0, last=0, both_ends=0, scattered=0, none=1)
    masks, patterns = draw_masks(keys(4000), 8, mix)
    shares = {name: patterns.count(name) / 4000 for name in set(patterns)}
    assert shares.keys() == {"strided", "endpoints", "none"}
    assert abs(shares["strided"] - 0.6) < 0.03 and abs(shares["none"] - 0.2) < 0.03
    again, _ = draw_masks(keys(4000)[torch.tensor([7, 3])], 8, mix)
    assert torch.equal(again, masks[[7, 3]])
    assert not torch.equal(draw_masks(keys(4000, epoch=1), 8, mix)[0], masks)
