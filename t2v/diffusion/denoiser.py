"""What samplers ask of a model: to be a function of a noisy sample and a timestep."""

from typing import NamedTuple, Protocol

from torch import Tensor


class Denoiser(Protocol):
    """A network with its conditioning bound."""

    def __call__(self, x: Tensor, timestep: Tensor, /) -> Tensor:
        """The raw network output of the schedule's prediction_type.

        Args:
            x: alpha * x_0 + sigma * noise (B, C, ...), unit variance where the data has.
            timestep: one number () for the whole batch, long, or float32 where a sampler stops between timesteps.

        Returns:
            (B, C, ...), or (B, 2C, ...) with a learned variance.
        """


class ConditionalDenoiser(Protocol):
    """A network whose text conditioning is still free."""

    def __call__(self, x: Tensor, timestep: Tensor, prompt_embeds: Tensor, /) -> Tensor:
        """As `Denoiser`, with prompt_embeds (B, ...)."""


class Step(NamedTuple):
    """The state of a sampler after one step."""

    x: Tensor  # the sample at the next noise level, as a network would be given it
    x0: Tensor  # the running estimate of the clean sample


class Callback(Protocol):
    """Is told of every finished step, for progress bars and previews."""

    def __call__(self, step_index: int, num_steps: int, x0: Tensor, /) -> None:
        """step_index counts from 0; x0 is the running estimate of the clean sample (B, C, ...)."""
