"""requirements.txt as pip reads it, and the output of pip freeze. Variables such as ${TOKEN} stay text.

The lines are told apart here, because no library has that part; `packaging` reads what a line asks for.
"""

from __future__ import annotations

import os

from envguard.errors import BadInput
from envguard.frozen import Frozen
from envguard.lockfiles.conditions import Conditions
from envguard.lockfiles.listed import Listed, Package
from envguard.lockfiles.reading import LONGEST, read_text
from envguard.ranges import settles
from envguard.versions import Clause, key, normalize, parse_clauses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from envguard.lockfiles.target import Target

_MOST_FILES, _MOST_LINES = 100, 100_000
_INCLUDES = {"-r": "-r", "--requirement": "-r", "-c": "-c", "--constraint": "-c"}
_MOST_SHOWN = 2_000
_EDITABLE = ("-e", "--editable")
_IN_THE_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_FROZEN_EDITABLE = "# Editable "  # pip freeze tells name and version of a local project in a comment before it


class Line(Frozen):
    """One logical line: what it says, where it stands, and whether it only constrains."""

    text: str
    place: str
    constrains: bool


class Asked(Frozen):
    """What one line asks for: a name, the clauses of its versions, or why its version is not known."""

    name: str
    clauses: tuple[Clause, ...]
    unknown: str | None
    line: Line


def read_asked(paths: Sequence[str], target: Target) -> Listed:
    """What requirements files ask for. Complete where they carry hashes: pip then takes nothing that is not listed."""
    reader = _Reader()
    lines = [line for path in paths for line in reader.lines(path, False, ())]
    asked, known = _read(lines, Conditions(target))
    packages = {name: _package(name, those) for name, those in asked.items() if not _only_constrained(those)}
    missing = {name: _constraint(those) for name, those in asked.items() if _only_constrained(those)}
    return Listed(", ".join(paths), "requirements", packages, known and reader.hashes, None, missing)


def read_frozen(path: str, target: Target) -> Listed:
    """What pip freeze has printed: all that is installed but pip itself and, before Python 3.12, its helpers."""
    reader = _Reader()
    asked, known = _read(list(reader.lines(path, False, ())), Conditions(target))
    packages = {}
    for name, those in asked.items():
        package = packages[name] = _package(name, those)
        if package.version is None and package.unknown is None:
            raise BadInput(
                f"{package.place}: a lock names one version of each package, found {shown(those[0].line.text)!r}"
                " (give requirements that leave a choice as --requirements)"
            )
    missing = dict.fromkeys(("pip", "setuptools", "wheel", "distribute"), "pip freeze leaves it out")
    return Listed(path, "freeze", packages, known, None, {n: why for n, why in missing.items() if n not in packages})


class _Reader:
    """The logical lines of files and of those that they include."""

    def __init__(self) -> None:
        self.hashes = False
        self._files = 0
        self._left = LONGEST
        self._lines = 0

    def lines(self, path: str, constrains: bool, above: tuple[str, ...]) -> Iterator[Line]:
        """Every line that asks for something, in order."""
        self._files += 1
        if self._files > _MOST_FILES:
            raise BadInput(f"{path}: more than {_MOST_FILES} files include one another")
        real = os.path.realpath(path)
        if real in above:
            raise BadInput(f"{path}: includes itself")
        text = read_text(path, self._left)
        self._left -= len(text)
        for number, logical in _logical(text):
            self._lines += 1
            if self._lines > _MOST_LINES:
                raise BadInput(f"{path} line {number}: more than {_MOST_LINES} lines")
            place = f"{path} line {number}"
            option, value = _option(logical)
            if option in _INCLUDES:
                yield from self._included(value, path, place, constrains or _INCLUDES[option] == "-c", (*above, real))
            elif option in _EDITABLE:
                yield Line(f"-e {value}", place, constrains)
            elif option == "--require-hashes":
                self.hashes = True
            elif option is None:
                said, _, options = logical.partition(" --")
                self.hashes = self.hashes or " --hash" in f" --{options}"
                yield Line(said.strip(), place, constrains)

    def _included(self, value: str, path: str, place: str, constrains: bool, above: tuple[str, ...]) -> Iterator[Line]:
        if "://" in value and not value.startswith("file:"):
            raise BadInput(f"{place}: envguard fetches nothing: download {shown(value)} and name the file")
        if not value or "\0" in value:
            raise BadInput(f"{place}: expected the name of a file")
        if value.startswith("file:"):
            from urllib.request import url2pathname

            value = url2pathname(value.removeprefix("file://").removeprefix("file:"))
        try:
            yield from self.lines(os.path.join(os.path.dirname(path), value), constrains, above)
        except BadInput as error:
            raise BadInput(str(error) if " line " in str(error).partition(": ")[0] else f"{place}: {error}") from None


