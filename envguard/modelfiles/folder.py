"""What a model is made of: its components, the library of each, and where its weights lie."""

from __future__ import annotations

import os

from envguard.errors import BadModel
from envguard.frozen import Frozen
from envguard.modelfiles import bounded_json, gguf, quantized, safetensors
from envguard.modelfiles.bounded_json import shown
from envguard.modelfiles.opening import opened
from envguard.modelfiles.quantized import Quantized

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Literal, TypeAlias

    from envguard.model import Host
    from envguard.modelfiles.tensors import Tensor

    Weights: TypeAlias = Literal["safetensors", "gguf", "torch", "flax", "none"]
    Kind: TypeAlias = Literal["diffusers pipeline", "diffusers model", "transformers model", "safetensors", "gguf"]

_LARGEST_INDEX = 32 * 1024 * 1024
_MOST_SHARDS = 2048
_MOST_NAMES = 262_144  # in an index; models of a trillion parameters have 140 000
_MOST_HEADERS = 64 * 1024 * 1024  # bytes of all headers of a component
_MOST_FILES = 20_000  # in a folder

# The names that the hosts look for: diffusers/utils/constants.py, transformers/utils/__init__.py
_BASES = {"diffusers": ("diffusion_pytorch_model",), "transformers": ("model",)}
_TORCH = (".bin", ".pt", ".pth", ".ckpt")
# classes of a pipeline that hold no weights, by the end of their names
_WEIGHTLESS = ("Tokenizer", "TokenizerFast", "Scheduler", "Processor", "ProcessorFast", "Extractor", "Guider")
_WORD_EMBEDDINGS = (
    "lm_head.weight",
    "model.embed_tokens.weight",
    "shared.weight",
    "text_model.embeddings.token_embedding.weight",
)


class Component(Frozen):
    """A part of a model with weights of its own. `files` are those that its host would load."""

    name: str
    host: Host
    class_name: str | None
    path: str
    quantized: Quantized | None
    weights: Weights
    files: tuple[str, ...]
    config: Mapping[str, Any] = {}

    @property
    def stored(self) -> int:
        """Bytes of its files."""
        return sum(os.path.getsize(file) for file in self.files)


class Model(Frozen):
    """A model on disk."""

    path: str
    kind: Kind
    components: tuple[Component, ...]


