import dataclasses
import functools
import warnings

import numpy as np
import pytest
import torch

import t2v
from t2v.diffusion.context import in_windows
from t2v.diffusion.guidance import classifier_free_guidance
from t2v.diffusion.noise import NoisePrior
from t2v.diffusion.sampling import sample
from t2v.errors import InputError
from t2v.models.autoencoder import AutoencoderKL
from t2v.pipelines.deflicker import deflicker
from t2v.pipelines.inspection import default_settings, motion_warnings
from t2v.pipelines.prompt_travel import embeds_of_frames

PROMPT = "a robot dancing in times square"


@pytest.fixture(scope="module")
def pipe(tiny_model):
    return t2v.load(str(tiny_model), device="cpu", dtype="fp32")


def test_defaults_come_from_training_and_generation_config(pipe):
    defaults = pipe.defaults
    assert (defaults.num_frames, defaults.fps, defaults.height, defaults.width) == (4, 8.0, 32, 32)
    assert (defaults.sampler, defaults.num_inference_steps, defaults.guidance_scale) == ("euler", 3, 3.0)


def test_the_motion_says_how_much_noise_its_frames_share(pipe, tiny_model):
    for own, in_sampling, expected in ((0.5, None, 0.5), (0.5, 0.9, 0.9), (0.5, 0.0, 0.0)):
        motion = dataclasses.replace(pipe.unet.motion, shared_noise=own, sampling_shared_noise=in_sampling)
        defaults = default_settings(tiny_model, pipe.unet.config, motion, pipe.autoencoder.config)
        assert defaults.shared_noise == expected
    motion = dataclasses.replace(pipe.unet.motion, shared_noise=0.5, noise_prior="progressive")
    defaults = default_settings(tiny_model, pipe.unet.config, motion, pipe.autoencoder.config)
    assert defaults.noise_prior == "progressive" and not motion_warnings(pipe.schedule, None, motion, defaults)
    for change, warning in (
        ({"noise_prior": "mixed"}, "trained on progressive noise, not on mixed"),
        ({"shared_noise": 0.0}, "--noise-prior progressive changes nothing with --shared-noise 0"),
    ):
        (message,) = motion_warnings(pipe.schedule, None, motion, dataclasses.replace(defaults, **change))
        assert warning in message


def test_rates_beyond_those_of_the_training_are_warned_of(pipe):
    motion = dataclasses.replace(pipe.unet.motion, fps_range=[4, 24])

    def warned(fps):
        settings = dataclasses.replace(pipe.defaults, fps=fps)
        return motion_warnings(pipe.schedule, None, motion, settings)

    assert not warned(4) and not warned(24)
    assert warned(30) == ["30 frames per second, but the motion was trained on 4 to 24: expect it to be off"]
    assert len(warned(1)) == 1


def test_video_is_what_its_parts_make_one_after_the_other(pipe):
    video = pipe(PROMPT, seed=5, num_frames=3, fps=6, negative_prompt="a cat", guidance_scale=4, guidance_rescale=0.3)
    with torch.inference_mode():
        embeds = pipe.text_encoder.encode([PROMPT]), pipe.text_encoder.encode(["a cat"])
        branches = [lambda x, t, embed=embed: pipe.unet(x, t, embed, fps=6.0) for embed in embeds]
        noise = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(5))
        latents = sample("euler", classifier_free_guidance(*branches, 4.0, 0.3), pipe.schedule, noise, 3)
        frames = [pipe.autoencoder.decode(z / 0.18215) for z in latents.unbind(2)]
    expected = (torch.stack(frames, 1)[0].permute(0, 2, 3, 1).numpy() + 1) * 127.5
    assert video.frames.shape == (3, 32, 32, 3) and video.fps == 6
    assert np.abs(video.frames - expected.clip(0, 255)).max() < 0.51


@pytest.mark.parametrize("context_frames", [None, 4])
def test_guidance_by_the_image_model_is_that_of_each_frame_alone(pipe, context_frames):
    """Also where the video network runs in windows, here two of 4 frames over 6: frames alone know none."""
    num_frames = 4 if context_frames is None else 6
    options = {"num_frames": num_frames, "context_frames": context_frames, "context_overlap": 2, "fps": 6}
    video = pipe(PROMPT, seed=5, guidance="image", guidance_scale=4, prompt_at={2: "a cat"}, **options)
    with torch.inference_mode():
        texts = pipe.text_encoder.encode([PROMPT, "a cat", ""])
        prompt, negative = embeds_of_frames(texts[:2], [0, 2], num_frames), texts[2:]

        def denoiser(x, timestep):
            whole = in_windows(lambda x, t, text: pipe.unet(x, t, text, fps=6.0), 4, 2)(x, timestep, prompt[None])
            alone = [
                pipe.unet(x[:, :, f], timestep, prompt[f : f + 1]) - pipe.unet(x[:, :, f], timestep, negative)
                for f in range(num_frames)
            ]
            return whole + 3 * torch.stack(alone, dim=2)

        noise = torch.randn(1, 4, num_frames, 8, 8, generator=torch.Generator().manual_seed(5))
        latents = sample("euler", denoiser, pipe.schedule, noise, 3)
        frames = pipe._decode(latents, pipe.defaults)
    assert np.abs(video.frames.astype(int) - frames).max() <= 1


