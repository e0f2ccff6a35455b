"""`t2v evaluate zero-shot | export-vbench`: the benchmarks of the field."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2v.cli import options
from t2v.cli.evaluate_results import print_result
from t2v.cli.evaluate_videos import Prompts, Unpublished, Weights

if TYPE_CHECKING:
    from t2v.evaluation.benchmark_data import BenchmarkVideo
    from t2v.evaluation.result import Result
    from t2v.evaluation.zero_shot import ZeroShotProtocol

ProtocolFile = Annotated[Path, typer.Argument(help="configs/evaluation/ucf101.yaml, msrvtt.yaml, or your own.")]
Data = Annotated[Path, typer.Option(help="Folder of the data set, with its official lists or JSON.")]
WritePrompts = Annotated[
    Path | None,
    typer.Option(help="Text file to write: prompts to generate; FILE-N.txt where numbers of videos differ."),
]
Made = Annotated[Path | None, typer.Option(help="Folder of videos that `t2v generate` made for these prompts.")]
Report = Annotated[Path | None, typer.Option("--output", "-o", help="JSON file to write, with --videos.")]
NumVideos = Annotated[int | None, typer.Option(min=2, help="Fewer generated videos than the protocol says.")]
Generated = Annotated[Path, typer.Argument(help="Folder of videos that `t2v generate --num-videos` made.")]
Folder = Annotated[Path, typer.Option("--output", "-o", help="Folder to write, for VBench's --videos_path.")]
PerPrompt = Annotated[int, typer.Option(min=1, help="Videos of a prompt: VBench takes 5, for temporal flickering 25.")]


def zero_shot(
    protocol: ProtocolFile,
    data: Data,
    write_prompts: WritePrompts = None,
    videos: Made = None,
    output: Report = None,
    weights: Weights = None,
    unpublished_weights: Unpublished = False,
    num_videos: NumVideos = None,
    device: options.Device = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure generated videos against UCF-101 or MSR-VTT by a protocol file, beside the published figures.

    First --write-prompts FILE, then generate, then --videos FOLDER --weights FOLDER -o JSON. What cannot be the same as
    in the paper is printed with the figures.
    """
    from t2v.cli.outputs import check_file
    from t2v.errors import InputError
    from t2v.evaluation.zero_shot import ZeroShotProtocol

    if (videos is None) != (output is None):
        raise InputError("--videos FOLDER and --output JSON go together")
    if output is not None:
        check_file(output, ".json", overwrite)
    if write_prompts is not None:
        check_file(write_prompts, ".txt", overwrite)
    read = ZeroShotProtocol.read(protocol)
    real = read.videos(data)
    plan = read.plan(real, num_videos)
    print(f"{read.name}: {len(real)} real videos, {plan.total()} to generate for {len(plan)} prompts")
    if write_prompts is not None:
        _write_prompts(write_prompts, plan, overwrite)
    if videos is not None:
        assert output is not None
        result = _measure(read, data, real, videos, plan, (weights, unpublished_weights, device), quiet)
        result.save(output)
        print_result(result)
        _print_published(read, result)
    print("What is not as in the paper:")
    for line in read.differs:
        print(f"- {line}")
    if output is not None:
        print(output)


def _write_prompts(path: Path, plan: Counter[str], overwrite: bool) -> None:
    """The prompts that want as many videos as each other, in a file with the command that makes them."""
    from t2v.cli.outputs import check_file
    from t2v.models.base import save_text

    prompts: dict[int, list[str]] = {}
    for prompt, count in sorted(plan.items(), key=lambda pair: pair[1]):
        prompts.setdefault(count, []).append(prompt)
    files = {count: path.with_stem(f"{path.stem}-{count}") if len(prompts) > 1 else path for count in prompts}
    for file in files.values():
        check_file(file, ".txt", overwrite)
    for count, file in files.items():
        save_text(file, "\n".join(prompts[count]) + "\n")
        print(f"t2v generate --prompts {file} --num-videos {count} -o FOLDER/{file.stem}.mp4")


def _measure(
    protocol: "ZeroShotProtocol",
    data: Path,
    real: "list[BenchmarkVideo]",
    videos: Path,
    plan: Counter[str],
    networks: tuple[Path | None, bool, str | None],
    quiet: bool,
) -> "Result":
    from dataclasses import replace

    from t2v.cli.progress import Reporter
    from t2v.errors import InputError
    from t2v.evaluation.clip_set import ClipSet
    from t2v.evaluation.families import find_families
    from t2v.evaluation.video_set import Reference, evaluate_videos
    from t2v.evaluation.zero_shot import choose_generated
    from t2v.pipelines.device import resolve_device

    reporter = Reporter(quiet)
    weights, allow_unpublished, device = networks
    clips = ClipSet(videos, choose_generated(videos, plan), protocol.sampling())
    sources = [video.source for video in real]
    found = ClipSet(
        data, sources, protocol.reference_sampling(), on_bad=lambda reason: reporter.warn(f"left out: {reason}")
    )
    with reporter.stage("measuring"):
        families = find_families(
            weights, allow_unpublished, protocol.num_frames, resolve_device(device or "auto"), protocol.networks
        )
        if not families.chosen:
            reasons = f"{', '.join(protocol.metrics)} cannot be measured ({'; '.join(families.left_out)})"
            raise InputError(f"{reasons}: give --weights FOLDER with the files that `t2v evaluate weights` lists")
        for left_out in families.left_out:
            reporter.note(f"left out: {left_out}")
        result = evaluate_videos(clips, families.chosen, Reference(found, protocol.reference.split), reporter.step)
    settings = {**result.protocol.settings, "benchmark": protocol.name, "prompts_per": protocol.prompts.per}
    details = {**result.details, "published": protocol.model_dump()["published"], "differs": protocol.differs}
    return replace(result, protocol=replace(result.protocol, settings=settings), details=details)


def _print_published(protocol: "ZeroShotProtocol", result: "Result") -> None:
    """Published figures beside ours of the same quantity; the others alone."""
    for name, published in protocol.published.items():
        ours = [metric for metric in result.figures if published.metric and metric.startswith(published.metric)]
        beside = f"beside {', '.join(ours)}" if ours else "nothing measured here is that quantity"
        print(f"published {name} {published.value:g} ({published.source}): {beside}")


def export_vbench(
    videos: Generated,
    output: Folder,
    prompts: Prompts = None,
    per_prompt: PerPrompt = 5,
) -> None:
    """Copy generated videos into the layout that VBench reads: PROMPT-INDEX.mp4, the lowest seeds of each prompt.

    Prompts and seeds go to a JSON beside the folder, for VBench wants nothing but videos in it. With --prompts, as
    VBench's all_dimension.txt, every one of them must be there. VBench itself runs in an environment of its own.
    """
    from t2v.cli.outputs import check_new_folder, read_prompts
    from t2v.errors import InputError
    from t2v.evaluation.vbench import plan_export, write_export
    from t2v.models.base import save_json

    record = output.with_name(f"{output.name}.json")
    check_new_folder(output)
    if record.exists():
        raise InputError(f"{record} exists; choose another --output")
    exports = plan_export(videos, per_prompt, None if prompts is None else read_prompts(prompts))
    write_export(exports, output)
    save_json(record, [{"file": e.name, "prompt": e.prompt, "seed": e.seed, "source": str(e.source)} for e in exports])
    print(f"{len(exports)} videos of {len({export.prompt for export in exports})} prompts")
    print(output)
