"""The machine that a file is judged for: what `--target` says of it."""

from __future__ import annotations

from envguard.errors import BadInput
from envguard.frozen import Frozen
from envguard.versions import key, parse_clauses, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

KEYS = ("python", "system", "machine", "gpu", "memory", "driver", "cuda", "torch", "extra", "group")
_REPEATED = ("gpu", "extra", "group")
_SYSTEMS = {
    "linux": "Linux",
    "windows": "Windows",
    "win32": "Windows",
    "darwin": "Darwin",
    "macos": "Darwin",
}
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "x64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
# how each system writes its two processors
_WRITTEN = {
    ("Windows", "x86_64"): "AMD64",
    ("Windows", "aarch64"): "ARM64",
    ("Darwin", "aarch64"): "arm64",
}


class Target(Frozen):
    """A machine, as far as it was told; None, and no `gpus`, where it was not.

    `gpus` are entries of a snapshot's section `accelerators`, () for a machine without one. `torch` is the local
    version of torch's build, such as cu130 or cpu. `extras` and `groups` say which parts of a lock get installed.
    """

    python: str | None = None
    free_threaded: bool = False
    system: str | None = None
    machine: str | None = None
    gpus: tuple[tuple[tuple[str, Any], ...], ...] | None = None
    driver: str | None = None
    cuda: str | None = None
    torch: str | None = None
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    text: str = ""


def parse_target(given: Iterable[str]) -> Target:
    """The target of some `--target` values: `KEY=VALUE`, several in one by commas; a GPU, system or processor may stand
    without its key.

    Raises BadInput with one line that names the value.
    """
    items = [item.strip() for text in given for item in text.split(",") if item.strip()]
    found: dict[str, list[str]] = {}
    for item in items:
        name, value = _split(item)
        values = found.setdefault(name, [])
        if values and name not in _REPEATED and value != values[0]:
            raise BadInput(f"--target {item}: {name} was {values[0]} already")
        values.append(value)

    def one(name: str) -> str | None:
        return found[name][0] if name in found else None

    system = _system(one("system"))
    python = one("python")
    gpus = _gpus(found.get("gpu"), one("memory"))
    if system not in (None, "Darwin") and any(("kind", "mps") in gpu for gpu in gpus or ()):
        raise BadInput(f"--target gpu=mps: a GPU of a Mac, and the target's system is {one('system')}")
    return Target(
        None if python is None else _python(python),
        python is not None and python.endswith("t"),
        system,
        _machine(one("machine"), system),
        gpus,
        _version("driver", one("driver")),
        _version("cuda", one("cuda")),
        _torch(one("torch")),
        tuple(found.get("extra", ())),
        tuple(found.get("group", ())),
        ", ".join(items),
    )


