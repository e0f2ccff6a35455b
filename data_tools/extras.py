"""Optional dependencies, each with the name of the extra that brings it."""

from importlib.util import find_spec

from t2v.errors import InputError


def need_curate() -> None:
    """InputError unless PySceneDetect and OpenCV are installed."""
    if find_spec("scenedetect") is None or find_spec("cv2") is None:
        raise InputError("this needs PySceneDetect and OpenCV: pip install 't2v[curate]'")
