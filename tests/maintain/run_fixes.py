"""Run the fixes as they are printed: `python tests/maintain/run_fixes.py [RULE-ID]...`.

For each row of the table with a package fix: a throw-away environment with all backends in which the row is not met
(from its own case in `tests/rules/cases.toml`), the check, the printed command through a shell, the check again. The
rule has to be met then, or to have nothing more to say, and no error may be new; the same for the plan. A row that no
real environment can be made for is told with the reason.

What the case tells of the machine (its GPU, its driver, its system, the build of its torch) is laid over what was seen.
torch is a stand-in, so that nothing pulls a gigabyte: its Python files, as `windows.py` fetches and keeps them, and
metadata that asks for nothing. A command that would install another torch is resolved (`uv pip install --dry-run`), not
run. Needs uv and the network; half an hour.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import tomllib
import windows
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
CASES = tomllib.loads((ROOT / "tests" / "rules" / "cases.toml").read_text(encoding="utf-8"))["case"]
TORCH, FIRST_TORCH = "2.13.0", "2.2.2"
BASE = (
    *("accelerate", "bitsandbytes", "torchao", "optimum-quanto", "gguf", "nvidia-modelopt<0.44", "diffusers"),
    *("transformers", "peft", "sentencepiece", "ninja", "requests", "setuptools"),
)

PACKAGE_FIXES = {"install", "uninstall", "torch", "window", "carried"}
NINJA = "/toolchain/ninja"  # a program that pip installs
MACHINE = ("accelerators", "drivers", "host", "python", "torch_build", "toolchain", "environment_variables")


class Impossible(Exception):
    """No environment can be made in which the row is not met."""


def uv(*words: str) -> subprocess.CompletedProcess[str]:
    """Run uv; raises Impossible with its last line where it fails."""
    done = subprocess.run(["uv", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Impossible((done.stderr.strip().splitlines() or ["uv failed"])[-1])
    return done


def site_packages(folder: Path) -> Path:
    """The site-packages of an environment of ours."""
    return next((folder / "lib").glob("python*")) / "site-packages"


def put_torch(folder: Path, version: str) -> None:
    """The Python files of a torch (of one before the first that is kept: that one's), for no accelerator."""
    site = site_packages(folder)
    for old in site.glob("torch-*.dist-info"):
        shutil.rmtree(old)
    made = site / f"torch-{version}.dist-info"
    made.mkdir()
    lines = ["Metadata-Version: 2.1", "Name: torch", f"Version: {version}"]
    (made / "METADATA").write_text("\n".join([*lines, ""]), encoding="utf-8")
    (made / "INSTALLER").write_text("stand-in\n", encoding="utf-8")
    kept = max(version.partition("+")[0], FIRST_TORCH, key=Version)
    if not windows.fetch("torch", kept):
        raise Impossible(f"there are no files of torch {kept}")
    package = site / "torch"
    shutil.rmtree(package, ignore_errors=True)  # its files may be links into another environment
    shutil.copytree(windows.folder("torch", kept) / "torch", package, copy_function=link)
    (package / "version.py").unlink()
    told = {"__version__": version, "git_version": "0" * 40, "cuda": None, "hip": None}
    text = "".join(f"{name} = {value!r}\n" for name, value in told.items())
    (package / "version.py").write_text(text, encoding="utf-8")
    files = [str(path.relative_to(site)) for path in (*package.rglob("*"), *made.iterdir()) if path.is_file()]
    (made / "RECORD").write_text("".join(f"{name},,\n" for name in [*files, f"{made.name}/RECORD"]), encoding="utf-8")


def link(source: str, target: str) -> None:
    """One more name for a file, a copy where it lies on another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def make(folder: Path) -> Path:
    """An environment with all backends; the path of its interpreter."""
    uv("venv", "--quiet", "--seed", "--python", sys.executable, str(folder))
    python = folder / "bin" / "python"
    put_torch(folder, TORCH)
    uv("pip", "install", "--quiet", "--python", str(python), *BASE)
    return python


def prepare(python: Path, case: dict[str, Any]) -> None:
    """Bring an environment to the distributions of a case. Raises Impossible."""
    snapshot = case.get("snapshot", {})
    wanted = {name: (told or {}).get("version") for name, told in snapshot.get("distributions", {}).items()}
    versions = [f"{name}=={version}" for name, version in wanted.items() if version and name != "torch"]
    if versions:
        uv("pip", "install", "--quiet", "--no-deps", "--python", str(python), *versions)
    if wanted.get("torch"):
        put_torch(python.parents[1], wanted["torch"])
    gone = [name for name in named(case) if snapshot.get("distributions_complete") and name not in wanted]
    gone += [pointer.split("/")[2] for pointer in case.get("absent", ()) if pointer.startswith("/distributions/")]
    gone += ["ninja"] if NINJA in case.get("absent", ()) else []
    for name in gone:
        uv("pip", "uninstall", "--quiet", "--python", str(python), name)


def named(case: dict[str, Any]) -> list[str]:
    """The distribution that the case's rule asks for."""
    asked = row_of(case)["need"].get("distribution")
    return [Requirement(asked).name] if asked else []


def rows() -> dict[str, list[dict[str, Any]]]:
    """Every rule's rows, in the order of its file."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted((ROOT / "rules").glob("*.toml")):
        for row in tomllib.loads(file.read_text(encoding="utf-8")).get("rule", []):
            found.setdefault(row["id"], []).append(row)
    return found


ROWS = rows()


def row_of(case: dict[str, Any]) -> dict[str, Any]:
    """The row that a case is about."""
    return ROWS[case["rule"]][case["row"]]


def check(python: Path, case: dict[str, Any]) -> dict[str, Any]:
    """The report of one backend as JSON."""
    request = case["request"]
    spec = request["backend"] + (f":{request['scheme']}" if request.get("scheme") else "")
    words = ["check", "--format", "json", "--backend", spec, "--host", request.get("host", "diffusers")]
    words += ["--device", request.get("device", "auto"), "--for", request.get("operation", "quantize")]
    if (machine := told_of_the_machine(case)) is None:
        told = envguard(*words, "--python", str(python), active=python)
    else:
        seen = json.loads(envguard("snapshot", "--python", str(python), active=python).stdout)
        told = envguard(*words, "--snapshot", "-", input=json.dumps(laid_over(seen, machine)))
    try:
        report: dict[str, Any] = json.loads(told.stdout)["backends"][0]
    except (ValueError, KeyError):
        raise Impossible(told.stderr.strip() or "no report") from None
    return report


def envguard(*words: str, input: str | None = None, active: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the envguard of this checkout; in an active environment, whose programs alone are those that pip installs."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if active is not None:
        folders = [each for each in environment["PATH"].split(os.pathsep) if not (Path(each) / "ninja").exists()]
        environment["PATH"] = os.pathsep.join([str(active.parent), *folders])
    command = [sys.executable, "-m", "envguard", *words]
    return subprocess.run(command, input=input, capture_output=True, text=True, check=False, env=environment)


def told_of_the_machine(case: dict[str, Any]) -> dict[str, Any] | None:
    """What a case says of other things than packages, None where it says nothing."""
    told = {name: facts for name, facts in copy.deepcopy(case.get("snapshot", {})).items() if name in MACHINE}
    for pointer in case.get("absent", ()):
        section, *inside = pointer.split("/")[1:]
        if section in MACHINE and pointer != NINJA:
            told = laid_over(told, {section: {inside[0]: None} if inside else None})
    return told or None


def laid_over(seen: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """Facts with others in their place; those of one thing that others do not tell stay."""
    whole = dict(seen)
    for name, facts in told.items():
        under = whole.get(name)
        whole[name] = {**under, **facts} if isinstance(under, dict) and isinstance(facts, dict) else facts
    return whole


def failing(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rules that are not met and that are errors."""
    return {
        each["rule"]: each for each in report["outcomes"] if each["status"] == "unmet" and each["severity"] == "error"
    }


def asks_for_torch(command: str) -> bool:
    """Whether a command names torch itself."""
    return any(
        word.partition("=")[0].strip("<>!~=").split("[")[0] == "torch"
        or word.startswith(("torch<", "torch>", "torch=", "torch!"))
        for word in shlex.split(command)
    )


def run(commands: list[str], python: Path) -> str:
    """Run commands as printed; "" where all went well, "resolved" where torch was only resolved."""
    said = ""
    for command in commands:
        if asks_for_torch(command):
            if "uninstall" not in command:
                words = shlex.split(command)
                words = words[words.index("install") + 1 :]
                uv("pip", "install", "--quiet", "--dry-run", "--python", str(python), *words)
            said = "resolved"
            continue
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{command}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}"
    return said


