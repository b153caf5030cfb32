"""uv.lock and pylock.toml: what they install on a target."""

from __future__ import annotations

from pathlib import Path

import packaging
import pytest
from packaging.version import Version

from envguard.errors import BadInput
from envguard.lockfiles import parse_target, read_lock
from envguard.lockfiles.listed import Listed
from envguard.lockfiles.reading import lighter

only_with_pylock = pytest.mark.skipif(
    Version(packaging.__version__) < Version("26"), reason="only on packaging 26 or newer, which has packaging.pylock"
)
ON_LINUX, ON_WINDOWS = "python=3.12,linux,x86_64", "python=3.12,windows,x86_64"

UV = """\
version = 1
revision = 3
requires-python = ">=3.11"

[[package]]
name = "demo"
version = "0.1.0"
source = { editable = "." }
dependencies = [
    { name = "diffusers" },
    { name = "torch", version = "2.11.0", source = { registry = "https://pypi.org/simple" }, \
marker = "sys_platform != 'win32'" },
    { name = "torch", version = "2.11.0+cu130", source = { registry = "https://download.pytorch.org/whl/cu130" }, \
marker = "sys_platform == 'win32'" },
]

[package.optional-dependencies]
gpu = [
    { name = "bitsandbytes" },
]

[package.dev-dependencies]
dev = [
    { name = "pytest" },
]
docs = [
    { name = "sphinx" },
]

[[package]]
name = "bitsandbytes"
version = "0.50.2"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "diffusers"
version = "0.42.1"
source = { registry = "https://pypi.org/simple" }
dependencies = [
    { name = "numpy" },
    { name = "pywin32", marker = "sys_platform == 'win32'" },
]
sdist = { url = "https://example.org/diffusers-0.42.1.tar.gz", hash = "sha256:00", size = 1 }
wheels = [
    { url = "https://example.org/diffusers-0.42.1-py3-none-any.whl", hash = "sha256:00", size = 1 },
    { url = "https://example.org/diffusers-0.42.1-py2-none-any.whl", hash = "sha256:00", size = 1 },
]

[[package]]
name = "numpy"
version = "2.3.0"
source = { registry = "https://pypi.org/simple" }
resolution-markers = ["python_full_version < '3.12'"]

[[package]]
name = "numpy"
version = "2.4.0"
source = { registry = "https://pypi.org/simple" }
resolution-markers = ["python_full_version >= '3.12'"]

[[package]]
name = "pytest"
version = "9.0.0"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "pywin32"
version = "311"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "sphinx"
version = "8.0.0"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "torch"
version = "2.11.0"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "torch"
version = "2.11.0+cu130"
source = { registry = "https://download.pytorch.org/whl/cu130" }
"""

PYLOCK = """\
lock-version = "1.0"
created-by = "uv"
requires-python = ">=3.11"
extras = ["gpu"]

[[packages]]
name = "diffusers"
version = "0.42.1"
sdist = { name = "diffusers-0.42.1.tar.gz", url = "https://example.org/d.tar.gz", hashes = { sha256 = "00" } }
wheels = [
    { name = "diffusers-0.42.1-py3-none-any.whl", url = "https://example.org/d.whl", hashes = { sha256 = "00" } },
    { name = "diffusers-0.42.1-py2-none-any.whl", url = "https://example.org/e.whl", hashes = { sha256 = "00" } },
]

[[packages]]
name = "pywin32"
version = "311"
marker = "sys_platform == 'win32'"
sdist = { name = "pywin32-311.tar.gz", url = "https://example.org/p.tar.gz", hashes = { sha256 = "00" } }

[[packages]]
name = "bitsandbytes"
version = "0.50.2"
marker = "'gpu' in extras"
sdist = { name = "bitsandbytes-0.50.2.tar.gz", url = "https://example.org/b.tar.gz", hashes = { sha256 = "00" } }

[[packages]]
name = "torch"
vcs = { type = "git", url = "https://github.com/pytorch/pytorch", commit-id = "00" }
"""


def lock(folder: Path, text: str, target: str = ON_LINUX, name: str = "uv.lock") -> Listed:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_lock(str(path), parse_target([target]))


def refused(folder: Path, text: str, target: str, name: str = "uv.lock") -> str:
    with pytest.raises(BadInput) as caught:
        lock(folder, text, target, name)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def versions(listed: Listed) -> dict[str, str | None]:
    return {name: package.version for name, package in listed.packages.items()}


BASE = {"demo": "0.1.0", "diffusers": "0.42.1", "numpy": "2.4.0", "pytest": "9.0.0"}


def test_a_uv_lock_installs_what_its_project_comes_to_on_a_target(tmp_path: Path) -> None:
    assert versions(lock(tmp_path, UV)) == {**BASE, "torch": "2.11.0"}
    assert versions(lock(tmp_path, UV, ON_WINDOWS)) == {**BASE, "torch": "2.11.0+cu130", "pywin32": "311"}


def test_an_older_python_gets_the_fork_of_its_own(tmp_path: Path) -> None:
    assert versions(lock(tmp_path, UV, "python=3.11,linux,x86_64"))["numpy"] == "2.3.0"


def test_extras_and_groups_are_installed_where_they_are_asked_for(tmp_path: Path) -> None:
    found = versions(lock(tmp_path, UV, f"{ON_LINUX},extra=gpu,group=docs"))
    assert found == {**BASE, "torch": "2.11.0", "bitsandbytes": "0.50.2", "sphinx": "8.0.0"}


