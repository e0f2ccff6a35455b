"""`t2v info`: what a model is made of and what it takes to run."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2v.cli import options

if TYPE_CHECKING:
    from t2v.pipelines.inspection import ModelInfo

app = typer.Typer(add_completion=False)

Name = Annotated[
    str,
    typer.Argument(help="mini, a model folder or single .safetensors file, a hub id; motion or a LoRA."),
]


@app.command()
def info(
    model: Name = "mini",
    motion: options.Motion = None,
    num_frames: options.NumFrames = None,
    height: options.Height = None,
    width: options.Width = None,
    dtype: options.Dtype = None,
    offline: options.Offline = False,
    as_json: options.AsJson = False,
) -> None:
    """Show a model's parts, its parameters, its scheduler, and the memory that a video takes.

    Of a motion folder or file, or of a LoRA, show what it is.
    """
    from t2v.models.description import describe_part

    if (facts := describe_part(model)) is not None:
        _print_facts(facts, as_json)
        return
    from t2v.pipelines.inspection import inspect_model

    given = {"num_frames": num_frames, "height": height, "width": width}
    overrides = {name: value for name, value in given.items() if value is not None}
    found = inspect_model(model, motion, dtype or "auto", overrides)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        _print(found)
    for message in found.warnings:
        typer.echo(f"warning: {message}", err=True)


def _print_facts(facts: dict[str, str], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    for name, text in facts.items():
        print(f"{name:10} {text}")


def _print(found: "ModelInfo") -> None:
    from rich.console import Console
    from rich.table import Table

    from t2v.pipelines.memory import format_bytes

    table = Table("part", "parameters", "share", "files", title=found.name, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for part in found.parts:
        share = f"{part.num_parameters / found.num_parameters:.1%}"
        table.add_row(part.name, f"{part.num_parameters:,}", share, format_bytes(part.num_bytes))
    table.add_section()
    total = sum(part.num_bytes for part in found.parts)
    table.add_row("all", f"{found.num_parameters:,}", "", format_bytes(total))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for name, text in _facts(found):
        console.print(f"{name:10} {text}", markup=False)


def _facts(found: "ModelInfo") -> list[tuple[str, Any]]:
    from t2v.pipelines.memory import format_bytes

    settings, memory = found.settings, found.memory["none"]
    motion = "none: an image model, see `t2v inflate` and `t2v train temporal`"
    if found.motion is not None:
        share = f"{found.temporal_share:.1%} of the U-Net is temporal ({found.motion.layers})"
        frames = f"{found.motion.num_frames}"
        if found.motion.max_num_frames > found.motion.num_frames:
            frames += f" to {found.motion.max_num_frames}"
        motion = f"trained on {frames} frames, {share}"
    size = f"{settings.num_frames} frames, {settings.width}x{settings.height}, {found.dtype}"
    parts = f"weights {format_bytes(max(memory.weights))}, denoising {format_bytes(memory.denoise)}"
    schedule = found.schedule
    spacing = f" on {settings.timestep_spacing} timesteps" if settings.timestep_spacing else ""
    closeness = f", of motion {settings.motion_guidance:g}" if settings.motion_guidance != 1 else ""
    noise = f", {settings.shared_noise:g} {settings.noise_prior} noise" if settings.shared_noise else ""
    steady = f", deflicker {settings.deflicker:g}" if settings.deflicker else ""
    return [
        ("kind", found.kind),
        ("shapes", found.shapes),
        ("motion", motion),
        (
            "scheduler",
            f"{schedule.prediction_type}, {schedule.beta_schedule}, {schedule.num_train_timesteps} timesteps",
        ),
        (
            "defaults",
            f"{settings.sampler}{spacing}, {settings.num_inference_steps} steps, guidance {settings.guidance_scale:g} "
            f"by the {settings.guidance} network{closeness}, {settings.fps:g} fps{noise}{steady}",
        ),
        (
            "memory",
            f"about {format_bytes(memory.total)} for {size} ({parts}, decoding {format_bytes(memory.decode)})",
        ),
        (
            "offload",
            ", ".join(
                f"{level} {format_bytes(estimate.total)}" for level, estimate in found.memory.items() if level != "none"
            ),
        ),
    ]
