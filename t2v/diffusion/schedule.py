"""Noise schedules: how much signal and how much noise a training timestep has, and what the network predicts.

A schedule gives every timestep a pair (alpha, sigma) with `x_t = alpha * x_0 + sigma * epsilon`.
Variance preserving diffusion: alpha = sqrt(abar), sigma = sqrt(1 - abar). Rectified flow: alpha = 1 - sigma.
All conversions between predictions are written from that pair.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor

from t2v.errors import InputError

PredictionType = Literal["epsilon", "v_prediction", "sample", "flow"]
TimestepSpacing = Literal["leading", "trailing", "linspace"]
BetaSchedule = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]
VarianceType = Literal["fixed_small", "fixed_large", "learned_range"]
Scale = TypeVar("Scale", float, Tensor)

# Defaults that a scheduler_config.json leaves to its class, where they differ from ours.
_CLASS_DEFAULTS: dict[str, dict[str, Any]] = {
    "DDPMScheduler": {"clip_sample": True},
    "DDIMScheduler": {"clip_sample": True},
    "PNDMScheduler": {"set_alpha_to_one": False},
    "EulerDiscreteScheduler": {"timestep_spacing": "linspace"},
    "EulerAncestralDiscreteScheduler": {"timestep_spacing": "linspace"},
    "HeunDiscreteScheduler": {"timestep_spacing": "linspace", "beta_start": 0.00085, "beta_end": 0.012},
    "LMSDiscreteScheduler": {"timestep_spacing": "linspace"},
    "DPMSolverMultistepScheduler": {"timestep_spacing": "linspace"},
    "DPMSolverSinglestepScheduler": {"timestep_spacing": "linspace"},
    "UniPCMultistepScheduler": {"timestep_spacing": "linspace"},
    "FlowMatchEulerDiscreteScheduler": {"prediction_type": "flow", "timestep_spacing": "linspace"},
    "FlowMatchHeunDiscreteScheduler": {"prediction_type": "flow", "timestep_spacing": "linspace"},
}
_SYNONYMS = {"prediction_type": {"flow_prediction": "flow"}, "variance_type": {"fixed_small_log": "fixed_small"}}


def cosine_betas(num_train_timesteps: int, max_beta: float = 0.999) -> list[float]:
    """Betas of the cosine schedule, arXiv 2102.09672 equation 17."""

    def alpha_bar(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    steps = [i / num_train_timesteps for i in range(num_train_timesteps + 1)]
    return [min(1 - alpha_bar(end) / alpha_bar(start), max_beta) for start, end in itertools.pairwise(steps)]


def rescale_zero_terminal_snr(betas: Tensor) -> Tensor:
    """Shift and scale sqrt(abar) so that the last timestep has no signal, arXiv 2305.08891 algorithm 1."""
    alphas_bar_sqrt = torch.cumprod(1 - betas, dim=0).sqrt()
    first, last = alphas_bar_sqrt[0].clone(), alphas_bar_sqrt[-1].clone()
    alphas_bar_sqrt -= last
    alphas_bar_sqrt *= first / (first - last)
    alphas_bar = alphas_bar_sqrt**2
    return 1 - torch.cat([alphas_bar[:1], alphas_bar[1:] / alphas_bar[:-1]])


def output_to_x0(x: Tensor, output: Tensor, alpha: Scale, sigma: Scale, prediction_type: PredictionType) -> Tensor:
    """The clean sample that a network output implies at noise level (alpha, sigma). epsilon needs alpha > 0."""
    if prediction_type == "epsilon":
        return (x - sigma * output) / alpha
    if prediction_type == "v_prediction":
        return alpha * x - sigma * output
    if prediction_type == "flow":
        return x - sigma * output
    return output


def output_to_epsilon(x: Tensor, output: Tensor, alpha: Scale, sigma: Scale, prediction_type: PredictionType) -> Tensor:
    """The noise that a network output implies at noise level (alpha, sigma)."""
    if prediction_type == "epsilon":
        return output
    if prediction_type == "v_prediction":
        return alpha * output + sigma * x
    if prediction_type == "flow":
        return x + alpha * output
    return (x - alpha * output) / sigma


def posterior(alpha_bar: Scale, alpha_bar_prev: Scale) -> tuple[Scale, Scale, Scale, Scale]:
    """q(x_prev | x_t, x_0) of a variance preserving step, arXiv 2006.11239 equation 7.

    Returns:
        (x0_coefficient, x_coefficient, variance, beta): the mean is x0_coefficient * x_0 + x_coefficient * x_t.
    """
    alpha = alpha_bar / alpha_bar_prev
    beta = 1 - alpha
    x0_coefficient = alpha_bar_prev**0.5 * beta / (1 - alpha_bar)
    x_coefficient = alpha**0.5 * (1 - alpha_bar_prev) / (1 - alpha_bar)
    return x0_coefficient, x_coefficient, (1 - alpha_bar_prev) / (1 - alpha_bar) * beta, beta


@dataclass(frozen=True)
class NoiseSchedule:
    """A noise schedule and the meaning of the network's output; the fields are the words of scheduler_config.json."""

    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: BetaSchedule = "linear"
    trained_betas: tuple[float, ...] | None = None  # given betas, instead of the three fields above
    rescale_betas_zero_snr: bool = False  # arXiv 2305.08891: the last timestep is pure noise
    prediction_type: PredictionType = "epsilon"
    timestep_spacing: TimestepSpacing = "leading"
    steps_offset: int = 0  # added to the timesteps of leading spacing
    set_alpha_to_one: bool = True  # DDIM ends at abar = 1; else at the first abar of the table
    clip_sample: bool = False  # DDPM and DDIM clamp the estimate of the clean sample
    clip_sample_range: float = 1.0
    variance_type: VarianceType = "fixed_small"  # of DDPM; learned_range: the network has twice the channels
    shift: float = 1.0  # of flow: sigma -> shift * sigma / (1 + (shift - 1) * sigma)

    def __post_init__(self) -> None:
        for name, kind in (
            ("prediction_type", PredictionType),
            ("timestep_spacing", TimestepSpacing),
            ("beta_schedule", BetaSchedule),
            ("variance_type", VarianceType),
        ):
            if getattr(self, name) not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise InputError(f"scheduler: unknown {name} {getattr(self, name)!r}; known are {known}")
        self._check_numbers()
        if self.trained_betas is not None and len(self.trained_betas) != self.num_train_timesteps:
            got = len(self.trained_betas)
            raise InputError(f"scheduler: {got} trained_betas for num_train_timesteps {self.num_train_timesteps}")
        if self.prediction_type == "epsilon" and self.alphas_cumprod[-1] == 0:
            raise InputError(
                "scheduler: zero terminal SNR with prediction_type 'epsilon' is singular (noise alone does not tell "
                "the clean sample); use a v_prediction model or rescale_betas_zero_snr=false"
            )

    def _check_numbers(self) -> None:
        for name in ("beta_start", "beta_end", "clip_sample_range", "shift"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise InputError(f"scheduler: {name} must be a positive number, got {value!r}")
        for name, least in (("num_train_timesteps", 1), ("steps_offset", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"scheduler: {name} must be at least {least}, a whole number, got {value!r}")
        for beta in self.trained_betas or ():
            if not isinstance(beta, int | float) or not 0 <= beta <= 1:
                raise InputError(f"scheduler: trained_betas must be numbers from 0 to 1, got {beta!r}")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "NoiseSchedule":
        """Read a scheduler_config.json of any scheduler class; fields that concern one sampler only are ignored.

        Raises:
            InputError: an unknown value, dynamic thresholding or shifting, zero-terminal-SNR with epsilon prediction.
        """
        for name in ("thresholding", "use_dynamic_shifting"):
            if config.get(name):
                raise InputError(f"scheduler: {name}=true is not supported; set it to false in scheduler_config.json")
        config = {**_CLASS_DEFAULTS.get(config.get("_class_name", ""), {}), **config}
        if "flow_shift" in config:
            config.setdefault("shift", config["flow_shift"])
        names = [field.name for field in dataclasses.fields(cls)]
        known = {name: config[name] for name in names if config.get(name) is not None}
        if "trained_betas" in known:
            known["trained_betas"] = tuple(known["trained_betas"])
            known.setdefault("num_train_timesteps", len(known["trained_betas"]))
        for name, synonyms in _SYNONYMS.items():
            if name in known:
                known[name] = synonyms.get(known[name], known[name])
        return cls(**known)

    def to_config(self) -> dict[str, Any]:
        """The content of scheduler_config.json, readable by `from_config` and by diffusers."""
        config = dataclasses.asdict(self)
        if self.prediction_type == "flow":
            names = ("num_train_timesteps", "prediction_type", "timestep_spacing", "steps_offset", "shift")
            return {"_class_name": "FlowMatchEulerDiscreteScheduler", **{name: config[name] for name in names}}
        del config["shift"]
        if self.trained_betas is not None:
            config["trained_betas"] = list(self.trained_betas)
        if self.variance_type != "fixed_small":
            return {"_class_name": "DDPMScheduler", **config}
        del config["variance_type"]
        return {"_class_name": "DDIMScheduler", **config}

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """abar, the share of signal variance: fp64 (num_train_timesteps,), on the CPU.

        Computed in fp32 as public checkpoints were trained and as other tools do, so the tables agree bit for bit.
        """
        if self.prediction_type == "flow":
            return self.alphas**2
        count = self.num_train_timesteps
        if self.trained_betas is not None:
            betas = torch.tensor(self.trained_betas, dtype=torch.float32)
        elif self.beta_schedule == "linear":
            betas = torch.linspace(self.beta_start, self.beta_end, count, dtype=torch.float32)
        elif self.beta_schedule == "scaled_linear":
            betas = torch.linspace(self.beta_start**0.5, self.beta_end**0.5, count, dtype=torch.float32) ** 2
        else:
            betas = torch.tensor(cosine_betas(count), dtype=torch.float32)
        if self.rescale_betas_zero_snr:
            betas = rescale_zero_terminal_snr(betas)
        return torch.cumprod(1 - betas, dim=0).double()

    @cached_property
    def alphas(self) -> Tensor:
        """Factor of the clean sample at every timestep: fp64 (num_train_timesteps,)."""
        if self.prediction_type == "flow":
            return 1 - self.sigmas
        return self.alphas_cumprod.sqrt()

    def shift_sigmas(self, sigmas: Tensor) -> Tensor:
        """Move noise levels of rectified flow towards noise, arXiv 2403.03206 equation 23."""
        return self.shift * sigmas / (1 + (self.shift - 1) * sigmas)

    @cached_property
    def sigmas(self) -> Tensor:
        """Factor of the noise at every timestep: fp64 (num_train_timesteps,). Flow: in (0, 1]."""
        if self.prediction_type == "flow":
            time = torch.arange(1, self.num_train_timesteps + 1, dtype=torch.float64) / self.num_train_timesteps
            return self.shift_sigmas(time)
        return (1 - self.alphas_cumprod).sqrt()

    @cached_property
    def _tables(self) -> dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]]:
        return {}

    def scales(self, timesteps: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) of `timesteps` () or (B,), shaped to broadcast over x (B, ...); fp32, or fp64 where x is."""
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        key = (x.device, dtype)
        if key not in self._tables:
            self._tables[key] = (self.alphas.to(dtype).to(x.device), self.sigmas.to(dtype).to(x.device))
        shape = [-1] + [1] * (x.ndim - 1)
        index = timesteps.to(x.device)
        alphas, sigmas = self._tables[key]
        return alphas[index].reshape(shape), sigmas[index].reshape(shape)

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = alpha * latents + sigma * noise. Shapes (B, ...), timesteps long () or (B,); dtype of latents."""
        alpha, sigma = self.scales(timesteps, latents)
        return (alpha * latents + sigma * noise).to(latents.dtype)

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network must predict from x_t, by prediction_type. Shapes as `add_noise`."""
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "sample":
            return latents
        if self.prediction_type == "flow":
            return noise - latents
        # v = alpha * epsilon - sigma * x_0, arXiv 2202.00512 appendix D
        alpha, sigma = self.scales(timesteps, latents)
        return (alpha * noise - sigma * latents).to(latents.dtype)

    def to_x0(self, x: Tensor, model_output: Tensor, timesteps: Tensor) -> Tensor:
        """The clean sample implied by a network output at x_t. Shapes as `add_noise`."""
        return output_to_x0(x, model_output, *self.scales(timesteps, x), self.prediction_type).to(x.dtype)

    def to_epsilon(self, x: Tensor, model_output: Tensor, timesteps: Tensor) -> Tensor:
        """The noise implied by a network output at x_t. Shapes as `add_noise`."""
        return output_to_epsilon(x, model_output, *self.scales(timesteps, x), self.prediction_type).to(x.dtype)

    def split_output(self, model_output: Tensor, num_channels: int) -> tuple[Tensor, Tensor | None]:
        """Split a network output into prediction (B, C, ...) and learned variance (B, C, ...), None if not learned.

        Raises:
            InputError: the channels do not fit variance_type.
        """
        expected = num_channels * (2 if self.variance_type == "learned_range" else 1)
        if model_output.shape[1] != expected:
            raise InputError(
                f"scheduler: variance_type {self.variance_type!r} needs {expected} output channels for {num_channels} "
                f"channels of data, the network has {model_output.shape[1]}; set variance_type or out_channels"
            )
        if self.variance_type != "learned_range":
            return model_output, None
        return model_output[:, :num_channels], model_output[:, num_channels:]

    def clip(self, x0: Tensor) -> Tensor:
        """Clamp an estimate of the clean sample if clip_sample says so (for pixels, not for latents)."""
        return x0.clamp(-self.clip_sample_range, self.clip_sample_range) if self.clip_sample else x0

    def snr(self, timesteps: Tensor) -> Tensor:
        """Signal-to-noise ratio alpha^2 / sigma^2: fp64 on the CPU, of the shape of timesteps. 0 where no signal is."""
        return (self.alphas / self.sigmas).square()[timesteps.cpu()]

    def linspace_timesteps(self, num_inference_steps: int) -> Tensor:
        """Evenly spaced from the last timestep to 0, both included, not rounded: fp64, descending; one alone is 0."""
        step = (self.num_train_timesteps - 1) / max(num_inference_steps - 1, 1)
        return torch.arange(num_inference_steps, dtype=torch.float64).flip(0) * step

    def timesteps(self, num_inference_steps: int) -> Tensor:
        """The timesteps that DDPM and DDIM visit: long (num_inference_steps,), descending (arXiv 2305.08891 table 2).

        Raises:
            InputError: num_inference_steps outside 1..num_train_timesteps.
        """
        count = self.num_train_timesteps
        if not 1 <= num_inference_steps <= count:
            raise InputError(f"num_inference_steps must be from 1 to {count}, got {num_inference_steps}")
        if self.timestep_spacing == "linspace":
            steps = self.linspace_timesteps(num_inference_steps).round()
        elif self.timestep_spacing == "leading":
            steps = torch.arange(num_inference_steps).flip(0) * (count // num_inference_steps) + self.steps_offset
        else:
            stride = (count - count / num_inference_steps) - count  # in this order, halves round as in numpy.arange
            steps = (count + torch.arange(num_inference_steps, dtype=torch.float64) * stride).round() - 1
        if steps[0] >= count:
            raise InputError(
                f"steps_offset {self.steps_offset} with {num_inference_steps} steps passes the last timestep"
            )
        return steps.long()
