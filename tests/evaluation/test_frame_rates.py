"""Motion from frame to frame against the time between frames."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from t2v.evaluation.frame_rates import RATES, displacement, evaluate_rates, rank_correlation
from tests.evaluation.moving_sprite import draw_clip


def running(speed: float, fps: float, num_frames: int = 8) -> np.ndarray:
    """A sprite that runs to the right at `speed` pixels a second."""
    x = 12 + speed / fps * np.arange(num_frames)
    return draw_clip(x, [36.0] * num_frames)


@pytest.mark.parametrize("speed", [24.0, 32.0])
def test_displacement_is_that_of_the_sprite(speed: float) -> None:
    assert displacement(running(speed, 8.0, 12)) == pytest.approx(speed / 8, rel=0.15)


def test_rank_correlation_is_spearmans() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        a, b = random.integers(0, 5, 12), random.normal(size=12)  # with ties
        assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None


def test_evaluate_rates_tells_motion_that_follows_the_rate_from_motion_that_does_not() -> None:
    speeds = {"slow": 20.0, "fast": 36.0}
    follows = evaluate_rates((name, fps, running(speed, fps)) for fps in RATES for name, speed in speeds.items())
    for measure in ("displacement", "frame_difference"):
        assert follows[measure]["of_means"] > 0.9 and follows[measure]["of_videos"] > 0.9
    assert list(follows["displacement"]["mean"]) == ["4.0", "6.0", "8.0", "12.0", "16.0", "24.0"]
    ignores = evaluate_rates(("same", fps, running(20.0, 8.0)) for fps in RATES)
    assert ignores["displacement"]["of_means"] is None and ignores["displacement"]["of_videos"] is None
    inverse = evaluate_rates(("inverse", fps, running(fps, 4.0)) for fps in RATES)
    assert inverse["displacement"]["of_means"] < -0.9
    assert len(follows["videos"]) == 12
