"""CUDA's own compatibility rules: which code runs on which device, and under which driver."""

from __future__ import annotations

from envguard.versions import key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def parse_capability(text: Any) -> tuple[int, int] | None:
    """(8, 9) of "8.9", None where the text is not a compute capability."""
    major, _, minor = text.partition(".") if isinstance(text, str) else ("", "", "")
    numbers = major.isdigit() and minor.isdigit() and text.isascii() and len(text) < 8
    return (int(major), int(minor)) if numbers else None


# Machine code is not compatible between Tegra (Jetson, DRIVE) and other GPUs of the same major; as torch 2.13 has it in
# torch/cuda/__init__.py, DEVICE_REQUIREMENT.
_TEGRA = frozenset({(5, 3), (6, 2), (7, 2), (8, 7), (10, 1)})
_THOR = (10, 1), (11, 0)  # one chip under two numbers


def carries(architectures: tuple[str, ...], capability: Any) -> bool | None:
    """Whether code for some architectures runs on a device of a compute capability (CUDA C++ Programming Guide, 'Binary
    compatibility' and 'PTX compatibility'): machine code within its major from its minor on, PTX from its version on;
    an `a` suffix binds to one architecture, `f` to its family; that of Tegra runs there alone.
    """
    device = parse_capability(capability)
    if device is None:
        return None
    for architecture in architectures:
        form, _, number = architecture.partition("_")
        digits = number.rstrip("af")
        if not (digits.isascii() and digits.isdigit() and 1 < len(digits) < 8):
            continue
        code = (int(digits[:-1]), int(digits[-1]))
        same = code[0] == device[0] and code[1] <= device[1]
        if number.endswith("a") or (form == "sm" and not _TEGRA.isdisjoint((code, device))):
            same = code == device or (code, device) == _THOR
        if (form == "sm" and same) or (form == "compute" and (same or (digits == number and code <= device))):
            return True
    return False


def driver_runs(cuda: str, oldest: str | None, driver: Any, supported: Any) -> bool | None:
    """Whether a driver runs code built with a CUDA version, None where that cannot be said.

    `driver` is the driver's version, `supported` the newest CUDA that it reports, `oldest` the first driver of that
    CUDA major: by minor-version compatibility it is enough for the whole major (docs.nvidia.com/deploy/cuda-
    compatibility/minor-version-compatibility.html).
    """
    have, least = (key(driver) if isinstance(driver, str) else None), (key(oldest) if oldest else None)
    if have is not None and least is not None:
        return have >= least
    offers, wants = (key(supported) if isinstance(supported, str) else None), key(cuda)
    if offers is None or wants is None:
        return None
    if offers >= wants or (oldest and offers[1][0] == wants[1][0]):
        return True
    return False if offers[1][0] < wants[1][0] else None
