"""What may be asked: a spec -> backend and scheme; hosts, devices and operations that exist; near names for others."""

from __future__ import annotations

from envguard.model import DEVICE_KINDS, HOSTS, OPERATIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from envguard.model import Environment
    from envguard.rulebook import RuleBook


def validate(host: str, device: str, operation: str) -> None:
    """Raises ValueError, in one line, for a host, device or operation that does not exist."""
    if host not in HOSTS:
        raise ValueError(f"unknown host {host!r}: expected one of {', '.join(HOSTS)}")
    if operation not in OPERATIONS:
        raise ValueError(f"unknown operation {operation!r}: expected one of {', '.join(OPERATIONS)}")
    kind, colon, index = device.partition(":")
    numbered = kind in ("cuda", "rocm", "xpu") and index.isascii() and index.isdigit() and len(index) < 6
    if kind not in DEVICE_KINDS or (colon and not numbered):
        raise ValueError(
            f"unknown device {device!r}: expected one of {', '.join(DEVICE_KINDS)}, or an index as in cuda:0"
        )


def resolve_host(host: str, environment: Environment) -> Any:
    """`auto` is diffusers if installed, else transformers, else diffusers."""
    if host != "auto":
        return host
    if environment.distribution("diffusers") is None and isinstance(environment.distribution("transformers"), dict):
        return "transformers"
    return "diffusers"


def resolve_spec(book: RuleBook, spec: str) -> tuple[str, str | None]:
    """Backend and scheme of a spec, by name or alias; `-`, `_` and case do not matter.

    Raises UnknownBackend or UnknownScheme, which list the near names.
    """
    name, colon, scheme = spec.partition(":")
    backend = next(
        (b for b in book.backends.values() if _plain(name) in map(_plain, (b.name, *b.aliases, b.distribution))), None
    )
    if backend is None:
        from envguard.errors import UnknownBackend

        known = sorted({alias for b in book.backends.values() for alias in (b.name, *b.aliases)})
        raise UnknownBackend(f"unknown backend {name!r}{near(name, known)}; known are {', '.join(book.backends)}")
    if not colon:
        return backend.name, None
    schemes = {**backend.schemes, **backend.load_schemes}
    for official, aliases in schemes.items():
        if _plain(scheme) in map(_plain, (official, *aliases)):
            return backend.name, official
    from envguard.errors import UnknownScheme

    known = [each for official, aliases in schemes.items() for each in (official, *aliases)]
    raise UnknownScheme(
        f"unknown scheme {scheme!r} of {backend.name}{near(scheme, known)}; known are {', '.join(backend.schemes)}"
    )


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def near(name: str, known: Sequence[str]) -> str:
    """A question after the near names, for a name that is close to known ones; else nothing."""
    if len(name) > 100:  # is near to none of them, and to find that out takes seconds for 10 MB
        return ""
    from difflib import get_close_matches

    by_plain = {_plain(each): each for each in known}
    near = [by_plain[each] for each in get_close_matches(_plain(name), list(by_plain), n=3)]
    return f", did you mean {' or '.join(near)}?" if near else ""
