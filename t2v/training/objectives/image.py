"""Stage 2: text to image on captioned stills; U-Net and text encoder learn together, the autoencoder is frozen."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from t2v.data.holding_back import hold_back
from t2v.data.stills import Still, find_stills, read_stills
from t2v.data.transforms import to_pixels
from t2v.diffusion.guidance import batched_guidance
from t2v.diffusion.sampling import check_sampler, sample
from t2v.diffusion.schedule import NoiseSchedule
from t2v.errors import InputError
from t2v.models.autoencoder_classes import load_autoencoder
from t2v.models.folder import find_model, save_model_folder
from t2v.models.text_encoder import TextEncoder, new_text_encoder, split_words, train_tokenizer
from t2v.models.unet import VideoUNet, VideoUNetConfig
from t2v.training.config import ImageTrainConfig
from t2v.training.config_sections import DiffusionConfig, UNetSection
from t2v.training.latent_cache import (
    LatentMoments,
    cache_key,
    cached,
    encode_pictures,
    in_batches,
    make_cache_folder,
    note_tenths,
)
from t2v.training.objectives.base import Batch, Context
from t2v.training.objectives.denoising import PRECISIONS, WeightedLoss
from t2v.training.randomness import integers, normal, sample_keys, uniform
from t2v.training.sampler import Position
from t2v.training.validation import label_pictures, picture_grid, save_picture


class TextToImage(nn.Module):
    """Text encoder and U-Net as one network."""

    def __init__(self, unet: VideoUNet, text_encoder: TextEncoder) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(self, noisy_latents: Tensor, timesteps: Tensor, input_ids: Tensor) -> Tensor:
        """Prediction for noisy latents (B, C, h, w), timesteps (B,) or () and tokens (B, L)."""
        return self.unet(noisy_latents, timesteps, self.text_encoder(input_ids))


class SampleBatches:
    """Batches that say only which samples they are; the data itself waits in the objective."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: Position) -> Batch:
        return self.__getitems__([position])

    def __getitems__(self, positions: list[Position]) -> Batch:
        return {
            "indices": torch.tensor([position.sample for position in positions]),
            "epochs": torch.tensor([position.epoch for position in positions]),
        }


def unet_config(section: UNetSection, latent_channels: int, sample_size: int, text_size: int) -> VideoUNetConfig:
    """The public U-Net configuration of a `model.unet` section."""
    levels = section.cross_attention_levels
    if len(levels) != len(section.block_out_channels):
        raise InputError(
            f"config: model.unet.cross_attention_levels has {len(levels)} entries, block_out_channels has "
            f"{len(section.block_out_channels)}"
        )
    down = tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in levels)
    up = tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(levels))
    return VideoUNetConfig(
        sample_size=sample_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        down_block_types=down,
        up_block_types=up,
        block_out_channels=section.block_out_channels,
        layers_per_block=section.layers_per_block,
        norm_num_groups=section.norm_num_groups,
        cross_attention_dim=text_size,
        attention_head_dim=section.num_attention_heads,
    )


def new_schedule(config: DiffusionConfig) -> NoiseSchedule:
    """The noise schedule of a `diffusion` section."""
    return NoiseSchedule.from_config({**config.model_dump(), "set_alpha_to_one": False, "clip_sample": False})


def vocabulary(captions: Iterable[str]) -> list[str]:
    """All words of the captions in lower case, sorted."""
    return sorted({word for caption in captions for word in split_words(caption)})


