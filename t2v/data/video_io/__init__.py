"""Reading and writing video: the only place that imports PyAV and decord."""

from t2v.data.video_io.audio import add_audio, can_hold_audio, can_stretch_audio
from t2v.data.video_io.encoding import CODECS, EncodeOptions, check_encoding
from t2v.data.video_io.index import FrameIndex, IndexedVideo
from t2v.data.video_io.info import VideoInfo
from t2v.data.video_io.location import ShardMember, VideoPath
from t2v.data.video_io.pictures import PICTURE_SUFFIXES, may_be_transparent, natural_key, read_picture
from t2v.data.video_io.pixel_format import bit_depth, has_alpha
from t2v.data.video_io.reading import DecoderName, UndecodableFrame, VideoReader, probe, read_frames
from t2v.data.video_io.sound import SOUND_RATE, read_sound
from t2v.data.video_io.writing import VIDEO_SUFFIXES, check_output, check_parent, check_rate, write_video

__all__ = [
    "CODECS",
    "PICTURE_SUFFIXES",
    "SOUND_RATE",
    "VIDEO_SUFFIXES",
    "DecoderName",
    "EncodeOptions",
    "FrameIndex",
    "IndexedVideo",
    "ShardMember",
    "UndecodableFrame",
    "VideoInfo",
    "VideoPath",
    "VideoReader",
    "add_audio",
    "bit_depth",
    "can_hold_audio",
    "can_stretch_audio",
    "check_encoding",
    "check_output",
    "check_parent",
    "check_rate",
    "has_alpha",
    "may_be_transparent",
    "natural_key",
    "probe",
    "read_frames",
    "read_picture",
    "read_sound",
    "write_video",
]
