from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from installed_trees import install

from envguard.frozen import replace
from envguard.probes.interpreter import Interpreter, ask, can_write, current, python_facts

KEYS = {
    *("version", "implementation", "executable", "prefix", "free_threaded", "externally_managed", "writable"),
    *("conda_prefix", "virtual_environment", "pip"),
}


def interpreter(prefix: Path, base: Path | None = None) -> Interpreter:
    site = prefix / "lib" / "python3.12" / "site-packages"
    stdlib = (base or prefix) / "lib" / "python3.12"
    for folder in (site, stdlib):
        folder.mkdir(parents=True, exist_ok=True)
    return Interpreter(
        executable=str(prefix / "bin" / "python"),
        version="3.12.1",
        implementation="CPython",
        prefix=str(prefix),
        base_prefix=str(base or prefix),
        stdlib=str(stdlib),
        path=(str(stdlib), str(site)),
        purelib=str(site),
    )


def test_every_fact_of_the_running_python_is_observed() -> None:
    observed = python_facts(current())
    assert set(observed.value) == KEYS
    assert observed.unreadable == {}
    assert observed.value["version"] == ".".join(map(str, sys.version_info[:3]))
    assert observed.value["virtual_environment"] is (sys.prefix != sys.base_prefix)


def test_a_real_virtual_environment_without_pip_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    value = python_facts(ask(str(tmp_path / "venv"))).value
    assert value["pip"] is None
    assert value["virtual_environment"] is True
    assert value["externally_managed"] is False
    assert value["writable"] is True
    assert value["prefix"] == str(tmp_path / "venv")


def test_pip_is_read_from_its_metadata(tmp_path: Path) -> None:
    found = interpreter(tmp_path)
    install(Path(found.purelib), "pip", "23.2.1")
    assert python_facts(found).value["pip"] == "23.2.1"


def test_a_pip_whose_metadata_is_broken_is_unreadable_not_absent(tmp_path: Path) -> None:
    found = interpreter(tmp_path)
    (install(Path(found.purelib), "pip") / "METADATA").unlink()
    observed = python_facts(found)
    assert "pip" not in observed.value
    assert "does not exist" in observed.unreadable["/python/pip"]


def test_a_folder_that_cannot_be_listed_leaves_pip_open(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    observed = python_facts(replace(interpreter(tmp_path), path=(str(tmp_path / "loop"),)))
    assert "pip" not in observed.value
    assert "cannot be listed" in observed.unreadable["/python/pip"]


def test_the_python_of_a_system_is_externally_managed_and_a_venv_of_it_is_not(tmp_path: Path) -> None:
    system = interpreter(tmp_path / "usr")
    assert python_facts(system).value["externally_managed"] is False
    (Path(system.stdlib) / "EXTERNALLY-MANAGED").write_text("[externally-managed]\nError=no\n")
    assert python_facts(system).value["externally_managed"] is True
    assert python_facts(interpreter(tmp_path / "venv", tmp_path / "usr")).value["externally_managed"] is False


def test_a_conda_environment_is_told_by_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDA_PREFIX", "/opt/another")
    found = interpreter(tmp_path / "env")
    assert python_facts(found).value["conda_prefix"] is None
    (tmp_path / "env" / "conda-meta").mkdir()
    value = python_facts(found).value
    assert (value["conda_prefix"], value["virtual_environment"]) == (str(tmp_path / "env"), False)
    assert python_facts(interpreter(tmp_path / "venv", tmp_path / "env")).value["conda_prefix"] is None


def test_what_can_be_made_can_be_written(tmp_path: Path) -> None:
    assert can_write(str(tmp_path))
    assert can_write(str(tmp_path / "not" / "yet"))
    assert not can_write("")


@pytest.mark.skipif(not os.path.isdir("/proc/sys"), reason="only on Linux: a file system that refuses even root")
def test_a_file_system_that_takes_no_files_cannot_be_written() -> None:
    assert not can_write("/proc/sys")
    assert not can_write("/proc/sys/no/such/folder")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="only as an ordinary user: root writes everywhere"
)
def test_a_folder_without_permission_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert not can_write(str(tmp_path))
    finally:
        tmp_path.chmod(0o700)