def _split(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if equals:
        plain = {"os": "system", "arch": "machine"}.get(name.strip().lower(), name.strip().lower())
        if plain not in KEYS:
            raise BadInput(f"--target {item}: unknown key {name.strip()!r}, expected one of {', '.join(KEYS)}")
        if not value.strip():
            raise BadInput(f"--target {item}: expected a value after {name.strip()}=")
        return plain, value.strip()
    if item.lower() in _SYSTEMS:
        return "system", item
    if item.lower() in _MACHINES:
        return "machine", item
    return "gpu", item


def _system(text: str | None) -> str | None:
    if text is None:
        return None
    if text.lower() not in _SYSTEMS:
        raise BadInput(f"--target system={text}: expected linux, windows or macos")
    return _SYSTEMS[text.lower()]


def _machine(text: str | None, system: str | None) -> str | None:
    if text is None:
        return None
    if text.lower() not in _MACHINES:
        raise BadInput(f"--target machine={text}: expected x86_64 or aarch64")
    return written(system, _MACHINES[text.lower()])


def written(system: str | None, machine: str) -> str:
    """A processor as a system writes it."""
    return _WRITTEN.get((system or "", machine), machine)


def _python(text: str) -> str:
    parts = text.removesuffix("t").split(".")
    if not 2 <= len(parts) <= 3 or not all(part.isascii() and part.isdigit() and len(part) < 4 for part in parts):
        raise BadInput(f"--target python={text}: expected a version such as 3.12 or 3.12.4 (3.13t: free-threaded)")
    return text.removesuffix("t")


def _version(name: str, text: str | None) -> str | None:
    if text is not None and (key(text) is None or not text[0].isdigit()):
        raise BadInput(
            f"--target {name}={text}: expected a version such as {'580.65.06' if name == 'driver' else '13.0'}"
        )
    return text


def _torch(text: str | None) -> str | None:
    if text is not None and build_of(text.lower()) is None:
        raise BadInput(f"--target torch={text}: expected a build such as cu130, rocm6.4, xpu or cpu")
    return None if text is None else text.lower()


def refuse_python(target: Target, specifier: str, place: str, what: str) -> None:
    """Raises BadInput where the target's Python is none that a `requires-python` lets pass."""
    if target.python is None:
        return
    version = target.python if target.python.count(".") > 1 else f"{target.python}.99"
    try:
        fits = satisfies(version, parse_clauses(specifier), "specifier")
    except ValueError:
        raise BadInput(f"{place}: requires-python: expected versions such as >=3.10") from None
    if fits is False:
        raise BadInput(f"{place}: requires-python: {what} is for Python {specifier}, the target has {target.python}")


def build_of(local: str) -> dict[str, str | None] | None:
    """What a torch of a local version was built for; None for a local version that says nothing of it."""
    made: dict[str, str | None] = {"cuda": None, "hip": None, "xpu": None}
    first = local if local.startswith("rocm") else local.partition(".")[0]
    if first == "cpu":
        return made
    if first == "xpu":
        return {**made, "xpu": "yes"}
    number = first[2:] if first.startswith("cu") else ""
    if number.isascii() and number.isdigit() and 2 < len(number) < 5:
        return {**made, "cuda": f"{int(number[:-1])}.{number[-1]}"}
    rocm = first[4:] if first.startswith("rocm") else ""
    if rocm and rocm.replace(".", "").isdigit() and rocm.isascii():
        return {**made, "hip": rocm}
    return None


def _gpus(names: list[str] | None, memory: str | None) -> tuple[tuple[tuple[str, Any], ...], ...] | None:
    has_none = names is not None and [name.lower() for name in names] == ["none"]
    if (names is None or has_none) and memory is not None:
        raise BadInput(f"--target memory={memory}: is about a GPU: name it, as in gpu=RTX 4090")
    if names is None or has_none:
        return None if names is None else ()
    most = None if memory is None else _memory(memory)
    found = []
    counts: dict[str, int] = {}
    for name in names:
        kind, facts = _gpu(name)
        index = counts.get(kind, 0)
        counts[kind] = index + 1
        entry = {"kind": kind, "index": index, **facts, **({} if most is None else {"memory_total": most})}
        found.append(tuple(entry.items()))
    return tuple(found)


def _gpu(name: str) -> tuple[str, dict[str, Any]]:
    lowered = name.lower()
    if lowered == "xpu":
        return "xpu", {"name": None}
    if lowered == "mps":
        return "mps", {"name": None}
    if lowered.startswith("gfx") and lowered[3:].isalnum() and lowered.isascii() and len(lowered) < 10:
        return "rocm", {"name": None, "arch": lowered}
    from envguard.gpus import plain, typed_capability, typed_names

    capability = typed_capability(name)
    if capability is None:
        from difflib import get_close_matches

        near = get_close_matches(plain(name[:60]), typed_names(), n=3)
        question = f", did you mean {' or '.join(near)}?" if near else ""
        raise BadInput(
            f"--target gpu={name}: not a GPU that envguard knows by name{question}; its compute capability says the"
            " same, as in gpu=sm_89 or gpu=8.9 (AMD: gfx942, Intel: xpu, Apple: mps, no GPU: none)"
        )
    bare = lowered.startswith("sm_") or lowered[0].isdigit()
    return "cuda", {"name": None if bare else name, "compute_capability": capability}


def _memory(text: str) -> int:
    number = text.lower().removesuffix("b").removesuffix("gi").removesuffix("g").strip()
    if not number.isascii() or not number.replace(".", "", 1).isdigit() or len(number) > 6:
        raise BadInput(f"--target memory={text}: expected gigabytes such as 24GB")
    return int(float(number) * 10**9)
