"""gguf: models are single files. It writes the types that the package itself can; the hosts read them.

diffusers keeps the blocks of linear layers (GGUFParameter) and turns them into numbers in each forward pass.
transformers, and models that diffusers has no single-file loader for, get numbers when they are loaded.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from envguard.errors import BadInput, UnknownOption
from envguard.modelfiles import bounded_json
from envguard.modelfiles.hub import locate
from envguard.runtime import gguf_files as files
from envguard.runtime.adapter import FileAdapter, Stored
from envguard.runtime.folders import written_file
from envguard.runtime.hosts import empty_model, from_pretrained, host_of
from envguard.runtime.modules import assign, left_out, linears, replace_module
from envguard.runtime.progress import steps
from envguard.runtime.storage import model_config, share

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Gguf(FileAdapter):
    """Weights of linear layers are quantized; norms, biases, embeddings and all else keep their numbers."""

    def quantize(
        self,
        model: torch.nn.Module,
        scheme: str,
        *,
        path: str | None = None,
        compute_dtype: torch.dtype | None = None,
        exclude: Sequence[str] = (),
    ) -> torch.nn.Module:
        """Write a model to a .gguf file, and give it back as it is read from there.

        A diffusers model comes back from diffusers' single-file loader, beside the one given. Any other is filled in
        place with the numbers of the file, in the types that it had.

        `path`: the file, which is whole or not there. `compute_dtype`: what the model read computes in, its own type if
        not given. `exclude`: names of modules to leave as they are, besides layers whose rows are no multiple of the
        type's block (32 numbers; TQ1_0 and TQ2_0: 256) and those that diffusers keeps in float32.
        Raises BadInput: no path, nothing to quantize, numbers that the type or the file cannot hold.
        """
        if path is None:
            raise BadInput('gguf writes a file: name it, as in quantize(model, "Q8_0", "model.gguf")')
        if _blocks(model):
            raise BadInput(f"this {type(model).__name__} comes from a GGUF file: quantize the full-precision model")
        exclude = (*exclude, *(getattr(model, "_keep_in_fp32_modules", None) or ()))
        with self._written(model, scheme, path, self._quantized(model, scheme, exclude)) as temporary:
            if _loads_single_files(type(model)):
                return self._single_file(type(model), temporary, {}, compute_dtype, ())
        return self._filled(model, path, files.own(self.module, path)[0], compute_dtype)

    def host_config(self, scheme: str, *, compute_dtype: torch.dtype | None = None, exclude: Sequence[str] = ()) -> Any:
        """See Adapter: diffusers.GGUFQuantizationConfig, for `from_single_file`. The scheme is the file's own.

        `compute_dtype`: float32 if not given. `exclude` is not the host's to know: see `load_file`.
        """
        del scheme, exclude
        from diffusers import GGUFQuantizationConfig

        return GGUFQuantizationConfig(compute_dtype=compute_dtype)

    def load_file(
        self,
        cls: Any,
        path: str,
        arguments: dict[str, Any],
        *,
        compute_dtype: torch.dtype | None = None,
        exclude: Sequence[str] = (),
    ) -> torch.nn.Module:
        """A model from a .gguf file, whose header was looked at before.

        A diffusers class takes its configuration from the argument `config` (a folder, or a hub id in the local cache),
        else from the file where we wrote it, else from config.json beside it, else from the hub id that diffusers
        guesses, in the local cache. A transformers class loads what llama.cpp wrote by `from_pretrained(gguf_file=)`,
        and what we wrote as a plain module does. For a plain module `cls` is a callable that makes one.

        `compute_dtype`: what layers compute in. `exclude`: names of modules to turn into numbers at once (diffusers).
        Raises BadInput, UnknownOption.
        """
        if not path.lower().endswith(".gguf"):
            raise BadInput(f"{path} is a GGUF file, but the hosts know one by its name alone: let it end in .gguf")
        if _loads_single_files(cls):
            return self._single_file(cls, path, arguments, compute_dtype, exclude)
        if exclude:
            raise UnknownOption("gguf has no option 'exclude' to load this class: every layer is turned into numbers")
        weights, config = files.own(self.module, path)
        if host_of(cls) == "transformers" and config is None:
            return self._transformers(cls, path, arguments, compute_dtype)
        if arguments:
            raise UnknownOption(f"gguf has no option {', '.join(map(repr, arguments))} to load this class from a file")
        from accelerate import init_empty_weights

        with files.folder_with(config) if config is not None else nullcontext("") as folder, init_empty_weights():
            model = empty_model(cls, folder)
        return self._filled(model, path, weights, compute_dtype)

    def save_file(self, model: torch.nn.Module, scheme: str, path: str) -> None:
        """Write a model that was loaded from GGUF to a file again: the blocks of quantized layers as they are.

        A model that was loaded from F32, F16 or BF16 has numbers, which are written in the types that they have now.
        Raises BadInput for a model that has numbers instead of the blocks of its scheme.
        """
        if not _blocks(model) and scheme not in ("F32", "F16", "BF16"):
            raise BadInput(
                f"this {type(model).__name__} holds no GGUF blocks, but the numbers that they stood for: copy the file"
                " that it came from, or write one with quantize(model, scheme, path)"
            )
        with self._written(model, scheme, path, {}):
            pass

    def store(self, model: torch.nn.Module) -> Stored:
        """Refused: a .gguf file holds the whole model."""
        raise BadInput(f"gguf keeps a {type(model).__name__} in a .gguf file, not in a folder")

    def restore(self, model: torch.nn.Module, scheme: str, stored: Stored) -> torch.nn.Module:
        """Refused, as `store` is."""
        del scheme, stored
        raise BadInput(f"gguf loads a {type(model).__name__} from a .gguf file, not from a folder")

    def _quantized(self, model: torch.nn.Module, scheme: str, exclude: Sequence[str]) -> dict[str, Any]:
        """The type that each weight which is to be quantized gets. Raises BadInput where there is none."""
        kind = self.module.GGMLQuantizationType[scheme]
        block, _ = self.module.GGML_QUANT_SIZES[kind]
        tied = _used_elsewhere(model)
        found = {
            f"{name}.weight" if name else "weight": kind
            for name, linear in linears(model, exclude)
            if linear.in_features % block == 0 and id(linear.weight) not in tied
        }
        if not found:
            rows = f" whose rows are a multiple of {block} numbers" if block > 1 else ""
            raise BadInput(f"{scheme}: this {type(model).__name__} has no linear layer to quantize{rows}")
        return found

    @contextmanager
    def _written(self, model: torch.nn.Module, scheme: str, path: str, quantized: dict[str, Any]) -> Iterator[str]:
        """The temporary file that holds the model, and takes its place at `path` behind the block."""
        path = os.fspath(path)
        if not path.lower().endswith(".gguf"):
            raise BadInput(f"gguf writes a file: expected a name that ends in .gguf, found {path}")
        fp32 = getattr(model, "_keep_in_fp32_modules", None) or ()
        linear = {
            f"{name}.weight" if name else "weight"
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and not left_out(name, fp32)
        }
        tensors = files.planned(self.module, model, quantized, linear)
        shared: dict[str, str] = {}
        if _loads_single_files(type(model)):
            _refuse_for_diffusers(tensors)
        else:  # diffusers' loader wants every name in the file, whatever is tied
            tensors, shared = files.without_copies(tensors)
        fields = {files.SCHEMA: files.VERSION, files.WEIGHTS: files.described(tensors, shared)}
        config = model_config(model)
        if config is not None:
            fields[files.CONFIG] = json.dumps(config)
        if not quantized and not _blocks(model):
            scheme = files.most_bytes(self.module, tensors)
        with written_file(path) as temporary:
            files.write(self.module, temporary, type(model).__name__.lower(), scheme, fields, tensors)
            yield temporary

    def _filled(
        self, model: torch.nn.Module, path: str, weights: files.Weights, compute_dtype: torch.dtype | None
    ) -> torch.nn.Module:
        """A model whose tensors are the numbers of a file: in compute_dtype, else in the types that they had, else in
        the model's own.
        """
        own = {name: tensor.dtype for name, tensor in model.state_dict().items()}
        tensors = {}
        for each in steps(files.read(self.module, path).tensors, "gguf"):
            tensor = files.numbers(self.module, each)
            if tensor.is_floating_point():
                dtype = compute_dtype or weights.of(each.name) or own.get(each.name)
                tensor = tensor.to(dtype if dtype is not None and dtype.is_floating_point else tensor.dtype)
            tensors[each.name] = tensor
        tensors.update({alias: tensors[name] for alias, name in weights.shared.items()})
        assign(model, tensors)
        share(model, weights.shared)
        return model.to(self.permit.device)

    def _single_file(
        self,
        cls: Any,
        path: str,
        arguments: dict[str, Any],
        compute_dtype: torch.dtype | None,
        exclude: Sequence[str],
    ) -> torch.nn.Module:
        """By diffusers' `from_single_file`, from local files alone."""
        weights, config = files.own(self.module, path)
        arguments = dict(arguments)
        given = [arguments.pop(name, None) for name in ("torch_dtype", "dtype")]
        dtype = next((each for each in given if each is not None), None)
        compute_dtype = compute_dtype or dtype or weights.dtype or torch.float32
        arguments.setdefault("quantization_config", self.host_config("", compute_dtype=compute_dtype))
        with _configuration(cls, path, config, arguments) as found:
            try:
                model: torch.nn.Module = cls.from_single_file(
                    path, **{**arguments, **found, "torch_dtype": dtype or compute_dtype, "local_files_only": True}
                )
            except OSError as error:
                raise BadInput(
                    f"{path}: no configuration for {cls.__name__}: pass config= with the folder of its config.json"
                    f" ({str(error).strip().splitlines()[0]})"
                ) from error
        lost = [name for name, tensor in model.named_parameters() if tensor.device.type == "meta"]
        if lost:
            more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
            raise BadInput(f"{path} does not fit {cls.__name__}: {', '.join(lost[:3])}{more} missing")
        for name, module in list(model.named_modules()):
            if left_out(name, exclude) and getattr(getattr(module, "weight", None), "quant_type", None) is not None:
                replace_module(model, name, _with_numbers(module, compute_dtype))
        return model if "device_map" in arguments else model.to(self.permit.device)

    def _transformers(
        self, cls: Any, path: str, arguments: dict[str, Any], compute_dtype: torch.dtype | None
    ) -> torch.nn.Module:
        """`from_pretrained(gguf_file=)` for a file of llama.cpp's; architectures are those of the installed release.

        Newer releases would fetch kernels from the hub to keep the blocks, where the package `kernels` is installed:
        that is left to a quantization_config among the arguments.
        """
        import transformers

        arguments = {"gguf_file": os.path.basename(path), "local_files_only": True, **arguments}
        if compute_dtype is not None:
            arguments.setdefault("torch_dtype", compute_dtype)
        if hasattr(transformers, "GgufConfig"):  # from 5.17.0 on
            arguments.setdefault("quantization_config", transformers.GgufConfig(dequantize=True))
        try:
            return from_pretrained(self, cls, os.path.dirname(os.path.abspath(path)), None, arguments)
        except (ValueError, NotImplementedError, KeyError) as error:
            raise BadInput(f"{path}: transformers cannot load it: {error}") from error


