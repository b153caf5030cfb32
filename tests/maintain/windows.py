"""Make rules/windows.toml, the table of released pairs: `python tests/maintain/windows.py [--offline]`.

Which releases of two distributions work together is read from their wheels, never written by hand:

- imports: the import link check (`envguard.links`) goes through one release against each release of the other;
- what a check of installed files does not tell, because it imports fewer modules (`links` in the rules), is marked;
- compiled kernels: the same check says whether a release's own start-up test lets its libraries load;
- gates that a package keeps itself (a minimum in its source, versions that it tests when it is imported) are read from
  its source;
- what only running shows (names of compiled code, an abort, a library that the loader refuses) comes from
  `measured.toml` beside this file: the outcome of real imports, with the date. That alone is written by people.

Wheels are fetched by pip, one at a time, into ENVGUARD_WINDOW_WHEELS or the user's cache folder, and their Python
files alone are kept there. Of torch the macOS wheels serve: they are small, and their Python files are those of all.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from envguard.links import check_links  # noqa: E402
from envguard.versions import key, parse_clauses, satisfies  # noqa: E402

TABLE = ROOT / "rules" / "windows.toml"
MEASURED = Path(__file__).with_name("measured.toml")
RELEASES: dict[str, list[str]] = tomllib.loads((ROOT / "rules" / "releases.toml").read_text("utf-8"))["releases"]
ENGINE = hashlib.sha256(
    b"".join(path.read_bytes() for path in sorted((ROOT / "envguard" / "links").glob("*.py")))
).hexdigest()[:12]  # another check may say something else
PYTHON = (3, 12, 1)  # what the wheels are read for; torch 2.2 is the first with a wheel for it


def checked_modules() -> dict[str, tuple[str, ...]]:
    """The modules that a check of what is installed imports, by distribution."""
    found: dict[str, tuple[str, ...]] = {}
    for file in sorted((ROOT / "rules").glob("*.toml")):
        for rule in tomllib.loads(file.read_text("utf-8")).get("rule", ()):
            links = rule["need"].get("links")
            if isinstance(links, dict):
                found[links["distribution"]] = tuple(links["modules"])
            elif links:
                found[links] = (links,)
    return found


CHECKED = checked_modules()


class Pair(NamedTuple):
    """Two distributions, from which releases on they are read, and the modules that the check imports.

    `beside` are distributions that have to be there too, each in one release. `constant` is instead of an import: the
    file and the name of the least version that the first one accepts of the other.
    """

    distribution: str
    since: str
    other: str
    other_since: str
    entries: tuple[str, ...] = ()
    kernels: bool = False
    beside: tuple[tuple[str, str], ...] = ()
    constant: tuple[str, str] | None = None
    declared: str | None = None


OWN_TEST = "0.14.0"  # the first torchao whose own test lets its libraries load for the torch that they were built for
HUB, TOKENIZERS, SAFETENSORS = "huggingface-hub", "tokenizers", "safetensors"
PAIRS = (
    Pair("torchao", "0.7.0", "torch", "2.2.2", ("torchao", "torchao.quantization"), kernels=True),
    Pair("bitsandbytes", "0.41.0", "triton", "2.1.0", ("bitsandbytes",), beside=(("torch", "2.6.0"),)),
    Pair(
        "diffusers",
        "0.31.0",
        HUB,
        "0.16.4",
        ("diffusers", "diffusers.models.modeling_utils", "diffusers.pipelines.pipeline_utils"),
        beside=(("torch", "2.9.1"),),
    ),
    Pair("accelerate", "0.26.0", HUB, "0.16.4", ("accelerate",), beside=(("torch", "2.9.1"),)),
    Pair("diffusers", "0.31.0", "torchao", "0.7.0", ("diffusers.quantizers",), beside=(("torch", "2.9.1"),)),
    Pair(
        "diffusers",
        "0.31.0",
        "transformers",
        "4.45.0",
        ("diffusers.pipelines.pipeline_loading_utils",),
        beside=(("torch", "2.9.1"),),
    ),
    Pair("peft", "0.13.0", "torchao", "0.3.0", constant=("peft/import_utils.py", "TORCHAO_MINIMUM_VERSION")),
    *(
        Pair("transformers", "4.37.0", other, since, declared="transformers/dependency_versions")
        for other, since in ((HUB, "0.19.3"), (TOKENIZERS, "0.14.0"), (SAFETENSORS, "0.3.1"))
    ),
)


class Answer(NamedTuple):
    """What one release says of the other: the ones that serve and what each other one lacks.

    `unseen` says that reading what is installed does not tell it all, `needs` is what the release's own source asks
    for.
    """

    serving: tuple[str, ...]
    lacks: tuple[tuple[str, str], ...] = ()
    unseen: bool = False
    needs: str | None = None


def folder(distribution: str, release: str) -> Path:
    """Where the Python files of a wheel are kept."""
    home = os.environ.get("ENVGUARD_WINDOW_WHEELS") or os.path.expanduser("~/.cache/envguard-windows")
    return Path(home) / distribution / release


def fetch(distribution: str, release: str) -> str:
    """The name of a release's wheel, whose Python files are fetched where they lack; "" where there is none."""
    place = folder(distribution, release)
    name = place / "WHEEL"
    if not name.is_file():
        if "--offline" in sys.argv:
            return ""
        with tempfile.TemporaryDirectory() as kept:
            wheel = _download(distribution, release, kept)
            place.mkdir(parents=True, exist_ok=True)
            if wheel is not None:
                with zipfile.ZipFile(wheel) as archive:
                    inside = archive.namelist()
                    archive.extractall(place, [each for each in inside if each.endswith((".py", ".pyi", "METADATA"))])
                for each in inside:  # the check asks which compiled files are there, and reads none
                    if each.endswith((".so", ".pyd", ".dylib")):
                        path = place / each
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.touch()
            name.write_text(wheel.name if wheel else "", "utf-8")
    return name.read_text("utf-8").strip()


