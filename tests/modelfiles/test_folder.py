"""What a model on disk is made of."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from model_files import gguf_bytes, safetensors_bytes, saved, text_field, u32

from envguard.errors import BadModel
from envguard.modelfiles.folder import Component, inspect, tensors_of

WEIGHTS = safetensors_bytes({"a.weight": ("BF16", [4, 4]), "a.bias": ("BF16", [4])})
FLUX = {"_class_name": "FluxTransformer2DModel", "_diffusers_version": "0.42.1"}
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
BASE = "diffusion_pytorch_model"
NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


def config(folder: Path, data: Any, name: str = "config.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(data), encoding="utf-8")
    return folder


def weights(folder: Path, *names: str) -> Path:
    for name in names:
        saved(folder, WEIGHTS, name)
    return folder


def only(path: Path) -> Component:
    (component,) = inspect(path).components
    return component


def files(component: Component) -> list[str]:
    return [os.path.basename(file) for file in component.files]


def refused(path: Path) -> str:
    with pytest.raises(BadModel) as caught:
        [tensors_of(component) for component in inspect(path).components]
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_a_diffusers_model(tmp_path: Path) -> None:
    path = weights(config(tmp_path, {**FLUX, "quantization_config": NF4}), "diffusion_pytorch_model.safetensors")
    model = inspect(path)
    (component,) = model.components
    assert model.kind == "diffusers model"
    assert (component.host, component.class_name, component.weights) == (
        "diffusers", "FluxTransformer2DModel", "safetensors"
    )  # fmt: skip
    assert component.quantized is not None
    assert component.quantized.spec == "bitsandbytes:nf4"
    assert component.stored == len(WEIGHTS)
    assert [tensor.name for tensor in tensors_of(component)] == ["a.weight", "a.bias"]


def test_a_transformers_model(tmp_path: Path) -> None:
    model = inspect(weights(config(tmp_path, LLAMA), "model.safetensors"))
    assert model.kind == "transformers model"
    assert (model.components[0].host, model.components[0].class_name) == ("transformers", "LlamaForCausalLM")


def test_the_text_model_of_a_larger_one_may_be_the_quantized_part(tmp_path: Path) -> None:
    path = weights(config(tmp_path, {**LLAMA, "text_config": {"quantization_config": NF4}}), "model.safetensors")
    assert only(path).quantized is not None


def test_modelopts_and_quantos_own_files_are_read(tmp_path: Path) -> None:
    one = weights(config(tmp_path / "one", LLAMA), "model.safetensors")
    config(one, {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}, "hf_quant_config.json")
    two = weights(config(tmp_path / "two", FLUX), "diffusion_pytorch_model.safetensors")
    config(two, {"a": {"weights": "qint4", "activations": "none"}}, "quanto_qmap.json")
    specs = [found.quantized and found.quantized.spec for found in (only(one), only(two))]
    assert specs == ["modelopt:fp8", "quanto:int4"]


def pipeline(folder: Path, **entries: Any) -> Path:
    config(folder, {"_class_name": "FluxPipeline", "_diffusers_version": "0.42.1", **entries}, "model_index.json")
    config(folder / "transformer", FLUX)
    weights(folder / "transformer", "diffusion_pytorch_model.safetensors")
    config(folder / "text_encoder_2", {**LLAMA, "quantization_config": NF4})
    weights(folder / "text_encoder_2", "model.safetensors")
    config(folder / "scheduler", {}, "scheduler_config.json")
    config(folder / "tokenizer", {}, "tokenizer_config.json")
    return folder


PARTS = {
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "tokenizer": ["transformers", "T5TokenizerFast"],
    "image_encoder": [None, None],
    "requires_safety_checker": True,
}


def test_a_pipeline_has_the_components_that_hold_weights(tmp_path: Path) -> None:
    model = inspect(pipeline(tmp_path, **PARTS))
    assert model.kind == "diffusers pipeline"
    assert [(c.name, c.host, c.class_name, c.quantized and c.quantized.spec) for c in model.components] == [
        ("transformer", "diffusers", "FluxTransformer2DModel", None),
        ("text_encoder_2", "transformers", "T5EncoderModel", "bitsandbytes:nf4"),
    ]


def test_an_unknown_library_leaves_the_host_to_the_name(tmp_path: Path) -> None:
    entries = {"transformer": ["own_module", "Own"], "text_encoder_2": ["own_module", "Own"]}
    found = inspect(pipeline(tmp_path, **entries)).components
    assert [component.host for component in found] == ["diffusers", "transformers"]


def test_a_folder_of_a_pipeline_that_is_not_there_is_told(tmp_path: Path) -> None:
    said = refused(pipeline(tmp_path, **PARTS, vae=["diffusers", "AutoencoderKL"]))
    assert "expected the folder 'vae' of model_index.json, found none: is all downloaded?" in said


def test_a_component_without_its_weights_is_told(tmp_path: Path) -> None:
    path = pipeline(tmp_path, **PARTS, vae=["diffusers", "AutoencoderKL"])
    config(path / "vae", {"_class_name": "AutoencoderKL"})
    assert "expected weights beside its config.json, found none: is all downloaded?" in refused(path)


@pytest.mark.parametrize("name", ["../secret", "/etc", "a/b", "..", "a\\..\\b"])
def test_a_component_may_not_leave_the_folder(tmp_path: Path, name: str) -> None:
    assert "expected the name of a folder in it" in refused(pipeline(tmp_path, **{name: ["diffusers", "Model"]}))


def test_a_pipeline_of_nothing_is_refused(tmp_path: Path) -> None:
    assert "expected a component with weights, found none" in refused(pipeline(tmp_path, scheduler=PARTS["scheduler"]))


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([f"{BASE}.safetensors", f"{BASE}.fp16.safetensors"], f"{BASE}.safetensors"),
        ([f"{BASE}.non_ema.safetensors", f"{BASE}.fp16.safetensors"], f"{BASE}.fp16.safetensors"),
        ([f"{BASE}.bin", "diffusion_flax_model.msgpack", "other.safetensors"], "other.safetensors"),
    ],
)
def test_the_file_that_the_host_would_load_is_chosen(tmp_path: Path, names: list[str], chosen: str) -> None:
    assert files(only(weights(config(tmp_path, FLUX), *names))) == [chosen]


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["diffusion_pytorch_model.bin"], "torch"),
        (["diffusion_pytorch_model.bin", "diffusion_flax_model.msgpack"], "torch"),
        (["diffusion_flax_model.msgpack"], "flax"),
        ([], "none"),
    ],
)
def test_weights_that_are_no_safetensors_are_named(tmp_path: Path, names: list[str], kind: str) -> None:
    component = only(weights(config(tmp_path, FLUX), *names))
    assert component.weights == kind
    assert tensors_of(component) == ()


def sharded(folder: Path, index: Any, name: str = "diffusion_pytorch_model.safetensors.index.json") -> Path:
    config(folder, FLUX)
    saved(folder, safetensors_bytes({"a": ("F32", [4])}), "s-00001-of-00002.safetensors")
    saved(folder, safetensors_bytes({"b": ("F32", [8])}), "s-00002-of-00002.safetensors")
    return config(folder, index, name)


WHOLE = {
    "metadata": {"total_size": 48},
    "weight_map": {"a": "s-00001-of-00002.safetensors", "b": "s-00002-of-00002.safetensors"},
}


@pytest.mark.parametrize("variant", ["", "fp16."])
def test_an_index_is_followed(tmp_path: Path, variant: str) -> None:
    path = sharded(tmp_path, WHOLE, f"diffusion_pytorch_model.safetensors.index.{variant}json")
    assert [tensor.name for tensor in tensors_of(only(path))] == ["a", "b"]


OUTSIDE = "expected the name of a .safetensors file in the folder"


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({"weight_map": {"a": "../s-00001-of-00002.safetensors"}}, OUTSIDE),
        ({"weight_map": {"a": "/etc/x.safetensors"}}, OUTSIDE),
        ({"weight_map": {"a": "C:x.safetensors"}}, OUTSIDE),
        ({"weight_map": {"a": "..\\x.safetensors"}}, OUTSIDE),
        ({"weight_map": {"a": "a\nb.safetensors"}}, OUTSIDE),
        ({"weight_map": {"a": "pytorch_model.bin"}}, OUTSIDE),
        ({"weight_map": {"a": 1}}, "found no string"),
        ({"weight_map": {"a": "s-00003-of-00003.safetensors"}}, "expected the file 's-00003-of-00003.saf"),
        ({"weight_map": {}}, "weight_map: expected tensors and their files, found none"),
        ({"metadata": {}}, "weight_map: expected tensors and their files, found none"),
        ([], "expected an object"),
    ],
)  # fmt: skip
def test_an_index_that_leaves_the_folder_or_names_nothing_is_refused(tmp_path: Path, index: Any, said: str) -> None:
    assert said in refused(sharded(tmp_path, index))


def test_shards_without_an_index_are_told(tmp_path: Path) -> None:
    path = sharded(tmp_path, {})
    (path / "diffusion_pytorch_model.safetensors.index.json").unlink()
    assert "expected an index beside 's-00001-of-00002.safetensors'" in refused(path)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    path = sharded(tmp_path, WHOLE)
    saved(path, safetensors_bytes({"a": ("F32", [8])}), "s-00002-of-00002.safetensors")
    assert "found it in two files" in refused(path)


@pytest.mark.skipif(sys.platform == "win32", reason="only on systems where anybody may make symbolic links")
def test_links_as_in_the_cache_of_the_hub_are_followed(tmp_path: Path) -> None:
    blob = saved(tmp_path / "blobs", WEIGHTS, "0f")
    folder = config(tmp_path / "snapshots" / "abc", FLUX)
    (folder / "diffusion_pytorch_model.safetensors").symlink_to(os.path.relpath(blob, folder))
    assert len(tensors_of(only(folder))) == 2


@pytest.mark.parametrize(
    ("fields", "host"),
    [
        ([text_field("general.architecture", "flux"), u32("general.file_type", 14)], "diffusers"),
        ([text_field("general.architecture", "llama"), text_field("tokenizer.ggml.model", "bpe")], "transformers"),
    ],
)
def test_a_gguf_file(tmp_path: Path, fields: list[bytes], host: str) -> None:
    path = saved(tmp_path, gguf_bytes({"a": ("Q4_K", [4, 256]), "b": ("F32", [4])}, fields), "it.gguf")
    for place in (path, tmp_path):
        model = inspect(place)
        (component,) = model.components
        assert (model.kind, component.host, component.weights) == ("gguf", host, "gguf")
        assert component.quantized is not None
        assert component.quantized.spec == ("gguf:Q4_K_S" if host == "diffusers" else "gguf:Q4_K")


def test_a_safetensors_file_is_known_by_its_content(tmp_path: Path) -> None:
    data = safetensors_bytes({"a.weight": ("U8", [8, 1]), "a.weight.quant_state.bitsandbytes__fp4": ("U8", [9])})
    model = inspect(saved(tmp_path, data, "blob"))
    assert model.kind == "safetensors"
    assert model.components[0].quantized is not None
    assert model.components[0].quantized.spec == "bitsandbytes:fp4"


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("it.bin", b"\x80\x02}", "found a pickle, which can run code when it is read"),
        ("it.onnx", b"xxxxxxxxxxxx", "found 'it.onnx'"),
        ("it.gguf", b"GGUF", "expected a GGUF file of 24 bytes or more"),
        ("it.safetensors", b"", "expected a safetensors file of 8 bytes or more"),
        ("config.json", b"[" * 10_000, "config.json"),
        ("config.json", b"[]", "expected a JSON object, found []"),
        ("config.json", b'{"architectures": 1, "quantization_config": "nf4"}', "expected an object, found 'nf4'"),
        ("config.json", b'{"architectures": 1, "quantization_config": {"quant_method": "awq"}}', "found 'awq'"),
        ("model_index.json", b"{}", "expected a component with weights, found none"),
        ("README.md", b"", "expected model_index.json or config.json of diffusers or transformers"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    path = saved(tmp_path, data, name)
    assert said in refused(tmp_path if name.endswith((".json", ".md")) else path)


def test_several_single_files_are_not_chosen_from(tmp_path: Path) -> None:
    saved(tmp_path, gguf_bytes({}), "a.gguf")
    saved(tmp_path, gguf_bytes({}), "b.gguf")
    assert "found 2 such files ('a.gguf', ...): name one of them" in refused(tmp_path)


def test_a_path_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "cannot be read: No such file or directory" in refused(tmp_path / "none")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="only on systems with named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "it.gguf")
    assert "it is no file" in refused(tmp_path)
