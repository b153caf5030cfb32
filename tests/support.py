"""A miniature backend, rows for its rules and recorded machines: what the tests of the core start from."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from envguard.evaluate import Evaluator
from envguard.model import BackendReport, Environment, Outcome, Request
from envguard.rulebook import RuleBook
from envguard.rulefiles import check_tables

HEADER: dict[str, Any] = {
    "name": "torchao",
    "aliases": ["ao"],
    "distribution": "torchao",
    "import_name": "torchao",
    "extra": "torchao",
    "install": ["torchao>=0.7.0"],
    "schemes": {"int8": ["int8wo"], "int4": [], "fp8": ["float8"]},
}


def row(rule_id: str, need: dict[str, Any], severity: str = "error", **more: Any) -> dict[str, Any]:
    """A row as TOML gives it, with the fields that do not matter to a test filled in."""
    made: dict[str, Any] = {
        "id": rule_id,
        "need": need,
        "severity": severity,
        "kind": "version",
        "why": "It stops without it.",
        "fix": {"text": "Mend it."},
        "origin": "baseline",
        "source": "torchao v0.15.0 setup.py",
        "checked": datetime.date(2026, 11, 22),
    }
    if any(sign in str(need.get("distribution", "")) for sign in "<>=~!"):
        made.update(fact="metadata", comparison="version")
    made.update(more)
    return made


def tables(
    *rows: dict[str, Any], header: dict[str, Any] | None = None, file: str = "torchao.toml", **releases: Any
) -> dict[str, dict[str, Any]]:
    """The tables of a rules folder with one backend; `releases` are the keys of releases.toml."""
    made: dict[str, dict[str, Any]] = {file: {"backend": deepcopy(header or HEADER), "rule": list(rows)}}
    if releases:
        made["releases.toml"] = {name.replace("_", "-"): value for name, value in releases.items()}
    return made


def book(*rows: dict[str, Any], **more: Any) -> RuleBook:
    """The rule book of some rows, checked as the loader checks them."""
    made = tables(*rows, **more)
    check_tables(made)
    return RuleBook(made)


def evaluate(
    rows: RuleBook | list[dict[str, Any]], data: dict[str, Any], ignore: frozenset[str] = frozenset(), **request: Any
) -> BackendReport:
    """What some rows say about a recorded machine."""
    rules = rows if isinstance(rows, RuleBook) else book(*rows)
    asked = Request(**{"backend": "torchao", **request})
    return Evaluator(rules, asked).evaluate(Environment(data), ignore=ignore)


def judge(need: dict[str, Any], data: dict[str, Any], **request: Any) -> Outcome:
    """The outcome of one need."""
    (outcome,) = evaluate([row("torchao/it", need)], data, **request).outcomes
    return outcome


def applies(need: dict[str, Any], data: dict[str, Any], **request: Any) -> bool:
    """Whether a need has anything to say about a machine."""
    return bool(evaluate([row("torchao/it", need)], data, **request).outcomes)


def gpu(index: int = 0, capability: str | None = "8.9", **more: Any) -> dict[str, Any]:
    """An NVIDIA device as a snapshot holds it."""
    device = {"kind": "cuda", "index": index, "name": "NVIDIA L4", "memory_total": 24_000_000_000, **more}
    return device if capability is None else {**device, "compute_capability": capability}


def snapshot(**sections: Any) -> dict[str, Any]:
    """A snapshot with these sections and nothing else observed."""
    return {"schema": "envguard.snapshot/1", **sections}


def machine(**sections: Any) -> dict[str, Any]:
    """A Linux machine with one NVIDIA L4 and the CUDA 12.8 build of torch 2.10, on which everything is in order."""
    whole = {
        "taken_at": "2026-11-22T02:13:00Z",
        "python": {
            "version": "3.11.7",
            "implementation": "cpython",
            "executable": "/home/user/venv/bin/python",
            "prefix": "/home/user/venv",
            "free_threaded": False,
            "externally_managed": False,
            "writable": True,
            "conda_prefix": None,
            "virtual_environment": True,
            "pip": "25.3",
        },
        "host": {"system": "Linux", "machine": "x86_64", "libc": "glibc 2.39"},
        "distributions": {
            "torch": {"version": "2.10.0+cu128", "requires": []},
            "torchao": {"version": "0.18.0", "requires": []},
            "diffusers": {"version": "0.42.1"},
            "accelerate": {"version": "1.12.0"},
        },
        "distributions_complete": True,
        "import_owners": {
            "torchao": {
                "origin": "/home/user/venv/lib/python3.11/site-packages/torchao/__init__.py",
                "distribution": "torchao",
                "distributions": ["torchao"],
                "kind": "package",
            }
        },
        "torch_build": {
            "version": "2.10.0+cu128",
            "cuda": "12.8",
            "hip": None,
            "xpu": None,
            "arch_list": ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"],
        },
        "drivers": {"nvidia": "570.86.10", "cuda": "12.8", "nvidia_status": "ok", "nvidia_devices": 1},
        "accelerators": [gpu()],
        "toolchain": {"ninja": "1.13.0", "cxx": None},
        "environment_variables": {"CUDA_VISIBLE_DEVICES": None},
    }
    return snapshot(**{**whole, **sections})


RELEASES = {
    "accelerate": "1.15.0",
    "bitsandbytes": "0.50.2",
    "diffusers": "0.42.1",
    "gguf": "0.19.0",
    "ninja": "1.13.0",
    "numpy": "2.4.6",
    "nvidia-modelopt": "0.37.0",
    "optimum-quanto": "0.2.7",
    "torch": "2.11.0",
    "torchao": "0.18.0",
    "transformers": "5.2.0",
}


def everything(**sections: Any) -> dict[str, Any]:
    """A Linux machine with one NVIDIA L4 and all five backends, on which everything is in order."""
    names = {"bitsandbytes": "bitsandbytes", "gguf": "gguf", "modelopt": "nvidia-modelopt", "torchao": "torchao"}
    names["optimum.quanto"] = "optimum-quanto"
    owners = {
        name: {"origin": f"/v/{name}/__init__.py", "distribution": owner, "distributions": [owner], "kind": "package"}
        for name, owner in names.items()
    }
    whole = {
        "distributions": {name: {"version": version, "requires": []} for name, version in RELEASES.items()},
        "import_owners": owners,
        "torch_build": {
            "version": "2.11.0+cu130",
            "cuda": "13.0",
            "hip": None,
            "xpu": None,
            "arch_list": ["sm_80", "sm_90"],
        },
        "drivers": {"nvidia": "580.95.05", "cuda": "13.0", "nvidia_status": "ok", "nvidia_devices": 1},
        "toolchain": {
            "ninja": "1.13.0",
            "cxx": "g++ 13.3",
            "cc": "gcc 13.3",
            "nvcc": "13.0",
            "python_headers": "/usr/include",
        },
        "environment_variables": {"CUDA_VISIBLE_DEVICES": None, "DIFFUSERS_GGUF_CUDA_KERNELS": None},
    }
    return machine(**{**whole, **sections})


def without_gpu(**sections: Any) -> dict[str, Any]:
    """The same machine without any GPU or driver, and with the CPU build of torch."""
    none = {"nvidia": None, "cuda": None, "nvidia_status": "absent", "nvidia_devices": 0}
    build = {"version": "2.10.0+cpu", "cuda": None, "hip": None, "xpu": None, "arch_list": None}
    return machine(**{"accelerators": [], "drivers": none, "torch_build": build, **sections})


def pointers(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every key of every object inside a JSON value."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield (*path, name)
            yield from pointers(item, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from pointers(item, (*path, index))


def hideable(data: dict[str, Any]) -> list[tuple[str | int, ...]]:
    """The path of every key that a snapshot may lack."""
    found = [path for path in pointers(data) if path != ("schema",)]
    return [path for path in found if path[-1] != "kind" and not (path[0] == "distributions" and path[-1] == "version")]


def hide(data: dict[str, Any], path: tuple[str | int, ...]) -> dict[str, Any]:
    """The snapshot with one fact not observed.

    A list of distributions that lacks one that is there is not complete any more: left out of a complete one, it
    would be said to be absent.
    """
    made = deepcopy(data)
    holder: Any = made
    for step in path[:-1]:
        holder = holder[step]
    del holder[path[-1]]
    if path[0] == "distributions":
        made.pop("distributions_complete", None)
    return made


def host_alone(tables: dict[str, dict[str, Any]]) -> RuleBook:
    """The rules whose origin is a host, without all others: they alone have to say what the host does."""
    kept = {file: dict(table) for file, table in tables.items()}
    for table in kept.values():
        table["rule"] = [row for row in table.get("rule", []) if row["origin"] == "host"]
    ids = {row["id"] for table in kept.values() for row in table["rule"]}
    for table in kept.values():
        table["rule"] = [
            {**row, "after": [each for each in row.get("after", []) if each in ids]} for row in table["rule"]
        ]
    return RuleBook(kept)
