import copy
import sys

import pytest
import torch
from torch import nn

from t2v.errors import InputError
from t2v.training.adversarial import PatchDiscriminator
from t2v.training.config_sections import OptimConfig
from t2v.training.optim import build_optimizer, learning_rate, load_optimizer_tensors, optimizer_tensors


@pytest.mark.parametrize(
    ("schedule", "progress", "expected"),
    [
        ("constant", 0.9, 1.0),
        ("cosine", 0.0, 1.0),
        ("cosine", 0.5, 0.55),
        ("cosine", 1.0, 0.1),
        ("trapezoid", 0.79, 1.0),
        ("trapezoid", 0.9, 0.55),
        ("trapezoid", 1.0, 0.1),
    ],
)
def test_learning_rate_follows_the_schedule(schedule: str, progress: float, expected: float) -> None:
    config = OptimConfig.model_validate(
        {"schedule": schedule, "learning_rate": 1.0, "final_scale": 0.1, "decay_fraction": 0.2, "warmup_steps": 10}
    )
    assert learning_rate(config, 10, progress) == pytest.approx(expected)


def test_learning_rate_warms_up_from_the_first_step() -> None:
    config = OptimConfig(learning_rate=1.0, schedule="constant", warmup_steps=4)
    assert [learning_rate(config, step, 0.0) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 128, 4), nn.GroupNorm(2, 128), nn.Conv2d(128, 4, 1))  # 8 bits from 4096 values on


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model(torch.ones(1, 3, 5, 5)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "muon"])
def test_optimizer_tensors_continue_a_run_bitwise(name: str) -> None:
    if name == "adamw_8bit":
        pytest.importorskip("bitsandbytes")
    config = OptimConfig.model_validate({"optimizer": name})
    first = network()
    parameters = dict(first.named_parameters())
    optimizer = build_optimizer(parameters, config)
    step(first, optimizer)
    tensors = optimizer_tensors(optimizer, {id(p): n for n, p in parameters.items()})
    assert any(key.startswith("0.weight:") for key in tensors)

    second = copy.deepcopy(first)
    copies = dict(second.named_parameters())
    resumed = build_optimizer(copies, config)
    load_optimizer_tensors(resumed, copy.deepcopy(tensors), {id(p): n for n, p in copies.items()})
    step(first, optimizer)
    step(second, resumed)
    for name, parameter in parameters.items():
        assert torch.equal(parameter, copies[name])


def test_build_optimizer_decays_matrices_only() -> None:
    parameters = dict(network().named_parameters())
    groups = build_optimizer(parameters, OptimConfig(weight_decay=0.1)).param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(parameters["0.weight"]), id(parameters["2.weight"])}
    assert sum(len(group["params"]) for group in groups) == len(parameters)


def test_the_8_bit_optimizer_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(InputError, match=r'pip install "t2v\[8bit\]"'):
        build_optimizer(dict(network().named_parameters()), OptimConfig(optimizer="adamw_8bit"))


def test_muon_orthogonalizes_neither_the_first_layers_nor_a_codebook() -> None:
    discriminator = PatchDiscriminator(8, 1).named_parameters()
    shapes = {
        "encoder.conv_in.weight": 4,
        "encoder.mid.weight": 4,
        "quantize.embedding.weight": 2,
        "quant_conv.weight": 4,
        **{f"discriminator.{name}": parameter.ndim for name, parameter in discriminator if parameter.ndim > 1},
    }
    parameters = {name: nn.Parameter(torch.ones((2,) * ndim)) for name, ndim in shapes.items()}
    groups = build_optimizer(parameters, OptimConfig(optimizer="muon")).param_groups
    chosen = {id(p) for group in groups if group["orthogonalize"] for p in group["params"]}
    assert chosen == {id(parameters[name]) for name in ("encoder.mid.weight", "discriminator.hidden.1.weight")}
