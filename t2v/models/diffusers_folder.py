"""A model with its motion as a folder of diffusers: AnimateDiffPipeline, if the motion has AnimateDiff's layout."""

import shutil
from dataclasses import replace
from pathlib import Path

from transformers import CLIPTokenizerFast

from t2v.models.animatediff import fitting_weights
from t2v.models.animatediff_files import read_animatediff, read_facts, save_adapter
from t2v.models.base import save_json
from t2v.models.checkpoint import Checkpoint, write_folder
from t2v.models.lora import LORA_FILE
from t2v.models.motion import MotionSource
from t2v.models.motion_module import AnimateDiffConfig
from t2v.models.unet import VideoUNetConfig

ADAPTER = "motion_adapter"  # the folder of the motion in it
OURS = ("interpolation", "generation_config.json", "vocabulary.json")  # of a model folder, for this program alone


def write_animatediff_folder(
    checkpoint: Checkpoint, folder: Path, tokenizer: CLIPTokenizerFast, motion: MotionSource
) -> None:
    """Write a folder that diffusers opens as AnimateDiffPipeline, with the scheduler that its motion needs.

    Raises:
        InputError: the motion does not fit the model.
    """
    config = motion.config
    assert isinstance(config, AnimateDiffConfig), "other motion has no place there"
    fitting_weights(VideoUNetConfig.from_dict(checkpoint.parts["unet"].config), config, motion.path)
    checkpoint = replace(checkpoint, scheduler=motion.scheduler(checkpoint.scheduler))
    write_folder(checkpoint, folder, tokenizer)
    save_adapter(folder / ADAPTER, config, read_animatediff(motion.path), read_facts(motion.path))
    if motion.lora is not None:
        shutil.copyfile(motion.lora, folder / ADAPTER / LORA_FILE)
    index = {name: value for name, value in checkpoint.index().items() if "safety_checker" not in name}
    index |= {"_class_name": "AnimateDiffPipeline", ADAPTER: ["diffusers", "MotionAdapter"]}
    save_json(folder / "model_index.json", index)


def what_is_lost(source: Path, motion: MotionSource | None) -> list[str]:
    """What a folder of diffusers does not hold of a model folder or single file and its motion, a line each."""
    lines = []
    if motion is not None and isinstance(motion.config, AnimateDiffConfig):
        lines += _lost_of_modules(motion, motion.config)
    elif motion is not None:
        what = f"diffusers has nothing like {motion.path}, {motion.config.layers} of t2v"
        lines.append(f"only the image model was written: {what}, which stays as it is, for --motion")
    ours = [name for name in OURS if (source / name).exists()]
    return lines + ([f"left out, being for t2v alone: {', '.join(ours)}"] if ours else [])


def _lost_of_modules(motion: MotionSource, config: AnimateDiffConfig) -> list[str]:
    lines = []
    if not config.norm_over_frames:
        lines.append("diffusers normalises over all frames, these modules were trained with each frame's own norm")
    if config.shared_noise:
        share = f"{config.shared_noise:g} ({config.noise_prior})"
        lines.append(f"diffusers draws each frame's noise alone, the modules were trained to share {share}")
    if motion.lora is not None:
        lines.append(f"the motion has a LoRA of spatial layers: in diffusers, load_lora_weights(FOLDER/{ADAPTER})")
    return lines
