"""A run folder: config.yaml, run.json, run.lock, metrics.jsonl, checkpoints/, samples/, logs/ exported model."""

import errno
import fcntl
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError

import t2v
from t2v.data.manifest import MANIFEST_NAME
from t2v.errors import InputError
from t2v.training.checkpoint import clean_up, complete_checkpoints, newest_sound_checkpoint
from t2v.training.config import TrainConfig
from t2v.training.config_files import dump_config

_PACKAGES = ("torch", "accelerate", "transformers", "safetensors", "av")
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP}  # of file systems that have none


def git_commit() -> str:
    """The commit of the source tree this package runs from, "-dirty" when changed; "unknown" outside one."""
    try:
        command = ["git", "-C", str(Path(t2v.__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def versions() -> dict[str, str]:
    """The versions of everything that a run's numbers depend on."""
    packages = {name: version(name) for name in _PACKAGES}
    return {"t2v": t2v.__version__, "git_commit": git_commit(), "python": platform.python_version(), **packages}


def data_fingerprint(path: str | None) -> dict[str, Any]:
    """What identifies a data set: SHA-256 of its manifest, or of the names and sizes of the files below it."""
    if path is None:
        return {"path": None, "sha256": None}
    root = Path(path)
    manifest = root / MANIFEST_NAME if root.is_dir() else root
    digest = hashlib.sha256()
    if manifest.suffix in (".parquet", ".jsonl") and manifest.is_file():
        digest.update(manifest.read_bytes())
    else:
        for file in sorted(file for file in (root, *root.rglob("*")) if file.is_file()):
            digest.update(f"{file.relative_to(root)}\0{file.stat().st_size}\0".encode())
    return {"path": path, "sha256": digest.hexdigest()}


class RunFolder:
    """Paths and small files of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.logs = self.path / "logs"
        self.metrics = self.path / "metrics.jsonl"
        self._lock: IO[str] | None = None

    def lock(self) -> None:
        """Keep other processes out of the folder, until `close` or the end of this one.

        Raises:
            InputError: another process trains here, or the folder cannot be written.
        """
        with self._writable():
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / "run.lock", "w")  # noqa: SIM115 - held beyond this call
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise InputError(f"another process trains in {self.path}: end it first, or set output_dir") from error

    def close(self) -> None:
        """Let other processes train here."""
        if self._lock is not None:
            self._lock.close()

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"output_dir {self.path} cannot be written ({error.strerror})") from error

    def clean_up(self) -> None:
        """Clear away what a killed run left half-written."""
        clean_up(self.path, self.checkpoints)

    def find_checkpoint(self, resume: str | None, note: Callable[[str], None] = lambda text: None) -> Path | None:
        """The checkpoint to go on from: `resume` is None (a new run), "auto" (the newest sound one, if any) or a path.

        Raises:
            InputError: a new run where there already is one, a path that is no checkpoint, or one of this run that is
                not its newest.
        """
        found = complete_checkpoints(self.checkpoints)
        if resume is None:
            if found:
                raise InputError(f"{self.path} already holds a run: continue it with --resume auto or set output_dir")
            return None
        if resume == "auto":
            return newest_sound_checkpoint(self.checkpoints, note)
        path = Path(resume)
        if not path.is_dir():
            raise InputError(f"checkpoint: no folder {resume}; use --resume auto for the newest one")
        if path.resolve() in {other.resolve() for other in found[:-1]}:
            raise InputError(
                f"checkpoint: {self.path} has a newer one, {found[-1].name}; set another output_dir to branch off"
            )
        return path

    def start(self, config: TrainConfig) -> None:
        """Make the folder and write what this run is."""
        with self._writable():
            self.samples.mkdir(parents=True, exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
        header = f"# t2v train {config.stage}\n# {', '.join(f'{name} {value}' for name, value in versions().items())}\n"
        write_text(self.path / "config.yaml", header + dump_config(config))

    def record(self, values: dict[str, Any]) -> None:
        """Append how this start of the run was made to run.json, a list with an entry for each start."""
        path = self.path / "run.json"
        starts = json.loads(path.read_text()) if path.exists() else []
        write_text(path, json.dumps([*starts, {**versions(), **values}], indent=1) + "\n")

    def forget_metrics_after(self, global_step: int) -> None:
        """Drop the lines of metrics.jsonl that a resumed run is about to write again."""
        if self.metrics.exists():
            lines = self.metrics.read_text().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["global_step"] <= global_step]
            write_text(self.metrics, "".join(kept))

    def log(self, values: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with open(self.metrics, "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """A full disk ends the block with an InputError that names the last good checkpoint."""
        try:
            yield
        except (OSError, SafetensorError) as error:
            if _error_number(error) not in _DISK_FULL:
                raise
            last = [path.name for path in complete_checkpoints(self.checkpoints)[-1:]]
            state = f"the last good checkpoint, {last[0]}, is intact" if last else "no checkpoint was written yet"
            raise InputError(f"no space left for {self.path}; {state}: free space, then --resume auto") from error


def _error_number(error: OSError | SafetensorError) -> int | None:
    """The errno; safetensors has it in its message alone, as "... (os error 28)"."""
    if isinstance(error, OSError):
        return error.errno
    number = str(error).rpartition("os error ")[2].rstrip(")")
    return int(number) if number.isdigit() else None


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
