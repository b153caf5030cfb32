"""The environment variables that rules read, from our own list alone, and never a secret; what is loaded already."""

from __future__ import annotations

import sys

from envguard.probes import Observed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

RECORDED = frozenset(
    (
        # which devices a process sees
        "CUDA_VISIBLE_DEVICES",
        "CUDA_DEVICE_ORDER",
        "NVIDIA_VISIBLE_DEVICES",
        "NVIDIA_DRIVER_CAPABILITIES",
        "HIP_VISIBLE_DEVICES",
        "ROCR_VISIBLE_DEVICES",
        "GPU_DEVICE_ORDINAL",
        "HSA_OVERRIDE_GFX_VERSION",
        "ZE_AFFINITY_MASK",
        "ZE_FLAT_DEVICE_HIERARCHY",
        "ONEAPI_DEVICE_SELECTOR",
        # which libraries and compilers are found
        "BNB_CUDA_VERSION",
        "BNB_ROCM_VERSION",
        "CUDA_HOME",
        "CUDA_PATH",
        "ROCM_HOME",
        "ROCM_PATH",
        "LD_LIBRARY_PATH",
        "DYLD_LIBRARY_PATH",
        "TORCH_CUDA_ARCH_LIST",
        "CXX",
        "CC",
        # what torch, hosts and backends do at import or load
        "DIFFUSERS_DISABLE_REMOTE_CODE",
        "DIFFUSERS_GGUF_CUDA_KERNELS",
        "DIFFUSERS_TRUST_REMOTE_KERNELS",
        "HF_HUB_OFFLINE",
        "PYTORCH_ENABLE_MPS_FALLBACK",
        "PYTORCH_NVML_BASED_CUDA_CHECK",
        "TORCHAO_FORCE_SKIP_LOADING_SO_FILES",
        "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD",
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD",
        "TRANSFORMERS_DISABLE_TORCH_CHECK",
        "USE_TF",
        "USE_TORCH",
        # whether a command that installs can reach an index, and where it installs to
        "PIP_NO_INDEX",
        "PIP_REQUIRE_VIRTUALENV",
        "PIP_TARGET",
        "UV_NO_INDEX",
        "UV_OFFLINE",
        # where Python itself looks
        "PYTHONNOUSERSITE",
        "PYTHONPATH",
    )
)

_PREFIXES = (
    *("hf_", "sk-", "ghp_", "gho_", "ghs_", "ghu_", "github_pat_", "glpat-", "xoxb-", "xoxp-", "pypi-", "npm_"),
    *("nvapi-", "AKIA", "ASIA", "AIza", "eyJ", "ya29.", "dckr_pat_", "dapi", "ops_"),
)
_WORDS = ("token=", "password=", "passwd=", "secret=", "key=", "signature=", "bearer ", "-----begin")


def variables(environ: Mapping[str, str], names: frozenset[str] | None) -> Observed:
    """Section `environment_variables`: of the names asked for (None: all) those on our list, null where unset."""
    value: dict[str, str | None] = {}
    unreadable: dict[str, str] = {}
    for name in sorted(RECORDED if names is None else names):
        reason = None
        found = environ.get(name) if name in RECORDED else None
        if name not in RECORDED:
            reason = "withheld: not a variable that envguard records"
        elif found is not None and looks_like_secret(found):
            reason = "withheld: looks like a secret"
        elif found is not None and not _is_text(found):
            reason = "its value is not text in this system's encoding"
        if reason is None:
            value[name] = found
        else:
            unreadable[f"/environment_variables/{name}"] = reason
    return Observed(value, unreadable)


def looks_like_secret(value: str) -> bool:
    """True for what may be a token, key or password. Errs on the side of True, but not for paths and device ids."""
    if len(value) < 8:
        return False
    lowered = value.lower()
    if any(word in lowered for word in _WORDS):
        return True
    # an address with a user, a password or a token before the host
    if any("@" in part.partition("/")[0] for part in value.split("://")[1:]):
        return True
    for separator in ";,|\"' \t\r\n":
        value = value.replace(separator, ":")
    return any(_looks_random(element) for element in value.split(":") if len(element) >= 16)


def _looks_random(element: str) -> bool:
    """One element of a list of values: a known kind of token, or a run of letters and digits as no name has them."""
    # a drive letter is an element of its own by now; base64 has slashes too, but hardly in front
    is_path = element[0] in "/\\.~"
    for part in element.replace("\\", "/").split("/") if is_path else [element.replace("/", "").replace("+", "")]:
        if len(part) >= 16 and part.startswith(_PREFIXES):
            return True
        for run in part.replace("-", " ").replace("_", " ").replace(".", " ").replace("=", " ").split():
            if len(run) < 20:
                continue
            kinds = ["d" if letter.isdigit() else "u" if letter.isupper() else "l" for letter in run]
            changes = sum(one != other for one, other in zip(kinds, kinds[1:]))
            if len(set(kinds)) == 3 and changes >= 0.4 * len(run):
                return True
            # package managers name folders by hashes of small letters and digits: no secret inside a path
            if len(run) >= 32 and not is_path and len(set(kinds)) > 1:
                return True
    return False


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def loaded_modules(names: Iterable[str]) -> Observed:
    """Section `loaded_modules`: what the running process already holds of these import names; imports nothing."""
    value: dict[str, Any] = {}
    for name in sorted(names):
        module = sys.modules.get(name)
        if module is None:
            continue
        # the dictionary, not the attribute: lazy modules import when asked for one they do not have yet
        held = getattr(module, "__dict__", {})
        version, file = held.get("__version__"), held.get("__file__")
        value[name] = {
            "version": str(version) if isinstance(version, str) else None,
            "file": file if isinstance(file, str) else None,
        }
    return Observed(value)
