"""Whether a compiled network learns what the plain one would.

A compiler that loses gradients says nothing, and the loss falls all the same, by the layers that it still reaches.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from t2v.errors import InputError

MAX_ERROR = 0.1  # of the norms of all parameters' gradients; rounding to bfloat16 makes about 0.01


def gradient_norms(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Norm of each parameter's gradient, (N,); 0 for those without."""
    gradients = [parameter.grad for parameter in parameters]
    return torch.tensor([0.0 if gradient is None else float(gradient.norm()) for gradient in gradients])


def check_gradients(compiled: Tensor, plain: Tensor) -> None:
    """Compare `gradient_norms` of the two networks on the same samples.

    Raises:
        InputError: those of the compiled one are others, or not numbers.
    """
    if not (compiled - plain).norm() <= MAX_ERROR * plain.norm():
        lost = int(((compiled == 0) & (plain != 0)).sum())
        raise InputError(
            f"compile: gradients are not those of the plain network, {lost} of {len(plain)} weights get none: set "
            f"compile=false, or use another version of torch than {torch.__version__}"
        )
