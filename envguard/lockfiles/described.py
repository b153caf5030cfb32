"""What a file lists, for a target -> Environment.

A fact that neither gives is not observed, and the reason says which `--target` tells it. Of variables of the
environment nothing is set; what else only the machine can tell is no part of it, and no rule that asks it is judged.
"""

from __future__ import annotations

import os

from envguard.lockfiles.target import build_of, refuse_python
from envguard.model import SNAPSHOT_SCHEMA, Environment
from envguard.versions import key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from envguard.lockfiles.listed import Listed, Package
    from envguard.lockfiles.target import Target
    from envguard.rule import TorchBuild


def describe(
    listed: Listed, target: Target, builds: tuple[TorchBuild, ...], variables: Iterable[str] = ()
) -> Environment:
    """The environment that an installer makes of a file on a target.

    `builds` say what the torch releases on the package index are built for, `variables` are those that are taken as not
    set. Raises BadInput where the file excludes the target's Python.
    """
    if listed.requires_python is not None:
        refuse_python(target, listed.requires_python, listed.name, "it")
    unreadable: dict[str, str] = {}
    data: dict[str, Any] = {"schema": SNAPSHOT_SCHEMA, "described_by": {"file": listed.name, "form": listed.form}}
    data["python"] = _python(listed, target, unreadable)
    data["host"] = _host(target, unreadable)
    data["distributions"] = {name: _entry(name, package, unreadable) for name, package in listed.packages.items()}
    data["distributions"] = {name: entry for name, entry in data["distributions"].items() if entry is not None}
    data["distributions_complete"] = listed.complete
    if not listed.complete:
        unreadable["/distributions"] = f"not named in {os.path.basename(listed.name)}, and may come with what is"
    for name, why in listed.missing.items():
        unreadable[f"/distributions/{name}"] = why
    _hardware(data, target, unreadable)
    _torch(data, listed, target, builds, unreadable)
    data["environment_variables"] = dict.fromkeys(variables)
    data["unreadable"] = unreadable
    return Environment(data)


def _python(listed: Listed, target: Target, unreadable: dict[str, str]) -> dict[str, Any]:
    if target.python is not None:
        return {"version": target.python, "free_threaded": target.free_threaded}
    for name in ("version", "free_threaded"):
        unreadable[f"/python/{name}"] = _say(listed, "the Python version", "python=3.12")
    return {} if listed.requires_python is None else {"specifier": listed.requires_python}


def _say(listed: Listed, what: str, how: str) -> str:
    return f"{listed.name} cannot say {what}: --target {how} does"


def _host(target: Target, unreadable: dict[str, str]) -> dict[str, Any]:
    told = {"system": target.system, "machine": target.machine}
    for name, example in (("system", "linux"), ("machine", "x86_64")):
        if told[name] is None:
            unreadable[f"/host/{name}"] = f"the target's {name} was not told: --target {name}={example} does"
    return {name: value for name, value in told.items() if value is not None}


def _entry(name: str, package: Package, unreadable: dict[str, str]) -> dict[str, Any] | None:
    if package.version is not None:
        return {"version": package.version}
    if package.specifier is not None:
        reason = f"{package.place} asks for {package.specifier or 'any version'}, which leaves a choice"
        unreadable[f"/distributions/{name}/version"] = reason
        return {"version": None, "specifier": package.specifier}
    pointer = f"/distributions/{name}"
    if (package.unknown or "").startswith(("whether", "which")):
        unreadable[pointer] = package.unknown or ""
        return None
    unreadable[f"{pointer}/version"] = package.unknown or ""
    return {"version": None, "specifier": ""}


def _hardware(data: dict[str, Any], target: Target, unreadable: dict[str, str]) -> None:
    drivers: dict[str, Any] = {}
    if target.gpus is None:
        unreadable["/accelerators"] = "the target's GPU was not told: --target gpu=sm_89 does (gpu=none: it has none)"
    else:
        data["accelerators"] = [dict(gpu) for gpu in target.gpus]
        if not any(gpu["kind"] == "cuda" for gpu in data["accelerators"]):
            drivers = {"nvidia": None, "cuda": None, "nvidia_status": "absent", "nvidia_devices": 0}
    for name, value in (("nvidia", target.driver), ("cuda", target.cuda), ("nvidia_status", None)):
        if value is not None:
            drivers[name] = value
        elif name not in drivers:
            why = (
                "the target's driver was not told: --target driver=580.65.06, or cuda=13.0 as nvidia-smi shows it, does"
            )
            unreadable[f"/drivers/{name}"] = why
    data["drivers"] = drivers


def _torch(
    data: dict[str, Any], listed: Listed, target: Target, builds: tuple[TorchBuild, ...], unreadable: dict[str, str]
) -> None:
    package = listed.packages.get("torch")
    if package is None:
        if listed.complete:
            data["torch_build"] = None
        return
    local = (package.version or "").partition("+")[2].lower()
    version = package.version
    made = build_of(local) if local else None
    if made is None and target.torch is not None:
        made = build_of(target.torch)
        if version is not None and not local:
            version = f"{version}+{target.torch}"
    if made is None:
        made = _from_the_index(package, target, builds, unreadable)
    build: dict[str, Any] = dict(made)
    if version is not None:
        build["version"] = version
    on_linux = (target.system, target.machine) == ("Linux", "x86_64")  # whose wheels the table is about
    carried = _architectures(package, build.get("cuda"), builds) if on_linux else None
    if carried is not None:
        build["arch_list"] = list(carried)
    data["torch_build"] = build


def _from_the_index(
    package: Package, target: Target, builds: tuple[TorchBuild, ...], unreadable: dict[str, str]
) -> dict[str, str | None]:
    """What torch without a local version is: the wheel of the package index."""
    if target.system in ("Windows", "Darwin"):  # whose wheels there are made for the CPU (and Apple's GPU)
        return {"cuda": None, "hip": None, "xpu": None}
    if target.system == "Linux" and target.machine == "x86_64":
        for build in builds:
            if package.version is not None and key(build.release) == key(package.version):
                return {"cuda": build.cuda, "hip": None, "xpu": None}
    why = "what this torch is built for is not known: --target torch=cu130 (or cpu, rocm6.4, xpu) does"
    if target.system is None or target.machine is None:
        why = "what torch is built for depends on the target: --target system=linux,machine=x86_64, or torch=cu130"
    for name in ("cuda", "hip", "xpu"):
        unreadable[f"/torch_build/{name}"] = why
    return {}


def _architectures(package: Package, cuda: Any, builds: tuple[TorchBuild, ...]) -> tuple[str, ...] | None:
    release = key((package.version or "").partition("+")[0])
    for build in builds:
        if release is not None and key(build.release) == release and build.cuda == cuda:
            return build.architectures
    return None
