"""What torch was built for, read from the text of its version file; torch is never imported."""

from __future__ import annotations

import os

from envguard.probes import Observed
from envguard.probes.folders import Folders, read
from envguard.probes.importer import Importer

_NAMES = {"__version__": "version", "cuda": "cuda", "hip": "hip", "xpu": "xpu"}


def torch_build(path: tuple[str, ...], folders: Folders | None = None) -> Observed:
    """Section `torch_build` without `arch_list`: None where there is no torch, {} where its file cannot be read."""
    file = version_file(path, folders)
    if file is None:
        return Observed(None)
    try:
        value = parse_version_file(read(file).decode("utf-8"))
    except FileNotFoundError:
        return Observed({}, {"/torch_build": f"{file} does not exist"})
    except OSError as error:
        return Observed({}, {"/torch_build": f"{file} cannot be read: {error.strerror}"})
    except ValueError as error:
        reason = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else f"cannot be read: {error}"
        return Observed({}, {"/torch_build": f"{file} {reason}"})
    # releases from before ROCm and XPU do not have these; cuda and the version stand in every torch
    value = {"hip": None, "xpu": None, **value}
    missing = [name for name in ("version", "cuda") if name not in value or (name == "version" and not value[name])]
    if "version" in missing:
        value.pop("version", None)
    return Observed(value, {f"/torch_build/{name}": f"{file} does not give it as plain text" for name in missing})


def version_file(path: tuple[str, ...], folders: Folders | None = None) -> str | None:
    """Where the version file of the torch that Python would import has to be; None where there is no such package."""
    found = Importer(folders or Folders(path), ()).find("torch")
    if found is None or found.kind != "package":
        return None
    return f"{found.children[0]}{os.sep}version.py"


def parse_version_file(text: str) -> dict[str, str | None]:
    """The facts that a torch/version.py assigns as plain literals. Raises ValueError where it is no Python."""
    value: dict[str, str | None] = {}
    for line in text.splitlines():
        left, sign, right = line.partition("=")
        name = _NAMES.get(left.partition(":")[0].strip())
        if name and sign and not line[0].isspace():
            literal = right.strip()
            if literal == "None":
                value[name] = None
            elif literal[:1] in ("'", '"') and literal.find(literal[0], 1) == len(literal) - 1 and "\\" not in literal:
                value[name] = literal[1:-1]
            else:
                return _parse_with_ast(text)
    # nothing found is what a cut or empty file looks like: let the real parser say what is wrong
    return value or _parse_with_ast(text)


def _parse_with_ast(text: str) -> dict[str, str | None]:
    import ast  # 10 ms: only for version files that somebody wrote by hand

    try:
        statements = ast.parse(text).body
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"it is not Python ({error.__class__.__name__})") from None
    value: dict[str, str | None] = {}
    for statement in statements:
        if isinstance(statement, ast.Assign):
            targets, assigned = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets, assigned = [statement.target], statement.value
        else:
            continue
        for target in targets:
            name = _NAMES.get(target.id) if isinstance(target, ast.Name) else None
            if name:
                value.pop(name, None)  # of two assignments the last one counts, also where it cannot be read
                if isinstance(assigned, ast.Constant) and (assigned.value is None or isinstance(assigned.value, str)):
                    value[name] = assigned.value
    return value
