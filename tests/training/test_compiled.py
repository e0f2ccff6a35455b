import pytest
import torch

from t2v.errors import InputError
from t2v.training.compiled import check_gradients, gradient_norms


def test_gradient_norms_are_in_order_and_zero_for_none() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    parameters[0].grad, parameters[2].grad = torch.tensor([3.0, 4.0]), torch.tensor([0.0, -2.0])
    assert torch.equal(gradient_norms(parameters), torch.tensor([5.0, 0.0, 2.0]))


def test_rounding_is_let_through() -> None:
    plain = torch.tensor([5.0, 0.0, 2.0, 0.1])
    check_gradients(plain * torch.tensor([1.01, 1.0, 0.99, 0.8]), plain)


def test_noise_and_parameters_without_gradient_are_no_loss() -> None:
    check_gradients(torch.tensor([5.0, 0.0, 0.0]), torch.tensor([5.0, 0.0, 1e-8]))
    check_gradients(torch.zeros(2), torch.zeros(2))


def test_a_network_that_diverged_is_not_the_compiler() -> None:
    check_gradients(torch.tensor([float("nan"), 1.0]), torch.tensor([float("nan"), 1.0]))


@pytest.mark.parametrize(
    ("compiled", "message"),
    [
        ([5.0, 0.0, 0.0, 0.0], "by 37%, 2 of 4 tensors get none: set compile=false"),
        ([5.0, 0.0, 2.0, 0.0], "by 2%, 1 of 4"),
        ([0.0] * 4, "by 100%, 3 of 4"),
        ([10.0, 0.0, 4.0, 0.2], "by 100%, 0 of 4"),
        ([float("nan")] * 4, "by nan%, 0 of 4"),
    ],
)
def test_lost_gradients_are_refused(compiled: list[float], message: str) -> None:
    with pytest.raises(InputError, match=f"compile: gradients differ from the plain network's {message}"):
        check_gradients(torch.tensor(compiled), torch.tensor([5.0, 0.0, 2.0, 0.1]))
