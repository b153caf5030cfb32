"""Fixes that run as printed: commands for the inspected interpreter, quoted for its system's shell."""

from __future__ import annotations

from envguard.cuda import carries
from envguard.frozen import Frozen
from envguard.model import Fix, Unreadable
from envguard.versions import key, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from envguard.model import Environment
    from envguard.rule import FixTemplate, TorchBuild
    from envguard.versions import Clause, Wanted

_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+:,./-_")
_SAFE_ON_WINDOWS = (_SAFE - set("@%+,")) | {"\\"}  # cmd.exe splits a program's path at = and , and PowerShell at ,
# cmd.exe and PowerShell expand these even inside double quotes; PowerShell ends a word at a typographic quote too
_UNQUOTABLE = frozenset('"%!`$\u201c\u201d\u201e')


PYTHON = "\0"  # stands for the interpreter in commands that many machines share; no command line can hold it


class Installer(Frozen):
    """How packages get into an inspected environment.

    `before` are commands that must run first (making a virtual environment where this one may not be changed),
    `install` and `uninstall` the words of the command up to the packages, `note` what to know about it. `install` is
    None where no command helps; `note` then says why. Commands name the interpreter as PYTHON.
    """

    before: tuple[str, ...]
    install: str | None
    uninstall: str | None
    note: str | None
    windows: bool
    uses_uv: bool


def installer(environment: Environment) -> tuple[Installer, str]:
    """The installer of an environment and its interpreter as the shell reads it, from the facts about Python, system
    and package index.
    """
    fact = environment.fact
    described = environment.data.get("described_by")
    if described is not None:
        return _for_a_file(described["form"], described["file"]), ""
    windows = fact("host", "system") == "Windows"
    executable = fact("python", "executable")
    if isinstance(executable, Unreadable):
        executable = None
    if executable is not None and not _quotable(executable, windows):
        return Installer((), None, None, _UNQUOTABLE_PATH, windows, False), ""
    virtual = fact("python", "virtual_environment") is True
    managed = fact("python", "externally_managed") is True and not virtual
    locked = managed or fact("python", "writable") is False
    asked = windows, virtual, managed, locked, fact("python", "pip") is None, _offline(environment)
    known = _installers.get(asked)
    if known is None:
        known = _installers[asked] = _installer(*asked)
    return known, quote(executable or ("python" if windows else "python3"), windows)


def _for_a_file(form: str, file: str) -> Installer:
    """How a file comes to list other packages: commands of uv for its own lock, words for the others."""
    if form == "uv":
        return Installer((), "uv add", "uv remove", f"run it beside {file}", False, True)
    again = "" if form == "requirements" else " where it comes from, and write it anew"
    return Installer((), None, None, f"change {file}{again}", False, False)


_installers: dict[tuple[bool, ...], Installer] = {}


def _installer(windows: bool, virtual: bool, managed: bool, locked: bool, lacks_pip: bool, offline: bool) -> Installer:
    uses_uv = not locked and lacks_pip
    python = PYTHON
    before: tuple[str, ...] = ()
    note = None
    if uses_uv:
        install, uninstall = f"uv pip install --python {python}", f"uv pip uninstall --python {python}"
        note = "this environment has no pip: the command uses uv (https://docs.astral.sh/uv)"
    else:
        if locked:
            if virtual:  # an environment made from one sees the base Python's packages, not those of this one
                return Installer((), None, None, _READ_ONLY, windows, False)
            note = _MANAGED if managed else _LOCKED
            before = (f"{python} -m venv --system-site-packages .venv",)
            python = ".venv\\Scripts\\python.exe" if windows else ".venv/bin/python"
        install, uninstall = f"{python} -m pip install", f"{python} -m pip uninstall --yes"
    if offline:
        return Installer(before, None, uninstall, _OFFLINE, windows, uses_uv)
    return Installer(before, install, uninstall, note, windows, uses_uv)


_UNQUOTABLE_PATH = "the interpreter's path holds characters that no shell command should carry"
_MANAGED = "the operating system manages this Python (PEP 668): use a virtual environment, as the commands do"
_LOCKED = "this environment cannot be written: use a virtual environment of your own, as the commands do"
_READ_ONLY = (
    "this virtual environment cannot be written: ask whoever keeps it, or make one of your own and install everything"
    " there"
)
_OFFLINE = (
    "this environment is set to work offline: fetch the packages on a connected machine of the same kind (pip download)"
    " and install them from that folder (pip install --no-index --find-links FOLDER)"
)


def _offline(environment: Environment) -> bool:
    for name in ("PIP_NO_INDEX", "UV_OFFLINE"):
        value = environment.fact("environment_variables", name)
        if isinstance(value, str) and value.lower() not in ("", "0", "false", "no", "off"):
            return True
    return False


