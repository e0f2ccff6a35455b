import torch
from torch import nn

from t2v.training.ema import EMA


def test_ema_follows_its_definition_and_warms_up() -> None:
    parameter = nn.Parameter(torch.zeros(3))
    ema = EMA({"p": parameter}, decay=0.5)
    parameter.data.fill_(1.0)
    ema.update(1)  # decay (1 + 1) / (10 + 1)
    assert torch.allclose(ema.shadow["p"], torch.full((3,), 9 / 11))
    before = ema.shadow["p"].clone()
    ema.update(1000)  # decay 0.5
    assert torch.allclose(ema.shadow["p"], 0.5 * before + 0.5)


def test_ema_applied_puts_the_parameters_back() -> None:
    parameter = nn.Parameter(torch.zeros(3))
    ema = EMA({"p": parameter}, decay=0.9)
    parameter.data.fill_(1.0)
    with ema.applied():
        assert torch.equal(parameter.data, torch.zeros(3))
    assert torch.equal(parameter.data, torch.ones(3))


def test_ema_stays_in_fp32_for_half_precision_parameters() -> None:
    parameter = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    ema = EMA({"p": parameter}, decay=0.9999)
    ema.update(10**6)
    assert ema.shadow["p"].dtype == torch.float32
