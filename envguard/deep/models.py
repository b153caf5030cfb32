"""Tiny models with random weights, the same in every run, of sizes that fit every scheme (multiples of 256).

Imported in the child process alone: it imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH = 256
_INNER = 512


class Tiny(NamedTuple):
    """A model in bfloat16, its class (for no host a callable that makes one), and a forward pass of one like it."""

    cls: Any
    model: Any
    run: Callable[[Any], torch.Tensor]


class Plain(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """A module of no host: two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        _fill(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The output for a batch of vectors."""
        return _forward(self, x)


def make(host: str, backend: str) -> Tiny:
    """The model of a host, in eval mode on the CPU."""
    torch.manual_seed(0)
    # not made in float32 and turned into bfloat16: that would round what models compute their positions from, too
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        if host == "transformers":
            cls, model, run = _llama()
        elif host == "diffusers" and backend == "gguf":
            cls, model, run = _flux()
        else:
            cls, model, run = (*_of_diffusers(), _run) if host == "diffusers" else (Plain, Plain(), _run)
    finally:
        torch.set_default_dtype(before)
    return Tiny(cls, model.eval(), run)


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The relative error, as norm of the difference by the norm of what is wanted; 0.0 for equal ones alone."""
    if torch.equal(found, wanted):
        return 0.0
    found, wanted = found.float().cpu(), wanted.float().cpu()
    return float((found - wanted).norm() / wanted.norm())


def _random(model: Any, *shape: int) -> torch.Tensor:
    """Random numbers of bfloat16 where a model is, the same in every call."""
    numbers = torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    return numbers.to(next(model.parameters()).device, torch.bfloat16)


def _fill(model: Any) -> None:
    model.first = torch.nn.Linear(WIDTH, _INNER)
    model.second = torch.nn.Linear(_INNER, WIDTH)


def _forward(model: Any, x: torch.Tensor) -> torch.Tensor:
    output: torch.Tensor = model.second(torch.nn.functional.gelu(model.first(x)))
    return output


def _run(model: Any) -> torch.Tensor:
    output: torch.Tensor = model(_random(model, 4, WIDTH))
    return output


def _of_diffusers() -> tuple[Any, Any]:
    """The same two layers in a class of diffusers, which its quantizers treat as any other."""
    from diffusers import ConfigMixin, ModelMixin
    from diffusers.configuration_utils import register_to_config

    class TinyModel(ModelMixin, ConfigMixin):  # type: ignore[misc, unused-ignore]
        @register_to_config  # type: ignore[untyped-decorator, unused-ignore]
        def __init__(self, width: int = WIDTH) -> None:  # noqa: ARG002 - a configuration has to hold something
            super().__init__()
            _fill(self)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return _forward(self, x)

    return TinyModel, TinyModel()


def _flux() -> tuple[Any, Any, Any]:
    """A class that diffusers knows: it reads GGUF files into no others."""
    from diffusers import FluxTransformer2DModel

    def run(model: Any) -> torch.Tensor:
        output: torch.Tensor = model(
            hidden_states=_random(model, 1, 8, 16),
            encoder_hidden_states=_random(model, 1, 4, WIDTH),
            pooled_projections=_random(model, 1, WIDTH),
            timestep=torch.tensor([0.5], device=model.device, dtype=torch.bfloat16),
            img_ids=torch.zeros(8, 3, device=model.device),
            txt_ids=torch.zeros(4, 3, device=model.device),
            return_dict=False,
        )[0]
        return output

    model = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=32,
        num_attention_heads=WIDTH // 32,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(8, 12, 12),
    )
    return FluxTransformer2DModel, model, run


def _llama() -> tuple[Any, Any, Any]:
    """The quantizers of transformers want a whole language model, with its embeddings and its head."""
    from transformers import LlamaConfig, LlamaForCausalLM

    def run(model: Any) -> torch.Tensor:
        output: torch.Tensor = model(torch.tensor([[1, 5, 9, 2, 7]], device=model.device)).logits
        return output

    config = LlamaConfig(
        vocab_size=WIDTH,
        hidden_size=WIDTH,
        intermediate_size=_INNER,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
    )
    return LlamaForCausalLM, LlamaForCausalLM(config), run
