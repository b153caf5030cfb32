"""Tiny models with random weights, the same in every run: two linear layers of sizes that fit every scheme.

Imported in the child process alone: it imports torch.
"""

from __future__ import annotations

from typing import Any

import torch

WIDTH = 256
_INNER = 512


class Plain(torch.nn.Module):
    """A module of no host."""

    def __init__(self) -> None:
        super().__init__()
        _fill(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The output for a batch of vectors."""
        return _run(self, x)


def make(host: str) -> tuple[Any, torch.nn.Module]:
    """The class of a host's model (for none a callable that makes one), and a model of it in bfloat16."""
    if host == "diffusers":
        cls, model = _of_diffusers()
    elif host == "transformers":
        cls, model = _of_transformers()
    else:
        cls, model = Plain, Plain()
    return cls, model.to(torch.bfloat16).eval()


def inputs(device: str = "cpu") -> torch.Tensor:
    """A batch of 4 vectors."""
    return torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(1)).to(device, torch.bfloat16)


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The relative error, as norm of the difference by the norm of what is wanted; 0.0 for equal ones alone."""
    if torch.equal(found, wanted):
        return 0.0
    found, wanted = found.float().cpu(), wanted.float().cpu()
    return float((found - wanted).norm() / wanted.norm())


def _fill(model: Any) -> None:
    torch.manual_seed(0)
    model.first = torch.nn.Linear(WIDTH, _INNER)
    model.second = torch.nn.Linear(_INNER, WIDTH)


def _run(model: Any, x: torch.Tensor) -> torch.Tensor:
    output: torch.Tensor = model.second(torch.nn.functional.gelu(model.first(x)))
    return output


def _of_diffusers() -> tuple[Any, Any]:
    from diffusers import ConfigMixin, ModelMixin
    from diffusers.configuration_utils import register_to_config

    class Tiny(ModelMixin, ConfigMixin):  # type: ignore[misc]
        @register_to_config  # type: ignore[untyped-decorator]
        def __init__(self, width: int = WIDTH) -> None:
            super().__init__()
            _fill(self)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return _run(self, x)

    return Tiny, Tiny()


def _of_transformers() -> tuple[Any, Any]:
    from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

    class TinyConfig(PretrainedConfig):  # type: ignore[misc]
        model_type = "envguard-tiny"

    class Tiny(PreTrainedModel):  # type: ignore[misc]
        config_class = TinyConfig

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            _fill(self)
            self.post_init()

        def _init_weights(self, module: Any) -> None:
            """Nothing: the layers are filled by torch."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return _run(self, x)

    AutoConfig.register(TinyConfig.model_type, TinyConfig, exist_ok=True)
    return Tiny, Tiny(TinyConfig())
