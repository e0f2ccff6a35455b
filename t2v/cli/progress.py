"""What a command tells a person while it works. Everything goes to stderr; stdout is for results."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Reporter:
    """A progress bar with steps and seconds, and one-line notes; silent when quiet."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=False,
        )
        self._task: TaskID | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show progress, and warnings as one line each, until the block ends."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = lambda message, *_args, **_options: self.note(f"warning: {message}")  # type: ignore[assignment]
            with self._progress:
                yield

    def note(self, text: str) -> None:
        """Print one line."""
        self.console.print(" ".join(text.split()), markup=False)

    def result(self, line: str) -> None:
        """Print one line on stdout, above the progress bar."""
        self._progress.refresh()
        print(line, flush=True)

    def start(self, description: str, total: int | None = None) -> None:
        """Begin a stage of `total` steps, or of unknown length; the bar of the stage before is removed."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(description, total=total)

    def step(self, completed: int, total: int) -> None:
        """Show that `completed` of `total` steps of this stage are done."""
        assert self._task is not None
        self._progress.update(self._task, completed=completed, total=total)


def peak_memory() -> int:
    """The most main memory this process has held, in bytes."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