def inspect(path: str | os.PathLike[str]) -> Model:
    """What a file or folder holds, from its configurations and headers. Raises BadModel."""
    name = os.fspath(path)
    try:
        if not os.path.isdir(name):
            return _file(name)
        files = _listed(name)
    except BadModel:
        raise
    except (OSError, ValueError) as error:
        raise BadModel(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if "model_index.json" in files:
        return Model(name, "diffusers pipeline", _pipeline(name))
    if "config.json" in files:
        config = _config(os.path.join(name, "config.json"))
        if "_class_name" in config or "_diffusers_version" in config:
            return Model(name, "diffusers model", (_folder("model", "diffusers", None, name, config),))
        if "architectures" in config or "model_type" in config:
            return Model(name, "transformers model", (_folder("model", "transformers", None, name, config),))
    return _only_file(name, files)


def index_of(path: str) -> dict[str, str | None]:
    """Name -> library of each part that the model_index.json of a pipeline's folder names. Raises BadModel."""
    index = _config(os.path.join(path, "model_index.json"))
    entries = [(name, entry) for name, entry in index.items() if isinstance(entry, list) and len(entry) == 2]
    return {name: library if isinstance(library, str) else None for name, (library, _) in entries}


def tensors_of(component: Component) -> tuple[Tensor, ...]:
    """Every tensor of a component, by the headers of its files; () where those cannot be read without running them."""
    found: dict[str, Tensor] = {}
    read = 0
    for file in component.files:
        if component.weights == "safetensors":
            header: Iterable[Tensor] = safetensors.read_header(file).tensors
        elif component.weights == "gguf":
            header = gguf.read_header(file).tensors
        else:
            return ()
        for tensor in header:
            read += 64 + len(tensor.name)
            if tensor.name in found:
                raise BadModel(f"{file}: tensor {shown(tensor.name)}: expected each name once, found it in two files")
            found[tensor.name] = tensor
        if read > _MOST_HEADERS:
            raise BadModel(f"{component.path}: expected headers of at most {_MOST_HEADERS} bytes together, found more")
    return tuple(found.values())


def _file(path: str) -> Model:
    file, _ = opened(path)
    with file:
        start = file.read(9)
    name = os.path.basename(path)
    if start.startswith(b"GGUF") or name.endswith(".gguf"):
        return Model(path, "gguf", (_gguf_component(name, path),))
    if name.endswith(".safetensors") or start[8:9] == b"{":
        header = safetensors.read_header(path)
        component = Component(
            name, _host_of(header.tensors), None, path, quantized.from_tensors(header.tensors), "safetensors", (path,)
        )
        return Model(path, "safetensors", (component,))
    said = "a pickle, which can run code when it is read" if name.endswith(_TORCH) else shown(name)
    raise BadModel(f"{path}: expected a .safetensors or .gguf file, or a folder; found {said}")


def _gguf_component(name: str, path: str) -> Component:
    header = gguf.read_header(path)
    types = ", ".join(dict.fromkeys(tensor.dtype for tensor in header.tensors))
    kind = Quantized("gguf", header.scheme, f"{header.scheme}: {types or 'no tensors'}")
    # a vocabulary is what tells a language model from a diffusion model
    host: Host = "transformers" if "tokenizer.ggml.model" in header.metadata else "diffusers"
    architecture = header.metadata.get("general.architecture")
    return Component(name, host, str(architecture) if architecture else None, path, kind, "gguf", (path,))


def _host_of(tensors: Iterable[Tensor]) -> Host:
    names = {tensor.name for tensor in tensors}
    words = (
        "model.embed_tokens.weight",
        "lm_head.weight",
        "shared.weight",
        "text_model.embeddings.token_embedding.weight",
    )
    return "transformers" if names.intersection(words) else "diffusers"


def _only_file(path: str, files: list[str]) -> Model:
    found = [name for name in files if name.endswith((".gguf", ".safetensors"))]
    if len(found) == 1:
        return _file(os.path.join(path, found[0]))
    expected = "model_index.json or config.json of diffusers or transformers, or one .safetensors or .gguf file"
    said = f"{len(found)} such files ({shown(found[0])}, ...): name one of them" if found else "none"
    raise BadModel(f"{path}: expected {expected}; found {said}")


# Pipelines


def _pipeline(path: str) -> tuple[Component, ...]:
    index = _config(os.path.join(path, "model_index.json"))
    found = []
    for name, entry in index.items():
        if name.startswith("_") or not isinstance(entry, list) or len(entry) != 2:
            continue
        library, class_name = entry
        if not isinstance(class_name, str) or class_name.endswith(_WEIGHTLESS):
            continue
        if not _inside(name) or "/" in name:
            raise BadModel(f"{path}/model_index.json: expected the name of a folder in it, found {shown(name)}")
        component = _part(path, name, library, class_name)
        if component is not None:
            found.append(component)
    if not found:
        raise BadModel(f"{path}/model_index.json: expected a component with weights, found none")
    return tuple(found)


def _part(path: str, name: str, library: object, class_name: str) -> Component | None:
    folder = os.path.join(path, name)
    if not os.path.isdir(folder):
        raise BadModel(f"{path}: expected the folder {shown(name)} of model_index.json, found none: is all downloaded?")
    host: Host = "transformers" if name.startswith("text_encoder") else "diffusers"
    if library in ("diffusers", "transformers"):
        host = library
    if "config.json" not in _listed(folder):
        component = _folder(name, host, class_name, folder, {})
        return None if component.weights == "none" else component
    component = _folder(name, host, class_name, folder, _config(os.path.join(folder, "config.json")))
    if component.weights == "none":
        raise BadModel(f"{folder}: expected weights beside its config.json, found none: is all downloaded?")
    return component


# Folders


def _folder(name: str, host: Host, class_name: str | None, path: str, config: Mapping[str, Any]) -> Component:
    files = _listed(path)
    weights, chosen = _weights(host, path, files)
    if weights == "gguf":
        return _gguf_component(name, chosen[0])
    class_name = class_name or _class_of(config)
    return Component(name, host, class_name, path, _quantized(path, files, config), weights, chosen, config)


def _class_of(config: Mapping[str, Any]) -> str | None:
    architectures = config.get("architectures")
    found = config.get("_class_name") or (
        architectures[0] if isinstance(architectures, list) and architectures else None
    )
    return found if isinstance(found, str) else None


def _quantized(path: str, files: list[str], config: Mapping[str, Any]) -> Quantized | None:
    where = "config.json"
    inner = config.get("text_config")
    found = config.get("quantization_config") or config.get("compression_config")
    if found is None and isinstance(inner, dict):
        found = inner.get("quantization_config")
    if found is None and "hf_quant_config.json" in files:
        where = "hf_quant_config.json"
        found = _config(os.path.join(path, where))
    if found is None and "quanto_qmap.json" in files:
        where = "quanto_qmap.json"
        found = quantized.from_quanto_map(_config(os.path.join(path, where)))
    if found is None:
        return None
    if not isinstance(found, dict):
        raise BadModel(f"{path}/{where}: quantization_config: expected an object, found {shown(str(found))}")
    try:
        return quantized.from_config(found)
    except BadModel as error:
        raise BadModel(f"{path}/{where}: {error}") from None


def _weights(host: str, path: str, files: list[str]) -> tuple[Weights, tuple[str, ...]]:
    """The files that the host would load: its own name first, then a variant, then anything of that kind."""
    for base in _BASES.get(host, ()):
        single, index = f"{base}.safetensors", f"{base}.safetensors.index.json"
        # diffusers looks for the index first, transformers for the single file
        for name in (index, single) if host == "diffusers" else (single, index):
            if name in files:
                return "safetensors", _followed(path, name)
    whole = [name for name in files if name.endswith(".safetensors") and "-of-" not in name]
    indexes = [name for name in files if ".safetensors.index." in name and name.endswith(".json")]
    for names in (_variants(indexes), _variants(whole)):
        if names:
            return "safetensors", _followed(path, names[0])
    shards = [name for name in files if name.endswith(".safetensors")]
    if shards:
        raise BadModel(f"{path}: expected an index beside {shown(shards[0])}, found none: is all downloaded?")
    weights: Weights
    for weights, endings in (("torch", _TORCH), ("gguf", (".gguf",)), ("flax", (".msgpack",))):
        names = [name for name in files if name.endswith(endings) and not name.startswith("training_args")]
        if weights == "gguf" and len(names) > 1:
            raise BadModel(f"{path}: expected one .gguf file, found {len(names)}: name one of them")
        if names:
            return weights, tuple([os.path.join(path, name) for name in names])
    return "none", ()


def _variants(names: list[str]) -> list[str]:
    """The half-precision ones first."""
    return sorted(names, key=lambda name: (".fp16." not in name and ".bf16." not in name, name))


def _followed(path: str, name: str) -> tuple[str, ...]:
    if not name.endswith(".json"):
        return (os.path.join(path, name),)
    place = os.path.join(path, name)
    try:
        shards = _shards(bounded_json.text_of(_read(place, _LARGEST_INDEX)))
    except ValueError as error:
        raise BadModel(f"{place}: {error}") from None
    for shard in shards:
        if not os.path.isfile(os.path.join(path, shard)):
            raise BadModel(f"{place}: expected the file {shown(shard)} beside it, found none: is all downloaded?")
    return tuple([os.path.join(path, shard) for shard in shards])


def _shards(text: str) -> list[str]:
    """The files that an index names, each once. Raises ValueError."""
    shards: dict[str, None] = {}
    members = bounded_json.Members(text, most=_MOST_NAMES)
    mapped = False
    for name in members:
        if name != "weight_map":
            members.value()
            continue
        mapped = True
        tensors = members.members()
        for tensor in tensors:
            shard = tensors.string()
            if shard is None or not _inside(shard) or not shard.endswith(".safetensors"):
                raise ValueError(
                    f"weight_map: {shown(tensor)}: expected the name of a .safetensors file in the folder,"
                    f" found {shown(shard) if shard is not None else 'no string'}"
                )
            shards[shard] = None
            if len(shards) > _MOST_SHARDS:
                raise ValueError(f"weight_map: expected at most {_MOST_SHARDS} files, found more")
        members.skip_to(tensors.end)
    if not mapped or not shards:
        raise ValueError("weight_map: expected tensors and their files, found none")
    return sorted(shards)


def _inside(name: str) -> bool:
    """Whether a name in a file stays in its folder, on every system."""
    parts = name.replace("\\", "/").split("/")
    return name.isprintable() and len(name) < 1024 and ":" not in name and not {"", ".", ".."}.intersection(parts)


def _listed(path: str) -> list[str]:
    names = []
    with os.scandir(path) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) > _MOST_FILES:
                raise BadModel(f"{path}: expected a folder of at most {_MOST_FILES} files, found more")
    return sorted(names)


def _config(path: str) -> dict[str, Any]:
    try:
        config = bounded_json.loads(_read(path, bounded_json.LARGEST))
    except ValueError as error:
        raise BadModel(f"{path}: {error}") from None
    if not isinstance(config, dict):
        raise BadModel(f"{path}: expected a JSON object, found {shown(repr(config))[1:-1]}")
    return config


def _read(path: str, largest: int) -> bytes:
    file, size = opened(path)
    with file:
        return file.read(min(size, largest + 1))
