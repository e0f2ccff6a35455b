"""The result of an evaluation: figures with intervals beside the protocol they were taken by, and their comparison."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from t2v.errors import InputError
from t2v.evaluation.intervals import Figure
from t2v.models.base import save_json

FORMAT = "t2v evaluation 1"
_LONGEST = 80  # characters of a value in a message: more than a hash


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """All that a figure depends on besides the videos themselves; what does not apply is None.

    Two results are comparable where this is equal, with the settings of the metrics that both have.
    """

    num_videos: int
    num_frames: int | None  # of each, as measured
    frame_stride: int | None  # frames of the file from one measured frame to the next
    fps: float | None  # of the measured frames; None where the videos differ
    size: tuple[int, int] | None  # height, width in pixels, as measured
    codec: Mapping[str, Any] | None  # of the files, by FFmpeg's names
    reference: Mapping[str, Any] | None  # what a distance is measured to: split, number of videos, hash of their pixels
    seeds: Mapping[str, Any]  # of the intervals and the choice of videos and frames
    prompts_sha256: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)  # whatever else holds for all metrics
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # settings of each, hash of its weights


@dataclass(frozen=True)
class Result:
    """What was measured, how, and what came out.

    Attributes:
        subject: whose figures these are (paths, hashes, seeds of the videos): never compared.
        details: whatever else the file holds, such as a line for each video.
    """

    protocol: Protocol
    figures: Mapping[str, Figure]
    subject: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write as JSON, whole or not at all."""
        assert self.figures.keys() == self.protocol.metrics.keys(), "every figure has its settings in the protocol"
        metrics = {name: asdict(figure) for name, figure in self.figures.items()}
        head = {"format": FORMAT, "subject": dict(self.subject), "protocol": asdict(self.protocol)}
        save_json(path, {**head, "metrics": metrics, **self.details})

    @classmethod
    def read(cls, path: str | Path) -> "Result":
        """Read what `save` wrote; InputError for anything else."""
        content = _read_object(Path(path))
        if content.get("format") != FORMAT:
            raise InputError(f"{path} is no result of `t2v evaluate`: it has no format {FORMAT!r}")
        try:
            protocol = Protocol(**content["protocol"])
            figures = {name: Figure(**figure) for name, figure in content["metrics"].items()}
            if figures.keys() != protocol.metrics.keys():
                raise KeyError("metrics")
            return cls(protocol, figures, content["subject"])
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is a damaged result ({error}): measure again") from None


@dataclass(frozen=True)
class Comparison:
    """One metric of two results of one protocol."""

    metric: str
    first: Figure
    second: Figure

    @property
    def is_apart(self) -> bool | None:
        """Whether the intervals do not overlap: a careful reading of a difference. None without intervals."""
        a, b = self.first, self.second
        if a.low is None or a.high is None or b.low is None or b.high is None:
            return None
        return a.high < b.low or b.high < a.low


def compare(first: Result, second: Result) -> list[Comparison]:
    """The metrics that both results have.

    Raises:
        InputError: the protocols differ, which names the first difference; or no metric is in both.
    """
    shared = [name for name in first.figures if name in second.figures]
    difference = next(_differences(_compared(first.protocol, shared), _compared(second.protocol, shared)), None)
    if difference is not None:
        name, a, b = difference
        raise InputError(
            f"the protocols differ: {name} is {_written(a)} in the first and {_written(b)} in the second; "
            "measure both in one way"
        )
    if not shared:
        raise InputError(
            f"the results have no metric in common: {', '.join(first.figures)} and {', '.join(second.figures)}"
        )
    return [Comparison(name, first.figures[name], second.figures[name]) for name in shared]


def _compared(protocol: Protocol, metrics: list[str]) -> dict[str, Any]:
    """The protocol as JSON has it, with the settings of these metrics alone."""
    chosen = {**asdict(protocol), "metrics": {name: protocol.metrics[name] for name in metrics}}
    compared: dict[str, Any] = json.loads(json.dumps(chosen))
    return compared


def _differences(first: Any, second: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two trees differ, in the order of the first: dotted name and both values."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys((*first, *second)):
            yield from _differences(first.get(key), second.get(key), f"{name}.{key}" if name else key)
    elif first != second:
        yield name, first, second


def _written(value: Any) -> str:
    """As JSON; what is long, is cut."""
    text = json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{path} is no JSON file") from None
    return content if isinstance(content, dict) else {}
