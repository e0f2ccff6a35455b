"""What a command tells a person while it works. Everything but results goes to stderr."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Reporter:
    """A progress bar with steps and seconds, and one-line notes; silent when quiet."""

    def __init__(self, quiet: bool) -> None:
        if quiet:
            os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # read when the hub client is imported
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._warned: set[str] = set()

    @contextmanager
    def stage(self, description: str) -> Iterator[None]:
        """Show a bar while the block runs, and warnings as one line each; the bar goes when the block ends."""
        columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        silent = not self.console.is_terminal
        bar = Progress(
            *columns,
            console=self.console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=silent,
            refresh_per_second=4,  # drawing takes processor time from the work
        )
        bar.add_task(description, total=None)
        with bar, self._warnings_as_notes():
            self._progress = bar
            yield
        self._progress = None

    @contextmanager
    def _warnings_as_notes(self) -> Iterator[None]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = lambda message, *_: self.warn(str(message))
            yield

    def warn(self, text: str) -> None:
        """Print one line of warning to stderr, once."""
        if text not in self._warned:
            self._warned.add(text)
            self.note(f"warning: {text}")

    def note(self, text: str) -> None:
        """Print one line to stderr."""
        self.console.print(" ".join(text.split()), markup=False)

    def step(self, completed: int, total: int) -> None:
        """Show that `completed` of `total` steps of the stage are done."""
        assert self._progress is not None, "a step belongs to a stage"
        self._progress.update(self._progress.task_ids[0], completed=completed, total=total)


def peak_memory() -> int:
    """The most main memory this process has held, in bytes."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
