"""`t2v generate`: text to video."""

import json
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from t2v.cli import STARTED, options
from t2v.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from t2v.cli.outputs import Job
    from t2v.cli.progress import Reporter
    from t2v.pipelines.settings import GenerationOptions
    from t2v.pipelines.text_to_video import Callback, TextToVideoPipeline
    from t2v.pipelines.video import Video

app = typer.Typer(add_completion=False)

_MODEL_OPTIONS = ("motion", "motion_norm", "tokenizer", "loras")  # belong to a model: not kept with another
NUM_PREVIEWS = 6
PREVIEW_SIZE = 256  # pixels on the longer side, at most
MAX_FACTOR = 100  # of --interpolate
# what records from before these settings were made with
_OLDEST = {"guidance": "video", "motion_guidance": 1.0, "noise_prior": "mixed", "deflicker": 0.0}


@dataclass(frozen=True)
class _Source:
    """Where the networks come from and how they run; the last two are known when a video is made again."""

    model: str = "mini"
    motion: str | None = None
    motion_norm: str | None = None
    tokenizer: str | None = None
    loras: tuple[str, ...] = ()
    device: str = "auto"
    dtype: str = "auto"
    compile: bool = False
    offload: str = "none"
    threads: int | None = None  # of the CPU: another number may round differently
    weights_sha256: str | None = None


@dataclass(frozen=True)
class _Show:
    """What is written and printed besides the videos."""

    preview: bool
    as_json: bool
    overwrite: bool
    interpolate: int  # frames made of each one, by the interpolation network


