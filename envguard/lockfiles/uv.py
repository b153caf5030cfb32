"""uv.lock: what `uv sync` installs on a target, found by following the dependencies from the project.

A uv.lock is for every platform at once; which of its packages are installed, markers on the dependencies say.
"""

from __future__ import annotations

from envguard.errors import BadInput
from envguard.lockfiles.conditions import Conditions
from envguard.lockfiles.listed import Listed, Package
from envguard.lockfiles.reading import lighter, toml
from envguard.versions import key, normalize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from envguard.lockfiles.target import Target

_HERE = (".", "./")


def read_uv(text: str, path: str, target: Target) -> Listed:
    """What a uv.lock installs on a target. Raises BadInput: one line with the key that is wrong."""
    data = toml(lighter(text, 0), path)
    if not isinstance(data.get("version"), int) or not isinstance(data.get("package", []), list):
        raise BadInput(f"{path}: version: expected a uv.lock with a version and [[package]] tables")
    if data["version"] != 1:
        raise BadInput(f"{path}: version: expected 1, found {data['version']!r}")
    requires_python = data.get("requires-python")
    if requires_python is not None and not isinstance(requires_python, str):
        raise BadInput(f"{path}: requires-python: expected text, found {requires_python!r}")
    packages = _checked(data.get("package", []), path)
    walk = _Walk(packages, path, target, Conditions(target, requires_python))
    for place, edges, extras in _roots(data, packages, path, target):
        walk.follow(edges, place, True, extras)
    return Listed(path, "uv", walk.packages(), True, requires_python, {})


def _checked(packages: list[Any], path: str) -> list[dict[str, Any]]:
    for number, package in enumerate(packages, 1):
        where = f"{path}: package {number}"
        if not isinstance(package, dict) or not isinstance(package.get("name"), str):
            raise BadInput(f"{where}: name: expected text")
        where = f"{where} ({package['name'][:80]})"
        version = package.get("version")
        if version is not None and (not isinstance(version, str) or key(version) is None):
            raise BadInput(f"{where}: version: expected a version, found {str(version)[:80]!r}")
        if not isinstance(package.get("source", {}), dict):
            raise BadInput(f"{where}: source: expected a table")
        _edges(package.get("dependencies", []), f"{where}: dependencies")
        for table in ("optional-dependencies", "dev-dependencies"):
            groups = package.get(table, {})
            if not isinstance(groups, dict):
                raise BadInput(f"{where}: {table}: expected a table")
            for name, edges in groups.items():
                _edges(edges, f"{where}: {table}.{name[:80]}")
    return packages


def _edges(edges: Any, where: str) -> None:
    if not isinstance(edges, list):
        raise BadInput(f"{where}: expected a list")
    for edge in edges:
        texts = (edge.get("version", ""), edge.get("marker", "")) if isinstance(edge, dict) else (None,)
        if (
            not isinstance(edge, dict)
            or not isinstance(edge.get("name"), str)
            or not all(isinstance(t, str) for t in texts)
        ):
            raise BadInput(f"{where}: expected tables with a name, and a version or marker as text")
        extras = edge.get("extra", [])
        if not isinstance(extras, list) or not all(isinstance(extra, str) for extra in extras):
            raise BadInput(f"{where}: extra: expected a list of names")


def _roots(
    data: dict[str, Any], packages: list[dict[str, Any]], path: str, target: Target
) -> list[tuple[str, list[dict[str, Any]], tuple[str, ...]]]:
    """The dependencies to begin with: of the project, or of every member of a workspace that is none itself.

    With each come the extras that a marker may mean, in the form in which uv writes those that exclude one another.
    """
    manifest = data.get("manifest", {})
    members = manifest.get("members", []) if isinstance(manifest, dict) else []
    local = [one for one in packages if _source(one, "editable", "virtual", "directory")]
    roots = [one for one in local if _source(one, "editable", "virtual") in _HERE]
    roots = roots or [one for one in local if one["name"] in members] or local
    found = []
    extras_known, groups_known = set(), {"dev"}
    for root in roots:
        optional, dev = root.get("optional-dependencies", {}), root.get("dev-dependencies", {})
        extras_known |= set(optional)
        groups_known |= set(dev)
        encoded = tuple(
            [f"extra-{len(root['name'])}-{root['name']}-{extra}" for extra in target.extras]
            + [f"group-{len(root['name'])}-{root['name']}-{group}" for group in target.groups]
        )
        edges = (
            [{"name": root["name"]}] if _source(root, "editable", "directory") else list(root.get("dependencies", []))
        )
        for extra in target.extras:
            edges += optional.get(extra, [])
        for group in ("dev", *target.groups):
            edges += dev.get(group, [])
        found.append((f"{path}: package {root['name']}", edges, encoded))
    if not roots and isinstance(manifest, dict):  # the lock of a script
        asked = manifest.get("requirements", [])
        _edges(asked, f"{path}: manifest.requirements")
        found.append((f"{path}: manifest", list(asked), ()))
    for word, names, known in (("extra", target.extras, extras_known), ("group", target.groups, groups_known)):
        for name in names:
            if name not in known:
                known_names = ", ".join(sorted(known)) or "none"
                raise BadInput(f"--target {word}={name}: {path} has no such {word} (it has: {known_names})")
    if not found:
        raise BadInput(f"{path}: manifest: expected the project itself, a workspace or a script to begin with")
    return found


