"""For tests: a few videos laid out as UCF-101 and MSR-VTT are, and generated ones for their prompts."""

import json
from pathlib import Path

from t2v.data.video_io import write_video
from tests.evaluation.moving_texture import moving_texture

CLASSES = {"ApplyEyeMakeup": 3, "YoYo": 1}


def write_ucf101(root: Path, num_frames: int = 12) -> Path:
    """The last video of each class is in no list."""
    lines, index = [], 0
    for name, count in CLASSES.items():
        (root / "UCF-101" / name).mkdir(parents=True)
        for clip in range(1, count + 2):
            path = root / "UCF-101" / name / f"v_{name}_g01_c{clip:02}.avi"
            target = path.with_suffix(".mkv")  # written losslessly; the reader goes by content
            write_video(target, moving_texture(40 + index, num_frames), 25)
            target.rename(path)
            index += 1
            if clip <= count:
                lines.append(f"{name}/{path.name} {len(lines)}")
    (root / "ucfTrainTestlist").mkdir()
    (root / "ucfTrainTestlist" / "trainlist01.txt").write_text("\r\n".join(lines) + "\r\n")
    return root


def write_msrvtt(root: Path) -> Path:
    (root / "TestVideo").mkdir(parents=True)
    videos, sentences = [], []
    for number, split in ((7010, "test"), (7011, "test"), (20, "train")):
        write_video(root / "TestVideo" / f"video{number}.mp4", moving_texture(number % 50), 25)
        videos.append({"video_id": f"video{number}", "split": split})
        for caption in (f"a man  talks {number}", "a person is cooking"):
            sentences.append({"video_id": f"video{number}", "caption": caption})
    (root / "test_videodatainfo.json").write_text(json.dumps({"videos": videos, "sentences": sentences}))
    (root / "other.json").write_text("[]")
    return root


def write_generated(folder: Path, prompts: list[str], num_videos: int, suffix: str = ".mp4") -> Path:
    """As `t2v generate --num-videos` writes them; later seeds first in the order of names."""
    folder.mkdir()
    for number, prompt in enumerate(prompts):
        for seed in range(num_videos):
            path = folder / f"{number}-{num_videos - seed}{suffix}"
            write_video(path, moving_texture(10 * number + seed), 8)
            path.with_suffix(".json").write_text(json.dumps({"prompt": prompt, "seed": seed}))
    return folder