class ImageObjective:
    """Denoising of still pictures' latents under their captions."""

    def __init__(self, config: ImageTrainConfig, context: Context) -> None:
        self.config, self.device = config, context.device
        check_sampler(config.validation.sampler)
        if config.model.base is None:
            raise InputError("model.base is not set: give the folder of the autoencoder's vae/ by --model")
        self.base = find_model(config.model.base)
        self.autoencoder = load_autoencoder(self.base / "vae").to(context.device).requires_grad_(False)
        self.schedule = new_schedule(config.diffusion)
        self.loss_of = WeightedLoss(self.schedule, config.diffusion, context.device)

        stills = self._stills()
        captions = [still.caption for still in stills if still.caption is not None]
        if len(captions) < len(stills):
            raise InputError(f"data: {len(stills) - len(captions)} pictures in {config.data.path} have no caption")
        self.words = vocabulary(captions)
        self.latents = self._latents(stills, context)
        size = self.latents.mean.shape[-1]
        self.network = self._network(captions, size, context).to(context.device)
        input_ids = self.network.text_encoder.tokenize([*captions, ""]).to(context.device)
        self.input_ids, self.null_ids = input_ids[:-1], input_ids[-1]
        training, self.validation_indices = hold_back(len(stills), config.data.num_validation)
        self.training_indices = torch.tensor(training, device=context.device)
        self.dataset = SampleBatches(len(training))

    def _stills(self) -> list[Still]:
        if self.config.data.path is None:
            raise InputError("data.path is not set: give the folder of captioned pictures with --data")
        return find_stills(self.config.data.path)[: self.config.data.max_samples]

    def _latents(self, stills: list[Still], context: Context) -> LatentMoments:
        data = self.config.data
        folder = make_cache_folder(data.cache_dir, context.output_dir)
        key = cache_key(self.base, (still.content for still in stills), {"resolution": data.resolution})

        def compute() -> LatentMoments:
            batches = (
                read_stills(batch, data.resolution).numpy() for batch in in_batches(stills, data.encode_batch_size)
            )
            precision = PRECISIONS[self.config.mixed_precision]
            on_encoded = note_tenths(context.note, "pictures encoded", len(stills))
            return encode_pictures(self.autoencoder, batches, self.device, precision, on_encoded)

        moments = cached(folder, key, compute)
        return moments.to(self.device) if data.cache_device else moments

    def _network(self, captions: list[str], sample_size: int, context: Context) -> TextToImage:
        model = self.config.model
        if self.config.init_from is not None:
            start = find_model(self.config.init_from)
            return TextToImage(VideoUNet.from_pretrained(start / "unet"), TextEncoder.from_pretrained(start)).train()
        exported = context.output_dir / "model"
        if context.resuming:
            text_encoder = TextEncoder.from_pretrained(exported)
        else:
            text = model.text_encoder
            tokenizer = train_tokenizer(captions, text.vocab_size, text.max_length)
            generator = torch.Generator().manual_seed(self.config.seed)
            text_encoder = new_text_encoder(tokenizer, text.hidden_size, text.num_layers, text.num_heads, generator)
            text_encoder.save_pretrained(exported)
        channels = self.autoencoder.latent_channels
        unet = VideoUNet(unet_config(model.unet, channels, sample_size, model.text_encoder.hidden_size))
        return TextToImage(unet, text_encoder).train()

    def trainable(self) -> dict[str, nn.Parameter]:
        return dict(self.network.named_parameters())

    def loss(self, network: nn.Module, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        keys = partial(sample_keys, self.config.seed, batch["epochs"], batch["indices"])
        indices = self.training_indices[batch["indices"]]
        drop = uniform(keys("caption"))[:, 0] < self.config.data.caption_dropout
        input_ids = torch.where(drop[:, None], self.null_ids, self.input_ids[indices])
        timesteps = integers(keys("timestep"), self.schedule.num_train_timesteps)
        return self._denoising_loss(network, indices, timesteps, input_ids, keys).mean(), {}

    def _denoising_loss(
        self, network: nn.Module, indices: Tensor, timesteps: Tensor, input_ids: Tensor, keys: partial[Tensor]
    ) -> Tensor:
        shape = self.latents.mean.shape[1:]
        latent_noise = normal(keys("latents"), shape) if self.config.data.latents == "sample" else None
        latents = self.latents.draw(indices, latent_noise).to(self.device)
        noise = normal(keys("noise"), shape)
        output = network(self.schedule.add_noise(latents, noise, timesteps), timesteps, input_ids)
        return self.loss_of(output, latents, noise, timesteps)

    def end_step(self, figures: dict[str, Tensor], progress: float) -> None:
        """Nothing to steer."""

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing beyond the network."""

    # ------------------------------------------------------------ what comes out

    def validate(self, network: nn.Module, folder: Path, global_step: int) -> dict[str, float]:
        """Denoising loss of held-back pictures, and a labelled grid of the validation prompts."""
        if self.config.validation.prompts:
            prompts = list(self.config.validation.prompts)
            pictures = label_pictures(self.sample(network, prompts), prompts)
            save_picture(folder / f"samples-{global_step:08d}.png", picture_grid(pictures, 4))
        return {"validation_loss": self._validation_loss(network)}

    def _validation_loss(self, network: nn.Module) -> float:
        losses = []
        held_back = torch.tensor(self.validation_indices, device=self.device)
        count = self.schedule.num_train_timesteps
        timesteps = (torch.arange(len(held_back), device=self.device) * count) // len(held_back)
        for places in torch.arange(len(held_back), device=self.device).split(self.config.batch_size):
            keys = partial(sample_keys, 0, torch.zeros_like(places), places)
            indices = held_back[places]
            input_ids = self.input_ids[indices]
            losses.append(self._denoising_loss(network, indices, timesteps[places], input_ids, keys))
        return float(torch.cat(losses).mean())

    def sample(self, network: nn.Module, prompts: list[str]) -> np.ndarray:
        """One picture for each prompt: uint8 (N, H, W, 3)."""
        settings = self.config.validation
        places = torch.arange(len(prompts), device=self.device)
        keys = sample_keys(settings.seed, torch.zeros_like(places), places, "validation")
        noise = normal(keys, self.latents.mean.shape[1:])
        input_ids = self.network.text_encoder.tokenize([*prompts, *[""] * len(prompts)]).to(self.device)
        prompt_ids, negative_ids = input_ids.chunk(2)
        denoiser = batched_guidance(network, prompt_ids, negative_ids, settings.guidance_scale)
        latents = sample(settings.sampler, denoiser, self.schedule, noise, settings.num_inference_steps)
        return to_pixels(self.autoencoder.decode(latents / self.autoencoder.config.scaling_factor))

    def export(self, output_dir: Path) -> Path:
        """Write model/: a plain Stable Diffusion folder with the autoencoder of the base, and vocabulary.json."""
        save_model_folder(
            output_dir / "model",
            self.network.unet,
            self.autoencoder,
            self.network.text_encoder,
            self.schedule.to_config(),
            getattr(torch, self.config.export_dtype),
            self.words,
        )
        return output_dir / "model"