def tried(case: dict[str, Any], base: Path, folder: Path, plan: bool) -> str:
    """What came of one case's fix, or plan: "mended", "resolved", or what went wrong. Raises Impossible."""
    shutil.copytree(base, folder, symlinks=True, copy_function=os.link)
    python = folder / "bin" / "python"
    prepare(python, case)
    before = check(python, case)
    outcome = next((each for each in before["outcomes"] if each["rule"] == case["rule"]), None)
    if outcome is None or outcome["status"] != "unmet":
        raise Impossible(
            f"the rule is {outcome['status'] if outcome else 'silent'} in a real environment"
            + (f" (because of {outcome['because']})" if outcome and outcome.get("because") else "")
        )
    if plan and case["rule"] not in (before.get("plan") or {}).get("resolves", ()):
        raise Impossible("no plan mends it")
    commands = before["plan"]["commands"] if plan else outcome["fix"].get("commands") or []
    if not commands:
        raise Impossible(f"the fix is text here: {outcome['fix'].get('text')}")
    said = run(commands, python)
    if said == "resolved":
        return said
    if said:
        return f"FAILED {said}"
    after = check(python, case)
    still = next((each for each in after["outcomes"] if each["rule"] == case["rule"] and each["status"] != "met"), None)
    if still is not None:
        return f"FAILED still {still['status']} after {commands}: {still['message']}"
    new = sorted(set(failing(after)) - set(failing(before)))
    told = skipped(before) | behind(set(failing(before)))
    unforeseen = [failing(after)[name]["message"] for name in new if name not in told]
    if unforeseen:
        return f"FAILED new errors {unforeseen} after {commands}"
    return "mended" if not new else f"mended, and now told: {', '.join(new)}"


