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


# What a device's name holds -> its compute capability (developer.nvidia.com/cuda-gpus); the first that it holds counts.
_NAMED = (
    *[(name, "12.1") for name in ("GB10",)],
    *[
        (name, "12.0")
        for name in ("RTX 5050", "RTX 5060", "RTX 5070", "RTX 5080", "RTX 5090", "RTX PRO 6000 Blackwell")
    ],
    *[(name, "10.3") for name in ("B300", "GB300")],
    *[(name, "10.0") for name in ("B200", "GB200", "B100")],
    *[(name, "9.0") for name in ("H100", "H200", "H800", "H20", "GH200")],
    *[
        (name, "8.9")
        for name in ("RTX 4050", "RTX 4060", "RTX 4070", "RTX 4080", "RTX 4090", "L40S", "L40", "L20", "L4")
    ],
    *[(name, "8.9") for name in ("RTX 6000 Ada", "RTX 5000 Ada", "RTX 4000 Ada", "RTX 2000 Ada")],
    *[(name, "8.7") for name in ("Orin",)],
    *[(name, "8.6") for name in ("RTX 2050", "RTX 3050", "RTX 3060", "RTX 3070", "RTX 3080", "RTX 3090")],
    *[(name, "8.6") for name in ("A10G", "A10", "A16", "A40")],
    *[(name, "8.6") for name in ("A2", "RTX A2000", "RTX A4000", "RTX A4500", "RTX A5000", "RTX A5500", "RTX A6000")],
    *[(name, "8.0") for name in ("A100", "A800", "A30")],
    *[(name, "7.5") for name in ("T4", "RTX 2060", "RTX 2070", "RTX 2080", "TITAN RTX", "GTX 1650", "GTX 1660")],
    *[(name, "7.5") for name in ("GTX 1630", "Quadro RTX", "T400", "T500", "T600", "T1000")],
    *[(name, "7.2") for name in ("Xavier",)],
    *[(name, "7.0") for name in ("V100", "TITAN V", "GV100")],
    *[(name, "6.1") for name in ("GTX 1050", "GTX 1060", "GTX 1070", "GTX 1080", "GT 1030", "TITAN Xp", "P40", "P4")],
    *[(name, "6.0") for name in ("P100", "GP100")],
    *[(name, "5.3") for name in ("Jetson Nano", "Tegra X1")],
    *[(name, "5.2") for name in ("GTX 950", "GTX 960", "GTX 970", "GTX 980", "GTX TITAN X", "M40", "M60", "M4")],
    *[(name, "5.0") for name in ("GTX 750", "M10")],
    *[(name, "3.7") for name in ("K80",)],
    *[(name, "3.5") for name in ("K40", "K20", "GTX TITAN", "GTX 780")],
)


def capability_of(name: str) -> str | None:
    """The compute capability of a device by its name, None for one that is not known."""
    words = f" {name.lower().replace('-', ' ')} "
    for text, capability in _NAMED:
        wanted = text.lower()
        at = words.find(f" {wanted}")
        while at >= 0:
            after = words[at + 1 + len(wanted)]
            # RTX 3060Ti and 3060M are of the same kind; A2 is not A2000, and V100S not less than V100
            if not after.isdigit() and not (after.isalpha() and len(wanted) < 3):
                return capability
            at = words.find(f" {wanted}", at + 1)
    return None


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
