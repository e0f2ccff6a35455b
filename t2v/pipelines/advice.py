"""What a person should know before a video is made: requests that the model was not trained for."""

from t2v.diffusion.schedule import NoiseSchedule
from t2v.pipelines.memory import LESS_MEMORY, format_bytes

# The fields of a schedule that decide which noisy latents, and which target, a network is trained on.
TRAINING_FIELDS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "prediction_type",
    "rescale_betas_zero_snr",
    "shift",
)


def scheduler_differences(own: NoiseSchedule, trained: NoiseSchedule) -> list[str]:
    """How a schedule differs from the one that motion weights were trained with, one phrase a field."""
    pairs = [(name, getattr(own, name), getattr(trained, name)) for name in TRAINING_FIELDS]
    differences = [f"{name} {ours} instead of {theirs}" for name, ours, theirs in pairs if ours != theirs]
    return differences + (["other trained_betas"] if own.trained_betas != trained.trained_betas else [])


def scheduler_advice(differences: list[str]) -> str:
    """The warning about motion weights that were trained with another scheduler."""
    return f"the motion weights were trained with another scheduler; this model has {', '.join(differences)}"


def spacing_advice(sampler: str) -> str:
    """The warning about a timestep spacing that a sampler has no use for."""
    return f"sampler {sampler} has timesteps of its own: --timestep-spacing changes nothing"


def noise_advice(kind: str, trained: str) -> str:
    """The warning about frames that share their noise otherwise than in training."""
    return f"the motion was trained on {trained} noise, not on {kind}: expect it to flicker or to stand still"


NO_SHARED_NOISE_ADVICE = "--noise-prior progressive changes nothing with --shared-noise 0"
MOTION_GUIDANCE_ADVICE = "--motion-guidance changes nothing without --guidance image"


def word_advice(model: str, words: list[str]) -> str:
    """The warning about words that a model never saw."""
    quoted = ", ".join(f'"{word}"' for word in words)
    place = "its place" if len(words) == 1 else "their place"
    return f"{model} never saw {quoted} in training: expect something else in {place}"


def length_advice(num_frames: int, trained: int) -> str:
    """The warning about more frames than the temporal layers were trained on."""
    advice = f"expect it to drift, or use --context-frames {trained}"
    return f"{num_frames} frames, but the motion was trained on {trained}: {advice}"


def rate_advice(fps: float, low: float, high: float) -> str:
    """The warning about a frame rate that the temporal layers were not trained on."""
    return f"{fps:g} frames per second, but the motion was trained on {low:g} to {high:g}: expect it to be off"


def memory_advice(needed: int, present: int) -> str:
    """The warning about a video that is larger than the memory, both in bytes."""
    return f"this takes about {format_bytes(needed)} of memory, the device has {format_bytes(present)}: {LESS_MEMORY}"