def _download(distribution: str, release: str, into: str) -> Path | None:
    print(f"{distribution} {release}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    command += ["--ignore-requires-python", "--only-binary", ":all:", "--python-version", "3.12", "--dest", into]
    mac = [["macosx_11_0_arm64"], ["macosx_14_0_arm64"]]
    linux = [["manylinux_2_28_x86_64", "manylinux_2_24_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"]]
    for tags in mac if distribution == "torch" else linux:
        platforms = [word for tag in tags for word in ("--platform", tag)]
        words = [*command, *platforms, f"{distribution}=={release}"]
        if subprocess.run(words, check=False, capture_output=True).returncode == 0:
            return next(Path(into).glob("*.whl"))
    return None


def known(distribution: str, since: str) -> list[str]:
    """The releases that the rules know, from one on."""
    return [each for each in RELEASES[distribution] if (key(each) or ()) >= (key(since) or ())]


def read(pair: Pair, release: str) -> tuple[Answer, Answer | None] | None:
    """What a release of the first says about every release of the other, for imports and for kernels."""
    if not fetch(pair.distribution, release):
        return None
    others = known(pair.other, pair.other_since)
    if pair.constant is not None:
        least = _constant(folder(pair.distribution, release) / pair.constant[0], pair.constant[1])
        return _asked(f">={least}" if least else "", others), None
    if pair.declared is not None:
        return _asked(_declared(folder(pair.distribution, release) / pair.declared, pair.other), others), None
    return _imports(pair, release, others)


def _asked(needs: str, others: list[str]) -> Answer:
    clauses = parse_clauses(needs) if needs else ()
    return Answer(tuple(each for each in others if satisfies(each, clauses, "specifier")), needs=needs or None)


def _imports(pair: Pair, release: str, others: list[str]) -> tuple[Answer, Answer | None]:
    """By trying every release of the other; those of many releases by halves, as what works is one range of them."""
    others = [each for each in others if not pair.kernels or fetch(pair.other, each)]
    tried: dict[str, Tried] = {}

    def works(other: str) -> bool:
        if other not in tried:
            tried[other] = _tried(pair, release, other)
        return not tried[other].names

    serving = [each for each in others if works(each)] if pair.kernels else _by_halves(others, works)
    first = tuple((other, told.names[0]) for other, told in tried.items() if told.names)
    unseen = any(told.names and not told.seen for told in tried.values())
    loading = tuple(other for other, told in tried.items() if told.loads)
    return Answer(tuple(serving), first, unseen), Answer(loading) if pair.kernels else None


class Tried(NamedTuple):
    """What a release lacks of the other, whether its test loads its libraries, and whether a check sees the lack."""

    names: list[str]
    loads: bool
    seen: bool


def _tried(pair: Pair, release: str, other: str) -> Tried:
    checked = CHECKED.get(pair.distribution, ())
    told = hashlib.sha256(repr((ENGINE, pair.entries, pair.beside, checked)).encode()).hexdigest()[:12]
    remembered = folder(pair.distribution, release) / f"tried-{pair.other}-{other}-{told}.json"
    if remembered.is_file():
        return Tried(*json.loads(remembered.read_text("utf-8")))
    roots = []
    for name, version in ((pair.distribution, release), (pair.other, other), *pair.beside):
        if not fetch(name, version):
            return Tried([], False, True)
        roots.append(str(folder(name, version)))
    names, loads = _linked(pair, roots, pair.entries)
    tried = Tried(names, loads, not names or bool(_linked(pair, roots, checked)[0]))
    remembered.write_text(json.dumps(tried), "utf-8")
    return tried


def _linked(pair: Pair, roots: list[str], modules: Iterable[str]) -> tuple[list[str], bool]:
    """The names of the other one that the import of some modules lacks; whether compiled libraries are loaded."""
    watched = ("load_library",) if pair.kernels else ()
    links = check_links(roots, modules, python=PYTHON, platform="linux", complete=False, watched=watched)
    tops = pair.other.replace("-", "_")
    broken = [each for each in links.broken if each.certain]
    names = [each.name if each.name.startswith(f"{tops}.") else f"{each.needed_from}.{each.name}" for each in broken]
    return [name for name in names if name.startswith(f"{tops}.")], any(call.certain for call in links.calls)


def _by_halves(others: list[str], works: Callable[[str], bool]) -> list[str]:
    first, last = works(others[0]), works(others[-1])
    if first and last:
        return others
    if not first and not last:
        return []
    low, high = 0, len(others) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if works(others[middle]) == first:
            low = middle
        else:
            high = middle
    return others[:high] if first else others[high:]


def _constant(file: Path, name: str) -> str | None:
    """The version in `NAME = parse("0.16.0")`, wherever it stands in a file."""
    if not file.is_file():
        return None
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            texts = [each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant)]
            return next((text for text in texts if isinstance(text, str)), None)
    return None


