"""Needs about who owns a module: its distribution, how many copies of it there are, and what is imported already.

The fix of most of these depends on what was found, so their findings bring their own.
"""

from __future__ import annotations

from envguard.frozen import Frozen, replace
from envguard.judge.subject import (
    Broken,
    Finding,
    fields_of,
    optional,
    shared,
    text_of,
    undecided,
    version_of,
    versions_first,
)
from envguard.model import Ranged, Unreadable
from envguard.rule import FixTemplate
from envguard.versions import Clause, Wanted, key, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envguard.judge.subject import Judge, Reader, Subject
    from envguard.model import Severity
    from envguard.rule import CopiesNeed, LoadedNeed, OwnerNeed, WithoutNeed

_UNSEEN = Unreadable("owner not observed")
_CODE = (".py", ".pyc", ".so", ".pyd")


def presence(wanted: Wanted, module: str) -> tuple[Reader, Judge]:
    """A backend's distribution is installed; where it is not, what Python would import under its name all the same."""
    name, text = wanted.name, wanted.text
    version_here = version_of(name)

    def read(subject: Subject) -> Any:
        version = version_here(subject)
        if version is None:
            found = _owner_fact(subject, module)
            there = subject.environment.fact("python", "installed_there")
            has_it = isinstance(there, list) and name in there
            pip = subject.environment.fact("python", "pip_on_path") if has_it else None
            other = found.get("distribution") if isinstance(found, dict) else None
            pip = pip if isinstance(pip, str) else None
            return _Absent(_place(found), other if isinstance(other, str) and other != name else None, pip)
        if isinstance(version, Broken):
            return version, _copies(subject, name)
        return version

    def judge(facts: Any) -> Finding:
        if isinstance(facts, _Absent):
            place, pip = facts.place, facts.pip
            found = f"{name} is not installed"
            if pip is not None:
                found += f" here, only in another Python, into which the pip on PATH installs ({pip})"
            if facts.other is not None:
                words = f"Uninstall {facts.other}, which brings the module {module}, then install {name}."
                remedy = _install(wanted, words, uninstall=(facts.other,))
                found += f"; the module {module} is that of {facts.other}"
                return Finding("unmet", text, found, "absent", None, remedy)
            if place is None:
                return Finding("unmet", text, found, "absent")
            words = f"Remove or rename {place}, which Python would import as {module}, then install {name}."
            remedy = _install(wanted, words)
            return Finding("unmet", text, f"{found}, only files without metadata ({place})", "absent", None, remedy)
        if isinstance(facts, Ranged):
            return Finding("met", text, f"{name}{facts.specifier}")
        if isinstance(facts, Unreadable):
            return Finding("undecided", text, f"{name}: {facts.reason}")
        if isinstance(facts, tuple):
            return _without_version(wanted, *facts)
        return Finding("met", text, f"{name} {facts}")

    reader = shared(("presence", name), read)
    versions_first[reader] = name
    return reader, judge


class _Absent(Frozen):
    """What is known of a distribution that is not installed."""

    place: str | None
    other: str | None
    pip: str | None


def _without_version(wanted: Wanted, version: Broken, copies: tuple[tuple[str, str | None], ...]) -> Finding:
    """Metadata that gives no version: pip fails on it too, so it has to go before anything is installed."""
    places = tuple([path for path, version in copies if version is None])
    words = f"The metadata of {wanted.name} is broken, and pip cannot replace it: remove its folder"
    if places:
        remedy = _install(wanted, f"{words}, then install.", places)
    else:
        remedy = FixTemplate(text=f"{words} ({version.reason}), then install {wanted.name}.")
    found = f"{wanted.name}: installed, but its metadata gives no version"
    if version.reason not in found:
        found += f" ({version.reason})"
    return Finding("unmet", wanted.text, found, "broken", None, remedy)


def _install(wanted: Wanted, text: str, remove: tuple[str, ...] = (), uninstall: tuple[str, ...] = ()) -> FixTemplate:
    if wanted.name == "torch":
        return FixTemplate(torch=True, text=text, remove=remove, uninstall=uninstall)
    return FixTemplate(install=(wanted,), text=text, remove=remove, uninstall=uninstall)


