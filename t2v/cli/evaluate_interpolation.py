"""`t2v evaluate interpolation` and `real-interpolation`: ways to make the frames between, side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2v.cli import options
from t2v.cli.evaluate_results import number
from t2v.cli.filling import FrameGuidance, HintOption, Interpolation
from t2v.pipelines.settings import FRAME_GUIDANCE, Hint

if TYPE_CHECKING:
    from t2v.pipelines.interpolation.filling import Fill

Data = Annotated[Path, typer.Option(help="Rendered clips with labels: t2v-data world clips --held-out --labels.")]
Sprites = Annotated[Path, typer.Option(help="Pictures of the actors, of the clips' size: t2v-data world sprites.")]
Report = Annotated[Path, typer.Option("--output", "-o", help="JSON file to write.")]
Sources = Annotated[Path, typer.Option(help="CSV file of pictures and videos: first,second,start,shown,credit.")]
Root = Annotated[Path, typer.Option("--data", help="Folder that the paths of --sources are relative to.")]
RealReport = Annotated[
    Path, typer.Option("--output", "-o", help="JSON file to write; the contact sheet is a .jpg beside it.")
]
Methods = Annotated[str, typer.Option(help="Which are compared.")]
ALL_METHODS = "diffusion,crossfade,hold,flow"
NumFrames = Annotated[int, typer.Option(min=3, max=64, help="Frames of a clip; first and last are known.")]
Fps = Annotated[float, typer.Option(min=0.5, max=60, help="Of the clips.")]
Seed = Annotated[int, typer.Option(help="Of the noise that frames are made from.")]


def interpolation(
    data: Data,
    sprites: Sprites,
    output: Report,
    methods: Methods = ALL_METHODS,
    num_clips: Annotated[int, typer.Option(min=1, help="Clips to measure, verbs in turn.")] = 64,
    num_frames: NumFrames = 9,
    fps: Fps = 8.0,
    model: options.Model = None,
    interpolation: Interpolation = None,
    seed: Seed = 0,
    num_inference_steps: options.NumInferenceSteps = None,
    sampler: options.Sampler = None,
    frame_guidance: FrameGuidance = FRAME_GUIDANCE,
    hint: HintOption = Hint.CROSSFADE,
    device: options.Device = None,
    dtype: options.Dtype = None,
    offline: options.Offline = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare ways to make the frames between, on rendered clips whose truth is known, by amount of motion.

    Against the true frames, and against those as the autoencoder gives them back, which is the ceiling of the network.
    """
    from t2v.cli.outputs import check_file
    from t2v.cli.progress import Reporter
    from t2v.evaluation.interpolation import InterpolationRequest, evaluate_interpolation
    from t2v.evaluation.labelled_clips import ActorPictures, balanced, labelled_clips
    from t2v.models.base import save_json
    from t2v.pipelines.interpolation.diffusion import DiffusionFill

    check_file(output, ".json", overwrite)
    _check_methods(methods)
    clips, pictures = balanced(labelled_clips(data), num_clips), ActorPictures(sprites)
    pictures.check(clips)
    sampling = options.given(seed=seed, num_inference_steps=num_inference_steps, sampler=sampler)
    sampling |= options.given(frame_guidance=frame_guidance, hint=hint)
    reporter = Reporter(quiet)
    fills, records = _fills(methods, (model, interpolation, device, dtype), sampling, reporter)
    network = fills.get("diffusion")
    is_network = isinstance(network, DiffusionFill)
    measured = InterpolationRequest(
        clips,
        pictures,
        fills,
        num_frames,
        fps,
        network.round_trip if isinstance(network, DiffusionFill) else None,
        "diffusion" if is_network else None,
    )
    with reporter.stage("measuring"):
        report = evaluate_interpolation(measured, reporter.step)
    protocol = {"data": str(data), "num_clips": len(clips), "num_frames": num_frames, "fps": fps, "methods": records}
    save_json(output, {"protocol": protocol, **report})
    _print_interpolation(report)
    print(output)


