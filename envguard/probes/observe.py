"""The machine and one Python environment -> Environment, by those probes alone whose facts are wanted."""

from __future__ import annotations

import os
import sys

from envguard.markers import NOT_FOLLOWED, declared, known_of
from envguard.model import NOT_OBSERVED, SNAPSHOT_SCHEMA, Environment
from envguard.probes.distributions import distributions, import_owners, versions
from envguard.probes.folders import Folders
from envguard.probes.interpreter import python_facts, system_fact
from envguard.probes.wanted import EVERYTHING, SYSTEM_ALONE
from envguard.specs import resolve_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from envguard.model import Host
    from envguard.probes import Observed
    from envguard.probes.interpreter import Interpreter
    from envguard.probes.wanted import Wanted, WantedLinks

HOSTS = ("diffusers", "transformers")


def host_in(folders: Folders, asked: str) -> Host:
    """The host that a request is for: `auto` is the one that is installed in some folders."""
    host: Host = resolve_host(asked, _hosts_in(folders) if asked == "auto" else Environment({}))
    return host


def _hosts_in(folders: Folders) -> Environment:
    """Which of the hosts are installed, and nothing else about them: it decides which rules there are to look at."""
    found: dict[str, Any] = {}
    for name in HOSTS:
        if any(name in folder.metadata for folder in folders.listed):
            found[name] = {"version": None}
        elif not folders.unlisted:
            found[name] = None
    return Environment({"schema": SNAPSHOT_SCHEMA, "distributions": found})


def observe(wanted: Wanted, interpreter: Interpreter, folders: Folders | None = None) -> Environment:
    """The wanted facts about an interpreter's environment and the machine it is on."""
    record = _Record()
    folders = folders or Folders(interpreter.path)
    _observe_python(record, wanted, interpreter, folders)
    pending = _ask_for_hardware(record) if wanted.hardware else None
    _observe_distributions(record, wanted, interpreter, folders)
    if wanted.hardware:
        _observe_hardware(record, wanted, interpreter, folders, pending)
    if wanted.links is not None and (wanted.links.modules or wanted.links.kernels):
        from envguard.probes.links import links

        record.data.update(links(wanted.links, record.data["distributions"], interpreter, folders, system_of(record)))
    if wanted.toolchain:
        from envguard.probes.toolchain import toolchain

        record.add("toolchain", toolchain(interpreter, os.environ))
    if wanted.variables is None or wanted.variables:
        from envguard.probes.variables import variables

        record.add("environment_variables", variables(os.environ, wanted.variables))
    if wanted.native:
        _observe_native(record, wanted, interpreter, folders)
    return Environment(record.data)


def system_of(record: _Record) -> str:
    """The operating system that was observed."""
    return str(record.data["host"]["system"])


def with_requirements(environment: Environment, interpreter: Interpreter) -> Environment:
    """The same environment with all other installed distributions and what they declare."""
    others = distributions(interpreter.path, None, details=False).value
    unknown = {name: entry for name, entry in others.items() if environment.distribution(name) == NOT_OBSERVED}
    return Environment({**environment.data, "distributions": {**environment.data["distributions"], **unknown}})