def owner(need: OwnerNeed) -> tuple[Reader, Judge]:
    """An import name is loaded from a distribution that owns it."""
    name, accepted, optional = need.import_name, need.distributions, need.optional
    distribution = accepted[0]
    needed = f"{name} imported from the distribution {distribution}"
    version_here = version_of(distribution)

    def read(subject: Subject) -> Any:
        owner = _owner_fact(subject, name)
        if not isinstance(owner, dict):
            return owner
        others = tuple(owner.get("distributions", ()))
        found = owner.get("distribution", _UNSEEN), others, owner.get("origin"), owner.get("kind", _UNSEEN)
        return (*found, version_here(subject))

    def judge(facts: Any) -> Finding | None:
        if facts is None or isinstance(facts, Unreadable):
            return None if optional else undecided(needed, facts)
        owner, others, origin, kind, version = facts
        if kind == "placeholder":
            found = f"a placeholder without code ({text_of(origin, 'no file')})"
            return Finding("unmet", needed, found, None, None, _anew(distribution, None))
        if kind == "missing":
            if optional and not others:
                return None
            found = f"{name} cannot be found by Python, though its metadata is there"
            return Finding("unmet", needed, found, None, None, _anew(distribution, version))
        shared = origin is None and any(one in accepted for one in others)  # a namespace has several owners
        if owner in accepted or (isinstance(owner, str) and "*" in accepted) or shared:
            if kind is _UNSEEN and not (isinstance(origin, str) and origin.endswith(_CODE)):
                found = f"{distribution}, of which it was not observed whether it holds code"
                return None if optional else Finding("undecided", needed, found)
            return Finding("met", needed, f"{distribution} ({text_of(origin, 'namespace package')})")
        if owner is _UNSEEN:
            found = f"{text_of(origin, 'a file')}, whose owner was not observed"
            return None if optional else Finding("undecided", needed, found)
        if owner is None:
            found = f"{text_of(origin, 'a file')}, which belongs to no distribution and shadows it"
            # the libraries keep their module in a folder src, where a checkout on the path works as it is
            checkout = optional and isinstance(origin, str) and f"/src/{name}/__init__" in origin.replace("\\", "/")
            return Finding("unmet", needed, found, None, "warning" if checkout else None, _moved(name, origin))
        found = f"the distribution {owner} ({text_of(origin, 'no file')})"
        return Finding("unmet", needed, found, None, None, _instead(distribution, version, (owner,)))

    return read, judge


def _owner_fact(subject: Subject, name: str) -> Any:
    owners = subject.environment.section("import_owners")
    if owners is None or isinstance(owners, Unreadable):
        return owners
    if name in owners:
        return owners[name]
    unseen = _not_observed.get(name)
    if unseen is None:  # one object each, because dictionaries find that at once
        unseen = _not_observed[name] = Unreadable(f"where {name} is imported from was not observed")
    return unseen


_not_observed: dict[str, Unreadable] = {}  # by the import names that rules ask about


def _place(owner: Any) -> str | None:
    """The folder or file that Python would import although it belongs to no distribution."""
    if not isinstance(owner, dict) or owner.get("distribution", _UNSEEN) is not None:
        return None
    origin = owner.get("origin")
    return _folder_of(origin) if isinstance(origin, str) and owner.get("kind") != "missing" else None


def _folder_of(origin: str) -> str:
    """What to move so that an import finds something else: the folder of a package, or the file."""
    head, _, last = origin.replace("\\", "/").rpartition("/")
    return origin[: len(head)] if head and last.startswith("__init__.") else origin


def _moved(name: str, origin: Any) -> FixTemplate:
    what = _folder_of(origin) if isinstance(origin, str) else f"the folder or script called {name}"
    return FixTemplate(
        text=f"Rename, move or remove {what}, which hides {name}, or start Python from another folder (the working"
        " directory comes first on the search path)."
    )


def _anew(distribution: str, version: Any) -> FixTemplate:
    """The files of a distribution written once more; torch in the build that fits the machine."""
    if distribution == "torch":
        return FixTemplate(torch=True)
    return FixTemplate(reinstall=(_same(distribution, version),))


def _same(distribution: str, version: Any) -> Wanted:
    parsed = key(version) if isinstance(version, str) else None
    if parsed is None or "+" in version or "dev" in version:
        return Wanted(distribution, (), (), distribution)
    return Wanted(distribution, (), (Clause("==", version),), f"{distribution}=={version}")


def _instead(distribution: str, version: Any, others: tuple[str, ...]) -> FixTemplate:
    """Other distributions taken out, which takes files of this one along, so that it is written anew after that."""
    text = f"Uninstall {', '.join(others)}, which brings the same module, then install {distribution} once more."
    if distribution == "torch":
        return FixTemplate(uninstall=others, torch=True, text=text)
    return FixTemplate(uninstall=others, reinstall=(_same(distribution, version),), text=text)


