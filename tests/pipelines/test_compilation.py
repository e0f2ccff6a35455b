import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed
from torch._dynamo.testing import CompileCounter
from typer.testing import CliRunner

import t2v
from t2v.cli import generate
from t2v.errors import InputError
from t2v.models.unet import MotionConfig, VideoUNet, VideoUNetConfig
from t2v.pipelines import compilation

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture
def unet() -> VideoUNet:
    torch.manual_seed(0)
    torch._dynamo.reset()
    config = VideoUNetConfig(
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        block_out_channels=(8,),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=2,
    )
    unet = VideoUNet(config, MotionConfig()).eval().requires_grad_(False)
    for parameter in unet.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    return unet


def inputs(size: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, 3, size, size, generator=generator), torch.randn(2, 5, 8, generator=generator)


@torch.inference_mode()
def test_one_graph_serves_all_timesteps_and_rates(unet: VideoUNet) -> None:
    counter = CompileCounter()  # counts the graphs, and runs them as they are
    network = compilation.compiled(unet, counter)
    x, text = inputs()
    for timestep, fps in ((torch.tensor(999), 8.0), (torch.tensor(1.5), 24.0), (500.0, 30)):
        torch.testing.assert_close(network(x, timestep, text, fps=fps), unet(x, timestep, text, fps), **CLOSE)
    assert counter.frame_count == 1
    x, text = inputs(6)
    torch.testing.assert_close(network(x, 500.0, text, fps=8.0), unet(x, 500.0, text, 8.0), **CLOSE)
    assert counter.frame_count == 2
    image = x[:, :, 0]
    torch.testing.assert_close(network(image, 500.0, text, fps=8.0), unet(image, 500.0, text, 8.0), **CLOSE)
    assert counter.frame_count == 3


@torch.inference_mode()
def test_a_result_outlives_the_next_call(unet: VideoUNet) -> None:
    memory = torch.zeros(1)  # as a CUDA graph's, the same for every call

    def backend(graph: torch.fx.GraphModule, example_inputs: list[torch.Tensor]) -> object:
        def run(*args: torch.Tensor) -> tuple[torch.Tensor, ...]:
            memory.resize_(graph(*args)[0].shape).copy_(graph(*args)[0])
            return (memory,)

        return run

    network, (x, text) = compilation.compiled(unet, backend), inputs()
    first = network(x, 900.0, text, fps=8.0)
    network(x, 100.0, text, fps=8.0)
    torch.testing.assert_close(first, unet(x, 900.0, text, 8.0), **CLOSE)


@torch.inference_mode()
def test_what_cannot_be_compiled_is_one_line(unet: VideoUNet) -> None:
    def broken(graph: torch.fx.GraphModule, example_inputs: list[torch.Tensor]) -> None:
        raise RuntimeError("no compiler found\nand more about it")

    x, text = inputs()
    with pytest.raises(InputError, match=r"no compiler found.*leave --compile out") as caught:
        compilation.compiled(unet, broken)(x, 1.0, text, fps=8.0)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, BackendCompilerFailed)


def test_generate_compiles_and_says_so(tiny_model, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = compilation.compiled, []

    def counted(unet: VideoUNet) -> object:
        calls.append(unet)
        return real(unet, "eager")

    monkeypatch.setattr(compilation, "compiled", counted)
    options = ["a cat", "--model", str(tiny_model), "--device", "cpu", "--dtype", "fp32", "--json", "--num-frames", "2"]
    files = [tmp_path / "compiled.mp4", tmp_path / "eager.mp4", tmp_path / "again.mp4"]
    records = []
    for flags in ([*options, "--compile"], options, ["--from", str(files[0].with_suffix(".json")), "--json"]):
        done = CliRunner().invoke(generate.app, [*flags, "-o", str(files[len(records)])])
        assert done.exit_code == 0, done.output
        records.append(t2v.cli.outputs.read_sidecar(files[len(records)].with_suffix(".json")))
    assert [record["compile"] for record in records] == [True, False, True]
    assert len(calls) == 2
    assert files[0].read_bytes() == files[2].read_bytes()


def test_offloaded_weights_are_not_compiled(tiny_model, monkeypatch) -> None:
    monkeypatch.setattr("t2v.pipelines.text_to_video.load_components", None)  # refused before loading
    with pytest.raises(InputError, match="offload is model: leave one out"):
        t2v.load(str(tiny_model), device="cpu", compile=True, offload="model")


@pytest.mark.slow
def test_the_compiled_network_makes_the_same_video(tiny_model) -> None:
    torch._dynamo.reset()
    eager, fast = (t2v.load(str(tiny_model), device="cpu", dtype="fp32", compile=compile) for compile in (False, True))
    expected, got = (pipe("a cat", num_frames=3).frames.astype(int) for pipe in (eager, fast))
    assert abs(got - expected).max() <= 1
