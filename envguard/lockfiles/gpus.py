"""GPUs by name -> compute capability, as a person types them (developer.nvidia.com/cuda/gpus, read 2026-11-22).

A name that is not here is no loss: `sm_89` or `8.9` says the same.
"""

from __future__ import annotations

_BY_CAPABILITY = {
    "6.0": "p100",
    "6.1": "p40 p4 gtx1080ti gtx1080 gtx1070ti gtx1070 gtx1060 gtx1050ti gtx1050 titanxp",
    "7.0": "v100 titanv",
    "7.5": "t4 rtx2080ti rtx2080super rtx2080 rtx2070super rtx2070 rtx2060super rtx2060 titanrtx gtx1660ti gtx1660super"
    " gtx1660 gtx1650super gtx1650ti gtx1650 quadrortx8000 quadrortx6000 quadrortx5000 quadrortx4000",
    "8.0": "a100 a30",
    "8.6": "a40 a10 a10g a16 a2 rtx3090ti rtx3090 rtx3080ti rtx3080 rtx3070ti rtx3070 rtx3060ti rtx3060 rtx3050"
    " rtxa6000 rtxa5500 rtxa5000 rtxa4500 rtxa4000 rtxa2000",
    "8.7": "jetsonagxorin jetsonorinnx jetsonorinnano",
    "8.9": "l4 l40 l40s rtx4090 rtx4080super rtx4080 rtx4070tisuper rtx4070ti rtx4070super rtx4070 rtx4060ti rtx4060"
    " rtx4050 rtx6000ada rtx5000ada rtx4500ada rtx4000ada rtx2000ada",
    "9.0": "h100 h200 h20 gh200",
    "10.0": "b200 gb200",
    "10.3": "b300 gb300",
    "12.0": "rtx5090 rtx5080 rtx5070ti rtx5070 rtx5060ti rtx5060 rtx5050 rtxpro6000blackwell rtxpro5000blackwell",
    "12.1": "gb10 dgxspark",
}
_NOISE = ("nvidia", "geforce", "tesla")


def plain(name: str) -> str:
    """A GPU's name without its maker, family, spaces and signs."""
    words = "".join([sign if sign.isalnum() else " " for sign in name.lower()]).split()
    return "".join([word for word in words if word not in _NOISE and not word.endswith("gb")])


def capability_of(name: str) -> str | None:
    """The compute capability of an NVIDIA GPU: by name, as `sm_89` or as `8.9`; None for one that is not known."""
    text = name.strip().lower()
    number = text[3:] if text.startswith("sm_") else ""
    if number.rstrip("af").isascii() and number.rstrip("af").isdigit() and 1 < len(number.rstrip("af")) < 5:
        number = number.rstrip("af")
        return f"{int(number[:-1])}.{number[-1]}"
    major, dot, minor = text.partition(".")
    if dot and f"{major}{minor}".isascii() and major.isdigit() and minor.isdigit() and len(text) < 6:
        return f"{int(major)}.{int(minor)}"
    wanted = plain(text)
    for suffix in ("", "pcie", "sxm", "sxm2", "sxm4", "sxm5", "nvl", "laptopgpu", "laptop"):
        short = wanted.removesuffix(suffix) if suffix else wanted
        for capability, names in _BY_CAPABILITY.items():
            if short in names.split():
                return capability
    return None


def names() -> tuple[str, ...]:
    """Every name of the table."""
    return tuple([name for each in _BY_CAPABILITY.values() for name in each.split()])
