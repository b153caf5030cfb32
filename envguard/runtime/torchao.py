"""torchao: quantization as a tensor subclass of a linear layer's weight."""

from __future__ import annotations