def without(need: WithoutNeed) -> tuple[Reader, Judge]:
    """None of the other distributions of a module is installed."""
    names, instead = need.distributions, need.instead
    needed = f"no other distribution of the module {need.import_name} beside {instead}"
    own = version_of(instead)

    def read(subject: Subject) -> Any:
        environment = subject.environment
        data, listed = environment.data, environment.data.get("distributions")
        all_told = data.get("distributions_complete") and not data.get("unreadable")
        if listed and all_told and listed.keys().isdisjoint(names):  # as nearly everywhere
            return None
        entries = [(name, environment.distribution(name)) for name in names]
        there = tuple([(name, entry.get("version")) for name, entry in entries if isinstance(entry, dict)])
        if not there:
            return None if all(entry is None for _, entry in entries) else ()
        owner = _owner_fact(subject, need.import_name)
        return there, owner.get("distribution") if isinstance(owner, dict) else None, own(subject)

    def judge(facts: Any) -> Finding | None:
        if facts is None:
            return Finding("met", needed, "none")
        if not facts:
            return None
        there, owner, version = facts
        found = ", ".join(f"{name} {text_of(other, 'of no version')}" for name, other in there)
        # the one that was installed last has overwritten the files of the other
        severity: Severity | None = "warning" if owner == instead else None
        remedy = _instead(instead, version, tuple([name for name, _ in there]))
        return Finding("unmet", needed, found, None, severity, remedy)

    return read, judge


def copies(need: CopiesNeed) -> tuple[Reader, Judge]:
    """One copy of a distribution's metadata is found for certain."""
    wanted = need.wanted
    name, clauses = wanted.name, wanted.clauses
    needed = f"one copy of {name}"
    version_here = version_of(name)

    def read(subject: Subject) -> Any:
        entry = subject.environment.distribution(name)
        others = entry.get("duplicates") if isinstance(entry, dict) else None
        if not others:
            return None
        return version_here(subject), tuple(others), _copies(subject, name)

    def judge(facts: Any) -> Finding | None:
        if facts is None:
            return None
        version, others, seen = facts
        places = [path.replace("\\", "/").rpartition("/")[0] for path, _ in seen]
        beside = [each for each, place in zip(seen, places) if place == places[0]]
        if seen:  # a copy in a folder that comes later on the path is never found
            others = tuple([text_of(each, "unknown") for _, each in beside[1:]])
        different = [other for other in others if key(other) is None or key(other) != key(text_of(version))]
        if not different:
            return Finding("met", needed, f"{name} {text_of(version)}")
        found = f"metadata of {name} {text_of(version)} and of {', '.join(different)} in one environment"
        held = (version, *different) if isinstance(version, str) else different
        good = not seen and all(satisfies(each, clauses, "version") is True for each in held)
        newest = max([each for each in held if key(each)], key=lambda each: key(each) or (), default=None)
        remedy = replace(
            _anew(name, newest),
            remove=tuple([path for path, each in beside if each != newest]),
            text=f"Remove the metadata of the copies that are not meant, then install {name} once more.",
        )
        return Finding("unmet", needed, found, None, "warning" if good else None, remedy)

    reader = shared(("copies", name), read)
    fields_of[reader] = name, "duplicates"
    return reader, judge


def _copies(subject: Subject, name: str) -> tuple[tuple[str, str | None], ...]:
    """Path and version of each metadata folder of a distribution, in the order in which they are found."""
    entry = subject.environment.distribution(name)
    if not isinstance(entry, dict):
        return ()
    versions = [entry["version"], *entry.get("duplicates", ())]
    return tuple([(path, None if one == "unknown" else one) for path, one in zip(entry.get("copies", ()), versions)])


def loaded(need: LoadedNeed) -> tuple[Reader, Judge]:
    """What the process has imported is what is installed."""
    name, distribution = need.import_name, need.distribution
    needed = f"{name} imported in the version that is installed"

    def read(subject: Subject) -> Any:
        held = subject.environment.section("loaded_modules")
        module = held.get(name) if isinstance(held, dict) else None
        entry = subject.environment.distribution(distribution)
        if module is None or not isinstance(entry, dict) or entry.get("editable"):
            return None  # a checkout's metadata stays at the version at which it was installed
        return module.get("version"), entry.get("version")

    def judge(facts: Any) -> Finding | None:
        if facts is None or not all(isinstance(version, str) for version in facts):
            return None
        imported, installed = facts
        one, other = key(imported.partition("+")[0]), key(installed.partition("+")[0])
        if one is None or other is None:
            return None
        if one == other:
            return Finding("met", needed, f"{name} {imported}")
        found = f"{name} {imported} is imported in this process, {installed} is installed"
        return Finding("unmet", needed, found)

    return optional("loaded_modules", shared(("loaded", name, distribution), read)), judge
