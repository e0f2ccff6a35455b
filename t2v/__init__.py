"""t2v: a text-to-video extension toolkit after Make-A-Video (arXiv 2209.14792).

    pipe = t2v.load("mini")
    pipe("a cat jumping on the beach", seed=0).save("cat.mp4")

What is listed in `__all__` beyond the version is imported on first use, so `import t2v` stays free of torch.
"""

from typing import TYPE_CHECKING, Any

from t2v.errors import InputError

if TYPE_CHECKING:
    from t2v.pipelines.interpolation.diffusion import load_interpolation
    from t2v.pipelines.text_to_video import TextToVideoPipeline, load
    from t2v.pipelines.video import Video

__version__ = "0.1.0"
__all__ = ["InputError", "TextToVideoPipeline", "Video", "__version__", "load", "load_interpolation"]

_LAZY = {
    "TextToVideoPipeline": "t2v.pipelines.text_to_video",
    "Video": "t2v.pipelines.video",
    "load": "t2v.pipelines.text_to_video",
    "load_interpolation": "t2v.pipelines.interpolation.diffusion",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 't2v' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
