from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from t2v.errors import InputError
from t2v.nn.temporal_attention import TemporalAttention
from t2v.training.config_sections import OptimConfig
from t2v.training.optim import build_optimizer, load_optimizer_tensors, optimizer_tensors
from t2v.training.processes import sharding_asked_for
from t2v.training.sharding import fill, gather, local, shard, whole, whole_parameters


@pytest.fixture
def network() -> Iterator[nn.Module]:
    """A network spread over the one process of a group."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), TemporalAttention(8, 2)).to(memory_format=torch.channels_last)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    shard(network, torch.device("cpu"), 1)
    network.before = before  # type: ignore[assignment]
    yield network
    dist.destroy_process_group()


def test_shard_spreads_every_parameter_and_gather_gives_them_back(network: nn.Module) -> None:
    parameters = dict(network.named_parameters())
    assert all(isinstance(parameter, DTensor) for parameter in parameters.values())
    gathered = gather(parameters, keep=True)
    assert all(torch.equal(gathered[name], tensor) for name, tensor in network.before.items())  # type: ignore[operator, union-attr]
    assert gather(parameters, keep=False) == {}
    assert not isinstance(local(parameters["0.weight"]), DTensor)


def test_fill_copies_a_whole_tensor(network: nn.Module) -> None:
    weight = network.get_parameter("0.weight")
    fill(weight, torch.full(weight.shape, 2.0))
    assert torch.equal(whole(weight.detach()), torch.full(weight.shape, 2.0))


def test_whole_parameters_are_plain_in_the_block_alone(network: nn.Module) -> None:
    spread = network.get_parameter("0.weight")
    with whole_parameters(network, keep=True):
        state = network.state_dict()
        assert not any(isinstance(tensor, DTensor) for tensor in state.values())
        assert torch.equal(state["0.weight"], network.before["0.weight"])  # type: ignore[index]
    assert network.get_parameter("0.weight") is spread


def test_optimizer_state_of_spread_parameters_goes_on(network: nn.Module) -> None:
    parameters = dict(network.named_parameters())
    names = {id(parameter): name for name, parameter in parameters.items()}
    first, second = (build_optimizer(parameters, OptimConfig()) for _ in range(2))
    for parameter in parameters.values():
        parameter.grad = torch.ones_like(parameter)
    first.step()
    saved = gather(optimizer_tensors(first, names), keep=True)
    load_optimizer_tensors(second, saved, names)
    again = gather(optimizer_tensors(second, names), keep=True)
    assert saved.keys() == again.keys() and all(torch.equal(again[key], saved[key]) for key in saved)


@pytest.mark.parametrize("optimizer", ["muon", "adamw_8bit"])
def test_optimizers_that_need_whole_parameters_say_so(network: nn.Module, optimizer: str) -> None:
    with pytest.raises(InputError, match=f"{optimizer} does not go with FSDP2"):
        build_optimizer(dict(network.named_parameters()), OptimConfig.model_validate({"optimizer": optimizer}))


def test_only_fsdp_of_version_2_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not sharding_asked_for()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError, match="FSDP version 1"):
        sharding_asked_for()
    monkeypatch.setenv("FSDP_VERSION", "2")
    assert sharding_asked_for()