def skipped(report: dict[str, Any]) -> set[str]:
    """The rules that could not be looked at before."""
    return {each["rule"] for each in report["outcomes"] if each["status"] == "skipped"}


def behind(rules: set[str]) -> set[str]:
    """The rules that are looked at only where these are met."""
    found: set[str] = set()
    while True:
        before = rules | found
        more = {name for name, those in ROWS.items() if any(before & {*row.get("after", ())} for row in those)}
        if more <= found:
            return found
        found |= more


def chosen(ids: list[str]) -> list[list[dict[str, Any]]]:
    """The unmet cases of each row with a package fix."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for case in CASES:
        asked = not ids or case["rule"] in ids
        if asked and case["expect"] == "unmet" and PACKAGE_FIXES & set(row_of(case)["fix"]):
            found.setdefault((case["rule"], case["row"]), []).append(case)
    return list(found.values())


def first_possible(cases: list[dict[str, Any]], base: Path, folder: Path, plan: bool) -> str:
    """What came of the first case of a row that an environment can be made for."""
    reasons = []
    for case in cases:
        try:
            return tried(case, base, folder, plan)
        except Impossible as reason:
            reasons.append(str(reason))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return f"not possible: {reasons[0]}"


def main() -> int:
    """Print a line for each row; 1 where a fix failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rules", nargs="*", metavar="RULE-ID")
    parser.add_argument("--plan", action="store_true", help="run the plan of the whole backend instead of the one fix")
    asked = parser.parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "base"
        make(base)
        for number, cases in enumerate(chosen(asked.rules)):
            said = first_possible(cases, base, Path(scratch) / str(number), asked.plan)
            counts[said.split()[0].strip(",")] += 1
            print(f"{cases[0]['rule']} [{cases[0]['row']}] {said}", flush=True)
    print(dict(counts))
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
