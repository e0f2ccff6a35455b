"""The sections of the training configurations."""

import os
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from t2v.models.unet_config import NoisePriorKind

Beta = Annotated[float, Field(ge=0, lt=1)]
Fps = Annotated[float, Field(gt=0)]


def _usable_cores() -> int:
    """Those that this process may run on, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Section(BaseModel):
    """Part of a configuration: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# ---------------------------------------------------------------- optim


class OptimConfig(Section):
    """The optimizer, its learning rate over the run, and the moving average of the weights."""

    optimizer: Literal["adamw", "adamw_8bit", "muon"] = "adamw"  # adamw is the fused one
    muon_learning_rate: float = Field(default=1e-2, gt=0)  # of the weights that muon orthogonalises
    learning_rate: float = Field(default=1e-3, gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.99)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_steps: int = Field(default=200, ge=0)
    schedule: Literal["constant", "cosine", "trapezoid"] = "cosine"
    decay_fraction: float = Field(default=0.3, gt=0, le=1)  # of trapezoid: last share, in which the rate falls
    final_scale: float = Field(default=0.0, ge=0, le=1)  # of the learning rate, reached at the end
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    ema_decay: float | None = Field(default=0.999, gt=0, lt=1)


# ---------------------------------------------------------------- data


class DataConfig(Section):
    """What every stage says of its data."""

    path: str | None = None  # a folder of files, or a folder with a manifest; --data
    resolution: int = Field(default=128, ge=8)
    num_workers: int = Field(default=0, ge=0)
    num_validation: int = Field(default=64, ge=1)  # samples held back from training
    max_samples: int | None = Field(default=None, ge=1)  # use only so many


class StillsConfig(DataConfig):
    """Pictures without captions: the data of the autoencoder."""

    cache: Literal["memory", "device", "none"] = "memory"  # where the decoded uint8 pixels live; none: decode again
    max_cache_gb: float = Field(default=12.0, gt=0)  # above it, the cache is "none"
    crop_size: int | None = Field(default=None, ge=8)  # random crops of each image; null: the whole image


class CaptionedConfig(DataConfig):
    """Pictures with captions: the data of the image model."""

    cache_dir: str | None = None  # of latents; null: OUTPUT_DIR/cache
    cache_device: bool = False  # latents live on the training device
    latents: Literal["mode", "sample"] = "sample"
    encode_batch_size: int = Field(default=16, ge=1)
    caption_dropout: float = Field(default=0.1, ge=0, lt=1)  # share of samples that see the empty prompt