def quote(word: str, windows: bool) -> str:
    """A word as the shell of the system reads it back: cmd.exe and PowerShell on Windows, a POSIX shell elsewhere."""
    if word and (_SAFE_ON_WINDOWS if windows else _SAFE).issuperset(word):
        return word
    return f'"{word}"' if windows else "'" + word.replace("'", "'\"'\"'") + "'"


def _quotable(word: str, windows: bool) -> bool:
    return word.isprintable() and not (windows and not _UNQUOTABLE.isdisjoint(word)) and not word.startswith("-")


def merge(wanted: Iterable[Wanted], constraints: Mapping[str, tuple[Clause, ...]]) -> tuple[str, ...]:
    """Requirements with constraints folded in, one a distribution."""
    extras: dict[str, dict[str, None]] = {}
    clauses: dict[str, tuple[Clause, ...]] = {}
    for each in wanted:
        extras.setdefault(each.name, {}).update(dict.fromkeys(each.extras))
        clauses[each.name] = (*clauses.get(each.name, ()), *each.clauses)
    merged = []
    for name, own in clauses.items():
        brackets = f"[{','.join(extras[name])}]" if extras[name] else ""
        merged.append(f"{name}{brackets}{narrow((*own, *constraints.get(name, ())))}")
    return tuple(merged)


def narrow(clauses: tuple[Clause, ...]) -> str:
    """Clauses as one specifier, without the bounds that another one implies."""
    distinct = list({(clause.operator, key(clause.version) or clause.version): clause for clause in clauses}.values())
    kept = [clause for clause in distinct if not any(_implies(other, clause) for other in distinct)]
    kept.sort(key=lambda clause: (clause.operator in _FLOORS) + 2 * (clause.operator in _CEILINGS))
    return ",".join([clause.operator + clause.version for clause in kept])


def newest_run(fits: Mapping[str, bool | None]) -> tuple[str, ...]:
    """The newest version that fits and those right before it that do too, of versions from the oldest on."""
    versions = list(fits)
    while versions and fits[versions[-1]] is not True:
        versions.pop()
    first = len(versions)
    while first and fits[versions[first - 1]] is True:
        first -= 1
    return tuple(versions[first:])


def contradict(clauses: tuple[Clause, ...]) -> bool:
    """Whether the bounds of some clauses leave no version between them."""
    for low in clauses:
        for high in clauses:
            if low.operator in (*_FLOORS, "==") and high.operator in (*_CEILINGS, "=="):
                lowest, highest = key(low.version), key(high.version)
                shut = low.operator == ">" or high.operator == "<"
                if lowest is not None and highest is not None and (lowest > highest or (shut and lowest == highest)):
                    return True
    return False


_FLOORS, _CEILINGS = (">=", ">"), ("<=", "<")


def _implies(one: Clause, other: Clause) -> bool:
    """Whether every version that meets `one` meets the bound `other`, and `other` is not simply the same."""
    mine, its = key(one.version), key(other.version)
    if mine is None or its is None or one == other:
        return False
    if one.operator == "==":
        return other.operator in (*_FLOORS, *_CEILINGS) and satisfies(one.version, (other,), "specifier") is True
    for bounds, sign in ((_FLOORS, 1), (_CEILINGS, -1)):
        if one.operator in bounds and other.operator in bounds:
            # > excludes the post-releases of its own version, < the pre-releases: only another release is beyond them
            depth = None if other.operator.endswith("=") else 2
            order = (mine[:depth] > its[:depth]) - (mine[:depth] < its[:depth])
            return order == sign or (order == 0 and depth is None and one.operator != other.operator)
    return False


def install_command(how: Installer, requirements: Iterable[str], *options: str) -> str:
    """The command that installs requirements, with options before them."""
    words = [*options, *[quote(requirement, how.windows) for requirement in requirements]]
    return f"{how.install} {' '.join(words)}"


def uninstall_command(how: Installer, distributions: Iterable[str]) -> str:
    """The command that takes distributions out."""
    return f"{how.uninstall} {' '.join([quote(name, how.windows) for name in distributions])}"


def anew(wanted: Iterable[Wanted], constraints: Mapping[str, tuple[Clause, ...]]) -> tuple[str, ...]:
    """Requirements to install once more: in the version that is there if that meets the constraints."""
    requirements = []
    for each in wanted:
        more = constraints.get(each.name, ())
        version = each.clauses[0].version if each.clauses else None
        fits = version is not None and satisfies(version, more, "specifier") is True if more else bool(each.clauses)
        requirements.append(f"{each.name}{narrow(each.clauses if fits else more)}")
    return tuple(dict.fromkeys(requirements))


def reinstall_command(how: Installer, requirements: Iterable[str]) -> str:
    """The command that writes the files of distributions anew and leaves everything else as it is."""
    return install_command(how, requirements, "--reinstall" if how.uses_uv else "--force-reinstall", "--no-deps")


def remove_commands(how: Installer, folders: Iterable[str]) -> list[str]:
    """The commands that take away folders which no installer can."""
    command = "cmd /c rmdir /s /q" if how.windows else "rm -r"
    return [f"{command} {quote(folder, how.windows)}" for folder in folders if _quotable(folder, how.windows)]


