"""UCF-101 and MSR-VTT as people have them on disk: the videos of a split, and what they are called."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from t2v.data.sources import Source
from t2v.errors import InputError

_CLASS_WORDS = re.compile(r"[A-Z][a-z]*|\d+")


@dataclass(frozen=True)
class BenchmarkVideo:
    """One video of a data set and its captions: for UCF-101 the one name of its class."""

    path: Path
    captions: tuple[str, ...]

    @property
    def source(self) -> Source:
        """To be read."""
        return Source(self.path, self.path.name)


def ucf101(root: Path, split: str) -> list[BenchmarkVideo]:
    """UCF-101: CLASS/v_CLASS_gGG_cCC.avi below `root`, and the official lists as CLASS/NAME.avi a line.

    Args:
        split: "all", or the name of a list such as "trainlist01".

    Raises:
        InputError: no such folder or list, or a video of the list is not there.
    """
    found = {f"{path.parent.name}/{path.name}": path for path in _files(root, "v_*.avi")}
    if not found:
        raise InputError(f"{root} has no UCF-101 videos: expected CLASS/v_CLASS_g01_c01.avi somewhere below")
    if split == "all":
        return [_of_class(path) for path in found.values()]
    lists = list(_files(root, f"{split}.txt"))
    if not lists:
        raise InputError(f"{root} has no {split}.txt: put the official lists (ucfTrainTestlist) below it")
    names = [line.split()[0] for line in lists[0].read_text(encoding="utf-8").splitlines() if line.strip()]
    return [_of_class(found[name] if name in found else _missing(root, name, lists[0])) for name in names]


def class_words(name: str) -> str:
    """A class of UCF-101 in words: "ApplyEyeMakeup" -> "apply eye makeup"."""
    return " ".join(_CLASS_WORDS.findall(name)).lower() or name


def msrvtt(root: Path, split: str) -> list[BenchmarkVideo]:
    """MSR-VTT: videoN.mp4 below `root`, and the official JSON with "videos" and "sentences".

    Args:
        split: "train", "validate" or "test".

    Raises:
        InputError: no such folder, JSON or split, a damaged JSON, or a video of it is not there.
    """
    found = {path.stem: path for path in _files(root, "video*.mp4")}
    listed: dict[str, tuple[Path, list[str]]] = {}  # captions of a video are those of one file that names it
    for path in _files(root, "*.json"):
        listed |= {name: (path, captions) for name, captions in _captions(path, split).items()}
    if not listed:
        raise InputError(
            f"{root} has no JSON of MSR-VTT that names videos of the split {split!r}: test_videodatainfo.json"
        )
    names = sorted(listed, key=lambda name: int(re.sub(r"\D", "", name) or 0))
    return [
        BenchmarkVideo(found[name] if name in found else _missing(root, f"{name}.mp4", path), tuple(captions))
        for name, (path, captions) in ((name, listed[name]) for name in names)
    ]


READERS = {"ucf101": ucf101, "msrvtt": msrvtt}


def _of_class(path: Path) -> BenchmarkVideo:
    return BenchmarkVideo(path, (path.parent.name,))


def _files(root: Path, pattern: str) -> Iterator[Path]:
    if not root.is_dir():
        raise InputError(f"--data: no folder {root}")
    return iter(sorted(root.rglob(pattern)))


def _captions(path: Path, split: str) -> dict[str, list[str]]:
    """The captions of the videos of a split, by one of MSR-VTT's files; another JSON has none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict) or not {"videos", "sentences"} <= content.keys():
        return {}
    try:
        captions: dict[str, list[str]] = {
            video["video_id"]: [] for video in content["videos"] if video.get("split") == split
        }
        for sentence in content["sentences"]:
            if sentence["video_id"] in captions:
                captions[sentence["video_id"]].append(" ".join(sentence["caption"].split()))
    except (KeyError, TypeError, AttributeError) as error:
        wanted = "videos with video_id and split, sentences with video_id and caption"
        raise InputError(f"{path} is no JSON of MSR-VTT ({error!r}): expected {wanted}") from None
    return captions


def _missing(root: Path, name: str, listed: Path) -> Path:
    raise InputError(f"{root} lacks {name}, which {listed.name} lists: complete the data set")
