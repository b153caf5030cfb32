"""torchao: the weights of linear layers become its tensor subclasses.

Class names, fields and their defaults were read in the wheels of torchao 0.7.0 to 0.18.0. Where a release's default
runs, it is what a scheme means; no configuration is chosen by `version`, whose precision differs (0.15.0).
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from envguard.errors import BadInput, EnvguardWarning, UnknownOption
from envguard.runtime.adapter import Adapter, Stored
from envguard.runtime.hosts import quantized_by_host, serializable
from envguard.runtime.modules import assign, linears
from envguard.runtime.progress import steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from envguard.permits import Permit

# Scheme -> the configuration class from 0.9 on; the function of 0.7 and 0.8, whose name the hosts know as a string.
_NAMES = {
    "int8_weight_only": ("Int8WeightOnlyConfig", "int8_weight_only"),
    "int8_dynamic": ("Int8DynamicActivationInt8WeightConfig", "int8_dynamic_activation_int8_weight"),
    "int4_weight_only": ("Int4WeightOnlyConfig", "int4_weight_only"),
    "int4_tile_packed": ("Int4WeightOnlyConfig", "int4_weight_only"),
    "float8_weight_only": ("Float8WeightOnlyConfig", "float8_weight_only"),
    "float8_dynamic": ("Float8DynamicActivationFloat8WeightConfig", "float8_dynamic_activation_float8_weight"),
    **{f"uint{bits}_weight_only": ("UIntXWeightOnlyConfig", "uintx_weight_only") for bits in range(1, 8)},
}
_MX_NAMES = {
    "nvfp4_weight_only": "NVFP4WeightOnlyConfig",
    "nvfp4_dynamic": "NVFP4DynamicActivationNVFP4WeightConfig",
    "mxfp8_dynamic": "MXDynamicActivationMXWeightConfig",
}
_MX_BLOCKS = {"nvfp4_weight_only": (16, 16), "nvfp4_dynamic": (16, 16), "mxfp8_dynamic": (1, 32)}  # rows, columns
_OPAQUE = "Int4WeightOnlyOpaqueTensorConfig"  # int4 for a CPU, 0.15 to 0.17
_OPAQUE_MODULES = ("torchao.prototype.int4_opaque_tensor", "torchao.prototype.quantization.int4")
_PREFIX = "quantized."  # flatten_tensor_state_dict wants a dot in every name: a Linear alone has none


class _Recipe(NamedTuple):
    """A configuration class (a function up to 0.8) of torchao and what it is to be called with."""

    make: Callable[..., Any]
    fields: dict[str, Any]

    def config(self) -> Any:
        return self.make(**self.fields)

    @property
    def group(self) -> int | None:
        """Columns of a weight that share a scale; None for a whole row and where the class has no such field."""
        known = inspect.signature(self.make).parameters.get("group_size")
        group: int | None = self.fields.get("group_size", known.default if known else None)
        return getattr(self.fields.get("granularity"), "group_size", group)


class TorchAO(Adapter):
    """The linear layers' weights alone (`*_weight_only`), or with activations that are quantized at run time."""

    def __init__(self, permit: Permit) -> None:
        super().__init__(permit)
        self._api: Any = importlib.import_module("torchao.quantization")
        if permit.request.operation == "load":
            self._class(permit.scheme)  # the import of its module makes safe globals of its tensors
            _allow_uint_tensors()

    def quantize(
        self,
        model: torch.nn.Module,
        scheme: str,
        *,
        exclude: Sequence[str] = (),
        group_size: int | None = None,
        granularity: Any = None,
        packing_format: str | None = None,
    ) -> torch.nn.Module:
        """See Adapter; for the options see `host_config`.

        Layers whose shape the scheme cannot divide into its blocks stay as they are, with one EnvguardWarning.
        """
        layers = list(linears(model, exclude))
        recipe = self._recipe(scheme, group_size, granularity, packing_format)
        config = recipe.config()
        left = []
        for name, linear in steps(layers, f"torchao {scheme}"):
            if not _is_plain(linear.weight):
                raise BadInput(f"{name or 'this layer'} is quantized already ({type(linear.weight).__name__})")
            linear.to(self.permit.device)
            if _divides(linear.weight, self._block(scheme, recipe)) and not _mistaken(linear.weight, scheme):
                self._quantize_layer(name, linear, config)
            if _is_plain(linear.weight):
                left.append(f"{name} ({linear.out_features} x {linear.in_features})")
        _tell_left(left, len(layers), scheme)
        return model.to(self.permit.device)

    def host_config(
        self,
        scheme: str,
        *,
        exclude: Sequence[str] = (),
        group_size: int | None = None,
        granularity: Any = None,
        packing_format: str | None = None,
    ) -> Any:
        """See Adapter: diffusers.TorchAoConfig or transformers.TorchAoConfig.

        `exclude`: names of modules to leave as they are. `group_size`: columns that share a scale (int4, uint, int8).
        `granularity`: "row" or "tensor", or torchao's own object. `packing_format`: torchao's Int4PackingFormat
        (plain, preshuffled, tile_packed_to_4d, plain_int32). What this release's scheme does not have is refused.
        """
        host: Any = importlib.import_module(self.permit.request.host)
        recipe = self._recipe(scheme, group_size, granularity, packing_format)
        left_out = list(exclude) or None
        if _takes_objects(host.TorchAoConfig) and _is_config(recipe.make):
            return host.TorchAoConfig(recipe.config(), modules_to_not_convert=left_out)
        name = scheme.replace("_weight_only", "wo") if scheme.startswith("uint") else _NAMES[scheme][1]
        fields = {field: value for field, value in recipe.fields.items() if field != "dtype"}
        return host.TorchAoConfig(name, modules_to_not_convert=left_out, **fields)

    def host_saves(self, model: torch.nn.Module) -> dict[str, Any] | None:
        """See Adapter. safetensors where host and torchao can, else torch files where the host still writes them.

        Sources: diffusers 0.40.0, transformers 4.57.6 and 5.0.0 `save_pretrained` and their torchao quantizers.
        """
        quantizer = quantized_by_host(model)
        if not serializable(model) or not _reads_back(quantizer.quantization_config.quant_type):
            return None
        files = "safe_serialization" in inspect.signature(model.save_pretrained).parameters
        flattens = hasattr(quantizer, "get_state_dict_and_metadata") and _supports_safetensors(quantizer)
        if flattens and _flatten(_wrapped(model.state_dict())) is not None:
            return {"safe_serialization": True} if files else {}
        return {"safe_serialization": False} if files else None

    def store(self, model: torch.nn.Module) -> Stored:
        """See Adapter. The layout is torchao's own safetensors metadata of the quantized tensors, one JSON each.

        Tensor classes that torchao cannot take apart go to a torch file, all of them safe globals.
        """
        tensors = dict(model.state_dict())
        wrapped = _wrapped(tensors)
        flat = _flatten(wrapped)
        if flat is None:
            return Stored(tensors, {}, plain=False)
        plain = {name: tensor for name, tensor in tensors.items() if name not in wrapped}
        return Stored({**plain, **flat[0]}, flat[1])

    def restore(self, model: torch.nn.Module, scheme: str, stored: Stored) -> torch.nn.Module:  # noqa: ARG002
        """See Adapter."""
        tensors = _unflatten(stored.tensors, stored.layout) if stored.plain else stored.tensors
        assign(model, tensors)
        for parameter in model.parameters():
            if not _is_plain(parameter):
                parameter.requires_grad_(False)
        return model.to(self.permit.device)

    def _block(self, scheme: str, recipe: _Recipe) -> tuple[int, int]:
        """Rows and columns of a weight that a scheme takes together; int4's kernel for CPUs takes 16 rows."""
        if scheme in _MX_BLOCKS:
            return _MX_BLOCKS[scheme]
        return (16 if scheme.startswith("int4_") and self.permit.device == "cpu" else 1), recipe.group or 1

    def _quantize_layer(self, name: str, linear: torch.nn.Linear, config: Any) -> None:
        weight = linear.weight
        try:
            self._api.quantize_(linear, config)
        except (AssertionError, ImportError, NotImplementedError, ValueError) as error:
            raise BadInput(
                f"torchao {self.permit.version} cannot quantize {name or 'this layer'} ({weight.dtype},"
                f" {linear.out_features} x {linear.in_features}) on {weight.device}: {error}. Make the model anew, and"
                " leave such layers out with exclude=[...]"
            ) from error

    def _recipe(self, scheme: str, group_size: int | None, granularity: Any, packing_format: str | None) -> _Recipe:
        """The configuration of a scheme in this release. Raises UnknownOption for what it does not have."""
        make = self._class(scheme)
        known = inspect.signature(make).parameters
        fields: dict[str, Any] = {}
        if scheme.startswith("uint"):
            fields["dtype"] = getattr(torch, scheme.partition("_")[0])
        if scheme.startswith("int4_"):
            fields.update(self._int4(scheme, known))
        options = self._options(scheme, known)
        given = {"group_size": group_size, "granularity": granularity, "packing_format": packing_format}
        for option, value in given.items():
            if value is None:
                continue
            if option not in options:
                has = ", ".join(("exclude", *options))
                raise UnknownOption(
                    f"torchao {self.permit.version} has no option {option!r} for {scheme}; it has {has}"
                )
            field, convert = options[option]
            fields[field] = convert(value)
        recipe = _Recipe(make, fields)
        if scheme == "int4_weight_only" and self.permit.device.startswith("cuda"):
            _tell_inexact(recipe)
        return recipe

    def _options(self, scheme: str, known: Any) -> dict[str, tuple[str, Callable[[Any], Any]]]:
        """Option -> the field that it sets and how its value is made, of one scheme's class."""
        options: dict[str, tuple[str, Callable[[Any], Any]]] = {}
        version = known["version"].default if "version" in known else None
        if scheme == "int8_weight_only" and version == 2:  # 0.18 takes groups in another field
            options["group_size"] = ("granularity", self._group)
        elif "group_size" in known:
            options["group_size"] = ("group_size", int)
        if "granularity" in known and version != 1:  # version 1 has the field and does not look at it
            options["granularity"] = ("granularity", self._granularity)
        if "int4_packing_format" in known and scheme == "int4_weight_only":
            options["packing_format"] = ("int4_packing_format", str)
        return options

    def _group(self, size: int) -> Any:
        from torchao.quantization import PerGroup

        return PerGroup(int(size))

    def _granularity(self, value: Any) -> Any:
        """Raises BadInput for a word that is not known."""
        if not isinstance(value, str):
            return value
        from torchao.quantization.granularity import PerRow, PerTensor

        words = {"row": PerRow, "tensor": PerTensor}
        if value not in words:
            raise BadInput(f"granularity {value!r}: expected 'row' or 'tensor', or an object of torchao's")
        return words[value]()

    def _class(self, scheme: str) -> Callable[..., Any]:
        """The class of a scheme, a function up to 0.8."""
        if scheme in _MX_NAMES:
            api, name, function = importlib.import_module("torchao.prototype.mx_formats"), _MX_NAMES[scheme], ""
        else:
            api, (name, function) = self._api, _NAMES[scheme]
        opaque = _opaque() if scheme == "int4_weight_only" and self.permit.device == "cpu" else None
        found: Callable[..., Any] = opaque or getattr(api, name, None) or getattr(api, function)
        return found

    def _int4(self, scheme: str, known: Any) -> dict[str, Any]:
        """The fields without which int4 does not run on a device; nothing where the release's default does.

        Source for layouts: diffusers 0.37.1 TorchAoConfig.get_apply_tensor_subclass, for 0.14 the config's version 1.
        """
        kind = self.permit.device.partition(":")[0]
        if "int4_packing_format" in known and scheme == "int4_tile_packed":
            return {"int4_packing_format": "tile_packed_to_4d"}
        if "int4_packing_format" in known and kind == "xpu":
            return {"int4_packing_format": "plain_int32"}
        if "layout" not in known or kind not in ("cpu", "xpu"):
            return {}
        from torchao import dtypes

        fields = {"layout": dtypes.Int4CPULayout() if kind == "cpu" else dtypes.Int4XPULayout()}
        if kind == "xpu":
            from torchao.quantization.quant_primitives import ZeroPointDomain

            fields["zero_point_domain"] = ZeroPointDomain.INT
        return {**fields, "version": 1} if "version" in known else fields


