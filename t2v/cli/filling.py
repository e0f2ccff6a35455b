"""What `interpolate`, `extend` and `animate` share: how frames are made, and the report beside what is written."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2v.errors import InputError
from t2v.pipelines.settings import Hint

if TYPE_CHECKING:
    from t2v.cli.progress import Reporter
    from t2v.data.video_io import EncodeOptions
    from t2v.pipelines.interpolation.diffusion import DiffusionFill
    from t2v.pipelines.interpolation.filling import Fill, Pictures
    from t2v.pipelines.interpolation.inputs import FrameSequence
    from t2v.pipelines.interpolation.rate import OutputFrame


class Method(StrEnum):
    """How frames are made; all but the first need no model."""

    DIFFUSION = "diffusion"
    CROSSFADE = "crossfade"
    HOLD = "hold"
    FLOW = "flow"


_OUTPUT = "A .mp4, .webm, .mkv (without loss), .gif, .webp, or no extension for a folder of PNGs."
_FILE = "File"
Output = Annotated[Path, typer.Option("--output", "-o", help=_OUTPUT)]
OptionalOutput = Annotated[Path | None, typer.Option("--output", "-o", help=_OUTPUT)]
Codec = Annotated[
    str | None,
    typer.Option(help="h264, av1, vp9 or ffv1. [default: mp4 h264, webm vp9, mkv ffv1]", rich_help_panel=_FILE),
]
Crf = Annotated[
    int | None, typer.Option(help="Quality, 0 is the best and largest. [default: 18]", rich_help_panel=_FILE)
]
PixelFormat = Annotated[
    str | None, typer.Option("--pix-fmt", help="As in yuv444p. [default: yuv420p, ffv1 bgr0]", rich_help_panel=_FILE)
]
MethodOption = Annotated[Method, typer.Option(help="How frames are made; only diffusion needs a model.")]
Interpolation = Annotated[
    Path | None, typer.Option(help="Folder of interpolation weights. [default: the model's interpolation/]")
]
PromptOption = Annotated[str, typer.Option(help="What the clip shows; may be left out.")]
Seed = Annotated[int, typer.Option(help="Of the noise that frames are made from.")]
FrameGuidance = Annotated[float, typer.Option(help="How closely to follow the known frames; 1 is without guidance.")]
HintOption = Annotated[
    Hint,
    typer.Option(
        help="What the network is shown in place of frames between known ones: these cross-faded, or moved by their "
        'optical flow (pip install "t2v[flow]").'
    ),
]
Scale = Annotated[
    float | None,
    typer.Option(
        help="Size the network works at, of the pictures' own, as in 0.5; large ones in overlapping tiles. "
        "[default: to the area it was trained at]"
    ),
]
TextGuidance = Annotated[float, typer.Option("--guidance-scale", help="How closely to follow the prompt.")]


@dataclass(frozen=True)
class FillRequest:
    """How frames are made."""

    method: Method
    model: str | None
    interpolation: Path | None
    device: str | None
    dtype: str | None
    sampling: dict[str, Any]  # fields of FillSettings that were given
    offload: str | None = None

    def load(self, reporter: "Reporter") -> "tuple[Fill, dict[str, Any]]":
        """The method, and what a report says of it.

        Raises:
            InputError: there are no weights for it, or they are broken; a setting is out of range.
        """
        if self.method is not Method.DIFFUSION:
            from t2v.pipelines.interpolation.baselines import BASELINES

            return BASELINES[self.method](), {"method": str(self.method)}
        fill = self.load_network(reporter)
        return fill, {"method": "diffusion", **fill.record()}

    def load_network(self, reporter: "Reporter") -> "DiffusionFill":
        """The network, whatever the method."""
        from t2v.pipelines.interpolation.diffusion import FillSettings, find_interpolation, load_interpolation

        settings = FillSettings(**self.sampling)
        model = self.model or "mini"
        weights = None if self.interpolation is None else str(self.interpolation)
        find_interpolation(model, weights)
        with reporter.stage(f"loading {model}"):
            placed = self.device or "auto", self.dtype or "auto"
            return load_interpolation(model, *placed, weights, settings, self.offload or "none")


def parse_fps(text: str | None, option: str) -> Fraction | None:
    """Frames per second as people write them: 24, 23.976, 24000/1001."""
    if text is None:
        return None
    try:
        fps = Fraction(text)
    except (ValueError, ZeroDivisionError):
        fps = Fraction(0)
    if not 0 < fps <= 1000:
        raise InputError(f"{option} is a number above 0 and at most 1000, as in 24 or 24000/1001, got {text}")
    return fps


def report_path(output: Path) -> Path:
    """The .json beside a file or folder."""
    return output.with_suffix(".json")


def encode_options(output: Path, codec: str | None, crf: int | None, pixel_format: str | None) -> "EncodeOptions":
    """How the output is compressed; InputError where its format does not have that."""
    from t2v.data.video_io import EncodeOptions, check_encoding

    options = EncodeOptions(crf=crf, codec=codec, pixel_format=pixel_format)
    check_encoding(output, options)
    return options


def check_outputs(output: Path, overwrite: bool) -> None:
    """Raise InputError unless the output and its report can be written."""
    from t2v.data.video_io import check_output

    check_output(output, overwrite=overwrite)
    if report_path(output).exists() and not overwrite:
        raise InputError(f"{report_path(output)} exists; choose another --output or add --overwrite")


def check_alpha(pictures: "list[Pictures]", output: Path) -> None:
    """Raise InputError where pictures are transparent and the output cannot be."""
    if output.suffix and any(picture.shape[2] == 4 for picture in pictures):
        raise InputError(
            f"the pictures are transparent, which {output.suffix} cannot be: write PNGs with -o {output.stem}"
        )


def warn_of_losses(sequence: "FrameSequence", reporter: "Reporter") -> None:
    """Say what of a video its frames are read without: more than 8 bits a colour, transparency."""
    from t2v.data.video_io import bit_depth, has_alpha

    name = sequence.info.pixel_format if sequence.info is not None else None
    if name is not None and (bits := bit_depth(name)) > 8:
        reporter.warn(f"{sequence.name} has {bits} bits a colour ({name}); it is read with 8, without HDR")
    if name is not None and has_alpha(name):
        reporter.warn(f"{sequence.name} may be transparent ({name}); it is read without alpha")


@dataclass(frozen=True)
class Sound:
    """What the output sounds like."""

    source: Path
    stretch: Fraction | None = None  # None: copied as it is


@dataclass(frozen=True)
class Destination:
    """What is written where."""

    path: Path
    fps: Fraction
    overwrite: bool
    encoding: "EncodeOptions"
    sound: Sound | None = None

    def write(self, frames: "Iterable[OutputFrame]", report: dict[str, Any]) -> None:
        """Write the frames, then the report with where each comes from; the video appears whole or not at all."""
        import secrets
        import shutil

        from t2v.data.video_io import add_audio, write_video
        from t2v.models.base import save_json

        sources: list[int | None] = []
        cuts: list[int] = []
        pictures = self._noted(frames, sources, cuts)
        part = self.path.with_name(f".{self.path.stem}-{secrets.token_hex(4)}{self.path.suffix}")
        try:
            write_video(part, pictures, self.fps, options=self.encoding)
            if self.sound is not None:
                add_audio(part, self.sound.source, self.sound.stretch)
            if self.path.is_dir():
                shutil.rmtree(self.path)
            part.replace(self.path)
        finally:
            shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
        made = sum(source is None for source in sources)
        facts = {"file": self.path.name, "fps": str(self.fps), "num_frames": len(sources), "num_made": made}
        audio = None if self.sound is None else "copied" if self.sound.stretch is None else "stretched"
        told = {**facts, "audio": audio, **report, "made_across_cuts": cuts, "sources": sources}
        save_json(report_path(self.path), told)

    @staticmethod
    def _noted(frames: "Iterable[OutputFrame]", sources: list[int | None], cuts: list[int]) -> "Iterator[Pictures]":
        for index, frame in enumerate(frames):
            sources.append(frame.source)
            if frame.at_cut:
                cuts.append(index)
            yield frame.picture
