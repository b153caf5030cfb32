"""What an installer makes of a recorded machine: the commands of a fix or a plan, carried out on the snapshot alone.

It knows nothing of how plans are made. Like pip it keeps what meets a requirement, and else takes the newest known
release that does; which build of torch that is, depends on the index and the system.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

from envguard.rule import TorchBuild
from envguard.rulebook import RuleBook
from envguard.versions import parse_wanted, satisfies

_WITH_VALUE = ("--index-url", "--python", "--reinstall-package")
_ANEW = ("--force-reinstall", "--reinstall")


def install_commands(commands: Sequence[str]) -> Iterator[tuple[list[str], dict[str, str], bool]]:
    """What each install command asks for, its options with a value, and whether it installs anew what is there."""
    for command in " && ".join(commands).split(" && "):
        words = shlex.split(command.replace("\\", "/"))
        if "install" in words:
            rest = words[words.index("install") + 1 :]
            pairs = list(zip(["", *rest], rest))
            options = {option: value for option, value in pairs if option in _WITH_VALUE}
            asked = [word for before, word in pairs if before not in _WITH_VALUE and word[0] != "-"]
            yield asked, options, not set(_ANEW).isdisjoint(rest)


def uninstalled(command: str) -> list[str]:
    """What an uninstall command takes out."""
    words = shlex.split(command.replace("\\", "/"))
    return [each for each in words[words.index("uninstall") + 1 :] if each[0] != "-"] if "uninstall" in words else []


def carried_out(data: dict[str, Any], commands: Sequence[str], book: RuleBook) -> dict[str, Any]:
    """The snapshot after the commands. Raises LookupError for a requirement that no known release meets."""
    data = deepcopy(data)
    listed = data["distributions"]
    for command in " && ".join(commands).split(" && "):
        for entry in filter(None, listed.values()):
            if any(copy in command for copy in entry.get("copies", ())):  # metadata that is removed
                entry.update(duplicates=[], copies=[])
        for name in uninstalled(command):
            listed[name] = None
            if name == "torch":
                data["torch_build"] = None
        for asked, options, anew in install_commands([command]):
            for text in asked:
                _install(data, text, options, anew, book)
    return data


def _install(data: dict[str, Any], text: str, options: dict[str, str], anew: bool, book: RuleBook) -> None:
    wanted = parse_wanted(text)
    listed, entry = data["distributions"], data["distributions"].get(wanted.name)
    version = entry["version"] if entry else None
    fits = version is not None and satisfies(version, wanted.clauses, "specifier") is True
    if fits and not anew and options.get("--reinstall-package") != wanted.name:
        return
    known = book.releases(wanted.name) or book.releases_read(wanted.name)
    if wanted.name == "torch":
        known = tuple(build.release for build in book.torch_builds)
    python = ".".join(data["python"]["version"].split(".")[:2])
    known = [each for each in known if book.is_for(wanted.name, each, python)]
    fitting = [each for each in known if satisfies(each, wanted.clauses, "specifier")]
    if known and not fitting:
        raise LookupError(f"no known release is {text}")
    listed[wanted.name] = {"version": fitting[-1] if fitting else "1.0", "requires": []}
    for backend in book.backends.values():
        if backend.distribution == wanted.name:
            owner = {"origin": f"/x/{backend.import_name}/__init__.py", "distribution": wanted.name, "kind": "package"}
            data.setdefault("import_owners", {})[backend.import_name] = owner
    if wanted.name == "torch":
        tag = options.get("--index-url", "").rpartition("/")[2]
        data["torch_build"] = _torch_build(data, fitting[-1], tag, book)
        listed["torch"]["version"] = data["torch_build"]["version"]


def _torch_build(data: dict[str, Any], release: str, tag: str, book: RuleBook) -> dict[str, Any]:
    system = data.get("host", {}).get("system")
    none = {"cuda": None, "hip": None, "xpu": None, "arch_list": None}
    if system == "Darwin":
        return {**none, "version": release}
    if system == "Windows" and not tag:
        return {**none, "version": f"{release}+cpu"}
    if tag == "xpu":
        return {**none, "version": f"{release}+xpu", "xpu": "20250101"}
    build = _build_of(release, tag, book)
    cuda = f"{tag[2:-1]}.{tag[-1]}" if tag else build.cuda
    version = f"{release}+{tag}" if tag else release
    return {**none, "version": version, "cuda": cuda, "arch_list": list(build.architectures)}


def _build_of(release: str, tag: str, book: RuleBook) -> TorchBuild:
    builds = [build for build in (*book.local_builds, *book.torch_builds) if build.release == release]
    return next((build for build in builds if build.local == tag), builds[-1])
