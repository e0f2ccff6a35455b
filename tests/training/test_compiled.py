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


@pytest.mark.parametrize("compiled", [[5.0, 0.0, 0.0, 0.0], [0.0] * 4, [10.0, 0.0, 4.0, 0.2], [float("nan")] * 4])
def test_lost_gradients_are_refused(compiled: list[float]) -> None:
    with pytest.raises(InputError, match="not those of the plain network"):
        check_gradients(torch.tensor(compiled), torch.tensor([5.0, 0.0, 2.0, 0.1]))


def test_message_counts_weights_that_lost_theirs() -> None:
    with pytest.raises(InputError, match="2 of 4 weights get none: set compile=false"):
        check_gradients(torch.tensor([5.0, 0.0, 0.0, 0.0]), torch.tensor([5.0, 0.0, 2.0, 0.1]))
