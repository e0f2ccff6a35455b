"""Muon: the orthogonalisation against singular values, the Adam groups against torch's Adam."""

import pytest
import torch

from t2v.training.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(5, 5), (3, 17), (17, 3), (1, 9)], ids=str)
def test_orthogonalize_keeps_singular_vectors_and_evens_singular_values(shape):
    generator = torch.Generator().manual_seed(0)
    u, _, vh = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
    matrix = u @ torch.diag(torch.linspace(3.0, 0.5, min(shape))) @ vh
    values = u.mT @ orthogonalize(matrix) @ vh.mT
    assert values.diagonal().min() > 0.6
    assert values.diagonal().max() < 1.3
    off_diagonal = values - torch.diag(values.diagonal())
    assert off_diagonal.abs().max() < 0.03  # bfloat16


def group(parameter: torch.Tensor, orthogonal: bool, weight_decay: float = 0.0) -> dict:
    return {"params": [parameter], "lr": 0.1, "weight_decay": weight_decay, "orthogonalize": orthogonal}


def test_muon_first_step_is_the_orthogonal_direction_at_the_learning_rate():
    parameter = torch.nn.Parameter(torch.zeros(4, 2, 3, 1))
    gradient = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    parameter.grad = gradient.clone()
    Muon([group(parameter, orthogonal=True)]).step()
    step = -parameter.detach().reshape(4, 6) / 0.1
    u, _, vh = torch.linalg.svd(gradient.reshape(4, 6), full_matrices=False)
    assert torch.dist(step, u @ vh) < 0.35 * torch.linalg.norm(u @ vh)
    assert (step * (u @ vh)).sum() > 0.9 * torch.linalg.norm(step) * torch.linalg.norm(u @ vh)


def test_muon_other_groups_take_the_steps_of_adamw():
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(7, generator=generator)
    ours, peer = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizer = Muon([group(ours, orthogonal=False, weight_decay=0.05)], betas=(0.9, 0.99))
    reference = torch.optim.AdamW([peer], lr=0.1, betas=(0.9, 0.99), weight_decay=0.05)
    for _ in range(5):
        ours.grad = torch.randn(7, generator=generator)
        peer.grad = ours.grad.clone()
        optimizer.step()
        reference.step()
    torch.testing.assert_close(ours, peer, rtol=1e-5, atol=1e-6)


def test_muon_leaves_parameters_without_gradient_alone():
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    Muon([group(parameter, orthogonal=True, weight_decay=0.5)]).step()
    assert torch.equal(parameter, torch.ones(2, 2))