def _source(package: dict[str, Any], *kinds: str) -> str | None:
    source = package.get("source", {})
    found = next((source[kind] for kind in kinds if kind in source), None)
    return found if isinstance(found, str) else None


class _Walk:
    """Every package that dependencies come to, and whether that is certain."""

    def __init__(self, packages: list[dict[str, Any]], path: str, target: Target, conditions: Conditions) -> None:
        self._by_name: dict[str, list[dict[str, Any]]] = {}
        for package in packages:
            self._by_name.setdefault(normalize(package["name"]), []).append(package)
        self._path = path
        self._target = target
        self._conditions = conditions
        # name -> version -> whether it is certain that it is installed, and the marker that leaves it open
        self._reached: dict[str, dict[str | None, tuple[bool, str]]] = {}
        self._seen: set[tuple[int, str | None, bool]] = set()

    def follow(self, edges: Iterable[dict[str, Any]], place: str, certain: bool, extras: tuple[str, ...]) -> None:
        """Follow dependencies, without recursion: a lock may be one long chain."""
        pending = [(edge, place, certain, "") for edge in edges]
        while pending:
            edge, place, certain, why = pending.pop()
            marker = edge.get("marker", "")
            holds = self._conditions.hold(marker, f"{place}: marker", extras) if marker else True
            if holds is False:
                continue
            sure = certain and holds is True
            reason = why if holds is True else marker
            for package, alone in self._candidates(edge, place, extras):
                fits = sure and alone
                name, version = normalize(package["name"]), package.get("version")
                if _source(package, "virtual") is None:
                    then = self._reached.setdefault(name, {}).get(version, (False, ""))
                    if not then[0]:
                        self._reached[name][version] = fits, reason or "the lock has several versions of it"
                below = f"{self._path}: package {package['name']}"
                for part in (None, *edge.get("extra", ())):
                    step = id(package), part, fits
                    if step in self._seen or (id(package), part, True) in self._seen:
                        continue
                    self._seen.add(step)
                    further = (
                        package.get("dependencies", [])
                        if part is None
                        else (package.get("optional-dependencies", {}).get(part, []))
                    )
                    pending += [(each, below, fits, reason) for each in further]

    def _candidates(
        self, edge: dict[str, Any], place: str, extras: tuple[str, ...]
    ) -> list[tuple[dict[str, Any], bool]]:
        """The packages that a dependency may mean, with whether it is certainly that one."""
        known = self._by_name.get(normalize(edge["name"]), [])
        if "version" in edge:
            known = [package for package in known if package.get("version") == edge["version"]]
        if "source" in edge and len(known) > 1:
            known = [package for package in known if package.get("source") == edge["source"]]
        if not known:
            raise BadInput(f"{place}: dependencies: {edge['name'][:80]}: no [[package]] of that name and version")
        if len(known) > 1:
            held = [(package, self._is_for_target(package, place, extras)) for package in known]
            known = [package for package, holds in held if holds is not False]
            return [(package, len(known) == 1) for package in known]
        return [(known[0], True)]

    def _is_for_target(self, package: dict[str, Any], place: str, extras: tuple[str, ...]) -> bool | None:
        markers = package.get("resolution-markers", [])
        if not isinstance(markers, list) or not markers:
            return None
        answers = [self._conditions.hold(str(marker), f"{place}: resolution-markers", extras) for marker in markers]
        if True in answers:
            return True
        return None if None in answers else False

    def packages(self) -> dict[str, Package]:
        """What gets installed, by name; a name of which that is not certain says why."""
        found = {}
        for name, versions in self._reached.items():
            place = f"{self._path}: package {name}"
            certain = [version for version, (sure, _) in versions.items() if sure]
            if len(certain) == 1:
                version = certain[0]
                unknown = None if version is not None else f"{place}: the lock gives no version of it"
                found[name] = Package(version, None, unknown, place)
            else:
                markers = dict.fromkeys([why for sure, why in versions.values() if not sure])
                why = " or ".join(list(markers)[:2]) or "several versions of it"
                found[name] = Package(
                    None, None, f"which version is installed depends on the target: {why[:300]}", place
                )
        return found
