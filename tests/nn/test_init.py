import torch
from torch import nn

from t2v.nn.init import init_parameters


def test_init_parameters_depends_on_the_generator_alone() -> None:
    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        layer = nn.Linear(4, 3)
        init_parameters(layer, torch.Generator().manual_seed(5))
        return layer.weight.detach()

    assert torch.equal(draw(0), draw(1))


def test_init_parameters_has_the_bounds_of_pytorch() -> None:
    layer = nn.Conv2d(16, 64, 3)
    init_parameters(layer, torch.Generator().manual_seed(0))
    for parameter in (layer.weight, layer.bias):
        assert 0.9 / 12 < parameter.abs().max() < 1 / 12


def test_init_parameters_keeps_zero_projections_and_norms() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
    nn.init.zeros_(net[0].weight)
    nn.init.zeros_(net[0].bias)
    init_parameters(net, torch.Generator().manual_seed(0))
    assert not net[0].weight.any()
    assert not net[0].bias.any()
    assert torch.equal(net[1].weight, torch.ones(3))
