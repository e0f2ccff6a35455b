"""`t2v evaluate videos | images`: measure a folder, against a reference or alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2v.cli import options
from t2v.cli.evaluate_results import print_result

if TYPE_CHECKING:
    from t2v.evaluation.clip_set import Sampling

Videos = Annotated[Path, typer.Argument(help="Folder tree, manifest or tar shard of videos.")]
Pictures = Annotated[Path, typer.Argument(help="Folder tree or manifest of pictures.")]
Report = Annotated[Path, typer.Option("--output", "-o", help="JSON file to write.")]
Reference = Annotated[Path | None, typer.Option(help="Real ones, for distances: FVD and FID.")]
Split = Annotated[str | None, typer.Option(help="Which split of which data set the reference is, for the protocol.")]
Weights = Annotated[
    Path | None, typer.Option(help="Folder of weights that you have: `t2v evaluate weights` lists their names.")
]
Unpublished = Annotated[
    bool, typer.Option("--unpublished-weights", help="Take safetensors whose hash is not the published one.")
]
Prompts = Annotated[
    Path | None, typer.Option(help="Prompts, one a line, in the order of the names. [default: those beside the files]")
]
NumVideos = Annotated[int | None, typer.Option(min=2, help="Measure a random choice of so many. [default: all]")]
NumFrames = Annotated[int, typer.Option(min=1, help="Frames of each video.")]
FrameStride = Annotated[int, typer.Option(min=1, help="From one measured frame to the next.")]
Resolution = Annotated[
    int | None, typer.Option(min=16, help="Pixels of the centre square that is measured. [default: as the files are]")
]
RandomStart = Annotated[
    bool, typer.Option("--random-start", help="Frames from a random place of longer videos, else their first.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of choices and intervals.")]


@dataclass(frozen=True)
class Request:
    """What is measured against what, and where the figures go."""

    folder: Path
    output: Path
    reference: Path | None
    split: str | None
    weights: Path | None
    allow_unpublished: bool
    prompts: Path | None
    device: str | None

    def run(self, sampling: "Sampling", are_pictures: bool, quiet: bool) -> None:
        """Measure, write the JSON and print the figures; what could not be measured is noted."""
        from t2v.cli.outputs import read_prompts
        from t2v.cli.progress import Reporter
        from t2v.evaluation.clip_set import ClipSet
        from t2v.evaluation.families import Pixels, find_families
        from t2v.evaluation.video_set import Reference, evaluate_videos
        from t2v.pipelines.device import resolve_device

        reporter = Reporter(quiet)
        prompts = None if self.prompts is None else read_prompts(self.prompts)
        clips = ClipSet.find(self.folder, sampling, are_pictures, prompts=prompts)
        reference = None
        if self.reference is not None:
            found = ClipSet.find(
                self.reference, sampling, are_pictures, lambda reason: reporter.warn(f"left out: {reason}")
            )
            reference = Reference(found, self.split)
        with reporter.stage("measuring"):
            device = resolve_device(self.device or "auto")
            families = find_families(self.weights, self.allow_unpublished, sampling.num_frames, device)
            if reference is None:
                reporter.note("FVD and FID are left out: no --reference")
            for left_out in families.left_out:
                reporter.note(f"left out: {left_out}")
            result = evaluate_videos(clips, [Pixels(), *families.chosen], reference, reporter.step)
        result.save(self.output)
        print_result(result)
        print(self.output)


def videos(
    folder: Videos,
    output: Report,
    reference: Reference = None,
    reference_split: Split = None,
    weights: Weights = None,
    unpublished_weights: Unpublished = False,
    prompts: Prompts = None,
    num_videos: NumVideos = None,
    num_frames: NumFrames = 16,
    frame_stride: FrameStride = 1,
    resolution: Resolution = None,
    random_start: RandomStart = False,
    seed: Seed = 0,
    device: options.Device = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure videos: flicker, warping error and sharpness alone; FVD, FID, frame IS and CLIPSIM with weights.

    The JSON holds each figure with its 95% interval, and the protocol: all that the figures depend on. Videos of the
    reference that are broken or too short are left out, which is said.
    """
    from t2v.cli.outputs import check_file
    from t2v.evaluation.clip_set import Sampling

    check_file(output, ".json", overwrite)
    sampling = Sampling(num_frames, frame_stride, resolution, random_start, num_videos, seed)
    request = Request(folder, output, reference, reference_split, weights, unpublished_weights, prompts, device)
    request.run(sampling, False, quiet)


def images(
    folder: Pictures,
    output: Report,
    reference: Reference = None,
    reference_split: Split = None,
    weights: Weights = None,
    unpublished_weights: Unpublished = False,
    prompts: Prompts = None,
    num_images: NumVideos = None,
    resolution: Resolution = None,
    seed: Seed = 0,
    device: options.Device = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure pictures: sharpness alone; FID, inception score and CLIP score with weights. See `videos`."""
    from t2v.cli.outputs import check_file
    from t2v.evaluation.clip_set import Sampling

    check_file(output, ".json", overwrite)
    sampling = Sampling(1, 1, resolution, False, num_images, seed)
    request = Request(folder, output, reference, reference_split, weights, unpublished_weights, prompts, device)
    request.run(sampling, True, quiet)


def weights() -> None:
    """List the weights that metrics can use: file names in the folder of --weights, published hashes, where they are.

    Nothing is fetched. A file that is not the published one is refused, or with --unpublished-weights marked so.
    """
    from t2v.models.published_weights import PUBLISHED

    for network, known in PUBLISHED.items():
        print(f"{network}: {' or '.join(known.files)}")
        print(f"    from {known.source}; SHA-256 {known.sha256 or 'not known: takes --unpublished-weights'}")
