"""`t2v evaluate motion`: how actors move in generated videos and in rendered clips."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2v.cli import options
from t2v.cli.evaluate_results import number
from t2v.cli.evaluate_videos import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

Data = Annotated[
    Path, typer.Option(help="Rendered clips with captions and labels: t2v-data world clips --held-out --labels.")
]
Sprites = Annotated[Path, typer.Option(help="Pictures of the actors, of the clips' size: t2v-data world sprites.")]
NumVideos = Annotated[
    int, typer.Option(min=0, help="Videos to generate, verbs in turn; 0 measures the rendered clips alone.")
]
Seed = Annotated[int, typer.Option(help="Video i uses seed + i.")]

_PLAIN_WIDTH = 110  # of the table, where there is no terminal


def motion(
    context: typer.Context,
    data: Data,
    sprites: Sprites,
    output: Report,
    model: options.Model = None,
    motion: options.Motion = None,
    num_videos: NumVideos = 32,
    seed: Seed = 0,
    num_frames: options.NumFrames = None,
    fps: options.Fps = None,
    num_inference_steps: options.NumInferenceSteps = None,
    sampler: options.Sampler = None,
    guidance: options.Guidance = None,
    guidance_scale: options.GuidanceScale = None,
    motion_guidance: options.MotionGuidance = None,
    deflicker: options.Deflicker = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    offline: options.Offline = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare how actors move in generated videos and in rendered clips, verb by verb.

    Actors are found by matching their pictures, and for comparison by the centroid of what moves. The rendered clips
    are measured at the same frames and rate, so they show what the measures can reach.
    """
    from t2v.cli.outputs import check_file
    from t2v.cli.progress import Reporter
    from t2v.evaluation.labelled_clips import ActorPictures, balanced, labelled_clips
    from t2v.models.base import save_json

    check_file(output, ".json", overwrite)
    clips, pictures = labelled_clips(data), ActorPictures(sprites)
    pictures.check(clips)
    captions = balanced(clips, num_videos)
    reporter = Reporter(quiet)
    with reporter.stage("measuring motion"):
        from t2v.evaluation.motion_report import MotionRequest, evaluate_motion
        from t2v.pipelines.settings import GenerationSettings, check_seed
        from t2v.pipelines.text_to_video import load

        settings = options.sampling(context)
        check_seed(seed, max(1, len(captions)))
        pipe = load(model or "mini", device or "auto", dtype or "auto", motion) if captions else None
        defaults = GenerationSettings() if pipe is None else pipe.defaults
        shape = settings.get("num_frames", defaults.num_frames), settings.get("fps", defaults.fps)
        request = MotionRequest(clips, pictures, *shape)
        report = evaluate_motion(request, captions, pipe, settings, seed, reporter.step)
    save_json(output, {**report, "protocol": {"data": str(data), "sprites": str(sprites), **report["protocol"]}})
    _print(report)
    print(output)


def _print(report: dict[str, Any]) -> None:
    """The report's main figures as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "verb", "videos", "seen", "px/s", "bounce px", "sway px", "frame diff.", "within 20%", "like the verb",
        title="generated / rendered, by matching", title_justify="left",
    )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    for verb, found in report["verbs"].items():
        judged = [found["measures"]["match"][name] for name in ("path_speed", "vertical_range", "sway_range")]
        verdict = found["verdict"]["match"]
        table.add_row(
            verb,
            f"{found['num_generated']} / {found['num_rendered']}",
            _pair(found["score"], 2),
            *(_pair(values, 1) for values in judged),
            _ratio(found["frame_difference"]),
            _yes(verdict["within_tolerance"]),
            _yes(verdict["moves_like_verb"], verdict["share_like_verb"]),
        )
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    console.print(table)
    for line in _lines(report):
        console.print(line, markup=False)


def _lines(report: dict[str, Any]) -> "Sequence[str]":
    recognised = report["verb_from_motion"]["match"]
    errors = report["method_error_on_rendered"]["match"]
    differences = (
        f"{name.replace('_', ' ')}: {_pair(report[name], 2)}, ratio {_ratio(report[name])}"
        for name in ("frame_difference", "background_difference")
    )
    accuracy = f"{number(recognised['generated'], 2)} / {number(recognised['rendered_leave_one_out'], 2)}"
    return (
        *differences,
        f"verb from motion alone: {accuracy} (chance {recognised['chance']:.2f})",
        f"matching on rendered clips: median error {errors['median']:.1f} px, 90% within {errors['p90']:.1f} px",
    )


def _pair(values: dict[str, float | None], digits: int) -> str:
    return f"{number(values['generated'], digits)} / {number(values['rendered'], digits)}"


def _ratio(values: dict[str, float | None]) -> str:
    return number(values["ratio"], 2)


def _yes(value: bool | None, share: float | None = None) -> str:
    answer = "-" if value is None else "yes" if value else "no"
    return answer if share is None else f"{answer} ({share:.0%})"