def plan_commands(
    how: Installer,
    requirements: tuple[str, ...],
    uninstall: tuple[str, ...],
    torch: TorchFix | None,
    reinstall: tuple[str, ...] = (),
    remove: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """The commands of a plan: one install of everything, and more only where torch comes from an index of its own or
    files have to be written anew.
    """
    commands = [*how.before, *remove_commands(how, remove)]
    if uninstall:
        commands.append(uninstall_command(how, uninstall))
    options: tuple[str, ...] = ()
    first = ""
    if torch is not None and torch.requirement is not None:
        if torch.index is not None:
            commands.append(" && ".join(torch.commands(how)))
        else:
            requirements = (*requirements, torch.requirement)
            options = torch.options(how)
            first = "".join([f"{command} && " for command in torch.before(how)])
    if requirements:
        commands.append(first + install_command(how, requirements, *options))
    if reinstall:
        commands.append(reinstall_command(how, reinstall))
    return tuple(commands)


def render(
    template: FixTemplate,
    constraints: Mapping[str, tuple[Clause, ...]],
    how: Installer,
    torch: TorchFix | None,
    lacking: tuple[str, ...] = (),
    python: str | None = None,
) -> Fix:
    """A rule's fix for an inspected environment: words, and commands where commands can do it.

    `constraints` are the version clauses of every rule that applies: `torchao>=0.7.0` with a host that needs `>=0.15.0`
    gives `torchao>=0.15.0`, because a fix has to work for all rules at once. `torch` is the build that fits the
    machine; only a template that asks for one reads it. `lacking` are the requirements of which no release is for the
    inspected Python, `python`: for these there is no command.
    """
    commands: list[str] = []
    words = [template.text] if template.text else []
    commands += remove_commands(how, template.remove)
    if template.uninstall:
        if not template.text:
            words.append(f"Uninstall {', '.join(template.uninstall)}.")
        if how.uninstall is not None:
            commands.append(uninstall_command(how, template.uninstall))
    if template.install:
        shut = [each for each in template.install if contradict((*each.clauses, *constraints.get(each.name, ())))]
        requirements = merge(template.install, {} if shut else constraints)
        if not template.text:
            words.append(f"Install {', '.join(requirements)}.")
        if shut:
            others = ", ".join([f"{each.name}{narrow(constraints.get(each.name, ()))}" for each in shut])
            words.append(f"No release is {', '.join(requirements)} and what other rules ask for here: {others}.")
        elif lacking:
            words.append(f"No release that is {', '.join(lacking)} is for Python {python}: use another Python.")
        elif how.install is not None:
            commands.append(install_command(how, requirements))
    if template.reinstall:
        again = anew(template.reinstall, constraints)
        if not template.text:
            words.append(f"Install {', '.join(again)} once more.")
        if how.install is not None:
            commands.append(reinstall_command(how, again))
    if template.torch and torch is not None:
        words.append(torch.text)
        if how.install is not None:
            commands.extend(torch.commands(how))
    if commands:
        commands[:0] = how.before
    if how.note and (commands or template.installs):
        words.append(how.note[0].upper() + how.note[1:] + ".")
    if template.unset and not template.text:
        words.append(f"Unset {', '.join(template.unset)}.")
    commands.extend([f"set {name}=" if how.windows else f"unset {name}" for name in template.unset])
    return Fix(" ".join(words), tuple(commands))


class TorchFix(Frozen):
    """Which torch fits the inspected machine, and how to get it."""

    text: str
    requirement: str | None = None
    index: str | None = None
    replace: bool = False

    def before(self, how: Installer) -> tuple[str, ...]:
        """What has to run first where another build is there: pip alone would take it for the one that is wanted.

        Not --force-reinstall: that would fetch everything that torch needs anew, in other versions.
        """
        return (uninstall_command(how, ("torch",)),) if self.replace and not how.uses_uv else ()

    def options(self, how: Installer) -> tuple[str, ...]:
        """Options of the install command: where the build is, and for uv that it takes the place of another one."""
        force = ("--reinstall-package torch",) if self.replace and how.uses_uv else ()
        return (*force, f"--index-url {self.index}") if self.index else force

    def commands(self, how: Installer) -> tuple[str, ...]:
        """The commands that put the build in place, none where no released one fits."""
        if self.requirement is None:
            return ()
        return (*self.before(how), install_command(how, (self.requirement,), *self.options(how)))


def fits(build: TorchBuild, clauses: tuple[Clause, ...], driver_major: int | None, capability: str | None) -> bool:
    """Whether the driver runs a torch release's CUDA, the build has code for the device, and it meets the clauses."""
    if driver_major is not None and int(build.cuda.partition(".")[0]) > driver_major:
        return False
    if capability is not None and carries(build.architectures, capability) is False:
        return False
    return satisfies(build.release, clauses, "version") is True