def _opaque() -> Callable[..., Any] | None:
    """The configuration for int4 on a CPU of 0.15 to 0.17, which moved between them."""
    for name in _OPAQUE_MODULES:
        try:
            found: Callable[..., Any] | None = getattr(importlib.import_module(name), _OPAQUE, None)
        except ModuleNotFoundError:
            continue
        if found is not None:
            return found
    return None


def _divides(weight: torch.Tensor, block: tuple[int, int]) -> bool:
    """True where a weight (rows x columns) consists of whole blocks."""
    return not weight.shape[0] % block[0] and not weight.shape[1] % block[1]


def _mistaken(weight: torch.Tensor, scheme: str) -> bool:
    """True for a weight of 128 x 128 with one scale, which float8_dynamic takes for blocks of 128 x 128: the first
    forward fails (torchao 0.18 quantization/quantize_/workflows/float8/float8_tensor.py, _is_128_128_scaled).
    """
    return scheme == "float8_dynamic" and tuple(weight.shape) == (128, 128)


def _tell_inexact(recipe: _Recipe) -> None:
    """Measured on one NVIDIA H200 with torchao 0.18.0 and mslk-cuda 1.1.0: the error of a layer of 1024 x 1024 is .128
    with groups of 32, .064 with those of 64 and .065 with those of 128; in the format tile_packed_to_4d .061 with 32.
    """
    packing = recipe.fields.get("int4_packing_format", "plain")
    if recipe.group == 32 and packing in ("plain", "preshuffled"):
        warnings.warn(
            "torchao int4_weight_only with group_size=32 has twice the error of group_size=64 (mslk-cuda 1.1.0,"
            " measured on an NVIDIA H200): use the scheme int4_tile_packed for groups of 32",
            EnvguardWarning,
            stacklevel=5,
        )


