"""What the interpolation network must show, as limits on the figures of `evaluate_interpolation`."""

from collections.abc import Mapping
from typing import Any

from t2v.evaluation.gate import Gate, make_gate

CEILING = "autoencoder"  # what the true frames are after the autoencoder: no latent method can be better
Gates = list[Gate]
_MOVING = ("small", "medium", "large")


def _mean(group: Mapping[str, Any], name: str, metric: str) -> float | None:
    value = group.get(name, {}).get(metric, {}).get("mean")
    return None if value is None else float(value)


def _gate(what: str, value: float | None, *, least: float | None = None, most: float | None = None) -> Gates:
    """One gate, or none where a figure is missing."""
    if value is None or (least is None and most is None):
        return []
    return [make_gate(what, value, at_least=least, at_most=most)]


def _shifted(value: float | None, amount: float) -> float | None:
    return None if value is None else value + amount


def _medium_motion(medium: Mapping[str, Any], method: str) -> Gates:
    bounds = [_shifted(_mean(medium, "crossfade", "psnr"), 1.0), _shifted(_mean(medium, CEILING, "psnr"), -0.5)]
    least = min((bound for bound in bounds if bound is not None), default=None)
    own, swapped = _mean(medium, method, "psnr"), _mean(medium, "swapped", "psnr")
    return [
        *_gate("PSNR, medium motion: cross-fade + 1 dB, or ceiling - 0.5 dB", own, least=least),
        *_gate("PSNR, medium motion, from the ends of another clip: worse by 3 dB", swapped, most=_shifted(own, -3.0)),
    ]


def _moving(name: str, bucket: Mapping[str, Any], method: str) -> Gates:
    flow, sharpness = _mean(bucket, method, "flow_error"), _mean(bucket, method, "sharpness")
    found = []
    for rival in ("crossfade", "hold"):
        found += _gate(f"flow error, {name} motion: below {rival}", flow, most=_mean(bucket, rival, "flow_error"))
    found += _gate(f"sharpness, {name} motion: not too soft", sharpness, least=0.9)
    return found + _gate(f"sharpness, {name} motion: not too sharp", sharpness, most=1.1)


def gates(report: Mapping[str, Any], method: str = "diffusion") -> Gates:
    """What the method must show, each with what it is, what it has to reach, and whether it does.

    A gate whose clips are missing from the report is left out.
    """
    buckets, curved, extension = report["buckets"], report["curved"], report["extension"]
    found = _medium_motion(buckets.get("medium", {}), method)
    for name in _MOVING:
        found += _moving(name, buckets.get(name, {}), method)
    faded = _mean(curved, "crossfade", "actor_error")
    half = None if faded is None else faded / 2
    found += _gate(
        "actor's place, paths that are not linear: half of cross-fade's error",
        _mean(curved, method, "actor_error"),
        most=half,
    )
    static = buckets.get("static", {})
    least = _shifted(_mean(static, CEILING, "psnr"), -1.0)
    found += _gate("PSNR, static: ceiling - 1 dB", _mean(static, method, "psnr"), least=least)
    for side in ("forward", "backward"):
        held = _mean(extension, "hold", side)
        found += _gate(f"extension {side}: PSNR above hold", _mean(extension, method, side), least=held)
    rates = report.get("frame_rates", {}).get("displacement", {}).get("of_means")
    return found + _gate("displacement follows 1 / fps: rank correlation", rates, least=0.9)
