"""The folder of a run: config.yaml, metrics.jsonl, checkpoints/, samples/ and the exported model."""

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import t2v
from t2v.errors import InputError
from t2v.training.checkpoint import complete_checkpoints
from t2v.training.config import TrainConfig, dump_config

_PACKAGES = ("torch", "accelerate", "transformers", "safetensors", "av")


def git_commit() -> str:
    """The commit of the source tree this package runs from, "-dirty" when changed; "unknown" outside one."""
    try:
        command = ["git", "-C", str(Path(t2v.__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


class RunFolder:
    """Paths and small files of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.metrics = self.path / "metrics.jsonl"

    def find_checkpoint(self, resume: str | None) -> Path | None:
        """The checkpoint to go on from: `resume` is None (a new run), "auto" (the newest, if any) or a path.

        Raises:
            InputError: a new run where there already is one, or a path that is no checkpoint.
        """
        found = complete_checkpoints(self.checkpoints) if self.checkpoints.is_dir() else []
        if resume is None:
            if found:
                raise InputError(f"{self.path} already holds a run: continue it with --resume auto or set output_dir")
            return None
        if resume == "auto":
            return found[-1] if found else None
        if not Path(resume).is_dir():
            raise InputError(f"checkpoint: no folder {resume}; use --resume auto for the newest one")
        return Path(resume)

    def start(self, config: TrainConfig) -> None:
        """Make the folder and write what this run is."""
        try:
            self.samples.mkdir(parents=True, exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"output_dir {self.path} cannot be written ({error.strerror})") from error
        versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
        header = [
            f"# t2v train {config.stage}",
            f"# t2v {t2v.__version__}, git commit {git_commit()}",
            f"# python {platform.python_version()}, {versions}",
        ]
        write_text(self.path / "config.yaml", "\n".join(header) + "\n" + dump_config(config))

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


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
