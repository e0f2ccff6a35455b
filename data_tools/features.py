"""What is measured of every frame and pair of frames. Scores of clips are made of it, wherever clips begin and end."""

from array import array
from collections.abc import Sequence

import cv2
import numpy as np

from data_tools.shots import THUMBNAIL

FRAME_COLUMNS = ("luma", "black", "white", "sharpness", "top", "bottom", "left", "right", "change", "flow", "text")
FLOW_SIZE = (128, 72)
_BLACK, _WHITE = 24, 240  # grey levels
_BAR_LEVEL, _BAR_DUST = 30, 0.02  # no more than this share of a row of a letterbox bar is brighter than that
_TEXT_EVERY = 4  # frames between those that are searched for text
_STROKE_EVERY = 8  # pixels along a line of text, on average, at most
_TEXT_WINDOW = 3  # of these in a row, in which text stands still


class FrameFeatures:
    """Feed all frames of a file to `add`, then take the table of the frames of a clip. About 200 bytes a frame."""

    def __init__(self) -> None:
        self._num_frames = 0
        self._values = array("f")
        self._thumbnails = bytearray()
        self._last_gray: np.ndarray | None = None
        self._last_small: np.ndarray | None = None
        self._strokes: list[np.ndarray] = []
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

    def add(self, frame: np.ndarray) -> None:
        """The next frame: uint8 RGB (H, W, 3), about 256 pixels wide."""
        gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        self._thumbnails += cv2.resize(gray, THUMBNAIL, interpolation=cv2.INTER_AREA).tobytes()
        self._values.extend((*_light(gray), *bars(gray), *self._motion(gray), self._text(gray)))
        self._num_frames += 1

    def table(self, start: int, end: int) -> dict[str, np.ndarray]:
        """The numbers of frames start..end-1 by name, each float32 (F,); `change` and `flow` belong to the pair with
        the frame before; `text` is NaN where it was not measured."""
        values = np.frombuffer(self._values, np.float32).reshape(self._num_frames, -1)[start:end]
        return {name: values[:, column] for column, name in enumerate(FRAME_COLUMNS)}

    def thumbnail(self, index: int) -> np.ndarray:
        """uint8 (9, 16)."""
        return np.frombuffer(self._thumbnails, np.uint8).reshape(self._num_frames, *THUMBNAIL[::-1])[index]

    def _motion(self, gray: np.ndarray) -> tuple[float, float]:
        """Mean change (share of the range) and mean optical flow (share of the width) since the last frame."""
        small = cv2.resize(gray, FLOW_SIZE, interpolation=cv2.INTER_AREA)
        change = flow = 0.0
        if self._last_gray is not None and self._last_small is not None:
            change = cv2.norm(gray, self._last_gray, cv2.NORM_L1) / gray.size / 255
            if change > 0:
                vectors = self._flow.calc(self._last_small, small, None)
                flow = float(cv2.magnitude(vectors[..., 0], vectors[..., 1]).mean()) / FLOW_SIZE[0]
        self._last_gray, self._last_small = gray, small
        return change, flow

    def _text(self, gray: np.ndarray) -> float:
        """Share of the picture under lines of strokes that stood still for a while."""
        if self._num_frames % _TEXT_EVERY:
            return np.nan
        self._strokes = [*self._strokes[-_TEXT_WINDOW + 1 :], strokes(gray)]
        return text_share(self._strokes) if len(self._strokes) == _TEXT_WINDOW else np.nan


def _light(gray: np.ndarray) -> tuple[float, float, float, float]:
    """Mean luma 0..1, share of black and of white pixels, variance of the Laplacian."""
    counts = cv2.calcHist([gray], [0], None, [256], [0, 256]).reshape(-1) / gray.size
    _, deviation = cv2.meanStdDev(cv2.Laplacian(gray, cv2.CV_16S))
    luma = float(counts @ np.arange(256)) / 255
    return luma, float(counts[:_BLACK].sum()), float(counts[_WHITE + 1 :].sum()), float(deviation[0, 0]) ** 2


def bars(gray: np.ndarray) -> tuple[float, float, float, float]:
    """Thickness of the dark bars at the top, bottom, left and right, as shares of the height or width."""
    bright = cv2.threshold(gray, _BAR_LEVEL, 1, cv2.THRESH_BINARY)[1]
    rows = cv2.reduce(bright, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[:, 0] > _BAR_DUST * gray.shape[1]
    columns = cv2.reduce(bright, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[0] > _BAR_DUST * gray.shape[0]
    if not rows.any() or not columns.any():
        return 0.0, 0.0, 0.0, 0.0  # a black frame, not a letterbox
    height, width = gray.shape
    return (
        float(rows.argmax()) / height,
        float(rows[::-1].argmax()) / height,
        float(columns.argmax()) / width,
        float(columns[::-1].argmax()) / width,
    )


def strokes(gray: np.ndarray) -> np.ndarray:
    """Where thin bright strokes are, as in letters: uint8 0 or 255, same size."""
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (5, 5))
    return cv2.threshold(cv2.morphologyEx(gray, cv2.MORPH_TOPHAT, kernel), 40, 255, cv2.THRESH_BINARY)[1]


def text_share(maps: Sequence[np.ndarray]) -> float:
    """Share of the picture under horizontal lines made of strokes that all the maps have."""
    still = maps[0]
    for other in maps[1:]:
        still = cv2.bitwise_and(still, other)
    joined = cv2.morphologyEx(still, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_RECT, (9, 1)))
    lines = cv2.morphologyEx(joined, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_RECT, (7, 3)))
    _, _, boxes, _ = cv2.connectedComponentsWithStats(lines)
    height, width = still.shape
    area = 0
    for left, top, box_width, box_height, covered in boxes[1:]:
        ink = still[top : top + box_height, left : left + box_width] > 0
        inked, strokes_per_row = ink.mean(), (ink[:, 1:] > ink[:, :-1]).sum(1).mean()
        is_line = box_width >= 3 * box_height and box_width >= 0.06 * width and box_height <= 0.15 * height
        if (
            is_line
            and covered > 0.5 * box_width * box_height
            and 0.2 < inked < 0.85
            and strokes_per_row > box_width / _STROKE_EVERY
        ):
            area += int(box_width * box_height)
    return area / (height * width)