def real_interpolation(
    sources: Sources,
    data: Root,
    output: RealReport,
    methods: Methods = ALL_METHODS,
    num_frames: NumFrames = 9,
    fps: Fps = 8.0,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Side of the squares that are cut out, pixels.")] = 128,
    model: options.Model = None,
    interpolation: Interpolation = None,
    seed: Seed = 0,
    num_inference_steps: options.NumInferenceSteps = None,
    sampler: options.Sampler = None,
    frame_guidance: FrameGuidance = FRAME_GUIDANCE,
    hint: HintOption = Hint.CROSSFADE,
    device: options.Device = None,
    dtype: options.Dtype = None,
    offline: options.Offline = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare ways to make the frames between on real pictures and videos, and draw what they make.

    Of a video the first and the last of --num-frames are known, and figures tell how near the others come.
    """
    from t2v.cli.outputs import check_file
    from t2v.cli.progress import Reporter
    from t2v.evaluation.real_interpolation import RealRequest, compare_real, read_sources
    from t2v.evaluation.sheet import contact_sheet, save_picture
    from t2v.models.base import save_json

    check_file(output, ".json", overwrite)
    check_file(sheet := output.with_suffix(".jpg"), ".jpg", overwrite)
    _check_methods(methods)
    listed = read_sources(sources, data)
    sampling = options.given(seed=seed, num_inference_steps=num_inference_steps, sampler=sampler)
    sampling |= options.given(frame_guidance=frame_guidance, hint=hint)
    reporter = Reporter(quiet)
    fills, records = _fills(methods, (model, interpolation, device, dtype), sampling, reporter)
    with reporter.stage("making frames"):
        report, rows = compare_real(listed, RealRequest(fills, num_frames, fps, size), reporter.step)
    protocol = {"num_frames": num_frames, "fps": fps, "size": size, "methods": records}
    save_json(output, {"protocol": protocol, **report})
    if rows:
        save_picture(contact_sheet(*zip(*rows, strict=True)), sheet)
        print(sheet)
    for name, found in report["mean"].items():
        print(f"{name:<11}", "  ".join(f"{metric} {number(value, 2)}" for metric, value in found.items()))
    print(output)


def _check_methods(methods: str) -> None:
    from t2v.cli.filling import Method
    from t2v.errors import InputError

    unknown = [name for name in methods.split(",") if name not in list(Method)]
    if unknown:
        raise InputError(f"--methods: unknown method {unknown[0]!r}; known are {', '.join(Method)}")


def _fills(
    methods: str,
    networks: tuple[str | None, Path | None, str | None, str | None],
    sampling: dict[str, Any],
    reporter: Any,
) -> "tuple[dict[str, Fill], dict[str, Any]]":
    """The methods by name, and what a report says of each; `networks` is model, weights, device and dtype."""
    from t2v.cli.filling import FillRequest, Method

    loaded = {name: FillRequest(Method(name), *networks, sampling).load(reporter) for name in methods.split(",")}
    return {name: fill for name, (fill, _) in loaded.items()}, {name: record for name, (_, record) in loaded.items()}


def _print_interpolation(report: dict[str, Any]) -> None:
    """A line for each method in each bucket, and for each gate."""
    from t2v.evaluation.gate import gate_line

    straight = {"straight line": {"actor_error": report["straight_line"]}}
    for bucket, rows in [*report["buckets"].items(), ("not linear", report["curved"] | straight)]:
        for name, found in rows.items():
            figures = "  ".join(
                f"{metric} {number(value['mean'], 2)} [{number(value['low'], 2)}, {number(value['high'], 2)}]"
                for metric, value in found.items()
            )
            print(f"{bucket:<10} {name:<13} n {found['actor_error']['n']:<3} {figures}")
    for gate in report["gates"]:
        print(gate_line(gate))
