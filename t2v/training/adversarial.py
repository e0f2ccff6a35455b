"""A discriminator of patches and its losses, for sharp pictures of an autoencoder (arXiv 2012.09841, 2112.10752)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

_NUM_GROUPS = 8


class PatchDiscriminator(nn.Module):
    """How real each patch of a picture looks (PatchGAN, arXiv 1611.07004), normalised by groups and not by batch, so
    that a verdict depends on no other picture and on no other process.

    Args:
        channels: of the first layer, a multiple of 8; doubled at each further layer, up to eight times.
        num_layers: of stride 2; with 3 a patch is 70 pixels wide.
    """

    def __init__(self, channels: int, num_layers: int) -> None:
        super().__init__()
        widths = [channels * min(2**level, 8) for level in range(num_layers + 1)]
        self.num_layers = num_layers
        self.conv_in = nn.Conv2d(3, channels, 4, 2, 1)
        layers: list[nn.Module] = [nn.LeakyReLU(0.2)]
        for level in range(1, num_layers + 1):
            stride = 2 if level < num_layers else 1
            layers += [
                nn.Conv2d(widths[level - 1], widths[level], 4, stride, 1, bias=False),
                nn.GroupNorm(_NUM_GROUPS, widths[level]),
                nn.LeakyReLU(0.2),
            ]
        self.hidden = nn.Sequential(*layers)
        self.conv_out = nn.Conv2d(widths[-1], 1, 4, 1, 1)

    @property
    def min_size(self) -> int:
        """Pixels along the side of the smallest picture that has a patch."""
        return 3 * 2**self.num_layers

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits (N, 1, h, w) of pictures (N, 3, H, W) in [-1, 1], above 0 for real."""
        return self.conv_out(self.hidden(self.conv_in(pictures)))


class Verdicts(NamedTuple):
    """Logits (N, 1, h, w) of patches. Gradients of `real` and `made` go to the discriminator alone, those of
    `convincing`, the same values as `made`, to the maker of the pictures alone."""

    real: Tensor
    made: Tensor
    convincing: Tensor


def judge(discriminator: PatchDiscriminator, real: Tensor, made: Tensor) -> Verdicts:
    """Verdicts on pictures and their copies, both (N, 3, H, W) in [-1, 1]."""
    frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    return Verdicts(discriminator(real), discriminator(made.detach()), functional_call(discriminator, frozen, (made,)))


def discriminator_loss(verdicts: Verdicts) -> Tensor:
    """Hinge loss (arXiv 1705.02894): a scalar."""
    return 0.5 * (F.relu(1 - verdicts.real).mean() + F.relu(1 + verdicts.made).mean())


def adversarial_loss(verdicts: Verdicts) -> Tensor:
    """What the maker of the pictures lowers by convincing: a scalar."""
    return -verdicts.convincing.mean()


def adaptive_weight(reconstruction_loss: Tensor, adversarial_loss: Tensor, last_layer: Tensor) -> Tensor:
    """|d reconstruction| / |d adversarial| at the decoder's last layer (arXiv 2012.09841, equation 7), at most 1e4.

    With it both losses move that layer equally, whatever their scales.
    """
    (expected,) = torch.autograd.grad(reconstruction_loss, last_layer, retain_graph=True)
    (got,) = torch.autograd.grad(adversarial_loss, last_layer, retain_graph=True)
    return (expected.norm() / (got.norm() + 1e-4)).clamp(max=1e4).detach()