def _declared(base: Path, other: str) -> str:
    """What a package tests when it is imported: `deps` of its table, for the names in its list."""
    checks = ast.parse(Path(f"{base}_check.py").read_text("utf-8"))
    tested = {each.value for each in ast.walk(checks) if isinstance(each, ast.Constant)}
    tested |= {word for text in tested if isinstance(text, str) for word in text.split()}
    if other not in tested:
        return ""
    for node in ast.walk(ast.parse(Path(f"{base}_table.py").read_text("utf-8"))):
        if isinstance(node, ast.Dict):
            table = {k.value: v.value for k, v in zip(node.keys, node.values) if isinstance(k, ast.Constant)}  # type: ignore[union-attr]
            return str(table[other].removeprefix(other)).replace(" ", "")
    raise ValueError(f"{base}_table.py: no table of versions")


def measured(pair: Pair, release: str, *, kernels: bool = False) -> dict[str, str]:
    """The outcome of each real run of a release, by the release of the other one."""
    runs = tomllib.loads(MEASURED.read_text("utf-8"))["run"]
    return {
        other: outcomes[release]
        for run in runs
        if run["distribution"] == pair.distribution and run["other"] == pair.other and (run["kernels"] or not kernels)
        for other, outcomes in run["outcomes"].items()
        if release in outcomes
    }


def rows(pair: Pair) -> Iterator[dict[str, Any]]:
    """The rows of a pair: releases of the first that say the same stand together."""
    releases = known(pair.distribution, pair.since)
    for name, version in pair.beside:
        fetch(name, version)
    with ProcessPoolExecutor(2) as pool:
        answers = dict(zip(releases, pool.map(read, [pair] * len(releases), releases)))
    others = known(pair.other, pair.other_since)
    effect = "feature-lost" if pair.constant else "import-fails"
    yield from _rows(pair, releases, others, effect, lambda release: _imported(pair, release, answers))
    yield from _rows(pair, releases, others, "aborts", lambda release: _aborting(pair, release, others))
    if pair.kernels:
        yield from _rows(pair, releases, others, "kernels-skipped", lambda release: _loaded(pair, release, answers))


def _minor(version: str) -> Any:
    return (key(version) or ())[1][:2]


def _imported(pair: Pair, release: str, answers: dict[str, Any]) -> Answer | None:
    """What was read of a release, put right by what was run; patch releases are as the one of their minor that ran."""
    if answers[release] is None:
        return None
    answer: Answer = answers[release][0]
    runs = measured(pair, release)
    failing = {_minor(other): outcome.partition(": ")[2] for other, outcome in runs.items() if outcome[:5] == "fails"}
    whole = {_minor(other) for other in runs} - set(failing)
    serving = []
    for each in known(pair.other, pair.other_since):
        mine = _minor(each)
        # what is older than one that is too old is too old too, and what is newer than one that is too new
        out = any((mine <= each < min(whole)) or (mine >= each > max(whole)) for each in failing) if whole else False
        if mine in whole or (each in answer.serving and mine not in failing and not out):
            serving.append(each)
    ran = {other: outcome.partition(": ")[2] for other, outcome in runs.items() if outcome[:5] == "fails"}
    lacks = tuple({**dict(answer.lacks), **ran}.items())
    return Answer(tuple(serving), lacks, answer.unseen or set(serving) != set(answer.serving), answer.needs)


def _aborting(pair: Pair, release: str, others: list[str]) -> Answer | None:
    minors = {_minor(other) for other, outcome in measured(pair, release).items() if outcome == "aborts"}
    return Answer(tuple(each for each in others if _minor(each) < min(minors)), unseen=True) if minors else None