def _blocks(model: torch.nn.Module) -> bool:
    """True for a model with parameters in GGUF blocks."""
    return any(getattr(tensor, "quant_type", None) is not None for tensor in model.parameters())


def _used_elsewhere(model: torch.nn.Module) -> set[int]:
    """The ids of parameters that modules other than linear layers hold: an embedding tied to the last layer."""
    return {
        id(tensor)
        for module in model.modules()
        if not isinstance(module, torch.nn.Linear)
        for tensor in module.parameters(recurse=False)
    }


def _loads_single_files(cls: Any) -> bool:
    """True for a class that diffusers can load from a single file (its table by name, loaders/single_file_model.py)."""
    if host_of(cls) != "diffusers" or not hasattr(cls, "from_single_file"):
        return False
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    return any(each.__name__ in SINGLE_FILE_LOADABLE_CLASSES for each in cls.__mro__)


def _refuse_for_diffusers(tensors: Sequence[files.Planned]) -> None:
    """Raises BadInput for types that diffusers' reader does not have (models/model_loading_utils.py)."""
    for each in tensors:
        if each.kind.name in ("F64", "I8", "I16", "I32", "I64"):
            raise BadInput(f"{each.name} holds {each.tensor.dtype}, which diffusers cannot load from a GGUF file")