class _Record:
    """A snapshot in the making."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {"schema": SNAPSHOT_SCHEMA}

    def add(self, section: str, observed: Observed) -> None:
        """Put a section in its place, and the reasons for what could not be read beside it."""
        if observed.value is not None or f"/{section}" not in observed.unreadable:
            self.data[section] = observed.value
        self.unreadable(observed.unreadable)

    def unreadable(self, reasons: Mapping[str, str]) -> None:
        if reasons:
            self.data.setdefault("unreadable", {}).update(reasons)


def _observe_python(record: _Record, wanted: Wanted, interpreter: Interpreter, folders: Folders) -> None:
    record.add("python", python_facts(interpreter, folders))
    if wanted.host == SYSTEM_ALONE:
        record.add("host", system_fact(interpreter.machine))
        if record.data["host"].get("system") == "Linux" and "libc" not in record.data["host"]:
            _observe_host(record, interpreter, frozenset({"libc"}))
    else:
        from envguard.probes.host import host_facts

        record.add("host", host_facts(interpreter, wanted.host))


def _observe_distributions(record: _Record, wanted: Wanted, interpreter: Interpreter, folders: Folders) -> None:
    observed = distributions(interpreter.path, wanted.distributions, folders)
    record.add("distributions", observed)
    if wanted.distributions is None:
        record.data["distributions_complete"] = "/distributions" not in observed.unreadable
    else:
        _observe_declared(record, observed.value, wanted, interpreter, folders)
    if wanted.owners:
        names = dict(wanted.owners)
        record.add("import_owners", import_owners(interpreter.path, names, folders, interpreter.suffixes))
    missing = [name for name in wanted.installed if observed.value.get(name, "") is None]
    if missing:
        _look_elsewhere(record, missing, interpreter)
    if wanted.loaded and interpreter.current:
        held = wanted.loaded & sys.modules.keys()
        if held:
            from envguard.probes.variables import loaded_modules

            record.data["loaded_modules"] = loaded_modules(held).value
        else:
            record.data["loaded_modules"] = {}


def _look_elsewhere(record: _Record, missing: list[str], interpreter: Interpreter) -> None:
    """Whether the Python of the pip on PATH has what is missing here."""
    from envguard.probes.pip_on_path import installed_there, pip_on_path

    other = pip_on_path(interpreter, os.environ)
    there = installed_there(other, missing) if other is not None else []
    if there:
        record.data["python"].update(pip_on_path=other, installed_there=there)


def _observe_declared(
    record: _Record, listed: dict[str, Any], wanted: Wanted, interpreter: Interpreter, folders: Folders
) -> None:
    """Add what distributions declare; of those wanted in turn, what that declares, and so on."""
    known = known_of(Environment(record.data))
    names, followed = _declared_by(listed, wanted.requirements | wanted.in_turn, known), set(wanted.in_turn)
    new = _declared_by(listed, wanted.in_turn, known)
    while names:
        new = new.difference(followed, NOT_FOLLOWED)
        brief = [name for name in new if name in listed and "requires" not in (listed[name] or {"requires": ()})]
        missing = frozenset(names.difference(listed)).union(brief)
        alone = missing - new  # their versions are all that is asked
        for more in (versions(alone, folders), distributions(interpreter.path, missing - alone, folders)):
            listed.update(more.value)
            record.unreadable(more.unreadable)
        followed |= new
        names = new = _declared_by(listed, frozenset(new), known)
    if any(name.startswith("nvidia-cuda-runtime") for name, entry in listed.items() if entry is None):
        from envguard.probes.loader import find

        found = dict(zip(_CUDA_RUNTIMES, find(_CUDA_RUNTIMES, os.environ)))
        record.data["system_libraries"] = {**record.data.get("system_libraries", {}), **found}


_CUDA_RUNTIMES = ("libcudart.so.11.0", "libcudart.so.12", "libcudart.so.13")


def _declared_by(listed: Mapping[str, Any], names: frozenset[str], known: Mapping[str, str]) -> set[str]:
    """The distributions that others declare for this machine; what a bad line means is the rule's to say."""
    requires = [tuple((listed.get(name) or {}).get("requires", ())) for name in names]
    return {each.name for lines in requires for each in declared(lines, known) or ()}


def _ask_for_hardware(record: _Record) -> Any:
    """Start the question to the driver, which is answered while other probes run."""
    from envguard.probes.accelerators import begin

    return begin(os.environ, record.data["host"]["system"])


