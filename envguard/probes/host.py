"""The machine and its operating system.

What is asked, in this order:
- libc: confstr of this process; where that knows no glibc, the text inside musl's loader. Another interpreter is on the
  same machine.
- wsl: the kernel's release, WSL_INTEROP (kernels that somebody built himself), /proc/version.
- container: Kubernetes and Apptainer by their variables, the files that Docker and Podman leave, the `container`
  variable of systemd's convention (own environment, /run/systemd/container), the names in /proc/self/cgroup.
- jetson: /etc/nv_tegra_release; a Tegra kernel without it (in a container) is a Jetson of unknown release.
- libstdcxx, cxxabi: see libstdcxx.py.
"""

from __future__ import annotations

import os
import sys

from envguard.probes import Observed
from envguard.probes.folders import read
from envguard.probes.interpreter import SYSTEMS, glibc_text, system_fact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from envguard.probes.interpreter import Interpreter

KEYS = ("system", "release", "machine", "libc", "macos", "wsl", "container", "jetson", "libstdcxx", "cxxabi")

_LARGEST = 1 << 26  # bytes of musl's loader that are read


def host_facts(
    interpreter: Interpreter,
    wanted_keys: frozenset[str] | None,
    environ: Mapping[str, str] = os.environ,
    root: str = "/",
) -> Observed:
    """Section `host`: the wanted keys, None = all. `root` is the folder in which the system's files are looked for."""
    wanted = frozenset(KEYS) if wanted_keys is None else wanted_keys
    system = SYSTEMS.get(sys.platform)
    value: dict[str, Any] = {}
    unreadable: dict[str, str] = {}
    if "system" in wanted:
        known = system_fact()
        value.update(known.value)
        unreadable.update(known.unreadable)
    if "release" in wanted:
        value["release"] = _release()
    if "machine" in wanted:
        value["machine"] = interpreter.machine
    if "libc" in wanted:
        _libc(value, unreadable, system, root)
    if "macos" in wanted:
        _macos(value, unreadable, system, root)
    if "wsl" in wanted:
        value["wsl"] = system == "Linux" and is_wsl(_release(), environ, _text(root, "proc/version"))
    if "container" in wanted:
        value["container"] = _container(environ, root) if system == "Linux" else None
    if "jetson" in wanted:
        _jetson(value, unreadable, root)
    if "libstdcxx" in wanted or "cxxabi" in wanted:
        from envguard.probes.libstdcxx import libstdcxx

        found = libstdcxx(interpreter.base_prefix, environ, root)
        value.update({key: fact for key, fact in found.value.items() if key in wanted})
        unreadable.update(
            {f"/host/{key}": reason for key in wanted if (reason := found.unreadable.get(f"/host/{key}")) is not None}
        )
    return Observed(value, unreadable)


def parse_tegra_release(text: str) -> str | None:
    """The L4T release of /etc/nv_tegra_release: "# R35 (release), REVISION: 4.1, ..." is 35.4.1."""
    words = text.replace(",", " ").split()
    major = next((word[1:] for word in words if word[:1] == "R" and word[1:].isdigit()), None)
    minor = next((after for word, after in zip(words, words[1:]) if word == "REVISION:"), None)
    return f"{major}.{minor}" if major and minor else None


def parse_system_version(text: str) -> str | None:
    """The ProductVersion of macOS' SystemVersion.plist."""
    _, _, rest = text.partition("<key>ProductVersion</key>")
    version = rest.partition("<string>")[2].partition("</string>")[0].strip()
    return version or None


def parse_musl(loader: bytes) -> str | None:
    """The version that stands as a text of its own in musl's loader."""
    if b"musl libc" not in loader:
        return None
    for start in (b"\x001.", b"\x002.", b"\x000."):
        at = loader.find(start)
        while at >= 0:
            text = loader[at + 1 : loader.find(b"\0", at + 1)]
            # 127.0.0.1 stands there too
            if len(text) < 40 and text.count(b".") == 2 and text.replace(b".", b"").partition(b"_")[0].isdigit():
                return text.decode("ascii", "replace")
            at = loader.find(start, at + 1)
    return None


def parse_container(cgroup: str) -> str | None:
    """The container engine that the paths of /proc/self/cgroup name."""
    for word, engine in (
        ("kubepods", "kubernetes"),
        ("libpod", "podman"),
        ("docker", "docker"),
        ("containerd", "containerd"),
        ("/lxc", "lxc"),
    ):
        if word in cgroup:
            return engine
    return None


def is_wsl(release: str, environ: Mapping[str, str], version: str) -> bool:
    """True on the Windows Subsystem for Linux, from the kernel's release, the environment and /proc/version."""
    return "microsoft" in release.lower() or "WSL_INTEROP" in environ or "microsoft" in version.lower()


def _release() -> str:
    if sys.platform == "win32":
        version = sys.getwindowsversion()
        return f"{version.major}.{version.minor}.{version.build}"
    return os.uname().release


def _libc(value: dict[str, Any], unreadable: dict[str, str], system: str | None, root: str) -> None:
    if system != "Linux":
        value["libc"] = None
        return
    value["libc"] = glibc_text()
    if value["libc"] is None:
        version = _musl(root)
        if version:
            value["libc"] = f"musl {version}"
        else:
            del value["libc"]
            unreadable["/host/libc"] = "the C library is neither glibc nor a musl that gives its version"


def _musl(root: str) -> str | None:
    folder = os.path.join(root, "lib")
    try:
        loaders = [entry for entry in sorted(os.listdir(folder)) if entry.startswith("ld-musl-")]
    except OSError:
        return None
    for loader in loaders:
        try:
            version = parse_musl(read(os.path.join(folder, loader), _LARGEST))
        except OSError:
            continue
        if version:
            return version
    return None


def _macos(value: dict[str, Any], unreadable: dict[str, str], system: str | None, root: str) -> None:
    if system != "Darwin":
        value["macos"] = None
        return
    # the first is not replaced by "10.16" for programs that were built for old systems
    folder = "System/Library/CoreServices"
    texts = (_text(root, f"{folder}/.SystemVersionPlatform.plist"), _text(root, f"{folder}/SystemVersion.plist"))
    version = next(filter(None, map(parse_system_version, texts)), None)
    if version:
        value["macos"] = version
    else:
        unreadable["/host/macos"] = "SystemVersion.plist gives no ProductVersion"


def _container(environ: Mapping[str, str], root: str) -> str | None:
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "kubernetes"
    if "APPTAINER_CONTAINER" in environ or "SINGULARITY_CONTAINER" in environ:
        return "apptainer"
    for file, engine in ((".dockerenv", "docker"), ("run/.containerenv", "podman")):
        if os.path.exists(os.path.join(root, file)):
            return engine
    named = environ.get("container") or _text(root, "run/systemd/container")
    # WSL writes its own name there; it is no container
    if named.strip() and named.strip() != "wsl":
        return named.strip()[:40]
    return parse_container(_text(root, "proc/self/cgroup"))


def _jetson(value: dict[str, Any], unreadable: dict[str, str], root: str) -> None:
    release = parse_tegra_release(_text(root, "etc/nv_tegra_release"))
    if release is None and _release().endswith("-tegra"):
        unreadable["/host/jetson"] = "a Tegra kernel, but /etc/nv_tegra_release does not give its L4T release"
    else:
        value["jetson"] = release


def _text(root: str, file: str) -> str:
    try:
        return read(os.path.join(root, file), 1 << 16).decode("utf-8", "replace")
    except OSError:
        return ""
