"""How many bytes a component's weights take in a scheme, from the headers of its files alone.

Each backend's arithmetic is read from its own code and held to really quantized modules by tests/test_sizes.py: the
packed numbers, scales, zero points and lookup tables of each layer, the layers that a host leaves as they are, and
those whose shape a scheme does not take. Headers do not say which weights belong to linear layers, so that follows
from number of dimensions and name.
"""

from __future__ import annotations

from envguard.frozen import Frozen
from envguard.modelfiles.gguf import BLOCKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeAlias

    from envguard.modelfiles.tensors import Tensor

    # rows, columns and the bytes of a full-precision number -> bytes; None where the scheme does not take the shape
    Rule: TypeAlias = Callable[[int, int, int], "int | None"]


class Size(Frozen):
    """Bytes: in quantized layers with all that belongs to them, in everything that is kept, and together."""

    total: int
    quantized: int
    kept: int


# diffusers 0.42.1: _keep_in_fp32_modules. Every quantizer of it keeps them in float32, and out of its own layers.
_FLOAT32 = {
    "AnyFlowFARTransformer3DModel": ("time_embedder", "scale_shift_table", "norm1", "norm2", "norm3"),
    "AnyFlowTransformer3DModel": ("time_embedder", "scale_shift_table", "norm1", "norm2", "norm3"),
    "ChronoEditTransformer3DModel": ("time_embedder", "scale_shift_table", "norm1", "norm2", "norm3"),
    "Cosmos3OmniTransformer": ("time_embedder",),
    "CosmosControlNetModel": ("learnable_pos_embed",),
    "CosmosTransformer3DModel": ("learnable_pos_embed",),
    "Flux3Transformer2DModel": ("norm_q", "norm_k"),
    "HeliosTransformer3DModel": ("time_embedder", "scale_shift_table", "norm1", "norm2", "norm3", "history_key_scale"),
    "JoyImageEditPlusTransformer3DModel": ("time_embedder", "norm1", "norm2", "norm_out"),
    "JoyImageEditTransformer3DModel": ("time_embedder", "norm1", "norm2", "norm_out"),
    "Kandinsky5Transformer3DModel": ("time_embeddings", "modulation", "visual_modulation", "text_modulation"),
    "Kandinsky6SRTransformer3DModel": ("time_embeddings", "pooled_bias", "modulation"),
    "Kandinsky6Transformer3DModel": ("time_embeddings", "modulation"),
    "Krea2Transformer2DModel": ("norm", "norm1", "norm2", "norm_q", "norm_k"),
    "MiniMaxH3Transformer3DModel": ("proj_in", "audio_proj_in", "time_embedder", "proj_out", "audio_proj_out", "rope"),
    "SkyReelsV2Transformer3DModel": ("rope", "time_embedder", "scale_shift_table", "norm1", "norm2", "norm3"),
    "WanAnimate2Transformer3DModel": (
        *("time_embedding", "time_projection", "scale_shift_table", "norm1", "norm2", "norm3", "modulation"),
    ),
    "WanAnimateTransformer3DModel": (
        *("time_embedder", "scale_shift_table", "norm1", "norm2", "norm3", "motion_synthesis_weight", "rope"),
    ),
    "WanTransformer3DModel": ("rope", "time_embedder", "scale_shift_table", "norm1", "norm2", "norm3"),
    "WanVACETransformer3DModel": ("rope", "time_embedder", "scale_shift_table", "norm1", "norm2", "norm3"),
}
# transformers 5.23: left out by bitsandbytes and quanto, but float32 only where float16 is asked for
_WO_KEPT = ("t5", "mt5", "umt5", "udop", "pop2piano")
# what transformers never converts: the output embeddings and the last module (quantizers/base.py)
_HEADS = ("lm_head", "embed_out", "score", "classifier", "qa_outputs", "output_projection")
_EMBEDDINGS = (
    *("embed_in", "embed_positions", "embed_tokens", "embedding", "embedding_table", "embeddings"),
    *("patch_position_embeddings", "position_embedding", "position_embeddings", "relative_attention_bias", "shared"),
    *("tok_embeddings", "token_embedding", "token_type_embeddings", "word_embeddings", "wpe", "wte"),
)
_WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}
_FLOATS = ("BF16", "F16", "F32", "F64", "F8_E4M3", "F8_E5M2")


