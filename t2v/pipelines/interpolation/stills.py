"""From two or more pictures to a clip: when each frame is, which frames are the pictures, and the frames between."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from PIL import Image

from t2v.errors import InputError
from t2v.pipelines.interpolation.filling import Fill, Pictures, fill_gaps
from t2v.pipelines.interpolation.inputs import with_channels

FITS = ("pad", "crop", "stretch")


@dataclass(frozen=True)
class Timeline:
    """The frames of a clip made of pictures."""

    times: tuple[Fraction, ...]  # seconds, ascending
    sources: tuple[int | None, ...]  # which picture a frame is; None: it is made
    fps: Fraction  # of the file

    @property
    def num_frames(self) -> int:
        return len(self.times)


def even_timeline(num_pictures: int, num_frames: int, fps: Fraction, loop: bool = False) -> Timeline:
    """Frames at a steady rate, the pictures as evenly among them as whole frames allow.

    Args:
        num_frames: in all, the pictures included.
        loop: the first picture comes again after the end, and is not written twice.

    Raises:
        InputError: fewer than two pictures, or fewer frames than pictures.
    """
    if num_pictures < 2:
        raise InputError("one picture is no pair: give two or more, or use `t2v animate` to make it move")
    if num_frames < num_pictures:
        raise InputError(f"{num_frames} frames do not hold {num_pictures} pictures: ask for more frames")
    last = num_frames if loop else num_frames - 1
    gaps = num_pictures if loop else num_pictures - 1
    places = [round(Fraction(index * last, gaps)) for index in range(num_pictures)]
    sources: list[int | None] = [None] * num_frames
    for index, place in enumerate(places):
        sources[place] = index
    return Timeline(tuple(Fraction(frame) / fps for frame in range(num_frames)), tuple(sources), fps)


def chosen_timeline(num_pictures: int, moments: Sequence[float], num_frames: int, fps: Fraction) -> Timeline:
    """The pictures, and one frame at each of the chosen moments from 0 (first picture) to 1 (last one) between them.

    Args:
        num_frames: of the clip that the moments are taken from; with fps it says how fast things move.
    """
    if num_pictures < 2:
        raise InputError("one picture is no pair: give two or more, or use `t2v animate` to make it move")
    wrong = [moment for moment in moments if not 0 < moment < 1]
    if wrong:
        raise InputError(f"--times are shares of the clip, above 0 and below 1, got {wrong[0]:g}")
    span = (num_frames - 1) / fps
    frames: dict[Fraction, int | None] = {
        Fraction(moment).limit_denominator(1_000_000) * span: None for moment in moments
    }
    frames |= {Fraction(index, num_pictures - 1) * span: index for index in range(num_pictures)}
    ordered = sorted(frames.items())
    return Timeline(tuple(time for time, _ in ordered), tuple(source for _, source in ordered), fps)


def make_clip(
    pictures: Sequence[Pictures],
    timeline: Timeline,
    fill: Fill,
    on_gap: Callable[[int, int], None] = lambda done, total: None,
) -> Pictures:
    """The frames of a timeline: uint8 (F, H, W, C). Those that are pictures are these arrays, bit for bit."""
    frames = np.empty((timeline.num_frames, *pictures[0].shape), np.uint8)
    times = [float(time) for time in timeline.times]
    known = [place for place, source in enumerate(timeline.sources) if source is not None]
    ends = [*known[1:], *([timeline.num_frames] if timeline.sources[-1] is None else [])]
    end_times = [*times, float(timeline.num_frames / timeline.fps)]
    for done, (start, end) in enumerate(zip(known, ends, strict=False)):
        first, second = timeline.sources[start], timeline.sources[end % timeline.num_frames]
        assert first is not None and second is not None
        pair = np.stack([pictures[first], pictures[second]])
        frames[start + 1 : end] = fill_gaps(fill, pair, (times[start], end_times[end]), times[start + 1 : end])
        on_gap(done + 1, len(ends))
    for place in known:
        frames[place] = pictures[timeline.sources[place]]  # type: ignore[index]
    return frames


def same_size(pictures: Sequence[Pictures], names: Sequence[str], fit: str | None) -> list[Pictures]:
    """The pictures at the size of the first, with alpha where any has it.

    Raises:
        InputError: sizes differ and `fit` does not say what to do.
    """
    height, width = pictures[0].shape[:2]
    channels = max(picture.shape[2] for picture in pictures)
    fitted = []
    for picture, name in zip(pictures, names, strict=True):
        if picture.shape[:2] != (height, width):
            if fit is None:
                sizes = f"{picture.shape[1]}x{picture.shape[0]}, {names[0]} is {width}x{height}"
                raise InputError(f"{name} is {sizes}: say how to fit it with --fit {'|'.join(FITS)}")
            picture = _fitted(picture, (width, height), fit)
        fitted.append(with_channels(picture, channels))
    return fitted


def _fitted(picture: Pictures, size: tuple[int, int], fit: str) -> Pictures:
    from PIL import ImageOps

    image = Image.fromarray(picture)
    if fit == "pad":
        return np.asarray(ImageOps.pad(image, size, Image.Resampling.LANCZOS))
    if fit == "crop":
        return np.asarray(ImageOps.fit(image, size, Image.Resampling.LANCZOS))
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS))
