import pytest

import t2v
from t2v.errors import InputError
from t2v.models.autoencoder import AutoencoderConfig
from t2v.models.unet import VideoUNetConfig
from t2v.pipelines.memory import Footprint
from t2v.pipelines.memory_plan import parse_bytes, plan_memory
from t2v.pipelines.offload import LEVELS
from t2v.pipelines.settings import GenerationSettings
from t2v.pipelines.text_to_video import plan_model

STABLE_DIFFUSION = Footprint(
    VideoUNetConfig(block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=768),
    AutoencoderConfig(block_out_channels=(128, 256, 512, 512), layers_per_block=2),
    {"text_encoder": 123_060_480, "unet": 1_312_730_244, "vae": 83_653_863},
    bytes_per_value=2,
)
GB = 10**9


@pytest.mark.parametrize(
    ("text", "count"),
    [("8GB", 8 * GB), ("7.5 gib", 7.5 * 2**30), ("6000M", 6 * GB), ("1t", 10**12), ("500", 500), ("2 KiB", 2048)],
)
def test_parse_bytes(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "8 apples", "-1GB", "0GB", "GB", "8..5GB", "8I", "inf"])
def test_parse_bytes_refuses(text):
    with pytest.raises(InputError, match=r"memory is given as in 8GB or 7\.5GiB, got"):
        parse_bytes(text)


def test_what_costs_nothing_comes_first():
    plans = {
        limit: plan_memory(STABLE_DIFFUSION, GenerationSettings(), int(limit * GB))
        for limit in (24, 6, 4.8, 4.5, 2, 1.7)
    }
    assert (plans[24].offload, plans[24].options) == ("none", {})
    assert (plans[6].offload, plans[6].options) == ("none", {"chunk_size": 4})
    assert (plans[4.8].offload, plans[4.8].options) == ("none", {"chunk_size": 2, "attention_chunk_size": 4})
    assert (plans[4.5].offload, plans[4.5].options) == ("model", {"attention_chunk_size": 8})
    assert plans[2].offload == plans[1.7].offload == "sequential"
    for limit, plan in plans.items():
        assert plan.estimate.total <= limit * GB
    assert str(plans[6]) == f"--chunk-size 4, about {plans[6].estimate.total / GB:.1f} GB"
    assert str(plans[24]).startswith("nothing to change, about ")


def test_tiles_come_last():
    large = GenerationSettings(num_frames=1, height=1024, width=1024, guidance_scale=1)
    plan = plan_memory(STABLE_DIFFUSION, large, int(0.95 * GB))
    assert plan.offload == "sequential" and plan.options["tile_size"] == 256


def test_what_is_fixed_stays():
    plan = plan_memory(STABLE_DIFFUSION, GenerationSettings(), 5 * GB, fixed=("chunk_size",), levels=LEVELS)
    assert plan.offload != "none" and "chunk_size" not in plan.options
    assert plan_memory(STABLE_DIFFUSION, GenerationSettings(), 5 * GB, levels=("none",)).offload == "none"


def test_what_never_fits_is_refused_with_the_least():
    with pytest.raises(InputError, match=r"1\.0 GB of memory are too little, the least .* about 1\.\d GB:") as error:
        plan_memory(STABLE_DIFFUSION, GenerationSettings(), GB)
    assert "--offload sequential" in str(error.value) and "lower --num-frames" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_is_planned_without_loading_it(tiny_model):
    plan = plan_model(
        str(tiny_model), "8GB", None, "cpu", "fp32", None, {"num_frames": 400, "width": 512, "height": 512}
    )
    assert plan.offload == "none", "offload saves nothing on a CPU"
    assert plan.options["attention_chunk_size"] >= 1
    assert plan.estimate.total <= 8 * GB
    assert plan_model(str(tiny_model), "8GB", "sequential", "cpu", "fp32", None).offload == "sequential", "as asked for"


def test_load_takes_the_plan_as_defaults(tiny_model):
    pipe = t2v.load(str(tiny_model), device="cpu", dtype="fp32", max_vram="8GB")
    assert (pipe.placement.offload, pipe.defaults.chunk_size) == ("none", 8)
    limit = pipe.memory(pipe.defaults).total - 1
    smaller = t2v.load(str(tiny_model), device="cpu", dtype="fp32", max_vram=str(limit))
    assert smaller.defaults.chunk_size < 8 or smaller.defaults.attention_chunk_size is not None
    with pytest.raises(InputError, match="too little"):
        t2v.load(str(tiny_model), device="cpu", dtype="fp32", max_vram="1MB")