def _logical(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers: joined where one ends with a backslash, without comments, none empty.

    The comment in which pip freeze tells of an editable project is kept.
    """
    held, begin = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        begin = begin if held else number
        comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not comment:
            held += line[:-1].rstrip() + " "
            continue
        whole = held + ("" if comment and held else line)
        held = ""
        if whole.startswith(_FROZEN_EDITABLE):
            yield begin, whole
            continue
        end = 0 if whole.lstrip().startswith("#") else whole.find(" #")
        whole = (whole if end < 0 else whole[:end]).strip()
        if whole:
            yield begin, whole
    if held.strip():
        yield begin, held.strip()


def _option(line: str) -> tuple[str | None, str]:
    """The option that a line begins with, and its value; None for a line that asks for a package."""
    if not line.startswith("-"):
        return None, line
    word, _, value = line.partition(" ")
    name, equals, own = word.partition("=")
    if not equals and not word.startswith("--") and len(word) > 2:  # -rother.txt
        name, own, equals = word[:2], word[2:], "="
    value = own if equals else value
    return name, value.strip().strip("\"'")


def _read(lines: list[Line], conditions: Conditions) -> tuple[dict[str, list[Asked]], bool]:
    """What each name is asked for, and whether every line's name is known."""
    asked: dict[str, list[Asked]] = {}
    known, told = True, None
    for line in lines:
        if line.text.startswith(_FROZEN_EDITABLE):
            told = _frozen_editable(line)
            continue
        one = told if told is not None and line.text.startswith("-e ") else _asked(line, conditions)
        told = None
        if one is None:
            known = known and not line.text.startswith(("-e", ".", "/")) and "://" not in line.text.partition(" ")[0]
        else:
            asked.setdefault(one.name, []).append(one)
    return asked, known


def _frozen_editable(line: Line) -> Asked | None:
    """Name and version in `# Editable install with no version control (envguard-quant==0.1.0)`."""
    inside = line.text.rpartition("(")[2].rstrip(")")
    name, equals, version = inside.partition("==")
    if not equals or not _IN_THE_NAME.issuperset(name) or key(version) is None:
        return None
    return Asked(normalize(name), (Clause("==", version),), None, line)


def _asked(line: Line, conditions: Conditions) -> Asked | None:
    """What a line asks for; None where its marker does not hold, or where it names no package."""
    text = line.text
    plain = _plain_pin(text)
    if plain is not None:
        return Asked(plain[0], (Clause("==", plain[1]),), None, line)
    if text.startswith(("-e ", ".", "/", "~")) or "://" in text.partition(" ")[0]:
        return _from_place(text.removeprefix("-e ").strip(), line)
    if text.endswith((".whl", ".tar.gz", ".zip")) and ";" not in text and "@" not in text:
        return _from_place(text, line)
    from packaging.requirements import Requirement

    try:
        read = Requirement(text)
    except (ValueError, RecursionError) as error:  # packaging 24 lets that of int() through
        why = str(error).partition("\n")[0][:200]
        raise BadInput(f"{line.place}: not a requirement: {shown(text)!r}: {shown(why)}") from None
    name = normalize(read.name)
    unknown = None
    if read.marker is not None:
        holds = conditions.hold(str(read.marker), line.place)
        if holds is False:
            return None
        if holds is None:
            unknown = f"whether it is installed depends on the target: {read.marker}"
    if read.url is not None:
        found = None if unknown else _from_place(read.url, line)
        if found is not None and found.name == name:
            return found
        return Asked(name, (), unknown or f"{line.place} names a place, not a version: {shown(read.url)}", line)
    try:
        clauses = parse_clauses(str(read.specifier)) if str(read.specifier) else ()
    except ValueError:
        raise BadInput(f"{line.place}: a version that cannot be compared: {text[:100]!r}") from None
    return Asked(name, clauses, unknown, line)


def _plain_pin(text: str) -> tuple[str, str] | None:
    """Name and version of a plain `name==1.2.3`, without the import of `packaging`; None for anything else."""
    name, equals, version = text.partition("==")
    if not equals or not name or not _IN_THE_NAME.issuperset(name) or not name[0].isalnum() or not name[-1].isalnum():
        return None
    fits = version.isascii() and version.replace(".", "").replace("+", "").isalnum() and key(version) is not None
    return (normalize(name), version) if fits else None


def _from_place(text: str, line: Line) -> Asked | None:
    """The package of a URL, path or repository, where its file's name or its #egg= says which."""
    place, _, fragment = text.partition("#")
    for part in fragment.split("&"):
        if part.startswith("egg="):
            name = part[4:].partition("[")[0].partition("-")[0] if "==" in part else part[4:].partition("[")[0]
            return Asked(normalize(name), (), f"{line.place} names a place, not a version: {shown(place)}", line)
    from urllib.parse import unquote

    file = unquote(place.split(" ")[0].replace("\\", "/").rpartition("/")[2]).partition("?")[0]
    from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename

    try:
        if file.endswith(".whl"):
            parsed = parse_wheel_filename(file)
            return Asked(str(parsed[0]), (Clause("==", str(parsed[1])),), None, line)
        if file.endswith((".tar.gz", ".zip")):
            sdist = parse_sdist_filename(file)
            return Asked(str(sdist[0]), (Clause("==", str(sdist[1])),), None, line)
    except (InvalidSdistFilename, InvalidWheelFilename, ValueError):
        pass  # a project's archive of another name
    return None


def shown(text: str) -> str:
    """The begin of a text, without the users, passwords and queries (which may be signatures) of its URLs."""
    first, *rest = text[:_MOST_SHOWN].split("://")
    parts = [first]
    for part in rest:
        url, space, after = part.partition(" ")
        host, slash, path = url.partition("/")
        parts.append(f"{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}{space}{after}")
    return "://".join(parts)[:200]


def _only_constrained(asked: list[Asked]) -> bool:
    return all(one.line.constrains for one in asked)


def _constraint(asked: list[Asked]) -> str:
    one = asked[0]
    return f"{one.line.place} only limits its version where something else installs it"


def _package(name: str, asked: list[Asked]) -> Package:
    """One package of all lines that name it. Raises BadInput where they contradict one another."""
    place = next((one.line.place for one in asked if not one.line.constrains), asked[0].line.place)
    unknown = next((one.unknown for one in asked if one.unknown is not None and not one.line.constrains), None)
    if unknown is not None:
        return Package(None, None, unknown, place)
    clauses = tuple(dict.fromkeys([clause for one in asked if one.unknown is None for clause in one.clauses]))
    pins = [clause for clause in clauses if _is_pin(clause)]
    if pins:
        others = tuple([clause for clause in clauses if clause is not pins[0]])
        if others and settles((pins[0],), others, "specifier") is False:
            said = " and ".join(
                [f"{one.line.place.rpartition('/')[2]}: {shown(one.line.text)[:100]}" for one in asked[:3]]
            )
            raise BadInput(f"{place}: {name} is asked for in versions that exclude one another ({said})")
        return Package(pins[0].version, None, None, place)
    return Package(None, ",".join([clause.operator + clause.version for clause in clauses]), None, place)


def _is_pin(clause: Clause) -> bool:
    return clause.operator == "===" or (clause.operator == "==" and not clause.version.endswith(".*"))
