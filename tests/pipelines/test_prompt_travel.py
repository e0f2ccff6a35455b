import pytest
import torch

import t2v
from t2v.pipelines.prompt_travel import embeds_of_frames
from tests.models.peers import PROMPT, relative

SIZE = {"num_frames": 6, "num_inference_steps": 1, "sampler": "ddim"}


@pytest.fixture(scope="module")
def pipe(tiny_model):
    return t2v.load(str(tiny_model), "cpu", "fp32")


def test_embeddings_blend_between_key_frames_and_hold_after_the_last():
    keys = torch.tensor([0.0, 1.0, 3.0])[:, None, None].expand(3, 2, 1)
    got = embeds_of_frames(keys, [0, 4, 5], 8)
    assert got.shape == (8, 2, 1)
    assert got[:, 0, 0].tolist() == [0, 0.25, 0.5, 0.75, 1, 3, 3, 3]
    half = embeds_of_frames(keys.bfloat16(), [0, 4, 5], 8)
    assert half.dtype == torch.bfloat16 and torch.equal(half.float(), got)


def test_embeddings_are_those_of_diffusers(sd1_folder):
    diffusers = pytest.importorskip("diffusers")
    from tests.models.test_animatediff import make_adapter

    peer = diffusers.AnimateDiffPipeline.from_pretrained(sd1_folder, motion_adapter=make_adapter("v1"))
    peer.enable_free_noise(context_length=4, context_stride=2)
    prompts = {0: PROMPT, 3: "a cat", 9: "a dog"}
    with torch.no_grad():
        expected, _ = peer._encode_prompt_free_noise(prompts, 12, "cpu", 1, False)
        keys = peer.encode_prompt(list(prompts.values()), "cpu", 1, False)[0]
    assert relative(embeds_of_frames(keys, list(prompts), 12), expected) < 1e-6


def test_frames_change_from_the_first_key_on(pipe):
    seen = []
    forward = pipe.unet.forward
    pipe.unet.forward = lambda x, t, text, **options: seen.append((x.shape[2], text)) or forward(x, t, text, **options)
    video = pipe(PROMPT, prompt_at={2: "a cat", 4: "a cat"}, **SIZE)
    pipe(PROMPT, prompt_at={2: "a cat", 4: "a cat"}, context_frames=4, context_overlap=2, **SIZE)
    pipe.unet.forward = forward
    (frames, whole), *windows = seen
    negative, positive = whole
    keys = pipe.text_encoder.encode([PROMPT, "a cat", ""])
    assert frames == 6 and whole.shape == (2, 6, *keys.shape[1:])
    torch.testing.assert_close(positive[[0, 2, 3, 4, 5]], keys[[0, 1, 1, 1, 1]])
    torch.testing.assert_close(positive[1], (keys[0] + keys[1]) / 2)
    torch.testing.assert_close(negative, keys[[2]].expand_as(negative))
    assert [frames for frames, _ in windows] == [4, 4]
    assert torch.equal(windows[0][1], whole[:, :4]) and torch.equal(windows[1][1], whole[:, 2:])
    assert (video.frames != pipe(PROMPT, **SIZE).frames).any()
    assert video.metadata["settings"]["prompt_at"] == {2: "a cat", 4: "a cat"}


def test_the_same_prompt_everywhere_is_the_prompt(pipe):
    travelling = pipe(PROMPT, prompt_at={3: PROMPT}, **SIZE).frames
    assert abs(travelling.astype(int) - pipe(PROMPT, **SIZE).frames).max() <= 1
