"""Where the videos of one command go: names, checks before any work, and the `.json` beside each video."""

import json
import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2v.data.video_io import check_output, check_parent
from t2v.errors import InputError

DEFAULT_FOLDER = Path("outputs")
_RECORD_TYPES = {"file": str, "prompt": str, "seed": int, "settings": dict, "model": str, "device": str, "dtype": str}
_OPTIONAL_TYPES = {
    "compile": bool,
    "interpolate": int,
    "motion": str | None,
    "motion_norm": str,
    "offload": str,
    "tokenizer": str | None,
    "loras": list,
    "threads": int,
    "weights_sha256": str,
}


@dataclass(frozen=True)
class Job:
    """One video to make."""

    prompt: str
    seed: int
    path: Path

    @property
    def sidecar(self) -> Path:
        """The `.json` that says how the video was made."""
        return self.path.with_suffix(".json")

    @property
    def preview(self) -> Path:
        """The animated file that shows the picture form."""
        return self.path.with_suffix(".preview.webp")

    def make_folder(self) -> None:
        """Make the default folder; another one was there when the job was checked."""
        self.path.parent.mkdir(exist_ok=True)


def slug(prompt: str, max_length: int = 60) -> str:
    """A file name for a prompt: words in lower case joined by hyphens, cut at a word; `video` if it has none."""
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", prompt).lower())
    name = ""
    for word in words:
        if name and len(name) + 1 + len(word) > max_length:
            break
        name = f"{name}-{word}" if name else word[:max_length]
    return name or "video"


def read_prompts(path: Path) -> list[str]:
    """The prompts of a text file, one a line; empty lines are skipped."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"cannot read the prompts file {path}: {reason}") from None
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise InputError(f"the prompts file {path} holds no prompt: write one a line")
    return prompts


def plan_jobs(prompts: list[str], seed: int, num_videos: int, output: Path | None) -> list[Job]:
    """Name one file for each prompt and seed; several are numbered, by seed or by prompt."""
    total = len(prompts) * num_videos
    jobs: list[Job] = []
    for index, prompt in enumerate(prompts):
        for offset in range(num_videos):
            if output is None:
                number = f"{index + 1:0{len(str(len(prompts)))}d}-" if len(prompts) > 1 else ""
                path = DEFAULT_FOLDER / f"{number}{slug(prompt)}-{seed + offset}.mp4"
            elif total == 1:
                path = output
            else:
                number = f"{len(jobs) + 1:0{len(str(total))}d}"
                path = output.with_name(f"{output.stem}-{number}{output.suffix}")
            jobs.append(Job(prompt, seed + offset, path))
    return jobs


def check_jobs(jobs: list[Job], overwrite: bool, preview: bool = False) -> None:
    """Raise InputError if any of the files cannot be written or would replace another; writes nothing."""
    for job in jobs:
        if job.path.parent != DEFAULT_FOLDER or DEFAULT_FOLDER.exists():
            check_output(job.path, overwrite=overwrite)
        elif not os.access(Path(), os.W_OK | os.X_OK):
            raise InputError(f"cannot make the folder {DEFAULT_FOLDER} here: no permission; choose another --output")
        for path in (job.sidecar, job.preview) if preview else (job.sidecar,):
            _check_replaced(path, overwrite)


def repeat_path(sidecar: Path, record: dict[str, Any]) -> Path:
    """Where a video made again from its `.json` goes: beside it, the first is never replaced."""
    return sidecar.with_name(f"{sidecar.stem}-repeat{Path(record['file']).suffix}")


def write_sidecar(path: Path, metadata: dict[str, Any]) -> None:
    """Write metadata as JSON, whole or not at all."""
    from t2v.models.base import save_json  # imports torch, which the checks do without

    save_json(path, metadata)


def read_sidecar(path: Path) -> dict[str, Any]:
    """Read what `write_sidecar` wrote; InputError says what is missing."""
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{path} is not the .json that t2v writes beside a video") from None
    record = metadata if isinstance(metadata, dict) else {}
    kinds = _RECORD_TYPES | {key: kind for key, kind in _OPTIONAL_TYPES.items() if key in record}
    for key, kind in kinds.items():
        if not isinstance(record.get(key), kind):
            raise InputError(f"{path} is not the .json that t2v writes beside a video: it has no proper {key!r}")
    if record.get("threads", 1) < 1:
        raise InputError(f"{path}: threads must be at least 1, got {record['threads']}")
    return record


def check_file(path: Path, suffix: str, overwrite: bool) -> None:
    """Raise InputError unless the file `path`, with this suffix, can be made or is there to be replaced."""
    if path.suffix.lower() != suffix:
        raise InputError(f"cannot write {path.name}: the output is a {suffix} file")
    check_parent(path)
    _check_replaced(path, overwrite and not path.is_dir())


def check_folder(path: Path, overwrite: bool) -> None:
    """Raise InputError unless the folder `path` can be made, parents included, or is there to be replaced."""
    _check_replaced(path, overwrite)
    _check_parents(path)


def check_new_folder(path: Path) -> None:
    """Raise InputError where `path` is there already, or cannot be made as a folder, parents included."""
    if os.path.lexists(path):
        raise InputError(f"{path} exists; choose another name")
    _check_parents(path)


def _check_parents(path: Path) -> None:
    parent = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not parent.is_dir():
        raise InputError(f"cannot write {path}: {parent} is not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {path}: no permission to write in {parent}")


def _check_replaced(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists; choose another --output or add --overwrite")