def _observe_hardware(
    record: _Record, wanted: Wanted, interpreter: Interpreter, folders: Folders, pending: Any
) -> None:
    from envguard.probes.accelerators import accelerators
    from envguard.probes.torch_build import torch_build

    system = record.data["host"]["system"]
    drivers, devices = accelerators(os.environ, system, pending=pending, full=wanted.distributions is None)
    record.add("drivers", drivers)
    record.add("accelerators", devices)
    build = torch_build(interpreter.path, folders)
    record.add("torch_build", build)
    if wanted.architectures and build.value and build.value.get("cuda"):
        _observe_architectures(record, interpreter)


def _observe_architectures(record: _Record, interpreter: Interpreter) -> None:
    from envguard.model import Unreadable
    from envguard.probes.torch_architectures import architectures
    from envguard.probes.torch_build import version_file

    file = version_file(interpreter.path)
    if file is None:
        return
    carried = architectures(os.path.dirname(file))
    if isinstance(carried, Unreadable):
        record.unreadable({"/torch_build/arch_list": carried.reason})
    else:
        record.data["torch_build"]["arch_list"] = None if carried is None else list(carried)


def _observe_native(record: _Record, wanted: Wanted, interpreter: Interpreter, folders: Folders) -> None:
    """The compiled libraries that would be loaded, and of the machine what decides whether they load.

    Without a GPU none is for one, and nothing is read, unless everything is to be known.
    """
    everything = wanted.distributions is None
    if not everything and record.data.get("accelerators") == []:
        return
    from envguard.probes.native_libraries import native_libraries
    from envguard.probes.torch_build import version_file

    file = version_file(interpreter.path, folders)
    torch = None if file is None else os.path.dirname(file)

    def chosen(name: str, files: tuple[str, ...]) -> frozenset[str]:
        return frozenset(files) if everything else _would_load(record.data, name, files)

    observed, found = native_libraries(sorted(wanted.native), chosen, interpreter, folders, torch)
    record.add("native_libraries", observed)
    read = [library for libraries in observed.value.values() for library in libraries if "machine" in library]
    if read:
        record.data["system_libraries"] = found
    if not everything:
        # where no library is read, the table of the released ones may ask
        asks = not read or any(each.get("glibcxx") or each.get("cxxabi") for each in read)
        keys = {"machine", "libc"} | ({"libstdcxx", "cxxabi"} if asks else set())
        _observe_host(record, interpreter, frozenset(keys))


def _observe_host(record: _Record, interpreter: Interpreter, keys: frozenset[str]) -> None:
    """Add further facts about the host."""
    from envguard.probes.host import host_facts

    host = host_facts(interpreter, keys)
    record.data["host"].update(host.value)
    record.unreadable(host.unreadable)


def _would_load(data: dict[str, Any], name: str, files: tuple[str, ...]) -> frozenset[str]:
    """Which of a backend's libraries it loads with this torch build."""
    if name != "bitsandbytes":
        return frozenset(files) if (data.get("torch_build") or {}).get("cuda") else frozenset()
    from envguard.judge.native import chosen_of

    return chosen_of(Environment({**data, "native_libraries": {name: [{"file": file} for file in files]}}))


def full_snapshot(
    interpreter: Interpreter, owners: tuple[tuple[str, tuple[str, ...]], ...], links: WantedLinks | None = None
) -> Environment:
    """Every fact of an environment, with the time it was taken; `owners` maps import names to their distributions,
    `links` tells whose imports to look at.
    """
    from datetime import datetime, timezone

    from envguard.frozen import replace
    from envguard.probes.distributions import leftovers

    environment = observe(replace(EVERYTHING, owners=owners, links=links), interpreter)
    taken_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    data = {"schema": SNAPSHOT_SCHEMA, "taken_at": taken_at, **environment.data}
    left = leftovers(interpreter.path)
    if left:
        data["extras"] = {"leftovers": left}
    if interpreter.current:
        from envguard.probes.variables import loaded_modules

        data["loaded_modules"] = loaded_modules(frozenset(name for name, _ in owners) & frozenset(sys.modules)).value
    return Environment(data)