def estimate(
    tensors: Iterable[Tensor],
    backend: str,
    scheme: str,
    host: str,
    *,
    dtype: str = "bfloat16",
    class_name: str | None = None,
    config: Mapping[str, Any] | None = None,
    skipped: Iterable[str] = (),
    options: Iterable[tuple[str, Any]] = (),
) -> Size:
    """Bytes of full-precision weights, once they are quantized. Raises ValueError for a scheme that has no arithmetic.

    `class_name` and `config` are the component's own, `skipped` the modules that the user leaves out, `options` what
    changes the arithmetic (group_size, double_quant). What is kept is counted in `dtype`.
    """
    rule = _rule(backend, scheme, dict(options))
    if backend == "modelopt":  # quantizes what a host has loaded by itself, the last layer too
        host = "none"
    width = _WIDTHS[dtype]
    keeps = _Keeps(backend, host, class_name, config or {}, tuple(skipped))
    quantized = kept = 0
    for tensor in tensors:
        size = None
        if len(tensor.shape) >= 2 and keeps.may_be_linear(tensor):
            size = rule(tensor.shape[0], tensor.count // max(tensor.shape[0], 1), width)
        if size is None:
            kept += keeps.full(tensor, width)
        else:
            quantized += size
    return Size(quantized + kept, quantized, kept)


def full_precision(
    tensors: Iterable[Tensor], host: str, *, dtype: str = "bfloat16", class_name: str | None = None
) -> Size:
    """Bytes of weights that nobody quantizes."""
    keeps = _Keeps("", host, class_name, {}, ())
    kept = sum(keeps.full(tensor, _WIDTHS[dtype]) for tensor in tensors)
    return Size(kept, 0, kept)


def stored(tensors: Iterable[Tensor], backend: str, host: str, *, dtype: str = "bfloat16") -> Size:
    """Bytes of weights that are quantized in the file already, once they are loaded."""
    quantized = kept = 0
    for tensor in tensors:
        if backend == "gguf":
            # transformers unpacks the blocks wherever no kernel takes them
            unpacked = tensor.dtype in ("F32", "F16", "F64") or host == "transformers"
            kept += tensor.count * _WIDTHS[dtype] if unpacked else 0
            quantized += 0 if unpacked else tensor.nbytes
        elif tensor.dtype in ("BF16", "F16"):
            kept += tensor.nbytes
        else:
            quantized += tensor.nbytes
    return Size(quantized + kept, quantized, kept)


class _Keeps:
    """What a host and a backend leave as it is."""

    def __init__(
        self, backend: str, host: str, class_name: str | None, config: Mapping[str, Any], skipped: tuple[str, ...]
    ) -> None:
        self._host = host
        self._float32 = _FLOAT32.get(class_name or "", ()) if host == "diffusers" else ()
        self._skipped = (*skipped, *self._float32)
        if host == "transformers":
            self._skipped = skipped or _HEADS
            if config.get("model_type") in _WO_KEPT and backend in ("bitsandbytes", "quanto"):
                self._skipped += ("wo",)
        inner = config.get("text_config")
        vocabulary = config.get("vocab_size", inner.get("vocab_size") if isinstance(inner, dict) else None)
        self._words = vocabulary if type(vocabulary) is int else -1

    def may_be_linear(self, tensor: Tensor) -> bool:
        """Whether a tensor of two dimensions or more is the weight of a layer that is quantized."""
        module, _, last = tensor.name.rpartition(".")
        if last != "weight" or tensor.dtype not in _FLOATS:
            return False
        if len(tensor.shape) > 2:  # a convolution
            return False
        name = module.rpartition(".")[2]
        if name in _EMBEDDINGS or (tensor.shape[0] == self._words and name not in _HEADS):
            return False
        if self._host == "transformers" and "." not in module and "text_projection" in module:
            return False
        return not self._is_skipped(module, name)

    def _is_skipped(self, module: str, name: str) -> bool:
        for key in self._skipped:
            if self._host == "transformers":  # its patterns are taken as plain names: nothing here runs a foreign regex
                if module == key or module.startswith(f"{key}.") or module.endswith(key):
                    return True
            elif key == name or f"{key}." in f"{module}.":
                return True
        return False

    def full(self, tensor: Tensor, width: int) -> int:
        """Bytes of a tensor that is kept."""
        if tensor.dtype not in _FLOATS:
            return tensor.nbytes
        if self._float32 and set(self._float32).intersection(tensor.name.split(".")):
            width = 4
        return tensor.count * width


def _rule(backend: str, scheme: str, options: dict[str, Any]) -> Rule:
    if backend == "gguf":
        return _gguf(scheme)
    group = options.get("group_size")
    rules: dict[tuple[str, str], Rule] = {
        ("bitsandbytes", "nf4"): _bnb4_double if options.get("double_quant") else _bnb4,
        ("bitsandbytes", "fp4"): _bnb4_double if options.get("double_quant") else _bnb4,
        ("bitsandbytes", "int8"): lambda rows, columns, width: rows * columns + 4 * rows,
        # 0.18: an int8 zero point for each row, too
        ("torchao", "int8_weight_only"): lambda rows, columns, width: rows * columns + 5 * rows,
        ("torchao", "int8_dynamic"): lambda rows, columns, width: rows * columns + 5 * rows,
        ("torchao", "int4_weight_only"): _grouped(4, group or 128, 2),
        ("torchao", "int4_tile_packed"): _tile_packed(group or 128),
        ("torchao", "float8_weight_only"): lambda rows, columns, width: rows * columns + 4 * rows,
        ("torchao", "float8_dynamic"): _float8_dynamic,
        ("torchao", "nvfp4_weight_only"): _nvfp4,
        ("torchao", "nvfp4_dynamic"): _nvfp4,
        ("torchao", "mxfp8_dynamic"): _mxfp8,
        ("quanto", "int8"): _quanto8,
        ("quanto", "float8"): _quanto8,
        ("quanto", "int4"): _quanto(4),
        ("quanto", "int2"): _quanto(2),
        # a scale of the whole, of each row, or of each block; nf4's are int8 with one scale of their own
        ("modelopt", "fp8"): lambda rows, columns, width: rows * columns + width,
        ("modelopt", "int8"): lambda rows, columns, width: rows * columns + width * rows,
        ("modelopt", "int4"): lambda rows, columns, width: _halved(rows, columns, 128 // width),
        ("modelopt", "nf4"): lambda rows, columns, width: _halved(rows, columns, 64) + 2 * width,
        ("modelopt", "nvfp4"): _modelopt_nvfp4,
    }
    # 0.16: a bfloat16 scale and an int32 zero point for each group of 64
    for bits in range(1, 8):
        rules["torchao", f"uint{bits}_weight_only"] = _uint(bits, group or 64)
    try:
        return rules[backend, scheme]
    except KeyError:
        raise ValueError(f"the size of weights in {backend}:{scheme} is not known") from None


def _bnb4(rows: int, columns: int, _: int) -> int:
    count = rows * columns
    return -(-count // 2) + 4 * -(-count // 64) + 64  # the numbers, absmax of each block, the 16 values


def _bnb4_double(rows: int, columns: int, _: int) -> int:
    count = rows * columns
    blocks = -(-count // 64)
    return -(-count // 2) + blocks + 4 * -(-blocks // 256) + 1024 + 4 + 64


def _grouped(bits: int, group: int, parts: int) -> Rule:
    """Packed numbers and so many full-precision numbers for each group of a row."""

    def rule(rows: int, columns: int, width: int) -> int | None:
        if columns % group:
            return None
        return rows * columns * bits // 8 + rows * columns // group * parts * width

    return rule


def _tile_packed(group: int) -> Rule:
    """Tiles of tinygemm: rows filled up to 8, columns to 1024, a bfloat16 scale and zero point for each group."""

    def rule(rows: int, columns: int, _: int) -> int | None:
        if columns % group:
            return None
        count = _up(rows, 8) * _up(columns, 1024)
        return count // 2 + count // group * 4

    return rule


def _uint(bits: int, group: int) -> Rule:
    def rule(rows: int, columns: int, width: int) -> int | None:
        if columns % group:
            return None
        return rows * columns * bits // 8 + rows * columns // group * (width + 4)

    return rule


def _float8_dynamic(rows: int, columns: int, _: int) -> int | None:
    return None if rows % 16 or columns % 16 else rows * columns + 4


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


def _nvfp4(rows: int, columns: int, _: int) -> int | None:
    if rows % 16 or columns % 16:
        return None
    # scales are laid out in tiles of 128 rows and 4 columns
    return rows * columns // 2 + _up(rows, 128) * _up(columns // 16, 4) + 4


def _mxfp8(rows: int, columns: int, _: int) -> int | None:
    return None if columns % 32 else rows * columns + _up(rows, 128) * _up(columns // 32, 4)


def _quanto8(rows: int, columns: int, width: int) -> int:
    return rows * columns + width * rows + 2 * width  # and the scales of input and output


def _quanto(bits: int) -> Rule:
    def rule(rows: int, columns: int, width: int) -> int:
        # quanto/nn/qmodule.py: the largest group of 128, 96, 64 or 32 that divides a row, else a row is one group
        group = 128
        while columns % group and group > 32:
            group -= 32
        if columns <= 128 or columns % group:
            group = columns
        groups = rows * columns // group if group else 0
        return _up(rows, 8 // bits) * columns * bits // 8 + 2 * width * groups + 2 * width

    return rule


def _halved(rows: int, columns: int, share: int) -> int:
    """Two numbers to a byte, and a byte of scales for so many of them."""
    count = rows * columns
    return -(-count // 2) + -(-count // share)


def _modelopt_nvfp4(rows: int, columns: int, _: int) -> int | None:
    return None if columns % 16 else rows * columns // 2 + rows * columns // 16 + 8


def _gguf(scheme: str) -> Rule:
    if scheme not in BLOCKS:
        raise ValueError(f"the size of weights in gguf:{scheme} is not known: it is a mixture of types")
    numbers, size = BLOCKS[scheme]

    def rule(rows: int, columns: int, _: int) -> int | None:
        return None if columns % numbers else rows * columns // numbers * size

    return rule
