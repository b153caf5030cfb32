"""One tensor of a file, as its header describes it."""

from __future__ import annotations

from envguard.frozen import Frozen


class Tensor(Frozen):
    """`dtype` is safetensors' name ("BF16") or GGUF's ("Q4_K"); `shape` is in torch's order, the outermost first."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int

    @property
    def count(self) -> int:
        """How many numbers it holds, in whatever encoding."""
        count = 1
        for size in self.shape:
            count *= size
        return count
