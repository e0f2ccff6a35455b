"""The options that commands share, each with its one explanation."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

Manifest = Annotated[Path, typer.Argument(help="Manifest (.parquet), or the folder that holds manifest.parquet.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Manifest to write (.parquet).")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start again and replace the output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the results.")]


def _running(type_: Any, help_text: str, *names: str) -> Any:
    return Annotated[type_, typer.Option(*names, help=help_text, rich_help_panel="Running")]


_RUN_OPTIONS: dict[str, tuple[Any, Any]] = {
    "executor": (_running(str, "local (processes of this machine) or ray."), "local"),
    "workers": (_running(int, "Files at a time; 0: one per core."), 0),
    "time_limit": (_running(float, "Seconds after which a file has failed."), 3600.0),
    "memory_limit": (_running(float, "GiB of memory for one file."), 4.0),
    "rank": (_running(int, "In a job array: number of this job."), 0),
    "world_size": (_running(int, "In a job array: number of jobs; the last to finish writes the output."), 1),
    "address": (_running(str | None, "Of a Ray cluster; without it Ray starts on this machine."), None),
    "retry_failed": (_running(bool, "Try files again that failed in an earlier run.", "--retry-failed"), False),
    "overwrite": (Overwrite, False),
    "quiet": (Quiet, False),
}


def takes_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command whose last parameter is `options: RunOptions` an option for each of its fields instead."""

    @functools.wraps(command)
    def wrapper(**arguments: Any) -> None:
        from data_tools.runner import RunOptions

        options = RunOptions(**{name: arguments.pop(name) for name in _RUN_OPTIONS})
        options.check()
        command(**arguments, options=options)

    own = [parameter for name, parameter in inspect.signature(command).parameters.items() if name != "options"]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in _RUN_OPTIONS.items()
    ]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + shared
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper
