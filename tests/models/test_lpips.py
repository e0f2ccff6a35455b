"""LPIPS against the implementation of torchmetrics, and as a loss."""

from pathlib import Path

import pytest
import torch
from torch import nn

from t2v.models.lpips import LPIPS
from t2v.models.pickle_file import load_pickle
from tests.evaluation.networks.tiny import alexnet_weights, lpips_weights


def pictures(count, height, width, seed=0):
    return 2 * torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed)) - 1


def _alexnet_features(weights):
    layers = nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(),
        nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    )  # fmt: skip
    layers.load_state_dict({name.removeprefix("features."): tensor for name, tensor in weights.items()})
    return layers


def test_lpips_equals_torchmetrics(monkeypatch):
    """With its published linear layers and a trunk of random weights."""
    peer_module = pytest.importorskip("torchmetrics.functional.image.lpips")
    trunk = alexnet_weights()
    monkeypatch.setattr(peer_module, "_get_tv_model_features", lambda *_: _alexnet_features(trunk))
    peer = peer_module._LPIPS(net="alex", pretrained=True, use_dropout=True, eval_mode=True)
    linear = load_pickle(Path(peer_module.__file__).parent / "lpips_models" / "alex.pth")
    own, other = pictures(3, 64, 48), pictures(3, 64, 48, seed=1)
    with torch.no_grad():
        expected = peer(own, other).flatten()
    assert torch.allclose(LPIPS(trunk, linear)(own, other), expected, rtol=1e-5)


def test_lpips_is_zero_for_equals_and_grows_with_noise():
    distance, truth = LPIPS(alexnet_weights(), lpips_weights()), pictures(2, 40, 40)
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(2))
    values = [distance((truth + amount * noise).clamp(-1, 1), truth).mean() for amount in (0, 0.1, 0.3, 0.9)]
    assert values[0] == 0 and values == sorted(values) and values[1] > 0


def test_lpips_has_gradients_that_lead_to_the_picture_also_where_features_are_zero():
    trunk = alexnet_weights()
    trunk["features.0.bias"] = torch.full((64,), -100.0)  # no feature is above zero
    copies = pictures(1, 31, 31).requires_grad_()
    LPIPS(trunk, lpips_weights())(copies, pictures(1, 31, 31, seed=1)).sum().backward()
    assert torch.isfinite(copies.grad).all()
    distance, truth = LPIPS(alexnet_weights(), lpips_weights()), pictures(1, 40, 40, seed=1)
    copies = pictures(1, 40, 40).requires_grad_()
    before = distance(copies, truth)
    (gradient,) = torch.autograd.grad(before.sum(), copies)
    assert distance(copies - 0.01 * gradient / gradient.abs().max(), truth) < before
