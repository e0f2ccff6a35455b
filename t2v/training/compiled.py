"""Whether a compiled network gets the gradients that the plain one would.

A compiler that loses some says nothing, and the loss falls all the same, by the layers that it still reaches.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from t2v.errors import InputError

MAX_ERROR = 0.1  # of the norms of all parameters' gradients; bfloat16 makes up to 0.01 in `mini`
NOISE = 1e-6  # of the norm of all: gradients as small as that are rounding, as those of keys' biases are


def gradient_norms(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Norm of each parameter's gradient, (N,); 0 for those without."""
    gradients = [parameter.grad for parameter in parameters]
    return torch.tensor([0.0 if gradient is None else float(gradient.norm()) for gradient in gradients])


def check_gradients(compiled: Tensor, plain: Tensor) -> None:
    """Compare `gradient_norms` of the two networks on the same samples.

    Norms alone are compared; what has no gradient yet, as behind layers at identity, is not seen. Where the plain
    network's are not finite there is nothing to compare with.

    Raises:
        InputError: a parameter gets none at all, or all norms together are off by more than `MAX_ERROR`.
    """
    if not plain.isfinite().all():
        return
    lost = int(((compiled == 0) & (plain > NOISE * plain.norm())).sum())
    error = float((compiled - plain).norm() / plain.norm()) if plain.any() else 0.0
    if lost or not error <= MAX_ERROR:
        raise InputError(
            f"compile: gradients differ from the plain network's by {error:.0%}, {lost} of {len(plain)} tensors get "
            f"none: set compile=false, or use another version of torch than {torch.__version__}"
        )
