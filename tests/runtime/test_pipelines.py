"""Pipelines whose components differ, and models that say themselves how they are quantized."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import pytest
import torch

import envguard

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
DEVICE = "cpu"


@pytest.mark.envguard("quanto:int8", host="diffusers", device=DEVICE)
@pytest.mark.envguard("torchao:int8_weight_only", host="transformers", device=DEVICE)
def test_each_component_gets_the_configuration_of_its_own_library() -> None:
    made = envguard.pipeline_config(
        {"transformer": "quanto:int8", "text_encoder_2": ("torchao:int8wo", {"exclude": ["lm_head"]})}, device=DEVICE
    )
    assert type(made).__name__ == "PipelineQuantizationConfig"
    assert type(made.quant_mapping["transformer"]).__module__.startswith("diffusers.")
    assert type(made.quant_mapping["text_encoder_2"]).__module__.startswith("transformers.")
    assert made.quant_mapping["text_encoder_2"].modules_to_not_convert == ["lm_head"]


def test_the_failures_of_all_components_are_told_together() -> None:
    with pytest.raises(envguard.RequirementsNotMet) as raised:
        envguard.pipeline_config({"transformer": "bnb:int8", "text_encoder": "torchao:nvfp4_dynamic"}, device=DEVICE)
    report = raised.value.report
    assert [each.request.backend for each in report.backends] == ["bitsandbytes", "torchao"]
    assert [each.request.host for each in report.backends] == ["diffusers", "transformers"]
    assert "torchao/scheme-device" in str(raised.value)


def test_the_library_of_a_component_is_read_from_the_pipeline(tmp_path: Path) -> None:
    index = {
        "_class_name": "FluxPipeline",
        "text_encoder": ["diffusers", "Own"],
        "transformer": ["diffusers", "FluxTransformer2DModel"],
    }
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(envguard.RequirementsNotMet) as raised:
        envguard.pipeline_config({"text_encoder": "torchao:nvfp4_dynamic"}, str(tmp_path), device=DEVICE)
    assert raised.value.report.backends[0].request.host == "diffusers"
    with pytest.raises(envguard.BadModel, match="no component 'unet'; it has text_encoder, transformer"):
        envguard.pipeline_config({"unet": "torchao:int8wo"}, str(tmp_path), device=DEVICE)


def test_a_component_without_a_scheme_lists_those_there_are() -> None:
    with pytest.raises(
        envguard.UnknownScheme, match="transformer: expected a scheme, as in quanto:SCHEME; known are int8"
    ):
        envguard.pipeline_config({"transformer": "quanto"})


def test_no_component_at_all_is_told() -> None:
    with pytest.raises(envguard.BadInput, match="expected a component"):
        envguard.pipeline_config({})


@pytest.mark.envguard("quanto:int8", host="diffusers", device=DEVICE)
def test_a_quantized_folder_says_itself_what_loads_it(
    require_backend: Callable[..., envguard.Guarded], tmp_path: Path
) -> None:
    quanto = require_backend("quanto", device=DEVICE)
    model = models.flux()
    model.save_pretrained(tmp_path / "full")
    quantized = quanto.load(type(model), str(tmp_path / "full"), "int8", torch_dtype=torch.bfloat16)
    quanto.save(quantized, str(tmp_path / "quantized"))
    again = envguard.load(type(model), str(tmp_path / "quantized"), device=DEVICE, torch_dtype=torch.bfloat16)
    assert torch.equal(models.run_flux(again), models.run_flux(quantized))
    with pytest.raises(envguard.BadInput, match="is not quantized"):
        envguard.load(type(model), str(tmp_path / "full"), device=DEVICE)
    with pytest.raises(envguard.SchemeConflict, match="is quantized as quanto:int8"):
        quanto.load(type(model), str(tmp_path / "quantized"), "float8")
    with pytest.raises(envguard.BadInput, match="is quantized as quanto:int8, not with torchao"):
        require_backend("torchao", device=DEVICE).load(type(model), str(tmp_path / "quantized"))


@pytest.mark.envguard("quanto:int8", host="none", device=DEVICE)
def test_what_save_wrote_says_itself_what_loads_it(
    require_backend: Callable[..., envguard.Guarded], tmp_path: Path
) -> None:
    quanto = require_backend("quanto", device=DEVICE, host="none")
    quantized = quanto.quantize(models.small(), "int8")
    quanto.save(quantized, str(tmp_path))
    again: Any = envguard.load(models.small, str(tmp_path), device=DEVICE)
    assert torch.equal(again(models.inputs()), quantized(models.inputs()))
    with pytest.raises(envguard.UnknownOption, match="'torch_dtype'"):
        envguard.load(models.small, str(tmp_path), device=DEVICE, torch_dtype=torch.float16)


@pytest.mark.envguard("quanto", host="diffusers", device=DEVICE)
def test_a_pipeline_class_is_pointed_to_the_pipelines_configuration(
    require_backend: Callable[..., envguard.Guarded], tmp_path: Path
) -> None:
    from diffusers import FluxPipeline

    with pytest.raises(envguard.BadInput, match=r"envguard\.pipeline_config"):
        require_backend("quanto", device=DEVICE).load(FluxPipeline, str(tmp_path), "int8")


def test_a_damaged_description_is_one_clear_line(tmp_path: Path) -> None:
    for text, expected in (("[]", "schema: expected a str"), ("{", "envguard.json: "), ('{"schema": 3}', "schema: ")):
        (tmp_path / "envguard.json").write_text(text)
        with pytest.raises(envguard.BadModel, match=expected) as raised:
            envguard.load(models.small, str(tmp_path), device=DEVICE)
        assert "\n" not in str(raised.value)


def tiny_pipeline() -> Any:
    """A whole pipeline that needs no tokenizer: a UNet with attention, and a scheduler."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )
    return DDPMPipeline(unet, DDPMScheduler())


