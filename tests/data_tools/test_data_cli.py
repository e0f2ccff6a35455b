import subprocess
import sys

import pytest


def _run(*arguments):
    code = (
        "import sys; from data_tools.cli import main\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules, 'numpy' in sys.modules, file=sys.stderr)"
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("command", [[], ["world"], ["world", "clips"]])
def test_help_imports_no_heavy_library(command):
    result = _run(*command, "--help")
    assert result.returncode == 0 and "Usage" in result.stdout
    assert result.stderr.endswith("False False\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num", "0"], "num must be at least 1"),
        (["--font", "/nowhere.ttf"], "fonts-noto-color-emoji"),
        (["--preset", "tiny"], "small, large"),
    ],
)
def test_wrong_input_ends_with_one_line_and_code_2(tmp_path, arguments, message):
    result = _run("world", "images", "-o", str(tmp_path / "out"), *arguments)
    lines = result.stderr.splitlines()[:-1]
    assert result.returncode == 2 and len(lines) == 1
    assert lines[0].startswith("error: ") and message in lines[0]
    assert not list(tmp_path.iterdir())
