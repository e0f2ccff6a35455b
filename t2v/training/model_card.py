"""The model card that a finished run leaves: what the weights are, how they were made, and how to use them."""

import json
import platform
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from t2v.models.animatediff_files import is_animatediff
from t2v.models.lora import LORA_FILE
from t2v.training.config import TrainConfig
from t2v.training.config_files import dump_config
from t2v.training.run_folder import write_text

PARTS = ("motion", "model", "interpolation", "motion_lora")  # folders that a run exports
CARD = "README.md"

_WHAT = {
    "autoencoder": "An autoencoder between pixels and latents, the first part of a text-to-video model.",
    "image": "A text-to-image model in the Stable Diffusion format, to be given motion by `t2v train temporal`.",
    "temporal": "Motion for a text-to-image model: temporal layers that were trained on videos, after Make-A-Video "
    "(arXiv 2209.14792).",
    "interpolation": "A frame-interpolation network: it makes the frames between, before and after known ones, after "
    "Make-A-Video (arXiv 2209.14792, section 3.3).",
}
_LOSSES = {
    "loss": "training loss, mean of the last steps logged",
    "validation_loss": "held-back data",
    "validation_loss_shuffled": "held-back clips with their frames shuffled: worse where motion was learned",
    "validation_loss_endpoints": "held-back clips, made from their first and last frame",
    "validation_loss_swapped": "the same from the frames of another clip: worse where the known frames are looked at",
    **{f"validation_loss_t{level}": f"held-back data, noise level {level + 1} of 5" for level in range(5)},
    "psnr": "reconstruction of held-back pictures, dB",
    "codebook_use": "share of the codebook's entries that held-back pictures use",
}


@dataclass(frozen=True)
class RunSummary:
    """What the run's files do not say."""

    global_step: int
    samples_seen: int
    seconds: float  # of training, over all resumes
    num_samples: int  # in an epoch
    processes: int
    device: torch.device


def write_model_card(folder: Path, config: TrainConfig, summary: RunSummary) -> None:
    """Write README.md into a run folder and into each part that it exported.

    Args:
        folder: of the run, with what it recorded: metrics.jsonl, skipped.jsonl and run.json, as far as they are there.
    """
    card = model_card(folder, config, summary)
    write_text(folder / CARD, card)
    for part in PARTS:
        if (folder / part).is_dir():
            write_text(folder / part / CARD, card)


def model_card(folder: Path, config: TrainConfig, summary: RunSummary) -> str:
    """The text of the card, Markdown."""
    tag = "pipeline_tag: text-to-video\n" if config.stage == "temporal" else ""
    sections = {
        f"{config.stage}: {folder.name}": f"{_WHAT[config.stage]}\n\nMade by `t2v train {config.stage}`.",
        "Use": _use(folder, config),
        "Base": f"`{_base(config)}`",
        "Data": _data(folder, config, summary),
        "Training": _training(summary, _last(folder / "run.json")),
        "Result": _result(folder / "metrics.jsonl"),
        "Settings": f"```yaml\n{dump_config(config)}```",
        "Licence": _licence(config),
    }
    (title, what), *rest = sections.items()
    body = "\n\n".join(f"## {name}\n\n{text}" for name, text in rest)
    return f"---\nlibrary_name: t2v\n{tag}---\n\n# {title}\n\n{what}\n\n{body}\n"


def hardware(device: torch.device) -> str:
    """The name of the GPU, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.processor() or platform.machine()}, {torch.get_num_threads()} threads)"


def _use(folder: Path, config: TrainConfig) -> str:
    by_image = getattr(getattr(config, "validation", None), "guidance", "video") == "image"
    guidance = " --guidance image" if by_image else ""
    commands = {
        "autoencoder": f"t2v train image --model {folder / 'model'} --data PICTURES",
        "image": f"t2v train temporal --model {folder / 'model'} --data VIDEOS",
        "temporal": f't2v generate --model {_base(config)} --motion {folder / "motion"}{guidance} "..."',
        "interpolation": f"t2v interpolate a.png b.png -o clip.mp4 --model {_base(config)} --interpolation "
        f"{folder / 'interpolation'}",
    }
    if (folder / "model" / "motion").is_dir():
        commands["temporal"] = f't2v generate --model {folder / "model"}{guidance} "..."'
    elif (folder / "motion_lora").is_dir():
        motion = f" --motion {config.model.motion}" if config.model.motion else ""  # type: ignore[attr-defined]
        lora = folder / "motion_lora" / LORA_FILE
        commands["temporal"] = f't2v generate --model {_base(config)}{motion} --lora {lora}{guidance} "..."'
    text = f"```sh\n{commands[config.stage]}\n```"
    if (folder / "motion").is_dir() and is_animatediff(folder / "motion"):
        text += (
            "\n\n`motion/` is what diffusers opens by `MotionAdapter.from_pretrained` (with linear betas); tools "
            f"that take AnimateDiff's own files: `t2v convert {folder / 'motion'} NAME.safetensors`."
        )
    return text


def _base(config: TrainConfig) -> str:
    return str(getattr(getattr(config, "model", None), "base", None) or config.init_from or "none")


def _data(folder: Path, config: TrainConfig, summary: RunSummary) -> str:
    data: Any = getattr(config, "data", None)
    held_back = "a tenth" if data.num_validation is None else f"{data.num_validation:,}"
    facts = {
        "path": f"`{data.path}`",
        "SHA-256 (of the manifest, or of names and sizes)": _last(folder / "run.json").get("data", {}).get("sha256"),
        "samples": f"{summary.num_samples:,} for training, at most {held_back} held back",
        "resolution": f"{data.resolution} px",
        "text": getattr(data, "conditioning", None),
        "skipped files": _skipped(folder / "skipped.jsonl"),
    }
    return _table(facts)


def _skipped(path: Path) -> str:
    """How many files, and the commonest reasons; a reason is what follows the last path in it."""
    lines = _lines(path)
    reasons = Counter(str(line.get("reason", "")).rpartition(": ")[2] for line in lines)
    commonest = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(3))
    return f"{len(lines):,}{': ' + commonest if commonest else ''}"


def _training(summary: RunSummary, start: dict[str, Any]) -> str:
    names = ("t2v", "git_commit", "torch")
    facts = {
        "steps": f"{summary.global_step:,}",
        "samples seen": f"{summary.samples_seen:,} ({summary.samples_seen / max(1, summary.num_samples):.1f} epochs)",
        "time": f"{summary.seconds / 3600:.2f} h",
        "hardware": f"{summary.processes} x {hardware(summary.device)}",
        "software": ", ".join(f"{name} {start[name]}" for name in names if name in start),
    }
    return _table(facts)


def _result(metrics: Path) -> str:
    last = {name: line[name] for line in _lines(metrics) for name in _LOSSES if name in line}
    rows = [f"| `{name}` | {last[name]:.4f} | {meaning} |" for name, meaning in _LOSSES.items() if name in last]
    return "\n".join(["| figure | value | of |", "|---|---|---|", *rows])


def _licence(config: TrainConfig) -> str:
    return (
        f"These weights derive from the base (`{_base(config)}`) and from the data above: the terms of both apply to "
        "them. t2v itself is under Apache-2.0. State here under which licence you pass them on."
    )


def _table(facts: dict[str, Any]) -> str:
    rows = [f"| {name} | {value} |" for name, value in facts.items() if value]
    return "\n".join(["| | |", "|---|---|", *rows])


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _last(path: Path) -> dict[str, Any]:
    """The last entry of a JSON list of objects; empty where there is none."""
    entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return dict(entries[-1]) if entries else {}