def test_what_depends_on_a_target_that_was_not_told_is_open(tmp_path: Path) -> None:
    listed = lock(tmp_path, UV, "")
    assert versions(listed) == {**BASE, "numpy": None, "torch": None, "pywin32": None}
    assert "sys_platform" in (listed.packages["torch"].unknown or "")


def test_a_workspace_without_a_project_of_its_own_installs_its_members(tmp_path: Path) -> None:
    text = UV.replace('editable = "."', 'editable = "packages/demo"') + '\n[manifest]\nmembers = ["demo"]\n'
    assert versions(lock(tmp_path, text)) == {**BASE, "torch": "2.11.0"}


def test_the_lock_of_a_script_begins_with_what_it_asks_for(tmp_path: Path) -> None:
    text = 'version = 1\n[manifest]\nrequirements = [{ name = "gguf", specifier = ">=0.17" }]\n'
    text += '[[package]]\nname = "gguf"\nversion = "0.19.0"\nsource = { registry = "https://pypi.org/simple" }\n'
    assert versions(lock(tmp_path, text)) == {"gguf": "0.19.0"}


def test_dependencies_in_a_circle_and_a_long_chain_end(tmp_path: Path) -> None:
    chain = "".join(
        f'[[package]]\nname = "p{n}"\nversion = "1"\ndependencies = [{{ name = "p{(n + 1) % 5000}" }}]\n'
        for n in range(5000)
    )
    root = '[[package]]\nname = "demo"\nsource = { virtual = "." }\ndependencies = [{ name = "p0" }]\n'
    assert len(lock(tmp_path, f"version = 1\n{root}{chain}").packages) == 5000


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("version = 1\n", "version = 2\n"), "version: expected 1, found 2"),
        (
            ('name = "diffusers"\nversion = "0.42.1"', 'name = "diffusers"\nversion = 7'),
            "package 3 (diffusers): version",
        ),
        (('{ name = "numpy" },', '{ nme = "numpy" },'), "package 3 (diffusers): dependencies: expected tables"),
        (('{ name = "numpy" },', '{ name = "scipy" },'), "dependencies: scipy: no [[package]] of that name"),
        (("sys_platform == 'win32'", "sys_platform = 'win32'"), "not a marker"),
        (('source = { editable = "." }', 'source = "."'), "package 1 (demo): source: expected a table"),
        (("[[package]]", "[[package"), "not TOML"),
    ],
)
def test_a_bad_uv_lock_is_told_in_one_line_with_its_key(
    tmp_path: Path, change: tuple[str, str], complaint: str
) -> None:
    assert complaint in refused(tmp_path, UV.replace(*change, 1), "python=3.12")


def test_an_extra_that_the_lock_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"--target extra=cpu: .*has no such extra \(it has: gpu\)"):
        lock(tmp_path, UV, f"{ON_LINUX},extra=cpu")


# What is left out before TOML is read


@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.parametrize("text", [UV, PYLOCK])
def test_a_lighter_lock_says_the_same_of_everything_but_files(text: str, kept: int) -> None:
    try:
        import tomllib
    except ImportError:
        import tomli as tomllib

    def without(text: str) -> object:
        data = tomllib.loads(text)
        for package in [*data.get("package", []), *data.get("packages", [])]:
            for files in ("sdist", "wheels"):
                package.pop(files, None)
        return data

    assert without(lighter(text, kept)) == without(text)
    assert len(lighter(text, 0)) < len(text)


def test_what_only_looks_like_a_list_of_wheels_stays() -> None:
    hidden = 'x = """\nwheels = [\n    { a = 1 },\n]\n"""\n'
    assert lighter(hidden, 0) == hidden
    other = "a = 1\nwheels = [\n  1,\n]\nb = 2\n"
    assert lighter(other, 0) == other


# pylock.toml


@only_with_pylock
def test_a_pylock_installs_what_its_markers_say(tmp_path: Path) -> None:
    listed = lock(tmp_path, PYLOCK, name="pylock.toml")
    assert versions(listed) == {"diffusers": "0.42.1", "torch": None}
    assert "names a place" in (listed.packages["torch"].unknown or "")
    on_windows = lock(tmp_path, PYLOCK, f"{ON_WINDOWS},extra=gpu", "pylock.gpu.toml")
    assert versions(on_windows) == {"diffusers": "0.42.1", "torch": None, "pywin32": "311", "bitsandbytes": "0.50.2"}


@only_with_pylock
def test_a_pylock_for_an_untold_target_leaves_open_what_depends_on_it(tmp_path: Path) -> None:
    assert "depends on the target" in (lock(tmp_path, PYLOCK, "", "pylock.toml").packages["pywin32"].unknown or "")


@only_with_pylock
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (('lock-version = "1.0"', 'lock-version = "2.0"'), "pylock version 2.0 is not supported"),
        (('version = "311"', "version = 311"), "packages[1].version"),
        (("sys_platform == 'win32'", "sys_platform"), "packages[1].marker"),
        (("[[packages]]", "[[packages"), "not TOML"),
    ],
)
def test_a_bad_pylock_is_told_in_one_line_with_its_key(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    assert complaint in refused(tmp_path, PYLOCK.replace(*change, 1), ON_LINUX, "pylock.toml")


def test_an_older_packaging_is_told_with_the_command_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "packaging.pylock", None)
    with pytest.raises(BadInput, match=r"takes packaging 26 or newer, found .*pip install 'packaging>=26'"):
        lock(tmp_path, PYLOCK, name="pylock.toml")
