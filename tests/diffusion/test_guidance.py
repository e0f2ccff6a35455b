import pytest
import torch

from t2v.diffusion.guidance import (
    batched_guidance,
    classifier_free_guidance,
    frame_by_frame,
    guide,
    image_guidance,
)


def make_outputs(channels=4):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 2, channels, 3, 5, 5, generator=generator).unbind(0)


def conditional(x, timestep):
    return torch.tanh(x) + timestep


def unconditional(x, timestep):
    return 0.5 * x


def refuse(x, timestep):
    raise AssertionError("must not be called")


def test_guide_extrapolates_from_unconditional_to_conditional():
    positive, negative = make_outputs()
    torch.testing.assert_close(guide(positive, negative, 0.0), negative)
    torch.testing.assert_close(guide(positive, negative, 1.0), positive)
    torch.testing.assert_close(guide(positive, negative, 7.5), 7.5 * positive - 6.5 * negative)


@pytest.mark.parametrize("rescale", [0.3, 0.7, 1.0])
def test_guide_rescales_the_deviation_of_each_sample(rescale):
    positive, negative = make_outputs()
    plain = guide(positive, negative, 7.5)
    rescaled = guide(positive, negative, 7.5, rescale)
    for index in range(2):
        # arXiv 2305.08891 equations 15 and 16
        full = plain[index] * positive[index].std() / plain[index].std()
        torch.testing.assert_close(rescaled[index], rescale * full + (1 - rescale) * plain[index])
        if rescale == 1:
            torch.testing.assert_close(rescaled[index].std(), positive[index].std())


@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_guide_takes_a_learned_variance_from_the_conditional_output(rescale):
    positive, negative = make_outputs(channels=8)
    guided = guide(positive, negative, 3.0, rescale, num_channels=4)
    assert torch.equal(guided[:, 4:], positive[:, 4:])
    assert torch.equal(guided[:, :4], guide(positive[:, :4], negative[:, :4], 3.0, rescale))


def test_classifier_free_guidance_combines_two_denoisers():
    x, timestep = make_outputs()[0], torch.tensor(3)
    denoiser = classifier_free_guidance(conditional, unconditional, 4.0, 0.5)
    expected = guide(conditional(x, timestep), unconditional(x, timestep), 4.0, 0.5)
    assert torch.equal(denoiser(x, timestep), expected)


def test_classifier_free_guidance_at_scale_1_skips_the_unconditional_branch():
    x, timestep = make_outputs()[0], torch.tensor(3)
    denoiser = classifier_free_guidance(conditional, refuse, 1.0, 0.5)
    assert torch.equal(denoiser(x, timestep), conditional(x, timestep))


def test_batched_guidance_equals_two_separate_calls():
    x, timestep = make_outputs()[0], torch.tensor(3)
    prompt, negative = torch.rand(2, 6, 8), torch.rand(2, 6, 8)
    batch_sizes = []

    def network(x, timestep, prompt_embeds):
        batch_sizes.append(x.shape[0])
        return torch.tanh(x) * prompt_embeds.mean(dim=(1, 2)).reshape(-1, 1, 1, 1, 1)

    expected = guide(network(x, timestep, prompt), network(x, timestep, negative), 5.0, 0.7)
    torch.testing.assert_close(batched_guidance(network, prompt, negative, 5.0, 0.7)(x, timestep), expected)
    assert torch.equal(batched_guidance(network, prompt, negative, 1.0)(x, timestep), network(x, timestep, prompt))
    assert batch_sizes == [2, 2, 4, 2, 2]


def test_batched_guidance_keeps_the_conditional_learned_variance():
    x, timestep = make_outputs()[0], torch.tensor(3)
    prompt, negative = torch.ones(2, 1), torch.zeros(2, 1)

    def network(x, timestep, prompt_embeds):
        return torch.cat([x, x], dim=1) + prompt_embeds.reshape(-1, 1, 1, 1, 1)

    output = batched_guidance(network, prompt, negative, 3.0)(x, timestep)
    torch.testing.assert_close(output[:, :4], x + 3)
    assert torch.equal(output[:, 4:], x + 1)


def neighbours(x, timestep, prompt_embeds):
    """A network whose temporal part, where there are frames, adds those before."""
    pull = prompt_embeds.mean(dim=(1, 2)).reshape(-1, *[1] * (x.ndim - 1))
    return torch.tanh(x) * pull + timestep + (x.roll(1, dims=2) if x.ndim == 5 else 0)


