"""The options that commands share, each with its one explanation."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from t2v.pipelines.settings import GenerationOptions

_MODEL_DEFAULT = "[default: the model's]"


def _go_offline(value: bool) -> bool:
    if value:
        os.environ["HF_HUB_OFFLINE"] = "1"
    return value


Prompt = Annotated[str | None, typer.Argument(help="What the video shows.", show_default=False)]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="File to write: .mp4, .webm, .gif, .webp, or a name without extension for a folder of PNGs. "
        "[default: outputs/PROMPT-SEED.mp4]",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="mini, a Stable Diffusion or ModelScope folder, a single .safetensors file, or a hub id. [default: mini]"
    ),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(help="For a single file, which has none: a tokenizer/ or model folder, or a hub id."),
]
Motion = Annotated[
    str | None,
    typer.Option(
        help="Folder or file of temporal weights or AnimateDiff modules, or a hub id. [default: the model's motion/]"
    ),
]
MotionNorm = Annotated[
    str | None,
    typer.Option(
        help="AnimateDiff's GroupNorm over: clip (as diffusers) or frame (as AnimateDiff). [default: the file's]"
    ),
]
Lora = Annotated[
    list[str] | None,
    typer.Option(help="LoRA to merge, FILE or FILE:WEIGHT as in style.safetensors:0.8; may be given several times."),
]
NumFrames = Annotated[int | None, typer.Option(help=f"Frames of the video. {_MODEL_DEFAULT}")]
Fps = Annotated[float | None, typer.Option(help=f"Frames per second. {_MODEL_DEFAULT}")]
Height = Annotated[int | None, typer.Option(help=f"Pixels. {_MODEL_DEFAULT}")]
Width = Annotated[int | None, typer.Option(help=f"Pixels. {_MODEL_DEFAULT}")]
NumInferenceSteps = Annotated[int | None, typer.Option(help=f"Denoising steps. {_MODEL_DEFAULT}")]
Sampler = Annotated[
    str | None, typer.Option(help=f"ddpm, ddim, euler, heun, dpmpp_2m, dpmpp_2m_karras, lcm. {_MODEL_DEFAULT}")
]
TimestepSpacing = Annotated[
    str | None,
    typer.Option(help="Which timesteps the steps visit: leading, trailing, linspace. [default: the scheduler's]"),
]
Guidance = Annotated[
    str | None,
    typer.Option(
        help="Which network says what the text changes: video, the whole one, or image, the image model frame by "
        f"frame, for temporal layers that learned without text. {_MODEL_DEFAULT}"
    ),
]
GuidanceScale = Annotated[
    float | None, typer.Option(help=f"How closely to follow the text; 1 is without guidance. {_MODEL_DEFAULT}")
]
GuidanceRescale = Annotated[
    float | None, typer.Option(help="0 to 1: takes back the contrast that guidance adds. [default: 0]")
]
MotionGuidance = Annotated[
    float | None,
    typer.Option(
        help=f"With --guidance image, how closely to follow the temporal layers; 1 is as they learned. {_MODEL_DEFAULT}"
    ),
]
Deflicker = Annotated[
    float | None,
    typer.Option(
        help=f"Average over time what changes by less than about this, in latents; 0 is off, 0.1 mild. {_MODEL_DEFAULT}"
    ),
]
SharedNoise = Annotated[
    float | None,
    typer.Option(
        help="How much the noise of frames correlates, 0 to below 1: more is steadier and moves less. "
        "[default: the motion's]"
    ),
]
NoisePrior = Annotated[
    str | None,
    typer.Option(
        help="Which frames share their noise: mixed, all of them alike, or progressive, neighbours most. "
        "[default: the motion's]"
    ),
]
PromptAt = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FRAME:PROMPT",
        help="Prompt from that frame on, blended in from the one before; may be given several times.",
    ),
]
NegativePrompt = Annotated[str | None, typer.Option(help="What the video should not show.")]
Seed = Annotated[int | None, typer.Option(help="One seed, one video; video i of several uses seed + i. [default: 0]")]
NumVideos = Annotated[int, typer.Option(help="Videos for each prompt, each with its own seed.")]
Prompts = Annotated[Path | None, typer.Option(help="Text file with one prompt a line.")]
From = Annotated[
    Path | None,
    typer.Option("--from", help="The .json beside a video: make that video again; other options change it."),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps. [default: auto]")]
Dtype = Annotated[str | None, typer.Option(help="auto, fp32, fp16, bf16. [default: auto]")]
Compile = Annotated[
    bool | None,
    typer.Option("--compile/--no-compile", help="Let torch compile the network: minutes at first, then faster steps."),
]
Offload = Annotated[
    str | None,
    typer.Option(
        help="Weights that wait in main memory until they are used: none, model (all but one network), sequential "
        "(all but one block of layers: least memory, slow). [default: none]"
    ),
]
MaxVram = Annotated[
    str | None,
    typer.Option(
        help="Memory to do with, as in 8GB: picks --offload, --chunk-size, --attention-chunk-size and --tile-size, "
        "unless they are given."
    ),
]
ChunkSize = Annotated[
    int | None,
    typer.Option(help="Frames decoded at once (VAE slicing): fewer take less memory. [default: 8]"),
]
TileSize = Annotated[
    int | None,
    typer.Option(
        help="Decode frames in tiles of so many pixels (VAE tiling): less memory, a slightly other picture. "
        "[default: 512 for frames of more than 768]"
    ),
]
AttentionChunkSize = Annotated[
    int | None,
    typer.Option(help="Frames that attention layers work on at once: fewer take less memory. [default: all]"),
]
ContextFrames = Annotated[
    int | None,
    typer.Option(help=f"Denoise longer videos in overlapping windows of so many frames. {_MODEL_DEFAULT}"),
]
ContextOverlap = Annotated[int | None, typer.Option(help="Frames that neighbouring windows share. [default: 4]")]
Interpolate = Annotated[
    int | None,
    typer.Option(help="So many times the frame rate, by the model's interpolation/: 5 makes 76 frames of 16."),
]
Offline = Annotated[
    bool,
    typer.Option("--offline", callback=_go_offline, help="Take what hub ids name from the local cache, or not at all."),
]
Preview = Annotated[
    bool, typer.Option("--preview/--no-preview", help="Write OUTPUT.preview.webp while the picture forms.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the results.")]


def given(**values: Any) -> dict[str, Any]:
    """The options that were given a value."""
    return {name: value for name, value in values.items() if value is not None}


def sampling(context: typer.Context) -> "GenerationOptions":
    """The settings of samples among a command's options that were given a value, checked.

    Raises:
        InputError: one of them is out of range.
    """
    from t2v.pipelines.settings import GenerationOptions, GenerationSettings

    settings = {name: value for name, value in context.params.items() if name in GenerationOptions.__annotations__}
    return GenerationSettings.check_options(given(**settings), "the command line")
