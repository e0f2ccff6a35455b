"""What `t2v train` shows while it works: a progress bar on a terminal, lines elsewhere; one process of many speaks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from t2v.training.config import TrainConfig


def speaks() -> bool:
    """Whether this is the process that talks to people."""
    return int(os.environ.get("RANK", "0")) == 0


class Display:
    """Takes the trainer's reports; everything goes to stderr."""

    def __init__(self, config: "TrainConfig", bar: Progress, console: Console) -> None:
        self.config, self.bar, self.console = config, bar, console
        self.task = bar.add_task(config.stage, total=1.0, figures="")

    def on_step(self, global_step: int, progress: float) -> None:
        """Move the bar."""
        self.bar.update(self.task, completed=progress, description=f"{self.config.stage} step {global_step}")

    def on_log(self, values: dict[str, Any]) -> None:
        """Show new figures beside the bar, and all of them as a line."""
        if "loss" in values:
            self.bar.update(self.task, figures=summary(self.config.samples_are, values))
        numbers = [f"{key} {value:.5g}" for key, value in values.items() if isinstance(value, int | float)]
        self.on_note("  ".join(numbers))

    def on_note(self, text: str) -> None:
        """One line for a person."""
        self.console.print(text, markup=False)


def summary(samples_are: str, values: dict[str, Any]) -> str:
    """The figures of a log entry that a person watches."""
    rate = f"{values['samples_per_s']:.3g} {samples_are}/s"
    return f"loss {values['loss']:.4f}, {rate}, {values['data_wait']:.0%} data wait, {values['memory_gb']:.1f} GB"


@contextmanager
def display(config: "TrainConfig") -> Iterator[Display]:
    """A display that is open in the block."""
    console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=not speaks())
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    # drawing takes processor time from the work
    with Progress(*columns, console=console, disable=not console.is_terminal, refresh_per_second=2) as bar:
        yield Display(config, bar, console)