@pytest.mark.parametrize("of_frames", [False, True])
def test_a_network_of_images_runs_frame_by_frame(of_frames):
    x, timestep = make_outputs()[0], torch.tensor(3)
    embeds = torch.rand(2, 3, 6, 8) if of_frames else torch.rand(2, 6, 8)
    output = frame_by_frame(neighbours)(x, timestep, embeds)
    for index in range(3):
        alone = neighbours(x[:, :, index], timestep, embeds[:, index] if of_frames else embeds)
        torch.testing.assert_close(output[:, :, index], alone)


def test_image_guidance_takes_what_the_text_changes_from_the_image_model():
    x, timestep = make_outputs()[0], torch.tensor(3)
    prompt, negative = torch.rand(2, 6, 8), torch.rand(2, 6, 8)
    image = frame_by_frame(neighbours)
    denoiser = image_guidance(neighbours, image, prompt, negative, 5.0)
    pull = image(x, timestep, prompt) - image(x, timestep, negative)
    torch.testing.assert_close(denoiser(x, timestep), neighbours(x, timestep, prompt) + 4 * pull)
    rescaled = image_guidance(neighbours, image, prompt, negative, 5.0, 1.0)(x, timestep)
    for output, conditional in zip(rescaled, neighbours(x, timestep, prompt), strict=True):
        torch.testing.assert_close(output.std(), conditional.std())


def test_motion_guidance_scales_what_the_temporal_layers_add():
    x, timestep = make_outputs()[0], torch.tensor(3)
    prompt, negative = torch.rand(2, 6, 8), torch.rand(2, 6, 8)
    image = frame_by_frame(neighbours)
    still, bare = image(x, timestep, prompt), image(x, timestep, negative)
    motion = neighbours(x, timestep, prompt) - still
    for text_scale, motion_scale in ((5.0, 1.3), (5.0, 0.0), (1.0, 2.0)):
        output = image_guidance(neighbours, image, prompt, negative, text_scale, 0.0, motion_scale)(x, timestep)
        torch.testing.assert_close(output, bare + text_scale * (still - bare) + motion_scale * motion)
        rescaled = image_guidance(neighbours, image, prompt, negative, text_scale, 1.0, motion_scale)(x, timestep)
        for guided, unguided in zip(rescaled, still + motion, strict=True):
            torch.testing.assert_close(guided.std(), unguided.std())


def test_motion_guidance_without_text_guidance_asks_the_image_model_about_the_prompt_alone():
    x, timestep, prompt = make_outputs()[0], torch.tensor(3), torch.rand(2, 6, 8)
    asked = []

    def image(x, timestep, prompt_embeds):
        asked.append(prompt_embeds)
        return frame_by_frame(neighbours)(x, timestep, prompt_embeds)

    image_guidance(neighbours, image, prompt, torch.rand(2, 6, 8), 1.0, 0.0, 2.0)(x, timestep)
    assert len(asked) == 1 and torch.equal(asked[0], prompt)


def test_image_guidance_of_a_network_without_temporal_layers_is_the_usual_one():
    x, timestep = make_outputs()[0], torch.tensor(3)
    prompt, negative = torch.rand(2, 6, 8), torch.rand(2, 6, 8)
    still = frame_by_frame(neighbours)
    output = image_guidance(still, still, prompt, negative, 5.0, 0.7)(x, timestep)
    torch.testing.assert_close(output, batched_guidance(still, prompt, negative, 5.0, 0.7)(x, timestep))


def test_image_guidance_at_scale_1_runs_the_video_network_alone():
    x, timestep, embeds = make_outputs()[0], torch.tensor(3), torch.rand(2, 6, 8)

    def never(x, timestep, prompt_embeds):
        raise AssertionError("must not be called")

    denoiser = image_guidance(neighbours, never, embeds, embeds, 1.0)
    assert torch.equal(denoiser(x, timestep), neighbours(x, timestep, embeds))


def test_image_guidance_keeps_the_learned_variance_of_the_video_network():
    x, timestep = make_outputs()[0], torch.tensor(3)
    prompt, negative = torch.ones(2, 1, 1), torch.zeros(2, 1, 1)

    def network(x, timestep, prompt_embeds):
        return torch.cat([x, x], dim=1) + prompt_embeds.reshape(-1, *[1] * (x.ndim - 1))

    for motion_scale in (1.0, 1.5):
        output = image_guidance(network, frame_by_frame(network), prompt, negative, 3.0, 0.0, motion_scale)(x, timestep)
        torch.testing.assert_close(output[:, :4], x + 3)
        assert torch.equal(output[:, 4:], x + 1)
