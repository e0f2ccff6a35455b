import subprocess
import sys

import pytest

import t2v
from t2v.cli.main import COMMANDS

HEAVY = ("torch", "transformers", "diffusers", "av", "imageio", "accelerate", "pyarrow", "numpy")


def modules_after(statement, *arguments):
    """The heavy packages that a fresh interpreter has imported after a statement."""
    code = f"import sys\ntry:\n    {statement}\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
    code += f"print('LOADED', *[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.rsplit("LOADED", 1)[1].split()


def test_import_t2v_is_light():
    assert modules_after("import t2v; t2v.__version__; dir(t2v)") == []


def test_video_is_found_without_torch():
    assert "torch" not in modules_after("from t2v import Video")


@pytest.mark.parametrize(
    "arguments",
    [("--version",), ("--help",), *((name, "--help") for name in COMMANDS)],
    ids=" ".join,
)
def test_help_is_light(arguments):
    assert modules_after("from t2v.cli.main import main; main()", *arguments) == []


def test_lazy_names_are_listed_and_found():
    from t2v.pipelines import text_to_video, video

    assert t2v.load is text_to_video.load
    assert t2v.Video is video.Video
    assert t2v.TextToVideoPipeline is text_to_video.TextToVideoPipeline
    assert {"load", "Video", "TextToVideoPipeline", "InputError"} <= set(dir(t2v))


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = t2v.nothing