def _loaded(pair: Pair, release: str, answers: dict[str, Any]) -> Answer | None:
    """Where a release loads its libraries: by its own test, and before it had one by what was run."""
    if answers[release] is None:
        return None
    runs = measured(pair, release, kernels=True)
    minors = {_minor(other) for other, outcome in runs.items() if outcome == "loads"}
    if (key(release) or ()) < (key(OWN_TEST) or ()):
        serving = [each for each in known(pair.other, pair.other_since) if _minor(each) in minors]
        return Answer(tuple(serving), unseen=True)
    return Answer(answers[release][1].serving)


def _rows(
    pair: Pair, releases: list[str], others: list[str], effect: str, answer: Callable[[str], Answer | None]
) -> Iterator[dict[str, Any]]:
    read_others = [each for each in others if not pair.kernels or fetch(pair.other, each)]
    groups: list[tuple[list[str], Answer | None]] = []
    for release in releases:
        told = answer(release)
        if told is None and effect != "aborts":  # no wheel: as the release before it
            told = groups[-1][1] if groups else None
        if groups and _said(groups[-1][1], read_others, effect) == _said(told, read_others, effect):
            groups[-1][0].append(release)
        else:
            groups.append(([release], told))
    for number, (group, told) in enumerate(groups):
        said = _said(told, read_others, effect)
        if told is not None and said is not None:
            above = groups[number + 1][0][0] if number + 1 < len(groups) else None
            row: dict[str, Any] = {
                "distribution": pair.distribution,
                "releases": f">={group[0]}" + (f",<{above}" if above else ""),
                "other": pair.other,
                "needs": said[0],
                "effect": effect,
            }
            if said[1]:
                row["missing"] = [said[1]]
            if told.unseen or pair.constant or pair.declared:
                row["unseen"] = True
            wheels = [name for name in (fetch(pair.distribution, each) for each in reversed(group)) if name]
            row["source"] = wheels[0]
            yield row


def _said(told: Answer | None, others: list[str], effect: str) -> tuple[str, str | None] | None:
    """What a row says: the releases that serve, and what the nearest of the others lacks; None where all serve."""
    if told is None:
        return None
    needs = told.needs or _needs(told.serving, others)
    if not needs or effect not in ("import-fails", "feature-lost"):
        return (needs, None) if needs else None
    places = [others.index(each) for each in told.serving if each in others] or [0]
    lacks = dict(told.lacks)
    beside = [place for place in range(len(others)) if others[place] in lacks and place not in places]
    near = min(beside, key=lambda place: min(abs(place - each) for each in places), default=None)
    return needs, lacks[others[near]] if near is not None else None


def _needs(serving: Iterable[str], others: list[str]) -> str:
    """The releases that serve as one range; nothing where all do."""
    good = [each for each in others if each in set(serving)]
    if good == others:
        return ""
    if not good:
        return "none"
    first, last = others.index(good[0]), others.index(good[-1])
    if good == [others[first]] and last + 1 < len(others):
        return f"=={good[0]}"
    bounds = [f">={good[0]}"] if first else []
    bounds += [f"<{others[last + 1]}"] if last + 1 < len(others) else []
    bounds += [f"!={each}" for each in others[first : last + 1] if each not in good]
    return ",".join(bounds)


def _literal(value: Any) -> str:
    if value is True:
        return "true"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return '"' + str(value) + '"'


def main() -> None:
    """Write the table."""
    lines, newest = [], {}
    oldest: dict[str, str] = {}
    for pair in PAIRS:
        print(f"{pair.distribution} with {pair.other}", file=sys.stderr, flush=True)
        made = list(rows(pair))
        lines += [""] if lines else []
        lines += [f"# {pair.distribution} with {pair.other}"]
        for row in made:
            lines.append("    { " + ", ".join(f"{name} = {_literal(value)}" for name, value in row.items()) + " },")
        for name, since in ((pair.distribution, pair.since), (pair.other, pair.other_since)):
            newest[name] = RELEASES[name][-1]
            oldest[name] = min(oldest.get(name, since), since, key=Version)
    text = [
        "# Releases of two distributions that work together, read from the wheels by tests/maintain/windows.py.",
        "# Do not edit: what only running shows stands in tests/maintain/measured.toml. README.md tells the columns.",
        "",
        "window = [",
        *["    " + line if line.startswith("#") else line for line in lines],
        "]",
        "",
        "# The newest release of each that was read.",
        "[newest]",
        *[f'{name} = "{version}"' for name, version in sorted(newest.items())],
        "",
        "# The oldest: of those before it nothing is known.",
        "[oldest]",
        *[f'{name} = "{version}"' for name, version in sorted(oldest.items())],
        "",
    ]
    TABLE.write_text("\n".join(text), "utf-8")


if __name__ == "__main__":
    main()
