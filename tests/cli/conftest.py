import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def t2v_command(monkeypatch, capsys, tmp_path) -> Callable[..., Outcome]:
    """Run the command line in this process, in an empty folder."""
    from t2v.cli.main import main

    monkeypatch.chdir(tmp_path)
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "0")  # options set them: put back after the test

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["t2v", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as error:
            code = error.code or 0
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run
