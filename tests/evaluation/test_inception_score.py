import numpy as np
import pytest
import torch

from t2v.evaluation.inception_score import inception_score, inception_score_figure


class Features(torch.nn.Module):
    num_features = 12

    def forward(self, x):
        return x


@pytest.mark.parametrize("num_splits", [1, 10])
def test_equals_torchmetrics_on_random_features(num_splits):
    from torchmetrics.image.inception import InceptionScore

    logits = torch.randn(200, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    metric = InceptionScore(Features(), splits=num_splits)
    metric.update(logits)
    torch.manual_seed(1)
    peer, _ = metric.compute()
    torch.manual_seed(1)
    shuffled = logits[torch.randperm(200)].numpy()  # as the peer shuffles
    assert inception_score(shuffled, num_splits) == pytest.approx(peer.item(), rel=1e-6)


def test_known_scores():
    """All pictures alike: 1; each of K kinds surely told: K."""
    assert inception_score(np.ones((30, 5))) == pytest.approx(1)
    assert inception_score(np.tile(1000 * np.eye(5), (6, 1))) == pytest.approx(5)


def test_videos_are_resampled_whole():
    """With every frame repeated, the interval is that of single frames: the repeats tell nothing new."""
    logits = np.random.default_rng(0).normal(size=(60, 1, 8)) * 3
    single, repeated = (inception_score_figure(np.repeat(logits, times, 1), 1) for times in (1, 9))
    assert repeated.value == pytest.approx(single.value) and repeated.n == 60
    assert repeated.high - repeated.low == pytest.approx(single.high - single.low)
    assert single.low < single.value < single.high
    assert inception_score_figure(logits, 10).value < single.value
