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


@pytest.mark.parametrize("command", [[], ["world"], ["world", "clips"], ["probe"], ["split"], ["run"]])
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["probe", "nowhere", "-o", "OUT/m.parquet"], "no such file or folder: nowhere"),
        (["probe", __file__, "-o", "OUT/m.csv"], "a manifest is a .parquet file"),
        (["probe", "OUT", "--rank", "3", "-o", "OUT/m.parquet"], "rank must be 0 to world size - 1"),
        (["split", "OUT/none.parquet", "-o", "OUT/m.parquet"], "manifest not found"),
        (["cut", "OUT/none.parquet", "--gop", "30", "-o", "OUT/m.parquet"], "gop must be 1 to 16"),
        (["filter", "OUT/none.parquet", "a > 1", "-o", "OUT/m.parquet"], "manifest not found"),
    ],
)
def test_curation_refuses_wrong_input_with_one_line_and_code_2(tmp_path, arguments, message):
    result = _run(*(argument.replace("OUT", str(tmp_path)) for argument in arguments))
    lines = result.stderr.splitlines()[:-1]
    assert result.returncode == 2 and len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ") and message in lines[0]
    assert not list(tmp_path.iterdir())
