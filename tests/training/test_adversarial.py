import pytest
import torch
from torch import nn

from t2v.nn.init import init_parameters
from t2v.training.adversarial import (
    PatchDiscriminator,
    Verdicts,
    adaptive_weight,
    adversarial_loss,
    discriminator_loss,
    judge,
)


def make(channels: int = 8, num_layers: int = 3) -> PatchDiscriminator:
    discriminator = PatchDiscriminator(channels, num_layers)
    init_parameters(discriminator, torch.Generator().manual_seed(0))
    return discriminator


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_patch_is_seventy_pixels_wide_with_three_layers() -> None:
    discriminator = make()
    discriminator.hidden = nn.Sequential(*(each for each in discriminator.hidden if not isinstance(each, nn.GroupNorm)))
    picture = noise(1, 3, 160, 160).requires_grad_()
    logits = discriminator(picture)
    logits[0, 0, 9, 9].backward()
    assert picture.grad is not None
    columns = picture.grad.abs().sum((0, 1, 2)).nonzero().flatten()
    assert int(columns[-1] - columns[0]) + 1 == 70


def test_a_verdict_depends_on_no_other_picture() -> None:
    discriminator, pictures = make(), noise(3, 3, 32, 32)
    assert torch.allclose(discriminator(pictures)[:1], discriminator(pictures[:1]), atol=1e-6)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_the_smallest_picture_has_one_patch(num_layers: int) -> None:
    discriminator = make(num_layers=num_layers)
    size = discriminator.min_size
    assert discriminator(noise(1, 3, size, size)).shape == (1, 1, 1, 1)
    with pytest.raises(RuntimeError, match="size"):
        discriminator(noise(1, 3, size - 1, size - 1))


def test_each_loss_moves_its_own_network() -> None:
    discriminator, made = make(), noise(2, 3, 32, 32).requires_grad_()
    verdicts = judge(discriminator, noise(2, 3, 32, 32, seed=2), made)
    assert torch.equal(verdicts.made, verdicts.convincing)
    parameters = list(discriminator.parameters())
    discriminator_loss(verdicts).backward()
    assert made.grad is None and all(parameter.grad is not None for parameter in parameters)
    discriminator.zero_grad()
    adversarial_loss(verdicts).backward()
    assert made.grad is not None and made.grad.any() and all(parameter.grad is None for parameter in parameters)


def test_hinge_losses_by_hand() -> None:
    real, made = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 1.0])
    verdicts = Verdicts(real, made, made)
    assert discriminator_loss(verdicts) == 0.5 * ((0 + 1) / 2 + (0 + 2) / 2)
    assert adversarial_loss(verdicts) == 1.0


def test_with_the_adaptive_weight_both_losses_move_the_last_layer_equally() -> None:
    layer, features = nn.Conv2d(4, 3, 3, padding=1), noise(2, 4, 16, 16)
    made = layer(features)
    reconstruction = made.square().mean()
    adversarial = adversarial_loss(judge(make(num_layers=2), noise(2, 3, 16, 16), made))
    weight = adaptive_weight(reconstruction, adversarial, layer.weight)
    assert not weight.requires_grad
    (expected,) = torch.autograd.grad(reconstruction, layer.weight, retain_graph=True)
    (got,) = torch.autograd.grad(weight * adversarial, layer.weight)
    assert torch.allclose(got.norm(), expected.norm(), rtol=0.05)  # 1e-4 is added to the divisor


def test_training_tells_pictures_from_copies_that_lack_detail() -> None:
    discriminator = make(num_layers=1)
    optimizer = torch.optim.Adam(discriminator.parameters(), 1e-3)
    for step in range(40):
        real = noise(8, 3, 16, 16, seed=step)
        optimizer.zero_grad()
        discriminator_loss(judge(discriminator, real, nn.functional.avg_pool2d(real, 3, 1, 1))).backward()
        optimizer.step()
    real = noise(8, 3, 16, 16, seed=100)
    verdicts = judge(discriminator, real, nn.functional.avg_pool2d(real, 3, 1, 1))
    assert (verdicts.real > 0).float().mean() > 0.9 and (verdicts.made < 0).float().mean() > 0.9