def run_unet(pipeline: Any) -> torch.Tensor:
    sample = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output: torch.Tensor = pipeline.unet(sample, 5).sample
    return output


@pytest.mark.envguard("quanto:int8", host="diffusers", device=DEVICE)
def test_a_pipeline_is_loaded_quantized_saved_and_loaded_by_what_it_says_itself(tmp_path: Path) -> None:
    full = tiny_pipeline()
    full.save_pretrained(tmp_path / "full")
    config = envguard.pipeline_config({"unet": "quanto:int8"}, str(tmp_path / "full"), device=DEVICE)
    quantized = type(full).from_pretrained(tmp_path / "full", quantization_config=config)
    kinds = {type(each).__name__ for each in quantized.unet.modules()}
    assert "QLinear" in kinds
    assert models.error(run_unet(quantized), run_unet(full)) < 0.05
    quantized.save_pretrained(tmp_path / "quantized")
    again = envguard.load(type(full), str(tmp_path / "quantized"), device=DEVICE)
    assert torch.equal(run_unet(again), run_unet(quantized))
    with pytest.raises(envguard.BadInput, match=r"no component of .* is quantized"):
        envguard.load(type(full), str(tmp_path / "full"), device=DEVICE)


def tiny_flux() -> Any:
    """A whole Flux pipeline but for its tokenizers: both libraries have a part in it."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    torch.manual_seed(0)
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKL(latent_channels=4, block_out_channels=(4,), norm_num_groups=1),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1)
        ),
        tokenizer=None,
        text_encoder_2=T5EncoderModel(T5Config(vocab_size=64, d_model=64, d_kv=16, d_ff=128, num_layers=1)),
        tokenizer_2=None,
        transformer=FluxTransformer2DModel(
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=4,
            joint_attention_dim=64,
            pooled_projection_dim=32,
            in_channels=16,
            axes_dims_rope=(4, 4, 8),
        ),
    ).to(torch.bfloat16)


def flux_image(pipeline: Any) -> torch.Tensor:
    """Two steps from fixed embeddings, as latents."""
    generator = torch.Generator().manual_seed(1)
    encoded = pipeline.text_encoder_2(torch.arange(8)[None])[0].to(torch.bfloat16)
    output: torch.Tensor = pipeline(
        prompt_embeds=encoded,
        pooled_prompt_embeds=torch.randn(1, 32, generator=generator).to(torch.bfloat16),
        height=16,
        width=16,
        num_inference_steps=2,
        generator=generator,
        output_type="latent",
    ).images
    return output


@pytest.mark.envguard("torchao:int8_weight_only", host="diffusers", device=DEVICE)
@pytest.mark.envguard("quanto:int8", host="transformers", device=DEVICE)
def test_a_pipeline_of_both_libraries_runs_with_a_backend_for_each_component(tmp_path: Path) -> None:
    full = tiny_flux()
    full.save_pretrained(tmp_path)
    config = envguard.pipeline_config(
        {"transformer": "torchao:int8_weight_only", "text_encoder_2": "quanto:int8"}, str(tmp_path), device=DEVICE
    )
    quantized = type(full).from_pretrained(
        tmp_path, quantization_config=config, torch_dtype=torch.bfloat16, tokenizer=None, tokenizer_2=None
    )
    weights = {type(each.weight).__name__ for each in quantized.transformer.modules() if hasattr(each, "in_features")}
    assert weights == {"Int8Tensor"}
    assert "QLinear" in {type(each).__name__ for each in quantized.text_encoder_2.modules()}
    assert "QLinear" not in {type(each).__name__ for each in quantized.text_encoder.modules()}
    assert models.error(flux_image(quantized).float(), flux_image(full).float()) < 0.1