def test_image_is_the_one_diffusers_makes(pipe, tiny_model):
    diffusers = pytest.importorskip("diffusers")
    peer = diffusers.StableDiffusionPipeline.from_pretrained(tiny_model)
    peer.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    options = {"num_inference_steps": 4, "guidance_scale": 5.0, "negative_prompt": "a cat"}
    theirs = peer(PROMPT, height=32, width=32, latents=noise[:, :, 0], output_type="np", **options).images[0]
    ours = pipe(PROMPT, num_frames=1, sampler="ddim", **options).frames[0]
    assert np.abs(ours / 255 - theirs).max() < 0.5 / 255 + 1e-4


def test_videos_of_a_batch_equal_the_same_seeds_alone(pipe):
    together = pipe(PROMPT, seed=7, num_videos=3, sampler="ddpm")
    alone = [pipe(PROMPT, seed=7 + index, sampler="ddpm") for index in range(3)]
    for one, other in zip(together, alone, strict=True):
        assert np.array_equal(one.frames, other.frames)
        assert one.metadata["seed"] == other.metadata["seed"]
    assert not np.array_equal(together[0].frames, together[1].frames)


@pytest.mark.parametrize(
    "options",
    [
        {"fps": 24},
        {"negative_prompt": "a cat"},
        {"guidance": "image"},
        {"guidance_scale": 1},
        {"guidance_rescale": 0.7},
        {"shared_noise": 0.5},
        {"deflicker": 5.0},
        {"sampler": "heun"},
    ],
    ids=str,
)
def test_every_option_reaches_the_networks(pipe, options):
    assert not np.array_equal(pipe(PROMPT, **options).frames, pipe(PROMPT).frames)


def test_deflicker_works_on_the_latents_as_the_unet_sees_them(pipe):
    latents = torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.3
    plain, strong = pipe.defaults, dataclasses.replace(pipe.defaults, deflicker=0.5)
    assert pipe.autoencoder.config.scaling_factor != 1
    with torch.inference_mode():
        assert np.array_equal(pipe._decode(latents, strong), pipe._decode(deflicker(latents, 0.5), plain))
        assert not np.array_equal(pipe._decode(latents, strong), pipe._decode(latents, plain))


def test_motion_guidance_reaches_the_networks(pipe):
    still, plain, lively = (pipe(PROMPT, guidance="image", motion_guidance=scale).frames for scale in (0, 1, 1.5))
    assert not np.array_equal(plain, still) and not np.array_equal(plain, lively)
    assert np.array_equal(plain, pipe(PROMPT, guidance="image").frames)
    with pytest.warns(UserWarning, match="--motion-guidance changes nothing without --guidance image"):
        assert np.array_equal(pipe(PROMPT, motion_guidance=1.5).frames, pipe(PROMPT).frames)


def test_negative_prompt_does_nothing_without_guidance(pipe):
    plain, negative = pipe(PROMPT, guidance_scale=1), pipe(PROMPT, guidance_scale=1, negative_prompt="a cat")
    assert np.array_equal(plain.frames, negative.frames)


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_chunk_size_does_not_change_the_picture(pipe, chunk_size):
    whole, chunked = pipe(PROMPT), pipe(PROMPT, chunk_size=chunk_size)
    assert np.abs(whole.frames.astype(int) - chunked.frames).max() <= 1


def test_large_frames_are_decoded_in_tiles(pipe, monkeypatch):
    tiles = []
    decode = AutoencoderKL.decode

    def spy(self, z, chunk_size=8, tile_size=None):
        tiles.append(tile_size)
        return decode(self, z, chunk_size, tile_size)

    monkeypatch.setattr(AutoencoderKL, "decode", spy)
    whole = pipe(PROMPT, width=48)
    monkeypatch.setattr("t2v.pipelines.memory.MAX_WHOLE_SIDE", 11)
    monkeypatch.setattr("t2v.pipelines.memory.TILE_SIZE", 8)
    tiled = pipe(PROMPT, width=48)
    assert tiles == [None, 8]
    assert tiled.frames.shape == whole.frames.shape == (4, 32, 48, 3)
    assert not np.array_equal(tiled.frames, whole.frames)


def test_callback_sees_every_step_and_the_video_at_last(pipe):
    seen = []
    video = pipe(PROMPT, callback=lambda index, count, estimate: seen.append((index, count, estimate())))
    assert [(index, count) for index, count, _ in seen] == [(0, 3), (1, 3), (2, 3)]
    assert np.array_equal(seen[-1][2].frames, video.frames)
    assert not np.array_equal(seen[0][2].frames, video.frames)


@pytest.mark.parametrize("size", [(28, 36), (4, 4), (64, 32)], ids=str)
def test_any_multiple_of_the_autoencoder_factor_works(pipe, size):
    assert pipe(PROMPT, height=size[0], width=size[1], num_frames=2).frames.shape == (2, *size, 3)