def _tell_left(left: list[str], total: int, scheme: str) -> None:
    """Raises BadInput where no layer was quantized."""
    if not left:
        return
    some = ", ".join(left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
    if len(left) == total:
        raise BadInput(f"torchao {scheme} can quantize none of the {total} linear layers, for their shapes: {some}")
    text = f"torchao {scheme} leaves {len(left)} of {total} linear layers as they are, for their shapes: {some}"
    warnings.warn(text, EnvguardWarning, stacklevel=5)


def _is_plain(tensor: torch.Tensor) -> bool:
    return not hasattr(tensor, "__tensor_flatten__")


def _wrapped(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not _is_plain(tensor)}


def _is_config(make: Any) -> bool:
    """True for the classes that hosts take as objects: AOBaseConfig's, which 0.9.0 has and hosts want from 0.10 on."""
    return isinstance(make, type) and hasattr(importlib.import_module("torchao.core.config"), "config_from_dict")


def _takes_objects(config: Any) -> bool:
    """True where a host's TorchAoConfig takes torchao's own, not just names (diffusers 0.36.0, transformers 4.50.0)."""
    return "AOBaseConfig" in str(config.__init__.__annotations__.get("quant_type"))


def _reads_back(quant_type: Any) -> bool:
    """True where torchao makes a configuration again from the JSON that a host writes: int4's for CPUs it does not."""
    if isinstance(quant_type, str):
        return True
    from torchao.core.config import config_from_dict, config_to_dict

    try:
        config_from_dict(config_to_dict(quant_type))
    except ValueError:
        return False
    return True


def _supports_safetensors(quantizer: Any) -> bool:
    told = getattr(quantizer, "supports_safetensors_serialization", None)  # diffusers
    if told is None and "safe_serialization" in inspect.signature(quantizer.is_serializable).parameters:
        told = quantizer.is_serializable(safe_serialization=True)  # transformers 4
    return told is not False


def _flatten(tensors: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, str]] | None:
    """The tensors inside quantized ones and torchao's metadata; None for a class that it does not take apart."""
    try:
        from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict
        from torchao.prototype.safetensors.safetensors_utils import ALLOWED_TENSORS_SUBCLASSES as KNOWN
    except ModuleNotFoundError:
        return None
    if any(type(tensor).__name__ not in KNOWN for tensor in tensors.values()):
        return None
    try:
        flat, metadata = flatten_tensor_state_dict({f"{_PREFIX}{name}": tensor for name, tensor in tensors.items()})
    except (TypeError, ValueError):  # an attribute that its JSON does not know
        return None
    return flat, metadata


