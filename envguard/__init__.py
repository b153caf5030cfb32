"""Whether a quantization backend will work in this environment, why not, and what exactly fixes it.

Importing envguard imports nothing else: each public name is found on its first use (PEP 562).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from envguard._version import __version__
    from envguard.deep.smoke import smoke
    from envguard.errors import (
        BackendChanged,
        BadInput,
        BadInterpreter,
        BadModel,
        BadRules,
        BadSnapshot,
        EnvguardError,
        EnvguardWarning,
        RequirementsNotMet,
        SchemeConflict,
        UnknownBackend,
        UnknownOption,
        UnknownScheme,
    )
    from envguard.guard import available, check, load, pipeline_config, require, snapshot
    from envguard.guarded import Guarded
    from envguard.model import Environment, Report
    from envguard.models import ModelReport, check_model

_HOMES = {
    "__version__": "_version",
    **dict.fromkeys(("available", "check", "load", "pipeline_config", "require", "snapshot"), "guard"),
    "Guarded": "guarded",
    "smoke": "deep.smoke",
    **dict.fromkeys(("Environment", "Report"), "model"),
    **dict.fromkeys(("ModelReport", "check_model"), "models"),
    **dict.fromkeys(
        (
            "BackendChanged",
            "BadInput",
            "BadInterpreter",
            "BadModel",
            "BadRules",
            "BadSnapshot",
            "EnvguardError",
            "EnvguardWarning",
            "RequirementsNotMet",
            "SchemeConflict",
            "UnknownBackend",
            "UnknownOption",
            "UnknownScheme",
        ),
        "errors",
    ),
}

__all__ = [
    "BackendChanged",
    "BadInput",
    "BadInterpreter",
    "BadModel",
    "BadRules",
    "BadSnapshot",
    "Environment",
    "EnvguardError",
    "EnvguardWarning",
    "Guarded",
    "ModelReport",
    "Report",
    "RequirementsNotMet",
    "SchemeConflict",
    "UnknownBackend",
    "UnknownOption",
    "UnknownScheme",
    "__version__",
    "available",
    "check",
    "check_model",
    "load",
    "pipeline_config",
    "require",
    "smoke",
    "snapshot",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'envguard' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"envguard.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
