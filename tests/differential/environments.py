"""Environments made by hypothesis: what is installed, in which versions, on which devices, with which variables.

One environment has two sides: `child(...)` is what upstream's own code runs in, `snapshot(...)` what envguard is told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pool
import tomllib
from hypothesis import strategies as st
from packaging.version import Version

ROOT = Path(__file__).parents[2]
RELEASES: dict[str, list[str]] = tomllib.loads((ROOT / "rules/releases.toml").read_text("utf-8"))["releases"]

# Versions on both sides of every bound that some host release has.
_EDGES = {
    "torch": [
        *("2.0.1", "2.1.2", "2.2.2", "2.3.0", "2.4.1", "2.5.0", "2.5.1", "2.6.0", "2.6.0", "2.6.0", "2.7.1", "2.8.0"),
        *("2.8.0", "2.9.1", "2.10.0", "2.11.0", "2.12.0", "2.13.0", "2.14.0", "2.15.0"),
    ],
    "accelerate": ["0.25.0", "0.26.0", "0.26.1", "0.31.0", "1.0.1", "1.1.0", "1.10.0", "1.12.0", "1.15.0"],
    "bitsandbytes": [
        *(
            "0.38.1",
            "0.43.1",
            "0.43.2",
            "0.43.3",
            "0.43.3",
            "0.44.0",
            "0.45.0",
            "0.46.0",
            "0.46.1",
            "0.47.0",
            "0.48.0",
            "0.50.0",
        ),
    ],
    "torchao": [
        *(
            "0.3.1",
            "0.4.0",
            "0.5.0",
            "0.6.1",
            "0.7.0",
            "0.8.0",
            "0.9.0",
            "0.10.0",
            "0.11.0",
            "0.13.0",
            "0.14.0",
            "0.14.1",
            "0.15.0",
        ),
        *("0.15.0", "0.16.0", "0.17.0", "0.18.0"),
    ],
    "gguf": ["0.6.0", "0.9.1", "0.10.0", "0.10.0", "0.11.0", "0.17.1", "0.19.0"],
    "kernels": ["0.9.0", "0.10.3", "0.10.4", "0.12.0", "0.14.0", "0.17.2"],
    "nvidia-modelopt": ["0.33.0", "0.33.1", "0.39.0", "0.43.0", "0.44.0", "0.47.0"],
    "optimum-quanto": ["0.2.5", "0.2.6", "0.2.7"],
    "optimum": ["1.24.0", "2.0.0"],
}
# how often a distribution is there, absent, and there without metadata
_OFTEN = {"torch": (40, 1, 1), "accelerate": (12, 2, 1), "kernels": (3, 2, 1), "optimum": (1, 4, 0)}
_LOCAL = ["+cu124", "+cpu", "+rocm6.4", "+git0a1b2c3"]
_PRE = [".dev20250101", "a0", "rc1", "a0+nv24.10"]

_VARIABLES = {
    "USE_TORCH": [None] * 20 + ["1", "AUTO", "true", "on", "Yes", "0", "no", "false", "2", ""],
    "USE_TF": [None] * 16 + ["0", "AUTO", "1", "true", "On"],
    "DIFFUSERS_GGUF_CUDA_KERNELS": [None] * 3 + ["1", "true", "Yes", "on", "0", "TRUE"],
    "DIFFUSERS_TRUST_REMOTE_KERNELS": [None, "1", "true", "On", "yes", "0"],
    "DIFFUSERS_DISABLE_REMOTE_CODE": [None] * 5 + ["1", "true", "0"],
}

_SCHEMES = {
    "bitsandbytes": ["nf4", "fp4", "int8", "int8"],
    "torchao": [
        *("int8_weight_only", "int8_dynamic", "int4_weight_only", "float8_weight_only", "float8_dynamic"),
        *("uint1_weight_only", "uint4_weight_only", "uint7_weight_only", "nvfp4_weight_only", "mxfp8_dynamic"),
    ],
    "quanto": ["int8", "int4", "int2", "float8"],
    "gguf": [
        "F16",
        "BF16",
        "Q4_0",
        "Q8_0",
        "Q8_1",
        "Q8_K",
        "Q4_K",
        "Q4_K_M",
        "IQ2_XS",
        "IQ4_NL",
        "IQ4_XS",
        "TQ1_0",
        "MXFP4",
    ],
    "modelopt": ["fp8", "int8", "int4", "nf4", "nvfp4"],
}
_WITHOUT = {("transformers", "modelopt")}
_CAPABILITIES = ["5.2", "6.1", "7.0", "7.5", "8.0", "8.6", "8.9", "8.9", "9.0", "10.0", "12.0"]
_OF_ROCM = ["9.0", "9.4", "11.0"]
_VISIBLE = {"cuda": ("cuda", "rocm"), "cpu": ()}


# One thing wrong in an environment that is fine otherwise: so each gate is met often enough. `since` and `until`: the
# releases of diffusers for which that is a gate.
COPIED = "copied"  # a folder without metadata
_NO_DEVICE: tuple[tuple[str, str | None], ...] = ()
_KERNELS_ON = {"DIFFUSERS_GGUF_CUDA_KERNELS": "true"}
_TRUSTED = {**_KERNELS_ON, "DIFFUSERS_TRUST_REMOTE_KERNELS": "1"}
AIMS: list[dict[str, Any]] = [
    {"torch": None},
    {"torch": "2.0.1", "until": "0.41"},
    {"torch": "2.2.2", "until": "0.41"},
    {"torch": "2.2.2", "bitsandbytes:": "int8", "since": "0.33", "until": "0.36", "weight": 2},
    {"torch": "2.2.2", "machine": _NO_DEVICE, "bitsandbytes:": "nf4", "since": "0.33", "until": "0.36", "weight": 3},
    {"torch": "2.2.2", "machine": _NO_DEVICE, "bitsandbytes:": "int8", "since": "0.33", "until": "0.36", "weight": 3},
    {"torch": "2.2.2", "bitsandbytes:": "nf4", "since": "0.33", "until": "0.36", "weight": 2},
    {"torch": "2.4.1", "since": "0.39"},
    {"torch": "2.4.1", "bitsandbytes:": "nf4", "since": "0.39", "until": "0.41", "weight": 4},
    {"torch": "2.4.1", "bitsandbytes:": "int8", "since": "0.39", "until": "0.41", "weight": 2},
    {
        "torch": "2.4.1",
        "bitsandbytes:": "nf4",
        "machine": (("mps", None),),
        "since": "0.39",
        "until": "0.41",
        "weight": 3,
    },
    {"variables": {"USE_TORCH": "0"}},
    {"variables": {"USE_TF": "1"}},
    {"accelerate": None},
    {"accelerate": "0.25.0", "bitsandbytes:": "nf4"},
    {"accelerate": "0.25.0", "bitsandbytes:": "int8", "weight": 2},
    {"accelerate": None, "torchao:": "int8_dynamic", "weight": 2},
    {"bitsandbytes": None, "bitsandbytes:": "nf4"},
    {"bitsandbytes": None, "bitsandbytes:": "int8"},
    {"bitsandbytes": "0.38.1", "bitsandbytes:": "fp4", "weight": 2},
    {"bitsandbytes": "0.43.2", "bitsandbytes:": "nf4", "weight": 3},
    {"bitsandbytes": "0.43.2", "bitsandbytes:": "int8", "weight": 3},
    {"machine": _NO_DEVICE, "bitsandbytes:": "nf4"},
    {"machine": _NO_DEVICE, "bitsandbytes:": "int8"},
    {"machine": (("xpu", None),)},
    {"machine": (("mps", None),), "bitsandbytes:": "nf4"},
    {"gguf": None, "since": "0.32"},
    {"gguf": None, "since": "0.32", "operation": "load", "weight": 2},
    {"gguf": "0.6.0", "since": "0.32"},
    {"gguf": "0.9.1", "since": "0.32"},
    {"gguf:": "Q8_1", "operation": "load", "since": "0.32"},
    {"torchao": None, "since": "0.32"},
    {"torchao": None, "since": "0.32", "operation": "load", "weight": 3},
    {"torchao": "0.3.1", "since": "0.32", "weight": 2},
    {"torchao": "0.5.0", "torchao:": "int8_weight_only", "operation": "quantize", "since": "0.32", "until": "0.38"},
    {"torchao": "0.4.0", "torchao:": "int8_weight_only", "operation": "quantize", "since": "0.32", "until": "0.38"},
    {"torchao": "0.9.0", "since": "0.36"},
    {"torchao": "0.9.0", "operation": "load", "since": "0.36"},
    {"torchao": "0.9.0", "machine": _NO_DEVICE, "operation": "quantize", "since": "0.32", "until": "0.38", "weight": 4},
    {
        "torchao": "0.9.0",
        "machine": (("xpu", None),),
        "torchao:": "int4_weight_only",
        "operation": "quantize",
        "since": "0.36",
        "until": "0.38",
        "weight": 6,
    },
    {
        "torchao": "0.9.0",
        "machine": (("cuda", "8.6"),),
        "torchao:": "float8_weight_only",
        "operation": "quantize",
        "since": "0.32",
        "until": "0.38",
        "weight": 4,
    },
    {"torchao": "0.9.0", "torchao:": "mxfp8_dynamic", "operation": "quantize", "since": "0.32", "until": "0.38"},
    {"torchao": "0.9.0", "torchao:": "nvfp4_weight_only", "operation": "load", "since": "0.32", "until": "0.36"},
    {"torchao": "0.9.0+cu124", "since": "0.36", "until": "0.38"},
    {"torchao": "0.9.0+cu124", "operation": "load", "machine": _NO_DEVICE, "since": "0.36", "until": "0.38"},
    {
        "torchao": "0.9.0+cu124",
        "operation": "load",
        "torchao:": "float8_weight_only",
        "machine": (("cuda", "8.6"),),
        "since": "0.36",
        "until": "0.38",
    },
    # on a device that every type takes: elsewhere a nightly build decides in more than one way what upstream does
    {"torchao": "0.10.0.dev20250101", "machine": (("cuda", "9.0"),), "since": "0.36", "until": "0.38"},
    {"torchao": "0.14.1", "since": "0.38"},
    {"torchao": "0.15.0.dev20250901", "since": "0.41", "until": "0.42", "weight": 2},
    {"torchao": "0.14.1", "operation": "load", "since": "0.38"},
    {"torchao": "0.16.0", "since": "0.33", "until": "0.37", "weight": 2},
    {"torchao": "0.17.0", "torch": "2.5.1", "since": "0.32", "until": "0.37"},
    {"torch": "2.2.2", "torchao:": "int8_weight_only", "since": "0.32", "until": "0.36"},
    {"optimum-quanto": None, "since": "0.33", "weight": 2},
    {"optimum-quanto": "0.2.5", "since": "0.33"},
    {"optimum-quanto": None, "optimum": "1.24.0", "since": "0.34", "weight": 4},
    {"accelerate": None, "quanto:": "int8", "since": "0.33"},
    {"nvidia-modelopt": None, "operation": "quantize", "since": "0.36", "weight": 2},
    {"nvidia-modelopt": None, "operation": "load", "since": "0.36", "weight": 3},
    {"nvidia-modelopt": "0.44.0", "operation": "quantize", "since": "0.36"},
    {"nvidia-modelopt": COPIED, "operation": "load", "since": "0.36", "weight": 4},
    {"torchao": COPIED, "operation": "load", "since": "0.36", "weight": 2},
    {"torchao": COPIED, "operation": "quantize", "since": "0.36", "weight": 2},
    {"variables": _KERNELS_ON, "since": "0.40", "weight": 2},
    {"variables": {**_TRUSTED, "DIFFUSERS_DISABLE_REMOTE_CODE": "1"}, "since": "0.40", "weight": 2},
    {"variables": _TRUSTED, "kernels": "0.10.3", "since": "0.41", "weight": 3},
    {"variables": _TRUSTED, "kernels": "0.10.4", "since": "0.41"},
]


_TRANSFORMERS_AIMS: list[dict[str, Any]] = [
    {"torch": None},
    {"torch": "2.0.1"},
    {"torch": "2.1.2", "since": "5"},
    {"torch": "2.3.0", "since": "5.1"},
    {"torch": "2.4.1", "since": "5.9", "until": "5.10"},
    {"torch": "2.4.1", "since": "5.14"},
    {"torch": "2.5.1", "since": "5.20"},
    {"torch": "2.4.1", "operation": "load", "until": "5.4", "weight": 3},
    {
        "torch": "2.4.1",
        "operation": "load",
        "torchao:": "int8_weight_only",
        "since": "4.47",
        "until": "4.50",
        "weight": 2,
    },
    {"torch": "2.3.0", "machine": (("xpu", None),), "until": "4.53", "weight": 2},
    {"variables": {"USE_TORCH": "0"}, "until": "5"},
    {"variables": {"USE_TF": "1"}, "until": "5"},
    {"accelerate": None, "bitsandbytes:": "nf4", "weight": 2},
    {"accelerate": None, "bitsandbytes:": "int8", "weight": 2},
    {"accelerate": "0.25.0"},
    {"accelerate": "0.25.0", "torchao:": "int8_dynamic", "until": "4.51", "weight": 2},
    {"accelerate": "1.0.1", "since": "5"},
    {"bitsandbytes": None, "bitsandbytes:": "nf4", "weight": 2},
    {"bitsandbytes": COPIED, "bitsandbytes:": "nf4", "until": "5", "weight": 2},
    {"torchao": COPIED, "operation": "load", "until": "5", "weight": 2},
    {"bitsandbytes": None, "bitsandbytes:": "int8"},
    {"bitsandbytes": "0.43.0", "machine": _NO_DEVICE, "bitsandbytes:": "nf4", "weight": 3},
    {"bitsandbytes": "0.43.0", "machine": _NO_DEVICE, "bitsandbytes:": "int8", "weight": 2},
    {"bitsandbytes": "0.38.1", "bitsandbytes:": "nf4", "weight": 3},
    {"bitsandbytes": "0.45.5"},
    {"bitsandbytes": "0.45.5", "machine": _NO_DEVICE},
    {"bitsandbytes": "0.45.5", "machine": (("xpu", None),)},
    {"bitsandbytes": "0.46.0", "since": "5"},
    {"machine": _NO_DEVICE, "weight": 2},
    {"torchao": None},
    {"torchao": None, "operation": "load", "weight": 2},
    {"torchao": "0.3.1", "weight": 2},
    {"torchao": "0.4.0"},
    {"torchao": "0.4.0.dev20250101", "torchao:": "int8_weight_only", "until": "4.47", "weight": 2},
    {"torchao": "0.8.0", "since": "4.51", "until": "5"},
    {"torchao": "0.9.0", "operation": "load", "weight": 2},
    {"torchao": "0.9.0", "torchao:": "uint4_weight_only", "operation": "quantize", "weight": 2},
    {"torchao": "0.9.0+cu124", "since": "4.50", "until": "5.4"},
    {"torchao": "0.10.0.dev20250101", "since": "4.50", "until": "5.4"},
    {"torchao": "0.13.0", "since": "5"},
    {"torchao": "0.14.1", "since": "5"},
    {"torchao": "0.16.0"},
    {"torchao": "0.18.0"},
    {"optimum-quanto": None},
    {"optimum-quanto": None, "optimum": "1.24.0"},
    {"gguf": None, "weight": 2},
    {"gguf": "0.9.1"},
]


class Made(NamedTuple):
    """One environment and what is asked there."""

    packages: tuple[pool.Package, ...]
    accelerators: tuple[tuple[str, str | None], ...]
    variables: tuple[tuple[str, str | None], ...]
    device: str
    operation: str
    schemes: tuple[tuple[str, str], ...]


def _package(name: str) -> st.SearchStrategy[pool.Package | None]:
    releases = [each for each in RELEASES.get(name, []) if name != "torch" or Version(each) >= Version("2.0.0")]
    plain = st.sampled_from(_EDGES[name] * 3 + releases)
    post = plain.map(lambda found: found.partition(".post")[0])
    decorated = st.tuples(post, st.sampled_from(_LOCAL + _PRE)).map("".join)
    version = st.integers(0, 4).flatmap(lambda number: decorated if number == 0 else plain)
    there = version.map(lambda found: pool.Package(name, found))
    copied = version.map(lambda found: pool.Package(name, found, metadata=False))
    present, absent, without_metadata = _OFTEN.get(name, (10, 2, 1))
    ways = ["there"] * present + ["absent"] * absent + ["copied"] * without_metadata
    return st.sampled_from(ways).flatmap({"there": there, "absent": st.none(), "copied": copied}.__getitem__)


def _device(kind: str) -> st.SearchStrategy[tuple[str, str | None]]:
    capabilities = {"cuda": _CAPABILITIES, "rocm": _OF_ROCM}.get(kind, [None])
    return st.sampled_from(capabilities).map(lambda capability: (kind, capability))


_MACHINES = st.sampled_from(
    [("cuda",)] * 16
    + [(), (), (), ("cuda", "cuda"), ("rocm",), ("rocm",), ("xpu",), ("xpu",), ("xpu",), ("mps",)]
    + [("mps",), ("mps",)]
).flatmap(lambda kinds: st.tuples(*map(_device, kinds)))


# An environment in which everything works, in any release of a host.
_FINE = {
    "torch": "2.10.0", "accelerate": "1.10.0", "bitsandbytes": "0.48.0", "torchao": "0.15.0", "gguf": "0.17.1",
    "kernels": "0.12.0", "nvidia-modelopt": "0.43.0", "optimum-quanto": "0.2.7", "optimum": None,
}  # fmt: skip
_KERNELS = {"DIFFUSERS_GGUF_CUDA_KERNELS", "DIFFUSERS_TRUST_REMOTE_KERNELS", "DIFFUSERS_DISABLE_REMOTE_CODE"}


def aims(host: str, release: str) -> list[dict[str, Any]]:
    """What can be wrong in an environment of a release, one thing each."""
    known = AIMS if host == "diffusers" else _TRANSFORMERS_AIMS
    now = Version(release)
    return [aim for aim in known if Version(aim.get("since", "0")) <= now < Version(aim.get("until", "99"))]


@st.composite
def environments(draw: Any, host: str, release: str, aim: dict[str, Any] | None = None) -> Made:
    """Any environment: without an aim half of them anything at all, the others fine but for some of their parts."""
    now = Version(release)
    wild = aim is None and draw(st.booleans())
    aim = aim or {}

    def is_wild() -> bool:
        return wild or draw(st.sampled_from([True] + [False] * (19 if aim else 3)))

    found = {name: draw(_package(name)) if is_wild() else _fine(name) for name in _EDGES}
    for name in found.keys() & aim.keys():
        found[name] = _package_of(name, aim[name])
    if host == "transformers" and now >= Version("5"):
        # It takes the version of a folder without metadata from its module, which a snapshot does not hold; our
        # baseline refuses such a folder.
        found = {name: each if each is None or each.metadata else None for name, each in found.items()}
    torch = found["torch"]
    if host == "transformers" and torch and not torch.metadata and "dev" in torch.version:
        found["torch"] = None  # the same, of development builds of torch alone
    if found["optimum"] and found["optimum-quanto"] and not found["optimum-quanto"].metadata:
        found["optimum"] = None  # upstream would take the one for the other; our baseline refuses a copied folder
    packages = tuple(filter(None, found.values()))
    kernels, others = is_wild(), is_wild()
    variables = {
        name: draw(st.sampled_from(values)) if (kernels if name in _KERNELS else others) else None
        for name, values in _VARIABLES.items()
    }
    machine = draw(_MACHINES) if is_wild() else (draw(_device("cuda")),)
    operation = draw(st.sampled_from(["quantize", "load"]))
    schemes = {backend: draw(st.sampled_from(schemes)) for backend, schemes in _SCHEMES.items()}
    return Made(
        tuple(draw(st.permutations(packages))) if len(packages) > 1 else packages,
        aim.get("machine", machine),
        tuple({**variables, **aim.get("variables", {})}.items()),
        draw(st.sampled_from(["auto"] * 5 + ["cpu", "cuda", "xpu", "mps"])) if is_wild() else "auto",
        aim.get("operation", operation),
        tuple((each, aim.get(f"{each}:", scheme)) for each, scheme in schemes.items() if (host, each) not in _WITHOUT),
    )


def _package_of(name: str, version: str | None) -> pool.Package | None:
    if version == COPIED:
        return pool.Package(name, str(_FINE[name]), metadata=False)
    return None if version is None else pool.Package(name, version)


def _fine(name: str) -> pool.Package | None:
    version = _FINE[name]
    return None if version is None else pool.Package(name, version)


def requests(made: Made) -> list[dict[str, str]]:
    """What is asked of the host: each backend once."""
    return [{"backend": backend, "scheme": scheme, "operation": made.operation} for backend, scheme in made.schemes]


def child(
    made: Made, folder: str, wheel: str, *, before: bool = False, reverse: bool = False, cold: bool = False
) -> dict[str, Any]:
    """The environment as the child process is told of it.

    `before`: a pre-release has what the release before it had. `reverse`: the distributions in the opposite order.
    """
    packages = made.packages[::-1] if reverse else made.packages
    devices = [{"kind": kind, "compute_capability": capability} for kind, capability in made.accelerators]
    visible = _VISIBLE.get(made.device, (made.device,))
    return {
        "versions": {pool.IMPORTS[each.name].partition(".")[0]: each.version for each in packages},
        "before": before,
        "folders": [*(pool.folder(folder, each) for each in packages), pool.besides(folder, wheel)],
        "accelerators": devices,
        "devices": [each for each in devices if made.device == "auto" or each["kind"] in visible],
        "variables": {name: value for name, value in made.variables if value is not None},
        "requests": requests(made),
        "cold": cold,
    }


def has_pre_release(made: Made) -> bool:
    """Whether a version stands between two releases, so that what it has cannot be said."""
    return any(each.metadata and Version(each.version).is_prerelease for each in made.packages)


def has_both_optimums(made: Made) -> bool:
    """Whether two distributions own the name `optimum`, so that the order of their folders decides."""
    return {"optimum", "optimum-quanto"} <= {each.name for each in made.packages if each.metadata}


def snapshot(made: Made, host: str, release: str) -> dict[str, Any]:
    """The environment as `envguard snapshot` would record it."""
    there = {each.name: each for each in made.packages if each.metadata}
    torch = next((each.version for each in made.packages if each.name == "torch"), None)
    kinds = [kind for kind, _ in made.accelerators]
    nvidia = kinds.count("cuda")
    owners = {}
    for name in ("bitsandbytes", "torchao", "gguf", "nvidia-modelopt", "optimum-quanto"):
        owners[pool.IMPORTS[name]] = {
            "origin": f"/v/{pool.IMPORTS[name].replace('.', '/')}/__init__.py",
            "distribution": name if name in there else None,
            "distributions": [name] if name in there else [],
            "kind": "package",
        }
    return {
        "schema": "envguard.snapshot/1",
        "python": {
            "version": "3.11.7",
            "implementation": "cpython",
            "executable": "/v/bin/python",
            "prefix": "/v",
            "free_threaded": False,
            "externally_managed": False,
            "writable": True,
            "virtual_environment": True,
            "conda_prefix": None,
            "pip": "25.3",
        },
        "host": {"system": "Darwin" if "mps" in kinds else "Linux", "machine": "x86_64", "libc": "glibc 2.39"},
        "distributions": {
            host: {"version": release, "requires": []},
            **{name: {"version": each.version, "requires": []} for name, each in there.items()},
        },
        "distributions_complete": True,
        "import_owners": owners,
        "torch_build": None
        if torch is None
        else {
            "version": torch,
            "cuda": "12.4" if nvidia else None,
            "hip": "6.4" if "rocm" in kinds else None,
            "xpu": "20250101" if "xpu" in kinds else None,
            "arch_list": ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"],
        },
        "drivers": {
            "nvidia": "580.95.05" if nvidia else None,
            "cuda": "13.0" if nvidia else None,
            "nvidia_status": "ok" if nvidia else "absent",
            "nvidia_devices": nvidia,
        },
        "accelerators": [
            {
                "kind": kind,
                "index": kinds[:place].count(kind),
                "name": f"a {kind} device",
                "memory_total": 24_000_000_000,
                **({"compute_capability": capability} if kind == "cuda" else {}),
            }
            for place, (kind, capability) in enumerate(made.accelerators)
        ],
        "toolchain": {
            "ninja": "1.13.0",
            "cxx": "g++ 13.3",
            "cc": "gcc 13.3",
            "nvcc": "13.0",
            "python_headers": "/usr/include",
            "cuda_home": "/usr/local/cuda",
            "msvc": None,
        },
        "environment_variables": {
            "CUDA_VISIBLE_DEVICES": None,
            "PIP_NO_INDEX": None,
            "UV_OFFLINE": None,
            **dict(made.variables),
        },
    }
