"""NVIDIA GPUs by name -> compute capability (developer.nvidia.com/cuda-gpus, read 2026-11-22).

Names come as drivers report them and as a person types them. This is imported where a name has to tell the capability,
which the common check is told by the driver.
"""

from __future__ import annotations

# as drivers write them; of several that a device's name holds the first one counts
_BY_CAPABILITY = {
    "12.1": "GB10, DGX Spark",
    "12.0": "RTX 5050, RTX 5060 Ti, RTX 5060, RTX 5070 Ti, RTX 5070, RTX 5080, RTX 5090, RTX PRO 5000 Blackwell,"
    " RTX PRO 6000 Blackwell",
    "10.3": "B300, GB300",
    "10.0": "B200, GB200, B100",
    "9.0": "H100, H200, H800, H20, GH200",
    "8.9": "RTX 4050, RTX 4060 Ti, RTX 4060, RTX 4070 Ti SUPER, RTX 4070 Ti, RTX 4070 SUPER, RTX 4070, RTX 4080 SUPER,"
    " RTX 4080, RTX 4090, L40S, L40, L20, L4, RTX 6000 Ada, RTX 5000 Ada, RTX 4500 Ada, RTX 4000 Ada, RTX 2000 Ada",
    "8.7": "Jetson AGX Orin, Jetson Orin NX, Jetson Orin Nano, Orin",
    "8.6": "RTX 2050, RTX 3050, RTX 3060 Ti, RTX 3060, RTX 3070 Ti, RTX 3070, RTX 3080 Ti, RTX 3080, RTX 3090 Ti,"
    " RTX 3090, A10G, A10, A16, A40, A2, RTX A2000, RTX A4000, RTX A4500, RTX A5000, RTX A5500, RTX A6000",
    "8.0": "A100, A800, A30",
    "7.5": "T4, RTX 2060 SUPER, RTX 2060, RTX 2070 SUPER, RTX 2070, RTX 2080 SUPER, RTX 2080 Ti, RTX 2080, TITAN RTX,"
    " GTX 1630, GTX 1650 SUPER, GTX 1650 Ti, GTX 1650, GTX 1660 SUPER, GTX 1660 Ti, GTX 1660, Quadro RTX 4000,"
    " Quadro RTX 5000, Quadro RTX 6000, Quadro RTX 8000, Quadro RTX, T400, T500, T600, T1000",
    "7.2": "Xavier",
    "7.0": "V100, TITAN V, GV100",
    "6.1": "GTX 1050 Ti, GTX 1050, GTX 1060, GTX 1070 Ti, GTX 1070, GTX 1080 Ti, GTX 1080, GT 1030, TITAN Xp, P40, P4",
    "6.0": "P100, GP100",
    "5.3": "Jetson Nano, Tegra X1",
    "5.2": "GTX 950, GTX 960, GTX 970, GTX 980, GTX TITAN X, M40, M60, M4",
    "5.0": "GTX 750, M10",
    "3.7": "K80",
    "3.5": "K40, K20, GTX TITAN, GTX 780",
}
_NAMED = tuple([(name.lower(), number) for number, names in _BY_CAPABILITY.items() for name in names.split(", ")])
# typed without a maker M4 may as well be Apple's, and of a GPU as old as that `5.2` says the same
_OLDEST_TYPED = 6

_NOISE = ("nvidia", "geforce", "tesla")
_FORMS = ("", "pcie", "sxm", "sxm2", "sxm4", "sxm5", "nvl", "laptopgpu", "laptop")


def capability_of(name: str) -> str | None:
    """The compute capability of a device by the name that its driver reports; None for one that is not known."""
    words = f" {name.lower().replace('-', ' ')} "
    for wanted, capability in _NAMED:
        at = words.find(f" {wanted}")
        while at >= 0:
            after = words[at + 1 + len(wanted)]
            # RTX 3060Ti and 3060M are of the same kind; A2 is not A2000, and V100S not less than V100
            if not after.isdigit() and not (after.isalpha() and len(wanted) < 3):
                return capability
            at = words.find(f" {wanted}", at + 1)
    return None


def typed_capability(text: str) -> str | None:
    """The compute capability of a GPU as a person types it: by name, as `sm_89` or as `8.9`; None for one that is not
    known, which is no loss where the number says the same.
    """
    text = text.strip().lower()
    number = text[3:] if text.startswith("sm_") else ""
    if number.rstrip("af").isascii() and number.rstrip("af").isdigit() and 1 < len(number.rstrip("af")) < 5:
        number = number.rstrip("af")
        return f"{int(number[:-1])}.{number[-1]}"
    major, dot, minor = text.partition(".")
    if dot and f"{major}{minor}".isascii() and major.isdigit() and minor.isdigit() and len(text) < 6:
        return f"{int(major)}.{int(minor)}"
    wanted, typed = plain(text), dict(_typed())
    found = [typed[short] for short in map(wanted.removesuffix, _FORMS) if short in typed]
    return found[0] if found else None


def typed_names() -> tuple[str, ...]:
    """Every name that may be typed, without spaces."""
    return tuple([name for name, _ in _typed()])


def plain(name: str) -> str:
    """A GPU's name without its maker, family, spaces and signs."""
    words = "".join([sign if sign.isalnum() else " " for sign in name.lower()]).split()
    return "".join([word for word in words if word not in _NOISE and not word.endswith("gb")])


def _typed() -> list[tuple[str, str]]:
    return [(plain(name), number) for name, number in _NAMED if int(number.partition(".")[0]) >= _OLDEST_TYPED]
