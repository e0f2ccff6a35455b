"""The settings of each training stage."""

from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from t2v.training.config_sections import (
    AutoencoderSection,
    CaptionedConfig,
    ClipsConfig,
    DiffusionConfig,
    ImageModelSection,
    InterpolationModelSection,
    KnownClipsConfig,
    KnownNoiseConfig,
    OptimConfig,
    PairsValidationConfig,
    ReconstructionConfig,
    Section,
    StillsConfig,
    TemporalModelSection,
    ValidationConfig,
    VideoNoiseConfig,
    VideoValidationConfig,
)

Stage = Literal["autoencoder", "image", "temporal", "interpolation"]


class TrainConfig(BaseModel):
    """What every stage has; `max_seconds` makes a time-boxed run, whose schedules follow the clock."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    stage: ClassVar[Stage]
    samples_are: ClassVar[Literal["pictures", "clips"]]

    output_dir: str
    max_steps: int = Field(default=10_000, ge=1)
    max_seconds: float | None = Field(default=None, gt=0)  # over all resumes; the first limit ends the run
    save_every: int = Field(default=500, ge=1)  # steps
    keep_checkpoints: int = Field(default=2, ge=1)  # the newest; the best by validation loss stays too
    validate_every: int = Field(default=1000, ge=1)
    log_every: int = Field(default=20, ge=1)
    batch_size: int = Field(default=64, ge=1)  # samples of a process in one backward pass
    gradient_accumulation_steps: int = Field(default=1, ge=1)  # backward passes of an optimizer step
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    compile: bool = False
    init_from: str | None = None  # warm start: mini or a model folder whose weights the run starts with
    export_dtype: Literal["float32", "float16"] = "float32"
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ("tensorboard",)
    optim: OptimConfig = OptimConfig()


_KL_OPTIONS = tuple(("diffusion", name) for name in ("kl_weight", "kl_target", "kl_rate", "initial_logvar"))
_VQ_OPTIONS = (("model", "num_vq_embeddings"), ("diffusion", "commitment_weight"))


class AutoencoderTrainConfig(TrainConfig):
    """Settings of `t2v train autoencoder`."""

    stage: ClassVar[Stage] = "autoencoder"
    samples_are = "pictures"
    output_dir: str = "runs/autoencoder"
    data: StillsConfig = Field(default_factory=StillsConfig)
    model: AutoencoderSection = AutoencoderSection()
    diffusion: ReconstructionConfig = ReconstructionConfig()

    @model_validator(mode="after")
    def _losses_go_with_the_rest(self) -> Self:
        if self.compile and self.diffusion.adversarial_weight > 0:
            raise ValueError("compile does not go with diffusion.adversarial_weight: set compile=false")
        if self.mixed_precision == "fp16" and self.diffusion.adversarial_weight > 0:
            raise ValueError("fp16 is too coarse for diffusion.adversarial_weight: set mixed_precision to bf16 or no")
        if self.init_from is None and self.diffusion.decoder_only_fraction == 1:
            raise ValueError("diffusion.decoder_only_fraction 1 trains the decoder of a model: name it with init_from")
        return self

    @model_validator(mode="after")
    def _options_are_those_of_the_regularization(self) -> Self:
        kind = self.model.regularization
        for section, name in {"kl": _VQ_OPTIONS, "vq": _KL_OPTIONS}[kind]:
            part: Section = getattr(self, section)
            default = type(part).model_fields[name].default
            if getattr(part, name) != default:
                default = "null" if default is None else default
                raise ValueError(
                    f"{section}.{name} does not go with model.regularization {kind}: leave it at its default, {default}"
                )
        return self


class ImageTrainConfig(TrainConfig):
    """Settings of `t2v train image`."""

    stage: ClassVar[Stage] = "image"
    samples_are = "pictures"
    output_dir: str = "runs/image"
    data: CaptionedConfig = Field(default_factory=CaptionedConfig)
    model: ImageModelSection = ImageModelSection()
    diffusion: DiffusionConfig = DiffusionConfig()
    validation: ValidationConfig = ValidationConfig()


class TemporalTrainConfig(TrainConfig):
    """Settings of `t2v train temporal`."""

    stage: ClassVar[Stage] = "temporal"
    samples_are = "clips"
    output_dir: str = "runs/temporal"
    data: ClipsConfig = Field(default_factory=ClipsConfig)
    model: TemporalModelSection = TemporalModelSection()
    diffusion: VideoNoiseConfig = VideoNoiseConfig()
    validation: VideoValidationConfig = VideoValidationConfig()


class InterpolationTrainConfig(TrainConfig):
    """Settings of `t2v train interpolation`."""

    stage: ClassVar[Stage] = "interpolation"
    samples_are = "clips"
    output_dir: str = "runs/interpolation"
    data: KnownClipsConfig = Field(default_factory=KnownClipsConfig)
    model: InterpolationModelSection = InterpolationModelSection()
    diffusion: KnownNoiseConfig = KnownNoiseConfig()
    validation: PairsValidationConfig = PairsValidationConfig()


STAGES: dict[str, type[TrainConfig]] = {
    config.stage: config
    for config in (AutoencoderTrainConfig, ImageTrainConfig, TemporalTrainConfig, InterpolationTrainConfig)
}
