"""Hand-built reports, as a check would give them: the inputs of the golden files."""

from __future__ import annotations

from typing import Any, NamedTuple

from envguard.model import BackendReport, Device, Fix, Outcome, Plan, Report, Request
from envguard.output.findings import Judged

PYTHON = "/home/user/venv/bin/python"
PIP = f"{PYTHON} -m pip install"
SUBJECT = f"{PYTHON} (Python 3.11.7)"
ACCELERATOR = "a CUDA or Intel XPU device"
NO_GPU = "no GPU (no NVIDIA driver: libnvidia-ml.so.1 is not there)"
H200 = Device("cuda", 0, "NVIDIA H200")


class Sample(NamedTuple):
    """A report, whether nothing was asked for by name, and the exit status that the command line gives it."""

    report: Report
    survey: bool
    exit: int


def outcome(rule: str, needed: str, found: str, status: str = "unmet", **more: Any) -> Outcome:
    """An outcome with the fields that a rule's author gives filled in."""
    fields: dict[str, Any] = {
        "severity": "error",
        "kind": "version",
        "origin": "baseline",
        "why": f"{rule.partition('/')[0]} does not run without it.",
        "fix": Fix(f"Install {needed}.", (f"{PIP} '{needed}'",)) if status == "unmet" else None,
        "source": "the requirement baseline of diffusers",
    }
    message = f"needs {needed}, found {found}"
    return Outcome(rule=rule, status=status, message=message, needed=needed, found=found, **{**fields, **more})  # type: ignore[arg-type]


def skipped(rule: str, because: str) -> Outcome:
    """An outcome that waits for another rule."""
    message = f"not looked at: {because} is not met"
    return Outcome(rule, "skipped", "error", "version", "baseline", message, because=because)


def backend(request: Request, version: str | None, verdict: Any, *outcomes: Outcome, **more: Any) -> BackendReport:
    """A backend's report."""
    return BackendReport(request, version, verdict, outcomes, **more)


def report(*backends: BackendReport, subject: str = SUBJECT, interpreter: str | None = PYTHON) -> Report:
    """A report with the fields that do not matter here filled in."""
    return Report(backends, subject, "2026-11-22", "2026-11-22T02:13:00Z", interpreter)


BACKENDS = {
    "bitsandbytes": ("bitsandbytes>=0.43.3", "nf4 fp4 int8"),
    "torchao": (
        "torchao>=0.7.0",
        (
            "int8_weight_only int8_dynamic int4_weight_only float8_weight_only float8_dynamic uint1_weight_only "
            "uint2_weight_only uint4_weight_only uint7_weight_only nvfp4_weight_only nvfp4_dynamic mxfp8_dynamic"
        ),
    ),
    "quanto": ("optimum-quanto>=0.2.6", "int8 int4 int2 float8"),
    "gguf": ("gguf>=0.10.0", "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K BF16"),
    "modelopt": ("nvidia-modelopt[hf]>=0.33.1", "fp8 int8 int4 nf4 nvfp4"),
}


def schemes(name: str, verdict: str, **others: str) -> dict[str, str]:
    """Every scheme of a backend with one verdict, but for those that are given another."""
    return {scheme: others.get(scheme, verdict) for scheme in BACKENDS[name][1].split()}


def no_gpu(name: str) -> Outcome:
    """The one missing GPU, as the rule of each backend tells it."""
    return outcome(
        f"{name}/accelerator",
        ACCELERATOR,
        NO_GPU,
        kind="hardware",
        why="Its kernels run on a GPU; diffusers stops with 'No GPU found. A GPU is needed for quantization.'",
        fix=Fix("Run this on a machine with a GPU, or use gguf, which needs none."),
        source="diffusers v0.38.0 src/diffusers/quantizers/bitsandbytes/bnb_quantizer.py",
    )