def _unflatten(tensors: dict[str, torch.Tensor], layout: dict[str, str]) -> dict[str, torch.Tensor]:
    """The opposite of `_flatten`, the plain tensors passed on. Raises BadInput where the layout is not torchao's."""
    from torchao.prototype.safetensors.safetensors_support import unflatten_tensor_state_dict

    flat = {name: tensor for name, tensor in tensors.items() if name.startswith(_PREFIX)}
    try:
        made = unflatten_tensor_state_dict(flat, layout)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"the saved layout does not describe torchao's tensors: {error}") from None
    whole = made[0] if isinstance(made, tuple) else made
    plain = {name: tensor for name, tensor in tensors.items() if name not in flat}
    return {**plain, **{name.removeprefix(_PREFIX): tensor for name, tensor in whole.items()}}


def _allow_uint_tensors() -> None:
    """Make safe globals of the classes of uint1 to uint7, which torchao leaves out where it does so for its others."""
    try:
        from torchao.dtypes.uintx import uintx_layout
    except ImportError:  # 0.17 has no such tensors any more
        return
    dtypes: Iterable[Any] = ((getattr(torch, f"uint{bits}"), f"torch.uint{bits}") for bits in range(1, 8))
    torch.serialization.add_safe_globals([uintx_layout.UintxTensor, uintx_layout.UintxAQTTensorImpl, *dtypes])


ADAPTER = TorchAO
