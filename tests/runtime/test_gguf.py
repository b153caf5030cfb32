"""gguf, really run: what is written, what its reader and the hosts read from it, what is saved and read again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import model_files
import models
import pytest
import torch

import envguard
from envguard.modelfiles.gguf import read_header
from envguard.runtime.modules import nbytes

pytestmark = [
    pytest.mark.envguard("gguf", host="none"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),
]

# scheme -> the largest relative error of `models.small`, and the bytes of its file by those of the model in bfloat16
SCHEMES = {
    "F32": (0.0, 2.01),
    "F16": (0.001, 1.02),
    "BF16": (0.0, 1.02),
    "Q8_0": (0.02, 0.56),
    "Q5_1": (0.08, 0.41),
    "Q5_0": (0.08, 0.38),
    "Q4_1": (0.15, 0.35),
    "Q4_0": (0.15, 0.32),
    "MXFP4": (0.3, 0.31),
    "TQ2_0": (1.0, 0.17),  # three values for a weight: for models trained so
    "TQ1_0": (1.0, 0.15),
}
KEPT_BY_DIFFUSERS = ["BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"]


@pytest.fixture
def gguf(require_backend: Callable[..., envguard.Guarded]) -> envguard.Guarded:
    return require_backend("gguf", host="none")


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "model.gguf")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing may be fetched, and nothing that an earlier run left in the cache is found."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))


def kinds(path: str) -> dict[str, str]:
    """Name -> type of each tensor in a file, by our own reader."""
    return {tensor.name: tensor.dtype for tensor in read_header(path).tensors}


# a plain module


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_plain_module_is_written_and_filled_with_what_the_file_holds(
    require_backend: Callable[..., envguard.Guarded], scheme: str, file: str
) -> None:
    gguf = require_backend(f"gguf:{scheme}", host="none")
    error, ratio = SCHEMES[scheme]
    model = models.small()
    wanted, full = model(models.inputs()), nbytes(model)
    quantized = gguf.quantize(model, path=file)
    found = quantized(models.inputs(device=gguf.device))
    assert quantized is model
    assert found.dtype is torch.bfloat16
    assert str(next(quantized.parameters()).device) == gguf.device
    assert models.error(found, wanted) <= error + 1e-6  # a GPU adds up in another order
    assert Path(file).stat().st_size < ratio * full + 2048
    assert read_header(file).scheme in (scheme, "MXFP4_MOE")
    again = gguf.load(models.small, file)
    assert torch.equal(again(models.inputs(device=gguf.device)), found)
    assert not again.training


def test_norms_biases_and_embeddings_keep_their_numbers(gguf: envguard.Guarded, file: str) -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(8, 64), torch.nn.LayerNorm(64), torch.nn.Linear(64, 64)).bfloat16()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    after = gguf.quantize(model, "Q4_0", file).state_dict()
    assert kinds(file) == {
        "0.weight": "F32",
        "1.weight": "F32",
        "1.bias": "F32",
        "2.weight": "Q4_0",
        "2.bias": "F32",
    }
    for name in ("0.weight", "1.weight", "1.bias", "2.bias"):
        assert torch.equal(after[name].cpu(), before[name])
    assert not torch.equal(after["2.weight"].cpu(), before["2.weight"])


def test_excluded_layers_and_rows_that_fill_no_block_keep_their_numbers(gguf: envguard.Guarded, file: str) -> None:
    layers = [torch.nn.Linear(64, 48), torch.nn.Linear(48, 64), torch.nn.Linear(64, 64), torch.nn.Linear(64, 4)]
    model = torch.nn.Sequential(*layers).bfloat16()
    gguf.quantize(model, "Q8_0", file, exclude=["3"])
    assert [kinds(file)[f"{number}.weight"] for number in range(4)] == ["Q8_0", "BF16", "Q8_0", "BF16"]


def test_every_tensor_gets_the_type_back_that_it_had(gguf: envguard.Guarded, file: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.LayerNorm(64), torch.nn.Linear(64, 32)).bfloat16()
    model[1].float()
    model.register_buffer("steps", torch.tensor([1, 2, 3]))
    model.register_buffer("scale", torch.tensor(0.5, dtype=torch.float64))
    wanted = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    gguf.quantize(model, "Q8_0", file)

    def made() -> torch.nn.Module:
        new = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.LayerNorm(64), torch.nn.Linear(64, 32))
        new.register_buffer("steps", torch.zeros(3, dtype=torch.int64))
        new.register_buffer("scale", torch.zeros((), dtype=torch.float64))
        return new

    again = gguf.load(made, file)
    assert {name: tensor.dtype for name, tensor in again.state_dict().items()} == wanted
    assert again.steps.tolist() == [1, 2, 3]
    assert float(again.scale) == 0.5
    assert next(gguf.load(made, file, compute_dtype=torch.float16).parameters()).dtype is torch.float16


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(16, 64)
        self.middle = torch.nn.Linear(64, 64)
        self.head = torch.nn.Linear(64, 16, bias=False)
        self.head.weight = self.words.weight


def test_tied_tensors_are_written_once_and_tied_again(gguf: envguard.Guarded, file: str) -> None:
    gguf.quantize(Tied(), "Q8_0", file)
    assert kinds(file) == {"words.weight": "F32", "middle.weight": "Q8_0", "middle.bias": "F32"}
    again = gguf.load(Tied, file)
    assert again.head.weight is again.words.weight


def test_a_file_without_our_metadata_fills_a_plain_module_in_its_own_types(gguf: envguard.Guarded, file: str) -> None:
    import numpy
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    writer = GGUFWriter(file, "mine")
    writer.add_tensor("0.bias", numpy.ones(32, dtype=numpy.float32))
    weight = quants.quantize(numpy.ones((32, 32), dtype=numpy.float32), GGMLQuantizationType.Q5_0)
    writer.add_tensor("0.weight", weight, raw_dtype=GGMLQuantizationType.Q5_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = gguf.load(lambda: torch.nn.Sequential(torch.nn.Linear(32, 32)).half(), file)
    assert model[0].weight.dtype is torch.float16
    assert torch.allclose(model(torch.ones(1, 32).to(gguf.device).half()), torch.tensor(33.0).half().to(gguf.device))


# what is refused


def test_a_scheme_without_a_file_is_refused(gguf: envguard.Guarded, tmp_path: Path) -> None:
    with pytest.raises(envguard.BadInput, match="gguf writes a file: name it"):
        gguf.quantize(models.small(), "Q8_0")
    with pytest.raises(envguard.BadInput, match=r"ends in \.gguf"):
        gguf.quantize(models.small(), "Q8_0", str(tmp_path / "model"))
    with pytest.raises(envguard.BadInput, match="cannot write"):
        gguf.quantize(models.small(), "Q8_0", str(tmp_path / "none" / "model.gguf"))
    assert not list(tmp_path.iterdir())


def test_an_option_that_gguf_does_not_have_is_refused_by_name(gguf: envguard.Guarded, file: str) -> None:
    with pytest.raises(
        envguard.UnknownOption, match="gguf has no option 'calibrate' to quantize; it has path, compute_dtype, exclude"
    ):
        gguf.quantize(models.small(), "Q8_0", file, calibrate=print)
    gguf.quantize(models.small(), "Q8_0", file)
    with pytest.raises(envguard.UnknownOption, match="gguf has no option 'calibrate' to load"):
        gguf.load(models.small, file, calibrate=print)
    with pytest.raises(envguard.UnknownOption, match="no option 'exclude' to load this class"):
        gguf.load(models.small, file, exclude=["3"])
    with pytest.raises(envguard.UnknownOption, match="no option 'config' to load this class"):
        gguf.load(models.small, file, config="here")


@pytest.mark.parametrize("scheme", ["Q4_K", "Q4_K_M", "IQ4_NL", "Q8_1"])
def test_a_type_that_gguf_cannot_write_is_refused_before_anything_is_written(
    gguf: envguard.Guarded, scheme: str, tmp_path: Path
) -> None:
    with pytest.raises(envguard.RequirementsNotMet, match=r"gguf/(de)?quantize-types"):
        gguf.quantize(models.small(), scheme, str(tmp_path / "model.gguf"))
    assert not list(tmp_path.iterdir())


def test_another_scheme_than_the_files_own_is_a_conflict(
    require_backend: Callable[..., envguard.Guarded], gguf: envguard.Guarded, file: str
) -> None:
    gguf.quantize(models.small(), "Q8_0", file)
    with pytest.raises(envguard.SchemeConflict, match="quantized as gguf:Q8_0, but Q4_0 was asked for"):
        gguf.load(models.small, file, "Q4_0")
    with pytest.raises(envguard.SchemeConflict, match="Q4_0 was asked for"):
        require_backend("gguf:Q4_0", host="none").load(models.small, file)
    with pytest.raises(envguard.SchemeConflict, match="Q4_0 was required, but Q8_0"):
        require_backend("gguf:Q4_0", host="none").quantize(models.small(), "Q8_0", file)


def test_what_is_quantized_is_not_quantized_again(gguf: envguard.Guarded, file: str) -> None:
    quantized = gguf.quantize(models.small(), "Q8_0", file)
    with pytest.raises(envguard.BadInput, match="quantized already"):
        gguf.quantize(quantized, "Q8_0", file)


def test_a_model_with_nothing_to_quantize_is_refused(gguf: envguard.Guarded, tmp_path: Path) -> None:
    path = str(tmp_path / "model.gguf")
    for model, options in (
        (torch.nn.Sequential(torch.nn.ReLU()), {}),
        (models.small(), {"exclude": ["0", "3"]}),
        (torch.nn.Sequential(torch.nn.Linear(30, 8)), {}),
    ):
        with pytest.raises(envguard.BadInput, match="no linear layer to quantize"):
            gguf.quantize(model, "Q8_0", path, **options)
    with pytest.raises(envguard.BadInput, match="multiple of 256"):
        gguf.quantize(torch.nn.Sequential(torch.nn.Linear(128, 8)), "TQ2_0", path)
    assert not list(tmp_path.iterdir())


def test_numbers_that_a_type_cannot_hold_leave_no_file(gguf: envguard.Guarded, tmp_path: Path) -> None:
    path = str(tmp_path / "model.gguf")
    no_number, endless, below, large, odd, absent = (
        torch.nn.Sequential(torch.nn.Linear(32, 32)).to(torch.float64) for _ in range(6)
    )
    no_number[0].weight.data[3, 4] = float("nan")
    endless[0].weight.data[3, 4] = 1e300  # which float32 has as infinity
    below[0].weight.data[3, 4] = -float("inf")
    large[0].weight.data[3, 4] = 1e6
    odd.register_buffer("mask", torch.zeros(3, dtype=torch.bool))
    absent.to("meta")
    for model, scheme, message in (
        (no_number, "Q8_0", "0.weight holds NaN, infinity"),
        (endless, "Q8_0", "0.weight holds NaN, infinity"),
        (below, "Q8_0", "0.weight holds NaN, infinity"),
        (large, "F16", "0.weight holds numbers beyond 65504"),
        (odd, "Q8_0", r"mask holds torch\.bool"),
        (absent, "Q8_0", "meta device"),
    ):
        with pytest.raises(envguard.BadInput, match=message):
            gguf.quantize(model, scheme, path)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_the_old_file(
    gguf: envguard.Guarded, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from envguard.runtime import gguf_files

    gguf.quantize(models.small(), "Q8_0", file)
    before = Path(file).read_bytes()

    def interrupted(items: Any, doing: str) -> Iterator[Any]:
        yield next(iter(items))
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf_files, "steps", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gguf.quantize(models.small(), "Q4_0", file)
    assert Path(file).read_bytes() == before
    assert [each.name for each in Path(file).parent.iterdir()] == ["model.gguf"]


def test_numbers_cannot_be_saved_as_the_blocks_that_they_were(gguf: envguard.Guarded, file: str) -> None:
    quantized = gguf.quantize(models.small(), "Q8_0", file)
    with pytest.raises(envguard.BadInput, match="copy the file that it came from"):
        gguf.save(quantized, file)
    whole = gguf.quantize(models.small(), "BF16", file)
    gguf.save(whole, file)
    x = models.inputs(device=gguf.device)
    assert torch.equal(gguf.load(models.small, file)(x), whole(x))


def test_a_file_of_another_model_is_refused(gguf: envguard.Guarded, file: str) -> None:
    gguf.quantize(models.small(), "Q8_0", file)
    with pytest.raises(envguard.BadInput, match="do not fit"):
        gguf.load(lambda: models.small(width=128), file)
    with pytest.raises(envguard.BadInput, match="missing"):
        gguf.load(lambda: torch.nn.Sequential(*models.small(), torch.nn.Linear(4, 4)), file)


def test_a_file_that_never_ends_is_refused_before_gguf_reads_it(gguf: envguard.Guarded, file: str) -> None:
    header = model_files.gguf_start(0, 1) + model_files.field("x", 9, model_files.array(4, 2**40))
    Path(file).write_bytes(header[:49])
    with pytest.raises(envguard.BadModel, match="truncated"):
        gguf.load(models.small, file)
    with pytest.raises(envguard.BadModel, match="truncated"):
        envguard.load(models.small, file, device="cpu")


def test_metadata_that_envguard_did_not_write_is_refused(gguf: envguard.Guarded, file: str) -> None:
    tensors = {"0.weight": ("F32", [4, 4]), "0.bias": ("F32", [4])}
    ours = model_files.text_field("envguard.schema", "envguard.gguf/1")
    for name, text in (
        ("envguard.weights", "[1]"),
        ("envguard.weights", '{"dtype": "bfloat16", "others": 3, "shared": {}}'),
        ("envguard.weights", '{"dtype": "float8", "others": {}, "shared": {}}'),
        ("envguard.weights", '{"dtype": null, "others": {}, "shared": {"a": "nothing"}}'),
        ("envguard.config", "[" * 5000),
        ("envguard.config", "no JSON"),
    ):
        Path(file).write_bytes(model_files.gguf_bytes(tensors, [ours, model_files.text_field(name, text)]))
        with pytest.raises(envguard.BadInput, match=name):
            gguf.load(lambda: torch.nn.Sequential(torch.nn.Linear(4, 4)), file)


def test_every_type_in_a_file_is_checked_not_its_name_alone(gguf: envguard.Guarded, file: str) -> None:
    tensors = {"0.weight": ("Q8_K", [256, 256]), "0.bias": ("F32", [256])}
    Path(file).write_bytes(model_files.gguf_bytes(tensors, [model_files.u32("general.file_type", 7)]))
    with pytest.raises(envguard.RequirementsNotMet, match="gguf/dequantize-types"):
        gguf.load(lambda: torch.nn.Sequential(torch.nn.Linear(256, 256)), file)


def test_a_folder_in_full_precision_is_refused(gguf: envguard.Guarded, tmp_path: Path) -> None:
    models.flux().save_pretrained(tmp_path)
    with pytest.raises(envguard.BadInput, match=r"gguf loads \.gguf files"):
        gguf.load(type(models.flux()), str(tmp_path), "Q8_0")


# diffusers


@pytest.mark.parametrize("scheme", KEPT_BY_DIFFUSERS)
@pytest.mark.envguard("gguf", host="diffusers")
def test_a_diffusers_model_comes_back_from_the_single_file_loader(
    gguf: envguard.Guarded, scheme: str, tmp_path: Path
) -> None:
    path, copy = str(tmp_path / "model.gguf"), str(tmp_path / "copy.gguf")
    full = models.flux()
    wanted, size = models.run_flux(full), nbytes(full)
    quantized = gguf.quantize(full, scheme, path)
    found = models.run_flux(quantized)
    assert torch.equal(models.run_flux(full), wanted)
    assert type(quantized.transformer_blocks[0].attn.to_q).__name__ == "GGUFLinear"
    assert models.error(found, wanted) <= SCHEMES[scheme][0]
    assert nbytes(quantized) < SCHEMES[scheme][1] * size + 4096
    assert str(quantized.device) == gguf.device
    again = gguf.load(type(full), path)
    assert torch.equal(models.run_flux(again), found)
    gguf.save(again, copy)
    assert Path(copy).read_bytes() == Path(path).read_bytes()
    assert torch.equal(models.run_flux(envguard.load(type(full), copy, device=gguf.device)), found)


@pytest.mark.envguard("gguf", host="diffusers")
def test_layers_left_out_at_loading_become_plain_ones(gguf: envguard.Guarded, file: str) -> None:
    quantized = gguf.quantize(models.flux(), "Q8_0", file, exclude=["proj_out"])
    assert kinds(file)["proj_out.weight"] == "BF16"
    assert kinds(file)["transformer_blocks.0.attn.to_q.weight"] == "Q8_0"
    again = gguf.load(type(quantized), file, exclude=["to_q", "proj_out"])
    assert type(again.transformer_blocks[0].attn.to_q) is torch.nn.Linear
    assert type(again.proj_out) is torch.nn.Linear
    assert type(again.transformer_blocks[0].attn.to_k).__name__ == "GGUFLinear"
    assert torch.equal(models.run_flux(again), models.run_flux(quantized))
    gguf.save(again, file)
    assert torch.equal(models.run_flux(gguf.load(type(quantized), file)), models.run_flux(quantized))


@pytest.mark.envguard("gguf", host="diffusers")
def test_the_type_of_computing_is_the_models_unless_it_is_given(gguf: envguard.Guarded, file: str) -> None:
    quantized = gguf.quantize(models.flux(), "Q8_0", file)
    cls = type(quantized)
    assert (quantized.dtype, quantized.proj_out.compute_dtype) == (torch.bfloat16, torch.bfloat16)
    other = gguf.load(cls, file, compute_dtype=torch.float32)
    assert (other.proj_out.bias.dtype, other.proj_out.compute_dtype) == (torch.float32, torch.float32)
    mixed = gguf.load(cls, file, torch_dtype=torch.float16)
    assert (mixed.proj_out.bias.dtype, mixed.proj_out.compute_dtype) == (torch.float16, torch.float16)


def without_our_metadata(path: str) -> None:
    """The same file as another program would have written it."""
    data = Path(path).read_bytes()
    for name in (b"envguard.schema", b"envguard.config", b"envguard.weights"):
        assert data.count(name) == 1
        data = data.replace(name, name.replace(b"envguard", b"somebody"))
    Path(path).write_bytes(data)


@pytest.mark.envguard("gguf", host="diffusers")
def test_the_configuration_is_found_without_a_network(gguf: envguard.Guarded, tmp_path: Path) -> None:
    path = str(tmp_path / "models" / "model.gguf")
    Path(path).parent.mkdir()
    full = models.flux()
    cls = type(full)
    quantized = gguf.quantize(full, "Q8_0", path)
    found = models.run_flux(quantized)
    without_our_metadata(path)
    with pytest.raises(envguard.BadInput, match="no configuration for FluxTransformer2DModel: pass config="):
        gguf.load(cls, path)
    full.save_config(tmp_path / "pipeline" / "transformer")
    (tmp_path / "pipeline" / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    for arguments in (
        {"config": str(tmp_path / "pipeline")},
        {"config": str(tmp_path / "pipeline"), "subfolder": "transformer"},
        {"config": tmp_path / "pipeline" / "transformer"},
    ):
        model = gguf.load(cls, path, torch_dtype=torch.bfloat16, **arguments)
        assert torch.equal(models.run_flux(model), found)
    with pytest.raises(envguard.BadModel, match="download somebody/flux"):
        gguf.load(cls, path, config="somebody/flux")
    full.save_config(tmp_path / "models")
    assert torch.equal(models.run_flux(gguf.load(cls, path, compute_dtype=torch.bfloat16)), found)
    assert torch.equal(
        models.run_flux(gguf.load(cls, str(tmp_path / "models"), gguf_file="model.gguf", torch_dtype=torch.bfloat16)),
        found,
    )


@pytest.mark.envguard("gguf", host="diffusers")
def test_a_diffusers_file_of_another_class_is_refused(gguf: envguard.Guarded, file: str) -> None:
    from diffusers import SD3Transformer2DModel

    gguf.quantize(models.flux(), "Q8_0", file)
    with pytest.raises(envguard.BadInput, match="holds a FluxTransformer2DModel, not a SD3Transformer2DModel"):
        gguf.load(SD3Transformer2DModel, file)


@pytest.mark.envguard("gguf", host="diffusers")
@pytest.mark.parametrize("scheme", ["TQ2_0", "MXFP4"])
def test_a_type_that_diffusers_does_not_read_is_not_written_for_it(
    gguf: envguard.Guarded, scheme: str, tmp_path: Path
) -> None:
    with pytest.raises(envguard.RequirementsNotMet, match="diffusers/gguf-types"):
        gguf.quantize(models.flux(), scheme, str(tmp_path / "model.gguf"))
    assert not list(tmp_path.iterdir())


@pytest.mark.envguard("gguf", host="diffusers")
def test_what_diffusers_itself_loaded_from_gguf_is_not_quantized_again_but_saved(
    require_backend: Callable[..., envguard.Guarded], file: str, tmp_path: Path
) -> None:
    from diffusers import FluxTransformer2DModel, GGUFQuantizationConfig

    gguf = require_backend("gguf:Q8_0", host="diffusers")
    gguf.quantize(models.flux(), path=file)
    models.flux().save_config(tmp_path)
    bare = FluxTransformer2DModel.from_single_file(
        file,
        config=str(tmp_path),
        quantization_config=GGUFQuantizationConfig(compute_dtype=torch.bfloat16),
        torch_dtype=torch.bfloat16,
    ).to(gguf.device)
    with pytest.raises(envguard.BadInput):
        gguf.quantize(bare, path=file)
    gguf.save(bare, str(tmp_path / "again.gguf"))
    assert Path(tmp_path / "again.gguf").read_bytes() == Path(file).read_bytes()
    assert torch.equal(models.run_flux(gguf.load(FluxTransformer2DModel, file)), models.run_flux(bare))


@pytest.mark.envguard("gguf", host="diffusers")
def test_a_class_without_a_single_file_loader_gets_numbers(gguf: envguard.Guarded, file: str) -> None:
    from diffusers import PixArtTransformer2DModel

    torch.manual_seed(0)
    model = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        cross_attention_dim=32,
        sample_size=8,
        caption_channels=32,
        norm_num_groups=1,
    ).bfloat16()
    quantized = gguf.quantize(model, "Q8_0", file)
    again = gguf.load(PixArtTransformer2DModel, file)
    wanted = quantized.state_dict()
    assert quantized is model
    assert again.config["num_layers"] == 1
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in again.state_dict().items())


@pytest.mark.envguard("gguf", host="diffusers")
def test_blocks_that_gguf_cannot_write_are_saved_as_they_are(
    require_backend: Callable[..., envguard.Guarded], gguf: envguard.Guarded, tmp_path: Path
) -> None:
    """A file of k-quants, as llama.cpp's tools write them: here with random blocks."""
    import gguf as package

    path, again = str(tmp_path / "mixed.gguf"), str(tmp_path / "again.gguf")
    full = models.flux()
    gguf.quantize(full, "Q8_0", path)
    generator = torch.Generator().manual_seed(2)
    writer = package.GGUFWriter(path, "flux")
    writer.add_file_type(int(package.LlamaFileType.MOSTLY_Q4_K_M))
    for name, tensor in full.state_dict().items():
        if tensor.dim() == 2 and tensor.shape[1] % 256 == 0:
            kind = package.GGMLQuantizationType.Q4_K
            blocks = torch.randint(0, 60, (tensor.shape[0], tensor.shape[1] // 256 * 144), generator=generator)
            writer.add_tensor(name, blocks.to(torch.uint8).numpy(), raw_dtype=kind)
        else:
            writer.add_tensor(name, tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    full.save_config(tmp_path)
    k_quants = require_backend("gguf:Q4_K", host="diffusers", operation="load")
    loaded = k_quants.load(type(full), path, compute_dtype=torch.bfloat16)
    k_quants.save(loaded, again)
    assert kinds(again)["transformer_blocks.0.ff.net.2.weight"] == "Q4_K"
    assert read_header(again).scheme == "Q4_K_M"
    assert torch.equal(models.run_flux(gguf.load(type(full), again)), models.run_flux(loaded))


# transformers


def llama_file(model: Any, path: str) -> None:
    """A file of llama.cpp's names and fields, in Q8_0 where the rows fill blocks."""
    import gguf as package

    config = model.config
    writer = package.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(int(package.LlamaFileType.MOSTLY_Q8_0))
    names = package.get_tensor_name_map(package.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        numbers = tensor.float()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        if heads:  # llama.cpp turns the halves of each head into pairs
            numbers = numbers.reshape(heads, 2, -1, numbers.shape[1]).swapaxes(1, 2).reshape(numbers.shape)
        new = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if numbers.dim() == 2:
            kind = package.GGMLQuantizationType.Q8_0
            writer.add_tensor(new, package.quants.quantize(numbers.contiguous().numpy(), kind), raw_dtype=kind)
        else:
            writer.add_tensor(new, numbers.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.envguard("gguf", host="transformers")
def test_a_file_of_llama_cpp_is_loaded_by_transformers(gguf: envguard.Guarded, file: str) -> None:
    full = models.llama()
    llama_file(full, file)
    model = gguf.load(type(full), file, compute_dtype=torch.bfloat16)
    assert model.dtype is torch.bfloat16
    assert str(model.device) == gguf.device
    assert models.error(models.run_llama(model), models.run_llama(full)) < 0.03
    assert type(model.model.layers[0].mlp.up_proj) is torch.nn.Linear
    with pytest.raises(envguard.BadInput, match="copy the file that it came from"):
        gguf.save(model, file)
    again = envguard.load(type(full), str(Path(file).parent), gguf_file="model.gguf", torch_dtype=torch.bfloat16)
    assert torch.equal(models.run_llama(again).cpu(), models.run_llama(model).cpu())


@pytest.mark.envguard("gguf", host="transformers")
def test_an_architecture_that_transformers_does_not_know_is_refused_in_one_line(
    gguf: envguard.Guarded, file: str
) -> None:
    fields = [model_files.text_field("general.architecture", "unheard"), model_files.text_field("general.name", "x")]
    Path(file).write_bytes(model_files.gguf_bytes({"token_embd.weight": ("F32", [4, 4])}, fields))
    with pytest.raises(envguard.BadInput, match=r"transformers cannot load it: .*unheard"):
        gguf.load(type(models.llama()), file)


@pytest.mark.envguard("gguf", host="transformers")
@pytest.mark.parametrize("tied", [False, True])
def test_a_transformers_model_is_written_with_its_own_names_and_read_again(
    gguf: envguard.Guarded, file: str, tied: bool
) -> None:
    from transformers import AutoModelForCausalLM

    full = models.llama(torch.float32)
    for tensor in full.parameters():  # not the frequencies of its rotary embedding, which nobody writes
        tensor.data = tensor.data.bfloat16()
    if tied:
        full.config.tie_word_embeddings = True
        full.lm_head.weight = full.model.embed_tokens.weight
    wanted = models.run_llama(full)
    quantized = gguf.quantize(full, "Q8_0", file)
    found = models.run_llama(quantized)
    assert models.error(found, wanted) < 0.03
    assert kinds(file)["model.layers.0.mlp.up_proj.weight"] == "Q8_0"
    assert ("lm_head.weight" in kinds(file)) is not tied
    for cls in (type(full), AutoModelForCausalLM):
        again = gguf.load(cls, file)
        assert torch.equal(models.run_llama(again), found)
        assert (again.lm_head.weight is again.model.embed_tokens.weight) is tied


def test_a_gguf_file_is_refused_by_another_backend(
    require_backend: Callable[..., envguard.Guarded], gguf: envguard.Guarded, file: str
) -> None:
    gguf.quantize(models.small(), "Q8_0", file)
    quanto = require_backend("quanto", host="none")
    with pytest.raises(envguard.BadInput, match="is quantized as gguf:Q8_0, not with quanto"):
        quanto.load(models.small, file, "int8")
    with pytest.raises(envguard.UnknownOption, match="quanto has no option 'path' to quantize; it has exclude"):
        quanto.quantize(models.small(), "int8", file)
