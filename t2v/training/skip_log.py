"""skipped.jsonl of a run: the files that are no use, each once, with the reason."""

import fcntl
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from t2v.errors import InputError
from t2v.training.run_folder import write_text


@dataclass(frozen=True)
class BadFile:
    """A file that cannot be used."""

    path: str
    reason: str
    content: str | None = None  # of the clip that showed it; None: the file gave no clip
    frame: int | None = None  # the one that cannot be decoded; None: the whole file
    is_broken: bool = True  # False: it can be read, and does not fit the settings


class BrokenFrames:
    """Which frames are known to be broken, so that no file is tried again for what failed before."""

    def __init__(self, files: Iterable[BadFile] = ()) -> None:
        self._frames: dict[str, set[int]] = {}
        self._whole: set[str] = set()
        for file in files:
            self.add(file)

    def add(self, file: BadFile) -> None:
        """Learn of a broken file or frame."""
        if file.frame is None:
            self._whole.add(file.path)
        else:
            self._frames.setdefault(file.path, set()).add(file.frame)

    def hit(self, path: str, frames: np.ndarray) -> bool:
        """Whether reading these frames of a file must fail."""
        return path in self._whole or not self._frames.get(path, set()).isdisjoint(frames.tolist())


class SkipLog:
    """The file, and the count that it is held against.

    Args:
        path: of skipped.jsonl.
        max_bad_share: of the files; more broken ones stop the run.
    """

    def __init__(self, path: Path, max_bad_share: float) -> None:
        self.path, self.max_bad_share = path, max_bad_share
        self.num_files = 0

    def start(self, bad: Iterable[BadFile], usable: Iterable[tuple[str, str]], num_files: int) -> None:
        """Write what the search for clips found, after which lines of a former start stay that are still true.

        Args:
            usable: (path, content) of the clips; lines of clips that broke in mid-read earlier are kept for these.
            num_files: usable and bad ones.

        Raises:
            InputError: too large a share of the files is broken.
        """
        self.num_files = num_files
        known = set(usable)
        lines = {file.path: file for file in bad}
        lines = {file.path: file for file in self.read() if (file.path, file.content) in known} | lines
        write_text(self.path, "".join(_line(file) for file in lines.values()))
        self._check()

    def read(self) -> list[BadFile]:
        """The files listed so far."""
        if not self.path.is_file():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [BadFile(**json.loads(line)) for line in lines if line.endswith("\n")]

    def add(self, file: BadFile) -> None:
        """List a file, unless it is listed, also by another process of the run.

        Raises:
            InputError: too large a share of the files is broken by now.
        """
        with self.path.open("a", encoding="utf-8") as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            if file.path not in {listed.path for listed in self.read()}:
                log.write(_line(file))
        self._check()

    def _check(self) -> None:
        broken = [file for file in self.read() if file.is_broken]
        if len(broken) > self.max_bad_share * self.num_files:
            raise InputError(
                f"data: {len(broken)} of {self.num_files} files cannot be read, more than data.max_bad_share="
                f"{self.max_bad_share:g} allows: remove them or raise it; {self.path} lists them, the first: "
                f"{broken[0].path}: {broken[0].reason}"
            )


def _line(file: BadFile) -> str:
    return json.dumps(asdict(file) | {"reason": _reason(file)}, ensure_ascii=False) + "\n"


def _reason(file: BadFile) -> str:
    """The reason without the path that messages begin with: a line has it beside."""
    rest = file.reason.removeprefix(file.path)
    return rest.removeprefix(":").lstrip() if rest.startswith((":", " ")) else file.reason
