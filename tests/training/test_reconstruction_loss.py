from pathlib import Path

import pytest
import torch

from t2v.errors import InputError
from t2v.models.published_weights import PUBLISHED
from t2v.training.config_sections import ReconstructionConfig
from t2v.training.reconstruction_loss import ReconstructionLoss, between, edge_loss
from tests.evaluation.moving_texture import write_weights

CPU = torch.device("cpu")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_edge_loss_sees_gradients_alone() -> None:
    assert edge_loss(torch.full((1, 3, 4, 4), 0.7)) == 0
    ramp = torch.arange(4.0).expand(1, 3, 4, 4)
    assert edge_loss(ramp) == 1


def test_edge_loss_is_the_mean_of_its_scales() -> None:
    ramp = torch.arange(8.0).expand(1, 3, 8, 8)  # at half the size it rises by 2 a pixel
    assert edge_loss(ramp, 2) == (1 + 2) / 2
    checks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4).expand(1, 3, 8, 8)  # nothing at half the size
    assert edge_loss(checks, 2) == edge_loss(checks) / 2


def test_between_is_linear_and_clamped() -> None:
    assert [between((4.0, 0.0), fraction) for fraction in (-1, 0, 0.25, 1, 2)] == [4, 4, 3, 0, 0]


def test_loss_is_the_weighted_sum_of_its_parts(tmp_path: Path) -> None:
    write_weights(tmp_path / "weights")
    config = ReconstructionConfig(mse_weight=(2, 0), mse_fraction=0.5, edge_weight=(1, 0), edge_scales=2)
    with_lpips = config.model_copy(update={"lpips_weights": str(tmp_path / "weights"), "perceptual_weight": 3.0})
    copies, pictures = noise(2, 3, 32, 32).clamp(-1, 1), noise(2, 3, 32, 32, seed=1).clamp(-1, 1)
    loss, parts = ReconstructionLoss(config, 32, CPU)(copies, pictures, 0.25)
    edges = edge_loss(copies - pictures, 2)
    assert torch.allclose(loss, parts["l1"] + 1 * parts["mse"] + 0.75 * edges)
    perceptual, parts = ReconstructionLoss(with_lpips, 32, CPU)(copies, pictures, 0.25)
    assert parts["lpips"] > 0 and torch.allclose(perceptual, loss + 3 * parts["lpips"])


def test_lpips_refuses_small_pictures_and_missing_weights(tmp_path: Path) -> None:
    config = ReconstructionConfig(lpips_weights=str(tmp_path))
    with pytest.raises(InputError, match=r"lpips_weights: .* lacks alexnet-owt.* and alex\.pth"):
        ReconstructionLoss(config, 32, CPU)
    with pytest.raises(InputError, match="at least 31 pixels, got 24"):
        ReconstructionLoss(config, 24, CPU)
    with pytest.raises(InputError, match=r"^diffusion\.lpips_weights: no folder"):
        ReconstructionLoss(ReconstructionConfig(lpips_weights=str(tmp_path / "none")), 32, CPU)
    (tmp_path / PUBLISHED["alexnet"].files[0]).write_bytes(b"would run code")
    with pytest.raises(InputError, match=r"^diffusion\.lpips_weights: .* convert it with `t2v convert`$"):
        ReconstructionLoss(config, 32, CPU)