def _missing(name: str) -> BackendReport:
    wanted = BACKENDS[name][0]
    accelerate = outcome(
        "diffusers/accelerate",
        "accelerate>=0.26.0",
        "not installed",
        kind="absent",
        origin="host:diffusers@0.42.1",
        why="diffusers places quantized weights with it.",
    )
    outcomes = [
        outcome("platform/python", "Python >=3.10", "3.11.7", "met", kind="platform"),
        outcome(f"{name}/installed", wanted, "not installed", kind="absent"),
        accelerate,
        skipped(f"{name}/owner", f"{name}/installed"),
    ]
    if name != "gguf":
        outcomes.append(no_gpu(name))
    unsolved = () if name == "gguf" else (f"{name}/accelerator",)
    plan = Plan((f"{PIP} '{wanted}' 'accelerate>=0.26.0'",), (f"{name}/installed", "diffusers/accelerate"), unsolved)
    return backend(Request(name), None, "blocked", *outcomes, schemes=schemes(name, "blocked"), plan=plan)


def _fine(name: str, version: str, **others: str) -> BackendReport:
    outcomes = (
        outcome(f"{name}/version", BACKENDS[name][0], version, "met"),
        outcome(f"{name}/accelerator", ACCELERATOR, "NVIDIA H200 (CUDA device 0)", "met", kind="hardware"),
        outcome("platform/memory", "device memory of at least 7.5 GB", "150.8 GB", "met", severity="warning"),
    )
    return backend(Request(name), version, "ok", *outcomes, schemes=schemes(name, "ok", **others), resolved_device=H200)


NOTHING_INSTALLED = report(*map(_missing, BACKENDS))
ALL_OK = report(
    _fine("bitsandbytes", "0.50.2"),
    _fine("torchao", "0.18.0", nvfp4_dynamic="blocked", mxfp8_dynamic="blocked", int4_weight_only="degraded"),
    _fine("quanto", "0.2.7", int2="undecided"),
    _fine("gguf", "0.19.0"),
    _fine("modelopt", "0.43.0"),
)

_CPU_BUILD = outcome(
    "torch/build",
    "a torch built for CUDA",
    "torch 2.13.0+cpu is a CPU build",
    kind="configuration",
    origin="table",
    why="The machine has an NVIDIA H200, which this torch cannot use.",
    fix=Fix(
        "Install the build of torch for CUDA 13.0, which driver 580.95.05 runs.",
        (f"{PIP} --force-reinstall 'torch==2.13.0' --index-url https://download.pytorch.org/whl/cu130",),
    ),
    source="https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html",
)
CPU_TORCH_BESIDE_GPU = report(
    backend(
        Request("bitsandbytes", "nf4"),
        "0.41.0",
        "blocked",
        outcome("platform/system", "Linux", "Linux", "met", severity="info", kind="platform"),
        outcome(
            "bitsandbytes/version",
            "bitsandbytes>=0.43.3",
            "0.41.0",
            origin="host:diffusers@0.42.1",
            why="diffusers stops with: 'Using `bitsandbytes` 4-bit quantization requires the latest version'.",
        ),
        _CPU_BUILD,
        outcome("accelerate/version", "accelerate>=0.26.0", "1.15.0", "met"),
        skipped("bitsandbytes/native-library", "torch/build"),
        plan=Plan(
            (
                (
                    f"{PIP} --force-reinstall 'torch==2.13.0' 'bitsandbytes>=0.43.3' "
                    "--extra-index-url https://download.pytorch.org/whl/cu130"
                ),
            ),
            ("bitsandbytes/version", "torch/build"),
            (),
        ),
        resolved_device=H200,
    ),
    backend(
        Request("torchao", "int8_weight_only"),
        "0.18.0",
        "blocked",
        outcome("torchao/version", "torchao>=0.7.0", "0.18.0", "met"),
        _CPU_BUILD,
        plan=Plan(_CPU_BUILD.fix.commands if _CPU_BUILD.fix else (), ("torch/build",), ()),
        resolved_device=H200,
    ),
    backend(Request("gguf"), "0.19.0", "ok", outcome("gguf/version", "gguf>=0.10.0", "0.19.0", "met")),
)