def test_long_prompt_is_not_cut(pipe):
    words = "robot " * 20
    first, second = pipe(words + "cat"), pipe(words + "beach")
    assert not np.array_equal(first.frames, second.frames)


def test_metadata_has_all_that_repeats_the_video(pipe, tiny_model):
    video = pipe(PROMPT, seed=3, num_frames=2)
    metadata = video.metadata
    assert metadata["model"] == str(tiny_model) and metadata["motion"] is None
    assert (metadata["prompt"], metadata["seed"], metadata["dtype"], metadata["device"]) == (PROMPT, 3, "fp32", "cpu")
    assert metadata["threads"] == torch.get_num_threads()
    again = t2v.load(metadata["model"], device=metadata["device"], dtype=metadata["dtype"])
    assert again.weights_sha256 == metadata["weights_sha256"]
    repeated = again(metadata["prompt"], seed=metadata["seed"], **metadata["settings"])
    assert np.array_equal(repeated.frames, video.frames)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_other_precisions_make_a_similar_video(pipe, tiny_model, dtype):
    video = t2v.load(str(tiny_model), device="cpu", dtype=dtype)(PROMPT)
    assert video.metadata["dtype"] == dtype
    assert np.abs(video.frames.astype(int) - pipe(PROMPT).frames).mean() < 8


def test_load_takes_motion_from_elsewhere(pipe, tiny_model, tmp_path):
    import shutil

    image_model = tmp_path / "image"
    shutil.copytree(tiny_model, image_model, ignore=shutil.ignore_patterns("motion"))
    other = t2v.load(str(image_model), device="cpu", dtype="fp32", motion=str(tiny_model / "motion"))
    assert np.array_equal(other(PROMPT).frames, pipe(PROMPT).frames)
    assert other.weights_sha256 == pipe.weights_sha256
    assert other(PROMPT).metadata["motion"] == str(tiny_model / "motion")


def test_load_refuses_an_image_model(tiny_image_model):
    with pytest.raises(InputError, match=r"is an image model without motion.*--motion PATH.*t2v train temporal"):
        t2v.load(str(tiny_image_model))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": " "}, "the prompt is empty"),
        ({"seed": -1}, "seed must be"),
        ({"num_videos": 0}, "num_videos must be"),
        ({"num_frames": 0}, "num_frames must be"),
        ({"width": 30}, "width 30 is not a multiple of 4"),
        ({"sampler": "magic"}, "unknown sampler"),
    ],
    ids=str,
)
def test_call_refuses_bad_input(pipe, options, message):
    with pytest.raises(InputError, match=message):
        pipe(**{"prompt": PROMPT, **options})


def test_call_refuses_unknown_options(pipe):
    with pytest.raises(TypeError, match="num_steps"):
        pipe(PROMPT, num_steps=3)


def test_call_warns_of_unseen_words_and_long_videos(pipe):
    with pytest.warns(UserWarning) as caught:
        pipe("a dragon", num_frames=6)
    assert ['"dragon"' in str(caught[0].message), "trained on 4" in str(caught[1].message)] == [True, True]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pipe(PROMPT)


def test_overflow_is_reported_instead_of_black_frames(tiny_model):
    pipe = t2v.load(str(tiny_model), device="cpu", dtype="bf16")
    pipe.autoencoder.decoder.conv_out.bias.fill_(torch.inf)
    with pytest.raises(InputError, match="the model overflowed in bf16: use --dtype fp32"):
        pipe(PROMPT)


def test_nothing_touches_the_global_generator(pipe):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    pipe(PROMPT, sampler="ddpm")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_gpu_makes_the_same_video(pipe, tiny_model):
    video = t2v.load(str(tiny_model), device="cuda", dtype="fp32")(PROMPT)
    assert video.metadata["device"].startswith("cuda")
    assert np.abs(video.frames.astype(int) - pipe(PROMPT).frames).mean() < 2


@pytest.mark.parametrize("sampler", ["euler", "ddpm"])
@pytest.mark.parametrize("kind", ["mixed", "progressive"])
def test_frames_share_their_noise(pipe, sampler, kind):
    video = pipe(PROMPT, seed=5, sampler=sampler, guidance_scale=1, shared_noise=0.8, noise_prior=kind)
    prior = NoisePrior(0.8, kind)
    generator = torch.Generator().manual_seed(5)
    with torch.inference_mode():
        embeds = pipe.text_encoder.encode([PROMPT])
        noise = prior.correlate(torch.randn(1, 4, 4, 8, 8, generator=generator))
        denoiser = functools.partial(pipe.unet, encoder_hidden_states=embeds, fps=8.0)
        latents = sample(sampler, denoiser, pipe.schedule, noise, 3, generator=generator, noise_prior=prior)
        frames = [pipe.autoencoder.decode(z / 0.18215) for z in latents.unbind(2)]
    expected = (torch.stack(frames, 1)[0].permute(0, 2, 3, 1).numpy() + 1) * 127.5
    assert np.abs(video.frames - expected.clip(0, 255)).max() < 0.51