class ClipsConfig(DataConfig):
    """Videos: the data of the temporal layers; captions are optional."""

    num_workers: int = Field(default_factory=lambda: min(4, _usable_cores()), ge=0)
    decoder: Literal["pyav", "decord"] = "pyav"
    sequence_fps: float = Field(default=24.0, gt=0)  # of folders of pictures
    num_frames: int = Field(default=16, ge=2)
    fps_range: tuple[Fps, Fps] = (1.0, 30.0)  # clipped to what each file allows: frames are never duplicated
    curriculum_fraction: float = Field(default=0.5, ge=0, le=1)  # first share of the training: the lower bound falls
    random_crop: bool = False  # else the centre
    flip: bool = False  # half of the samples have left and right exchanged
    aspect_buckets: bool | tuple[tuple[int, int], ...] = False  # [width, height] of each; true: a standard set
    max_bad_share: float = Field(default=0.2, ge=0, le=1)  # of the files; more that cannot be read stop the run
    read_timeout: float = Field(default=120.0, gt=0)  # seconds that a video may take to open, or to give its frames
    cache_latents: bool = False  # encode every frame once, before the training; else those of each batch
    cache_dir: str | None = None  # of latents and indices; null: OUTPUT_DIR/cache
    cache_fps: float | None = Field(default=None, gt=0)  # frames kept a second in the cache; null: every frame
    latents: Literal["mode", "sample"] = "sample"
    encode_batch_size: int = Field(default=16, ge=1)  # frames that go through the autoencoder at once
    conditioning: Literal["null", "caption", "frame_embedding"] = "null"  # what the frozen text branch sees
    caption_dropout: float = Field(default=0.1, ge=0, lt=1)  # of caption: share of samples that see the empty prompt
    num_validation: int | None = Field(default=None, ge=0)  # type: ignore[assignment] # null: a tenth, at most 16

    @model_validator(mode="after")
    def _cache_is_fixed(self) -> Self:
        if self.cache_latents and (self.random_crop or self.flip):
            raise ValueError("cache_latents keeps one crop of each frame: set random_crop and flip to false")
        if self.cache_fps is not None and not self.cache_latents:
            raise ValueError("cache_fps needs cache_latents: true")
        if self.aspect_buckets == ():
            raise ValueError("aspect_buckets is empty: give sizes, true or false")
        return self

    @field_validator("fps_range")
    @classmethod
    def _rates_are_a_range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("the lower bound comes first")
        return value

    @field_validator("aspect_buckets", mode="wrap")
    @classmethod
    def _buckets_are_one_thing(cls, value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            raise ValueError("should be true, false or sizes, as in [[320, 192], [192, 320]]") from error

    @field_validator("conditioning", mode="before")
    @classmethod
    def _null_is_a_name(cls, value: Any) -> Any:
        return "null" if value is None else value


class MaskMix(Section):
    """How often which frames of a clip are known; the shares need not sum to 1."""

    strided: float = Field(default=0.30, ge=0)  # every s-th, s from 2 to 5: a higher frame rate
    endpoints: float = Field(default=0.25, ge=0)  # first and last: a pair of images
    first: float = Field(default=0.15, ge=0)  # 1 to 4 at the start: a still or a clip goes on
    last: float = Field(default=0.08, ge=0)  # 1 to 4 at the end
    both_ends: float = Field(default=0.07, ge=0)  # 2 to 4 at both ends: a gap in a clip
    scattered: float = Field(default=0.05, ge=0)  # 1 to 4 anywhere
    none: float = Field(default=0.10, ge=0)  # no frame: what guidance by frames starts from

    @model_validator(mode="after")
    def _is_a_mix(self) -> Self:
        if not sum(self.model_dump().values()) > 0:
            raise ValueError("all shares are zero")
        return self


class KnownClipsConfig(ClipsConfig):
    """Videos without captions of which some frames are known: the data of the interpolation network."""

    min_frames: int = Field(default=5, ge=5)  # a batch has from so many frames to num_frames
    uneven: float = Field(default=0.2, ge=0, le=1)  # share of the batches whose frames are unevenly spaced in time
    masks: MaskMix = MaskMix()

    @model_validator(mode="after")
    def _lengths_are_a_range(self) -> Self:
        if self.min_frames > self.num_frames:
            raise ValueError(f"min_frames {self.min_frames} is above num_frames {self.num_frames}")
        return self


# ---------------------------------------------------------------- model


class AutoencoderSection(Section):
    """Shape of a new autoencoder, in the words of its `config.json`."""

    block_out_channels: tuple[int, ...] = (32, 64, 128, 128)
    layers_per_block: int = Field(default=1, ge=1)
    latent_channels: int = Field(default=4, ge=1)
    norm_num_groups: int = Field(default=8, ge=1)
    mid_block_add_attention: bool = False
    regularization: Literal["kl", "vq"] = "kl"  # of the latents: AutoencoderKL, or VQModel, whose latents are quantised
    num_vq_embeddings: int = Field(default=8192, ge=2)  # of vq: entries of the codebook


class TextEncoderSection(Section):
    """Shape of a new text encoder and its tokenizer."""

    vocab_size: int = Field(default=4096, ge=600)
    max_length: int = Field(default=24, ge=4)
    hidden_size: int = Field(default=192, ge=8)
    num_layers: int = Field(default=3, ge=1)
    num_heads: int = Field(default=4, ge=1)


class UNetSection(Section):
    """Shape of a new image U-Net."""

    block_out_channels: tuple[int, ...] = (128, 192, 256)
    layers_per_block: int = Field(default=1, ge=1)
    cross_attention_levels: tuple[bool, ...] = (True, True, True)  # which levels have attention blocks
    num_attention_heads: int | tuple[int, ...] = 4
    norm_num_groups: int = Field(default=32, ge=1)


class ImageModelSection(Section):
    """The image model: what it is built on, and its new networks."""

    base: str | None = None  # folder with the trained autoencoder (vae/); --model
    text_encoder: TextEncoderSection = TextEncoderSection()
    unet: UNetSection = UNetSection()


class TemporalLayersSection(Section):
    """Which temporal layers are added: convolution and attention are the design of Make-A-Video (layout t2v); those of
    AnimateDiff's motion modules, attention alone, are what its family of tools loads (layout animatediff)."""

    layout: Literal["t2v", "animatediff"] = "t2v"
    conv: bool = True  # of t2v
    attention: bool = True
    fps: bool = True  # the network is told the frame rate; of t2v
    norm: Literal["clip", "frame"] = "clip"  # of animatediff: GroupNorm over all frames as in diffusers, or each frame

    @model_validator(mode="before")
    @classmethod
    def _animatediff_has_attention_alone(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("layout") == "animatediff":
            return {"conv": False, "fps": False, **values}
        return values

    @model_validator(mode="after")
    def _layers_are_those_of_the_layout(self) -> Self:
        if self.layout == "animatediff" and (self.conv or self.fps or not self.attention):
            raise ValueError("layout animatediff is attention alone, without fps: leave conv, attention and fps out")
        if self.layout == "t2v" and self.norm != "clip":
            raise ValueError("norm is an option of layout animatediff: leave it out")
        return self


class LoraSection(Section):
    """Low-rank adapters: on the spatial layers where `model.train` is lora, on the attention over frames where it is
    motion_lora."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=16.0, gt=0)  # the update is scaled by alpha / rank
    targets: tuple[str, ...] = Field(
        default=("to_q", "to_k", "to_v", "to_out.0"), min_length=1
    )  # ends of layers' names


class TemporalModelSection(Section):
    """The temporal layers, and the image model that they are added to."""

    base: str | None = None  # the text-to-image model folder; --model
    fps: float = Field(default=8.0, gt=0)  # frame rate that the model assumes when none is asked for
    # the temporal layers alone, with LoRA on the spatial ones, the whole U-Net, or LoRA on the given motion's attention
    train: Literal["temporal", "lora", "full", "motion_lora"] = "temporal"
    from_scratch: bool = False  # only the shape of the base's U-Net is taken, with train: full
    motion: str | None = None  # of motion_lora: folder or file of the motion that it adapts; null: the base's
    lora: LoraSection = LoraSection()
    temporal: TemporalLayersSection = TemporalLayersSection()
    num_attention_heads: int | None = None  # of the temporal attention; null: that of the base's levels
    attention_in_all_levels: bool = False  # temporal attention also where the base has no spatial attention
    gradient_checkpointing: bool = False

    @model_validator(mode="after")
    def _scratch_is_trained(self) -> Self:
        if self.from_scratch and self.train != "full":
            raise ValueError(f"from_scratch needs train: full, got {self.train}: the rest would stay untrained")
        return self

    @model_validator(mode="after")
    def _motion_lora_adapts_what_is_there(self) -> Self:
        if self.train != "motion_lora" and self.motion is not None:
            raise ValueError("motion is what motion_lora adapts: to train a motion further, set init_from")
        if self.train != "motion_lora":
            return self
        if self.temporal != TemporalLayersSection() or self.num_attention_heads or self.attention_in_all_levels:
            raise ValueError("motion_lora adds no layers to model.motion: leave temporal and all of attention out")
        if not set(self.lora.targets) <= {"to_q", "to_k", "to_v", "to_out.0"}:
            raise ValueError("lora.targets of motion_lora are of to_q, to_k, to_v and to_out.0")
        return self

    @model_validator(mode="after")
    def _animatediff_leaves_no_choice(self) -> Self:
        if self.temporal.layout == "animatediff" and self.num_attention_heads not in (None, 8):
            raise ValueError("num_attention_heads is 8 with temporal.layout animatediff: leave it out")
        if self.temporal.layout == "animatediff" and self.attention_in_all_levels:
            raise ValueError("temporal.layout animatediff is in all levels: leave attention_in_all_levels out")
        return self


class InterpolationModelSection(Section):
    """The temporal model that the interpolation network starts from."""

    base: str | None = None  # a text-to-video model folder; --model
    motion: str | None = None  # folder or file of temporal weights; null: the base's
    gradient_checkpointing: bool = False


# ---------------------------------------------------------------- diffusion


class ReconstructionConfig(Section):
    """Loss of the autoencoder: L1 + mse + edge + kl, and on demand LPIPS and a discriminator of patches, as for latent
    diffusion (arXiv 2112.10752). Pairs are (at the start, at the end). With model.regularization vq, no kl."""

    mse_weight: tuple[float, float] = (4.0, 0.0)
    mse_fraction: float = Field(default=0.3, gt=0, le=1)  # share of the training until the MSE weight ends
    edge_weight: tuple[float, float] = (0.5, 0.1)
    edge_scales: int = Field(default=1, ge=1)  # each half as large as the one before
    perceptual_weight: float = Field(default=1.0, gt=0)  # of LPIPS, where lpips_weights is set
    lpips_weights: str | None = None  # folder with the weights that `t2v evaluate weights` names alexnet and lpips_alex
    # of a discriminator of patches, on top of the adaptive weight; 0.5 in the paper; at 0, the three below do nothing
    adversarial_weight: float = Field(default=0.0, ge=0)
    adversarial_start: float = Field(default=0.5, ge=0, lt=1)  # share of the training without the discriminator
    discriminator_channels: int = Field(default=64, gt=0, multiple_of=8)
    discriminator_layers: int = Field(default=3, ge=1)  # of stride 2
    kl_weight: float = Field(default=1e-4, ge=0)  # per latent dimension
    kl_target: float | None = Field(default=None, gt=0)  # nats per dimension that kl_weight is steered to
    kl_rate: float = Field(default=0.01, gt=0)  # of the steering, per step
    initial_logvar: float = -5.0  # bias of the log variance in a new model
    commitment_weight: float = Field(default=0.25, ge=0)  # of vq: beta, of what draws latents to their entries
    # last share of the training: the encoder rests; 1: latents stay what they are, and what was trained on them fits
    decoder_only_fraction: float = Field(default=0.0, ge=0, le=1)


class WeightingConfig(Section):
    """How the diffusion loss weighs the noise levels."""

    weighting: Literal["none", "min_snr", "min_snr_plus_one"] = "min_snr_plus_one"
    snr_gamma: float = Field(default=5.0, gt=0)


class VideoNoiseConfig(WeightingConfig):
    """How clips are noised and the loss weighs the noise levels."""

    shared_noise: float = Field(default=0.0, ge=0, lt=1)  # correlation of the frames' noise, see NoisePrior
    noise_prior: NoisePriorKind = "mixed"  # all frames alike, or neighbours most

    @model_validator(mode="after")
    def _progressive_noise_is_shared(self) -> Self:
        if self.noise_prior == "progressive" and self.shared_noise == 0:
            raise ValueError("noise_prior progressive needs noise to share: set shared_noise above 0, or it to mixed")
        return self


class KnownNoiseConfig(WeightingConfig):
    """How clips with known frames are noised."""

    shared_noise: float | None = Field(default=None, ge=0, lt=1)  # null: that of the temporal model
    noise_prior: NoisePriorKind | None = None  # null: that of the temporal model
    known_noise: float = Field(default=0.05, ge=0, lt=1)  # largest standard deviation of noise in known frames

    @model_validator(mode="after")
    def _both_are_chosen(self) -> Self:
        if self.noise_prior is not None and not self.shared_noise:
            raise ValueError("noise_prior says how frames share their noise: set shared_noise above 0, too")
        return self


class DiffusionConfig(WeightingConfig):
    """Noise schedule and loss of the image model, in the words of `scheduler_config.json`."""

    num_train_timesteps: int = Field(default=1000, ge=1)
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "scaled_linear"
    prediction_type: Literal["epsilon", "v_prediction", "sample"] = "v_prediction"
    rescale_betas_zero_snr: bool = True
    timestep_spacing: Literal["leading", "trailing", "linspace"] = "trailing"


# ---------------------------------------------------------------- validation


class ValidationConfig(Section):
    """Pictures that are made along the way, to look at."""

    prompts: tuple[str, ...] = ()
    sampler: str = "ddim"
    num_inference_steps: int = Field(default=25, ge=1)
    guidance_scale: float = 4.0
    seed: int = 0


class VideoValidationConfig(ValidationConfig):
    """Videos that are made along the way, to look at."""

    guidance: Literal["video", "image"] = "video"  # which network says what the text changes
    fps: float = Field(default=8.0, gt=0)


class PairsValidationConfig(Section):
    """Held-back clips that are made again from their first and last frame along the way, to look at."""

    num_clips: int = Field(default=4, ge=0)
    sampler: str = "ddim"
    num_inference_steps: int = Field(default=25, ge=1)
    frame_guidance: float = Field(default=1.0, ge=0)
    seed: int = 0
