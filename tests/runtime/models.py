"""Small models with random weights, the same in every run."""

from __future__ import annotations

from typing import Any

import torch


def small(dtype: torch.dtype = torch.bfloat16, width: int = 256) -> torch.nn.Module:
    """Two linear layers, of `width` to 512 and back, with what is never quantized around them."""
    torch.manual_seed(0)
    layers = [
        torch.nn.Linear(width, 512),
        torch.nn.GELU(),
        torch.nn.LayerNorm(512),
        torch.nn.Linear(512, width, bias=False),
    ]
    return torch.nn.Sequential(*layers).to(dtype).eval()


def inputs(dtype: torch.dtype = torch.bfloat16, width: int = 256, device: str = "cpu") -> torch.Tensor:
    """A batch of 4 vectors."""
    return torch.randn(4, width, generator=torch.Generator().manual_seed(1)).to(device, dtype)


def flux(dtype: torch.dtype = torch.bfloat16, heads: int = 4) -> Any:
    """A FluxTransformer2DModel of some 2 million parameters, 32 columns for each head."""
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(0)
    return (
        FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=2,
            attention_head_dim=32,
            num_attention_heads=heads,
            joint_attention_dim=64,
            pooled_projection_dim=64,
            axes_dims_rope=(8, 12, 12),
        )
        .to(dtype)
        .eval()
    )


def run_flux(model: Any) -> torch.Tensor:
    """One forward pass of `flux()` on 8 image and 4 text tokens, where the model is."""
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(model.device, model.dtype)

    with torch.no_grad():
        output: torch.Tensor = model(
            hidden_states=random(1, 8, 16),
            encoder_hidden_states=random(1, 4, 64),
            pooled_projections=random(1, 64),
            timestep=torch.tensor([0.5], device=model.device, dtype=model.dtype),
            img_ids=torch.zeros(8, 3, device=model.device),
            txt_ids=torch.zeros(4, 3, device=model.device),
            return_dict=False,
        )[0]
    return output


def llama(dtype: torch.dtype = torch.bfloat16, width: int = 128) -> Any:
    """A LlamaForCausalLM of two layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=width,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def run_llama(model: Any) -> torch.Tensor:
    """The logits for five tokens."""
    with torch.no_grad():
        output: torch.Tensor = model(torch.tensor([[1, 5, 9, 2, 7]], device=model.device)).logits
    return output


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The relative error, as norm of the difference by the norm of what is wanted."""
    found, wanted = found.float().cpu(), wanted.float().cpu()
    return float((found - wanted).norm() / wanted.norm())