DEGRADED = report(
    backend(
        Request("torchao", host="transformers", device="cuda:1"),
        "0.13.0",
        "degraded",
        outcome("torchao/version", "torchao>=0.7.0", "0.13.0", "met"),
        outcome(
            "torchao/safe-globals",
            "torch>=2.6.0",
            "2.5.1+cu124",
            severity="warning",
            why="Without safe globals, quantized models cannot be saved to and loaded from torch files.",
        ),
        outcome(
            "platform/memory",
            "device memory of at least 7.5 GB",
            "6.4 GB on NVIDIA GeForce RTX 2060 (CUDA device 1)",
            severity="warning",
            kind="hardware",
            why="Weights in bf16 need about four times as much as in 4 bits.",
            fix=Fix("Use a 4-bit scheme, or a device with more memory."),
        ),
        outcome(
            "platform/system",
            "Linux",
            "Windows",
            severity="info",
            kind="platform",
            why="Linux is recommended.",
            fix=Fix("Nothing has to be changed."),
        ),
        outcome("torchao/headers", "python_headers", "not observed", "undecided", severity="warning"),
        schemes=schemes("torchao", "degraded", uint1_weight_only="blocked"),
        resolved_device=Device("cuda", 1, "NVIDIA GeForce RTX 2060"),
    )
)

UNDECIDED_AND_IGNORED = report(
    backend(
        Request("quanto", "int4", operation="load", host="none", device="rocm"),
        "0.2.7",
        "undecided",
        outcome("quanto/version", "optimum-quanto>=0.2.6", "0.2.7", "met"),
        outcome(
            "quanto/accelerator",
            ACCELERATOR,
            "the NVIDIA driver did not answer within 5 s",
            "undecided",
            kind="hardware",
            why="Its kernels run on a GPU.",
        ),
        outcome("quanto/torch", "torch>=2.6.0", "2.5.1", ignored=True, origin="metadata"),
    ),
    subject="node17.json",
    interpreter="/opt/conda/bin/python3.10",
)

_RED, _BIDI = "\x1b[31mred\x1b[0m", "abc\u202etxt.exe"
HOSTILE = report(
    backend(
        Request("evil[red]x[/red]"),
        "1.0\n\x1b[2J",
        "blocked",
        outcome(
            "evil/installed",
            "nvidia-modelopt[hf]>=0.33.1",
            f"{_RED} [bold]y[/bold] :warning: \r\n error: forged/line",
            why=f"A name may hold\nline breaks, {_BIDI}, \u200bnothing and 日本語の名前 too.",
            fix=Fix(
                "Rename it: [link=https://example.org]click[/link].",
                (f"{PIP} 'nvidia-modelopt[hf]>=0.33.1' '/tmp/\x07bell \udcff/{'x' * 80}'",),
            ),
            source="https://example.org/" + "a" * 90,
            origin="évil‑pack\u0085age",
        ),
        schemes={"[blink]q[/blink]": "blocked", "\x9b31m": "ok"},
        plan=Plan((f"{PIP} 'nvidia-modelopt[hf]>=0.33.1'",), ("evil/installed",), ("[evil]/\x00rest",)),
        resolved_device=Device("cuda", 0, "GPU \x1b]8;;https://example.org\x07link"),
    ),
    subject="/tmp/" + "very-long-folder/" * 8 + "\x1b[31mpython",
    interpreter=None,
)

SAMPLES = {
    "nothing-installed": Sample(NOTHING_INSTALLED, True, 0),
    "all-ok": Sample(ALL_OK, True, 0),
    "cpu-torch-beside-gpu": Sample(CPU_TORCH_BESIDE_GPU, False, 1),
    "degraded": Sample(DEGRADED, False, 0),
    "undecided-and-ignored": Sample(UNDECIDED_AND_IGNORED, False, 3),
    "hostile": Sample(HOSTILE, False, 1),
}

SEVERAL = (
    Judged("node17.json", UNDECIDED_AND_IGNORED),
    Judged("many.jsonl", None, "not JSON: expected a value, found 'nonsense'", 2),
    Judged("many.jsonl", DEGRADED, line=3, details=(("Weights", "23.8 GB"), ("They fit", "no"))),
)
