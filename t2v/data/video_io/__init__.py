"""Reading and writing video: the only place that imports PyAV."""

from t2v.data.video_io.writing import VIDEO_SUFFIXES, EncodeOptions, check_output, write_video

__all__ = ["VIDEO_SUFFIXES", "EncodeOptions", "check_output", "write_video"]
