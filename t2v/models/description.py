"""What a file of weights is that is no whole model: motion modules, LoRA."""

from pathlib import Path

from t2v.models.animatediff_files import is_animatediff, read_animatediff_config
from t2v.models.base import PICKLE_SUFFIXES, Header, load_header, weight_files
from t2v.models.detection import detect, foreign_family
from t2v.models.distilled import find_distilled
from t2v.models.inflate import load_motion_config
from t2v.models.lora_file import DOWN
from t2v.models.unet import MotionConfig

Facts = dict[str, str]


def describe_part(name: str) -> Facts | None:
    """Facts about a motion folder or file or a LoRA file, by name; None for what may be a whole model.

    Raises:
        InputError: the file is broken or a pickle.
    """
    facts, distilled = _describe(name), find_distilled([name])
    return facts if facts is None or distilled is None else {**facts, "distilled": f"by its name: {distilled.summary}"}


def _describe(name: str) -> Facts | None:
    path = Path(name)
    if path.is_dir():
        is_part = (path / "config.json").is_file() and not (path / "model_index.json").is_file()
        return _motion(path) if is_part else None
    if not path.is_file() or path.suffix in PICKLE_SUFFIXES:
        return None
    header = load_header(path)
    kind = detect(header.shapes)
    if kind in ("AnimateDiff", "motion"):
        return _motion(path)
    if kind in ("LoRA", "motion LoRA"):
        return _lora(kind, header)
    if kind == "other" and foreign_family(header.shapes) is None:
        return {"kind": "unknown weights", **_size(header)}
    return None


def _motion(path: Path) -> Facts:
    size = _size(*(load_header(file) for file in weight_files(path)))
    if not is_animatediff(path):
        config = MotionConfig.from_dict(load_motion_config(path))
        return {"kind": f"motion of t2v: {config.layers}", "trained on": f"{config.num_frames} frames", **size}
    modules = read_animatediff_config(path)
    widths = ", ".join(map(str, modules.block_out_channels))
    return {
        "kind": f"AnimateDiff {modules.version}, " + ("a MotionAdapter folder" if path.is_dir() else "a single file"),
        "trained on": f"{modules.num_frames} frames; table of positions for {modules.max_length}",
        "modules": f"{modules.layers_per_block} per level of {widths}" + (", one in the middle" * modules.mid_block),
        "scheduler": "linear betas from 0.00085 to 0.012, steps_offset 1, no clipping: set when it is used",
        **size,
    }


def _lora(kind: str, header: Header) -> Facts:
    ranks = {shape[0] for name, shape in header.shapes.items() if DOWN.fullmatch(name) and shape}
    count = sum(DOWN.fullmatch(name) is not None for name in header.shapes)
    text = sum("lora_te" in name or name.startswith("text_encoder.") for name in header.shapes if DOWN.fullmatch(name))
    return {
        "kind": kind,
        "rank": ", ".join(map(str, sorted(ranks))),
        "layers": f"{count - text} of the U-Net, {text} of the text encoder",
        **_size(header),
    }


def _size(*headers: Header) -> Facts:
    dtypes = ", ".join(sorted({dtype for header in headers for dtype in header.dtypes.values()}))
    num_tensors, num_parameters = (sum(counts) for counts in zip(*map(_counts, headers), strict=True))
    return {"parameters": f"{num_parameters:,}", "stored as": f"{num_tensors} tensors of {dtypes}"}


def _counts(header: Header) -> tuple[int, int]:
    return len(header.shapes), header.num_parameters