def _with_numbers(module: Any, dtype: torch.dtype) -> torch.nn.Linear:
    """A plain linear layer in the place of diffusers' GGUFLinear."""
    from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

    linear = torch.nn.Linear(module.in_features, module.out_features, module.bias is not None, device="meta")
    linear.weight = torch.nn.Parameter(dequantize_gguf_tensor(module.weight).to(dtype), requires_grad=False)
    if module.bias is not None:
        linear.bias = torch.nn.Parameter(module.bias.to(dtype), requires_grad=False)
    return linear


@contextmanager
def _configuration(
    cls: Any, path: str, embedded: dict[str, Any] | None, arguments: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The arguments `config` and `subfolder` of from_single_file; none where diffusers has to guess a hub id.

    Raises BadInput where the file holds another class's configuration, or a hub id is not in the local cache.
    """
    given = arguments.pop("config", None)
    if given is not None:
        folder = locate(os.fspath(given))
        yield {"config": folder, "subfolder": arguments.pop("subfolder", None) or _subfolder(cls, folder)}
    elif arguments.get("original_config") is not None:
        yield {}
    elif embedded is not None:
        if embedded.get("_class_name") not in {each.__name__ for each in cls.__mro__}:
            raise BadInput(f"{path} holds a {embedded.get('_class_name')}, not a {cls.__name__}")
        with files.folder_with(embedded) as folder:
            yield {"config": folder}
    elif _class_of(os.path.dirname(os.path.abspath(path))) == cls.__name__:
        yield {"config": os.path.dirname(os.path.abspath(path))}
    else:
        yield {}


def _subfolder(cls: Any, folder: str) -> str | None:
    """The one folder of a pipeline that holds a class's configuration; None where the folder itself is to be taken."""
    if not os.path.isdir(folder) or os.path.exists(os.path.join(folder, "config.json")):
        return None
    found = [name for name in sorted(os.listdir(folder)) if _class_of(os.path.join(folder, name)) == cls.__name__]
    return found[0] if len(found) == 1 else None


def _class_of(folder: str) -> Any:
    """The class that a folder's config.json names, None where there is none."""
    try:
        with Path(folder, "config.json").open("rb") as file:
            config = bounded_json.loads(file.read(bounded_json.LARGEST + 1))
    except (OSError, ValueError):
        return None
    return config.get("_class_name") if isinstance(config, dict) else None


ADAPTER = Gguf
