"""`t2v evaluate mini-board` and its judge, `t2v evaluate train-recogniser`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2v.cli import options

if TYPE_CHECKING:
    from t2v.evaluation.board import BoardRequest
    from t2v.evaluation.board_report import Figures
    from t2v.evaluation.intervals import Figure
    from t2v.evaluation.result import Protocol

LabelledData = Annotated[
    list[Path], typer.Option("--data", help="Rendered clips with labels to learn from; may be given several times.")
]
Check = Annotated[
    list[Path], typer.Option(help="Rendered clips of other seeds to be measured on; may be given several times.")
]
RecogniserFolder = Annotated[Path, typer.Option("--output", "-o", help="Folder to write: config and weights.")]
NumSteps = Annotated[int, typer.Option(min=1, help="Batches to learn from.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Clips of a batch.")]
Seed = Annotated[int, typer.Option(help="Of weights, batches and what is done to clips.")]
BoardFolder = Annotated[Path, typer.Option("--data", help="Rendered clips and pictures: t2v-data world board.")]
Report = Annotated[
    Path, typer.Option("--output", "-o", help="JSON file to write; the contact sheet is a .jpg beside it.")
]
Judge = Annotated[Path | None, typer.Option(help="Folder of a recogniser. [default: the one that comes along]")]
NumVideos = Annotated[int, typer.Option(min=2, help="Videos of each row, verbs in turn.")]
VideoSeed = Annotated[int, typer.Option(help="Video i uses seed + i.")]

_PLAIN_WIDTH = 160  # of the table, where there is no terminal
_HEADINGS = {
    "actor": "actor", "scene": "scene", "verb": "verb\nby motion", "path_verb": "verb\nby path",
    "match": "actor\nmatched", "flicker": "background\nflicker", "distance": "world-\nFrechet", "seconds": "s / video",
}  # fmt: skip


def mini_board(
    context: typer.Context,
    data: BoardFolder,
    output: Report,
    model: options.Model = None,
    motion: options.Motion = None,
    recogniser: Judge = None,
    num_videos: NumVideos = 24,
    seed: VideoSeed = 0,
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
    """The scoreboard of `mini`: is the actor, the scene and the verb in the video that was asked for?

    Seen and held-out pairs of actor and scene, beside the image model alone and rendered clips. The judge flatters:
    look at the contact sheet, which is always written, before you believe a figure.
    """
    from t2v.cli.outputs import check_file
    from t2v.cli.progress import Reporter
    from t2v.evaluation.board import BoardData, BoardRequest, judge_all
    from t2v.evaluation.board import Judge as BoardJudge
    from t2v.evaluation.board_report import board_figures, board_sheet, gates
    from t2v.evaluation.recogniser import load_recogniser
    from t2v.evaluation.result import Result
    from t2v.evaluation.sheet import save_picture
    from t2v.models.folder import ZOO
    from t2v.pipelines.settings import check_seed
    from t2v.pipelines.text_to_video import load

    sheet = output.with_suffix(".jpg")
    for file, suffix in ((output, ".json"), (sheet, ".jpg")):
        check_file(file, suffix, overwrite)
    settings = options.sampling(context)
    clips, judge = BoardData.read(data, num_videos), load_recogniser(recogniser or ZOO / "recogniser")
    check_seed(seed * judge.config.num_frames, judge.config.num_frames * num_videos)
    clips.check(judge)
    reporter = Reporter(quiet)
    with reporter.stage("judging"):
        pipe = load(model or "mini", device or "auto", dtype or "auto", motion)
        request = BoardRequest(pipe, settings, seed, clips, BoardJudge(judge, clips))
        judged = judge_all(request, reporter.step)
    figures = board_figures(judged, request.judge.reference)
    reached = gates(figures)
    save_picture(board_sheet(judged), sheet)
    protocol, subject = _protocol(request, figures), _subject(request)
    details = {"gates": reached, "videos": [video.to_dict() for video in judged]}
    Result(protocol, figures, subject, details).save(output)
    _print_board(figures, reached)
    print(output)


def _protocol(request: "BoardRequest", figures: "Figures") -> "Protocol":
    import hashlib
    from dataclasses import replace

    from t2v.evaluation.result import Protocol

    clips, judge = request.data, request.judge
    settings = replace(request.pipe.defaults, **request.video_options).to_dict()
    captions = "\n".join(clip.caption for clip in (*clips.held_out, *clips.seen))
    return Protocol(
        num_videos=len(clips.held_out),
        num_frames=judge.num_frames,
        frame_stride=None,
        fps=judge.fps,
        size=(settings["height"], settings["width"]),
        codec=None,
        reference={"split": "held-out pairs, rendered", "num_clips": len(clips.reference), "sha256": clips.sha256},
        seeds={"first_video": request.seed, "intervals": 0},
        prompts_sha256=hashlib.sha256(captions.encode()).hexdigest(),
        settings={"sampling": settings, "recogniser_sha256": judge.recogniser.weights_sha256()},
        metrics={name: {} for name in figures},
    )


def _subject(request: "BoardRequest") -> dict[str, Any]:
    import os

    import torch

    return {**request.pipe.facts, "threads": torch.get_num_threads(), "cores": os.cpu_count()}


def _print_board(figures: "Figures", reached: list[dict[str, Any]]) -> None:
    """The table, the gaps, and a line for every target."""
    from rich.console import Console
    from rich.table import Table

    from t2v.evaluation.board import ROWS
    from t2v.evaluation.board_report import SHUFFLED
    from t2v.evaluation.gate import gate_line

    table = Table("", *_HEADINGS.values(), title="mean, and its 95% interval", title_justify="left")
    table.columns[0].no_wrap = True
    for row, name in {**ROWS, SHUFFLED: "held-out pairs, others' captions"}.items():
        table.add_row(name, *(_cell(figures.get(f"{row}.{measure}")) for measure in _HEADINGS))
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    console.print(table)
    for gate in reached:
        console.print(gate_line(gate), markup=False)


def _cell(figure: "Figure | None") -> str:
    if figure is None or figure.value is None:
        return "-"
    digits = 0 if figure.value >= 100 else 2
    return f"{figure.value:.{digits}f}\n{figure.low:.{digits}f} to {figure.high:.{digits}f}"


def train_recogniser(
    data: LabelledData,
    check: Check,
    output: RecogniserFolder,
    num_steps: NumSteps = 1500,
    batch_size: BatchSize = 32,
    num_frames: Annotated[int, typer.Option(min=2, help="Frames of the videos to be judged, at 8 fps.")] = 16,
    seed: Seed = 0,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Train the judge of `mini-board` on rendered clips: which actor, scene and verb a video shows. CPU only.

    Its accuracy on the clips of --check, as it was written, is printed and kept in its config.json.
    """
    from dataclasses import replace

    from t2v.cli.outputs import check_folder
    from t2v.cli.progress import Reporter
    from t2v.evaluation.labelled_clips import labelled_clips
    from t2v.evaluation.recogniser import load_recogniser, save_recogniser
    from t2v.evaluation.recogniser_training import ClipMemory, TrainingOptions, accuracy, config_for
    from t2v.evaluation.recogniser_training import train_recogniser as train

    check_folder(output, overwrite)
    reporter = Reporter(quiet)
    folders = [labelled_clips(folder) for folder in (*data, *check)]
    learned = [clip for clips in folders[: len(data)] for clip in clips]
    memory, checks = ClipMemory(replace(config_for(learned), num_frames=num_frames)), []
    with reporter.stage("reading clips"):
        for done, clip in enumerate(learned):
            memory.add(clip)
            reporter.step(done + 1, len(learned))
        for clips in folders[len(data) :]:
            checks.append(ClipMemory(memory.config))
            for clip in clips:
                checks[-1].add(clip)
    chosen = TrainingOptions(num_steps=num_steps, batch_size=batch_size, seed=seed)
    with reporter.stage("training"):
        recogniser = train(memory, chosen, reporter.step)
    facts = {"num_clips": len(learned), "num_steps": num_steps, "batch_size": batch_size, "seed": seed}
    save_recogniser(recogniser, output, facts)
    written = load_recogniser(output)  # rounded to half precision
    found = {str(folder): accuracy(written, clips) for folder, clips in zip(check, checks, strict=True)}
    save_recogniser(written, output, {**facts, "accuracy": found})
    for name, shares in found.items():
        print(f"{name}: " + "  ".join(f"{what} {value:g}" for what, value in shares.items()))
    print(output)