@app.command()
def generate(
    prompt: options.Prompt = None,
    output: options.Output = None,
    model: options.Model = None,
    motion: options.Motion = None,
    motion_norm: options.MotionNorm = None,
    tokenizer: options.Tokenizer = None,
    lora: options.Lora = None,
    num_frames: options.NumFrames = None,
    fps: options.Fps = None,
    height: options.Height = None,
    width: options.Width = None,
    num_inference_steps: options.NumInferenceSteps = None,
    sampler: options.Sampler = None,
    timestep_spacing: options.TimestepSpacing = None,
    guidance: options.Guidance = None,
    guidance_scale: options.GuidanceScale = None,
    guidance_rescale: options.GuidanceRescale = None,
    motion_guidance: options.MotionGuidance = None,
    shared_noise: options.SharedNoise = None,
    noise_prior: options.NoisePrior = None,
    deflicker: options.Deflicker = None,
    negative_prompt: options.NegativePrompt = None,
    prompt_at: options.PromptAt = None,
    seed: options.Seed = None,
    num_videos: options.NumVideos = 1,
    prompts: options.Prompts = None,
    from_: options.From = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    compile: options.Compile = None,
    offload: options.Offload = None,
    max_vram: options.MaxVram = None,
    chunk_size: options.ChunkSize = None,
    tile_size: options.TileSize = None,
    attention_chunk_size: options.AttentionChunkSize = None,
    context_frames: options.ContextFrames = None,
    context_overlap: options.ContextOverlap = None,
    interpolate: options.Interpolate = None,
    preview: options.Preview = False,
    as_json: options.AsJson = False,
    offline: options.Offline = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a video from a sentence, as in: t2v generate "robot dancing in Times Square".

    The last line on stdout is the file written. The .json beside it says how it was made.
    """
    from t2v.cli.outputs import check_jobs, plan_jobs, read_sidecar, repeat_path
    from t2v.cli.progress import Reporter
    from t2v.cli.prompt_travel import read_prompt_at, split_first
    from t2v.pipelines.settings import GenerationSettings, check_seed

    record = read_sidecar(from_) if from_ is not None else {}
    prompt, travel = split_first(prompt, read_prompt_at(prompt_at or []))
    given = options.given(num_frames=num_frames, fps=fps, height=height, width=width)
    given |= options.given(chunk_size=chunk_size, tile_size=tile_size, attention_chunk_size=attention_chunk_size)
    given |= options.given(num_inference_steps=num_inference_steps, sampler=sampler, negative_prompt=negative_prompt)
    given |= options.given(guidance=guidance, guidance_scale=guidance_scale)
    given |= options.given(guidance_rescale=guidance_rescale, shared_noise=shared_noise, noise_prior=noise_prior)
    given |= options.given(motion_guidance=motion_guidance, timestep_spacing=timestep_spacing, deflicker=deflicker)
    given |= options.given(context_frames=context_frames, context_overlap=context_overlap) | travel
    networks = options.given(model=model, motion=motion, motion_norm=motion_norm, tokenizer=tokenizer)
    networks |= {"loras": tuple(lora)} if lora else {}
    settings = GenerationSettings.check_options({**_recorded_settings(record, networks), **given}, str(from_))
    texts = _prompts(prompt, prompts, record)
    seed = record.get("seed", 0) if seed is None else seed
    check_seed(seed, num_videos)
    if output is None and from_ is not None:
        output = repeat_path(from_, record)
    jobs = plan_jobs(texts, seed, num_videos, output)
    check_jobs(jobs, overwrite, preview)
    source = _source(record, networks | options.given(device=device, dtype=dtype, compile=compile, offload=offload))
    factor = record.get("interpolate", 1) if interpolate is None else interpolate
    _check_factor(factor, bool(settings.get("prompt_at")))
    reporter = Reporter(quiet)
    if max_vram is not None:
        source, settings = _fitted(source, settings, max_vram, offload, tuple(given), reporter)
    _run(jobs, source, settings, _Show(preview, as_json, overwrite, factor), reporter)


def _prompts(prompt: str | None, prompts_file: Path | None, record: dict[str, Any]) -> list[str]:
    """The texts to make videos of: the prompt, a file of prompts, or the recorded one."""
    from t2v.cli.outputs import read_prompts
    from t2v.pipelines.settings import check_prompt

    if prompt is not None and prompts_file is not None:
        raise InputError("give a prompt or --prompts FILE, not both")
    if prompts_file is not None:
        return read_prompts(prompts_file)
    text = record.get("prompt", "") if prompt is None else prompt
    check_prompt(text)
    return [text]


def _recorded_settings(record: dict[str, Any], networks: dict[str, Any]) -> dict[str, Any]:
    """The settings of a record, which are all there were; the noise goes with the motion it is of."""
    if "settings" not in record:
        return {}
    settings = {**_OLDEST, **record["settings"]}
    if networks.keys() & {"model", "motion"}:
        settings.pop("shared_noise", None)
        settings.pop("noise_prior")
    return settings


def _check_factor(factor: int, several_prompts: bool) -> None:
    """InputError where the interpolation network cannot do that."""
    if not 1 <= factor <= MAX_FACTOR:
        raise InputError(f"--interpolate must be a whole number from 1 to {MAX_FACTOR}, got {factor}")
    if factor > 1 and several_prompts:
        raise InputError(
            "--interpolate knows one prompt, --prompt-at gives several: use `t2v interpolate` on the video"
        )


def _source(record: dict[str, Any], given: dict[str, Any]) -> _Source:
    """The recorded source, changed by the options given; none of them leaves the exact repeat intact."""
    names = [field.name for field in fields(_Source)]
    recorded = {name: record[name] for name in names if name in record}
    if "model" in given:
        recorded = {name: value for name, value in recorded.items() if name not in _MODEL_OPTIONS}
    if given.keys() & {"model", "motion", "loras"}:
        recorded.pop("weights_sha256", None)
    return _Source(**{**recorded, **given})


def _fitted(
    source: _Source,
    settings: "GenerationOptions",
    max_vram: str,
    offload: str | None,
    given: tuple[str, ...],
    reporter: "Reporter",
) -> "tuple[_Source, GenerationOptions]":
    """Source and settings with which the video fits into `max_vram`; what was given stays."""
    from t2v.pipelines.text_to_video import plan_model

    offload = "none" if source.compile and offload is None else offload  # compiled weights stay where they are
    named = source.model, max_vram, offload, source.device, source.dtype, source.motion
    plan = plan_model(*named, settings, given)
    reporter.note(f"--max-vram {max_vram}: {plan}")
    return replace(source, offload=plan.offload), {**settings, **plan.options}


def _run(jobs: "list[Job]", source: _Source, settings: "GenerationOptions", show: _Show, reporter: "Reporter") -> None:
    """Load the model once and make every video."""
    from t2v.cli.progress import peak_memory
    from t2v.data.video_io import check_rate

    if show.interpolate > 1:
        from t2v.pipelines.interpolation.diffusion import find_interpolation

        find_interpolation(source.model, None)
    pipe, seconds = _load(source, settings, reporter)
    check_rate(jobs[0].path, settings.get("fps", pipe.defaults.fps) * show.interpolate)
    started = STARTED
    for index, job in enumerate(jobs):
        count = f" ({index + 1}/{len(jobs)})" if len(jobs) > 1 else ""
        with reporter.stage(f"{job.prompt[:40]}{count}"):
            video = pipe(job.prompt, seed=job.seed, callback=_follow(job, reporter, show), **settings)
            if show.interpolate > 1:
                video = _multiplied(video, pipe, show.interpolate, reporter)
            seconds |= {**video.metadata["seconds"], "encode": _write(job, video, show)}
        seconds |= {"total": time.perf_counter() - started}
        result = {"path": str(job.path), **video.metadata, "seconds": seconds, "peak_memory_bytes": peak_memory()}
        reporter.note(_summary(result, video))
        print(json.dumps(result, ensure_ascii=False) if show.as_json else job.path, flush=True)
        started, seconds = time.perf_counter(), {}


def _load(
    source: _Source, settings: "GenerationOptions", reporter: "Reporter"
) -> "tuple[TextToVideoPipeline, dict[str, float]]":
    """The pipeline, and the seconds that imports and loading took."""
    with reporter.stage(f"loading {source.model}"):
        import torch

        from t2v.diffusion.sampling import check_sampler
        from t2v.pipelines.text_to_video import load

        imported = time.perf_counter()
        if "sampler" in settings:
            check_sampler(settings["sampler"])
        if source.threads is not None:
            torch.set_num_threads(source.threads)
        networks = (source.motion, source.tokenizer, source.loras, source.motion_norm)
        compile, offload = source.compile, source.offload
        pipe = load(source.model, source.device, source.dtype, *networks, compile=compile, offload=offload)
        for note in pipe.components.notes:
            reporter.note(note)
        if source.weights_sha256 not in (None, pipe.weights_sha256):
            reporter.warn(f"the weights of {source.model} are not the recorded ones: the video will differ")
    return pipe, {"import": imported - STARTED, "load": time.perf_counter() - imported}


def _multiplied(video: "Video", pipe: "TextToVideoPipeline", factor: int, reporter: "Reporter") -> "Video":
    """The video with (F - 1) * factor + 1 frames; those it had stay as they are."""
    from t2v.pipelines.interpolation.diffusion import DiffusionFill, FillSettings, find_interpolation
    from t2v.pipelines.interpolation.rate import multiply
    from t2v.pipelines.video import Video

    started, made = time.perf_counter(), video.metadata
    settings = FillSettings(prompt=made["prompt"], seed=made["seed"], scale=1.0)
    fill = DiffusionFill(pipe.components, find_interpolation(pipe.components.name, None), settings, pipe.placement)
    frames = multiply(video.frames, factor, fill, video.fps, reporter.step)
    seconds = {**made["seconds"], "interpolate": time.perf_counter() - started}
    return Video(frames, video.fps * factor, {**made, "interpolate": factor, "seconds": seconds})


def _follow(job: "Job", reporter: "Reporter", show: _Show) -> "Callback":
    """A callback that moves the progress bar and, if wanted, writes the preview every few steps."""

    def callback(step_index: int, num_steps: int, estimate: "Callable[[], Video]", /) -> None:
        reporter.step(step_index + 1, num_steps)
        if show.preview and (step_index + 1) % max(1, num_steps // NUM_PREVIEWS) == 0:
            job.make_folder()
            estimate().thumbnail(PREVIEW_SIZE).save(job.preview, overwrite=True)

    return callback


def _write(job: "Job", video: "Video", show: _Show) -> float:
    """Write the video and its record; returns the seconds that took."""
    from t2v.cli.outputs import write_sidecar

    started = time.perf_counter()
    job.make_folder()
    video.save(job.path, overwrite=show.overwrite)
    write_sidecar(job.sidecar, {"file": job.path.name, **video.metadata})
    return time.perf_counter() - started


def _summary(result: dict[str, Any], video: "Video") -> str:
    from t2v.pipelines.memory import format_bytes

    split = ", ".join(f"{name} {seconds:.1f}" for name, seconds in result["seconds"].items() if name != "total")
    num_frames, height, width, _ = video.frames.shape
    return (
        f"{num_frames} frames, {width}x{height}, {video.fps:g} fps in {result['seconds']['total']:.1f} s ({split}); "
        f"peak memory {format_bytes(result['peak_memory_bytes'])}"
    )
