"""The imports of what is installed are looked at once, and again when a file changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envguard.frozen import replace
from envguard.probes import links as probe
from envguard.probes.folders import Folders
from envguard.probes.interpreter import current
from envguard.probes.wanted import WantedLinks

WANTED = WantedLinks((("ao", ("ao",)),), ("ao",))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package that torch serves, and a cache of its own."""
    monkeypatch.setenv("ENVGUARD_CACHE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    folder = tmp_path / "site"
    files = {
        "ao/__init__.py": "import logging\nimport torch\nfrom . import inner\n"
        "from pathlib import Path\n"
        "if torch.__version__ >= '2.9':\n"
        "    for file in list(Path(__file__).parent.glob('_C*.so')):\n        torch.ops.load_library(str(file))\n"
        "else:\n    logging.getLogger(__name__).warning('Skipping the kernels')\n",
        "ao/inner.py": "from torch.nn import there\n",
        "ao/_C.abi3.so": "",
        "ao-1.0.dist-info/METADATA": "Name: ao\nVersion: 1.0\n",
        "torch/__init__.py": "from torch.version import __version__\nfrom torch import nn\nops = object()\n",
        "torch/version.py": "__version__ = '2.9.1'\n",
        "torch/nn.py": "there = 1\n",
        "torch-2.9.1.dist-info/METADATA": "Name: torch\nVersion: 2.9.1\n",
        "torch-2.9.1.dist-info/RECORD": "torch/__init__.py,,\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def look(site: Path, wanted: WantedLinks = WANTED) -> dict[str, object]:
    interpreter = replace(current(), path=(str(site),))
    return probe.links(wanted, {"ao": {"version": "1.0"}}, interpreter, Folders((str(site),)), "Linux")


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    looked: list[int] = []
    real = probe._look

    def count(*given: object) -> object:
        looked.append(1)
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(probe, "_look", count)
    return looked


def write(file: Path, text: str) -> None:
    """Write in place, later than before."""
    before = file.stat().st_mtime_ns
    file.write_text(text)
    os.utime(file, ns=(before + 10_000_000, before + 10_000_000))


def test_what_is_whole_is_an_empty_list(site: Path) -> None:
    assert look(site) == {"import_links": {"ao": []}, "compiled_kernels": {"ao": {"loaded": True, "reason": None}}}


def test_what_is_not_installed_is_left_out(site: Path) -> None:
    wanted = WantedLinks((("ao", ("ao",)), ("other", ("other",))), ("other",))
    assert look(site, wanted) == {"import_links": {"ao": []}, "compiled_kernels": {}}


def test_an_unchanged_environment_is_looked_at_once(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = counted(monkeypatch)
    first = look(site)
    assert look(site) == first
    assert len(looked) == 1
    monkeypatch.setenv("ENVGUARD_CACHE", "0")
    assert look(site) == first
    assert len(looked) == 2


def test_where_nothing_can_be_written_a_process_looks_once(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = counted(monkeypatch)
    monkeypatch.setattr(probe.remembered, "folder", lambda: None)
    first = look(site)
    assert look(site) == first
    assert len(looked) == 1
    write(site / "ao" / "inner.py", "from torch.nn import gone\n")
    assert look(site) != first
    assert len(looked) == 2


def test_a_file_that_is_edited_in_place_is_noticed(site: Path) -> None:
    look(site)
    write(site / "ao" / "inner.py", "from torch.nn import gone\n")
    (finding,) = look(site)["import_links"]["ao"]  # type: ignore[index]
    assert (finding["name"], finding["effect"], finding["file"]) == ("gone", "import-fails", "ao/inner.py")


def test_a_release_that_is_installed_over_it_is_noticed(site: Path) -> None:
    look(site)
    write(site / "torch" / "nn.py", "other = 1\n")
    write(site / "torch-2.9.1.dist-info" / "RECORD", "torch/nn.py,,\n")
    assert look(site)["import_links"]["ao"] != []  # type: ignore[index]


def test_a_module_that_is_added_is_noticed(site: Path) -> None:
    write(site / "ao" / "inner.py", "import added_later\n")
    assert look(site)["import_links"]["ao"] != []  # type: ignore[index]
    (site / "added_later.py").write_text("")
    assert look(site)["import_links"]["ao"] == []  # type: ignore[index]


def test_kernels_that_are_skipped_are_told_with_the_words_of_the_package(site: Path) -> None:
    write(site / "torch" / "version.py", "__version__ = '2.8.0'\n")
    (site / "torch-2.9.1.dist-info" / "RECORD").unlink()
    assert look(site)["compiled_kernels"] == {"ao": {"loaded": False, "reason": "Skipping the kernels"}}


def test_a_package_without_libraries_has_no_kernels(site: Path) -> None:
    (site / "ao" / "_C.abi3.so").unlink()
    kernels = look(site)["compiled_kernels"]["ao"]  # type: ignore[index]
    assert kernels["loaded"] is False
    assert "Python alone" in kernels["reason"]


def test_an_editable_package_behind_an_unknown_hook_is_not_missing(site: Path) -> None:
    write(site / "ao" / "inner.py", "import hooked\n")
    (site / "__editable__.hooked-1.0.pth").write_text("import hook\n")
    assert look(site)["import_links"]["ao"] == []  # type: ignore[index]


def test_an_editable_package_is_found_through_its_finder(site: Path, tmp_path: Path) -> None:
    write(site / "ao" / "inner.py", "from hooked import there\n")
    source = tmp_path / "project" / "hooked"
    source.mkdir(parents=True)
    (source / "__init__.py").write_text("there = 1\n")
    mapping = f"MAPPING: dict[str, str] = {{'hooked': {str(source)!r}}}"
    namespaces = "NAMESPACES: dict[str, list[str]] = {}"
    (site / "__editable___hooked_1_0_finder.py").write_text(f"{mapping}\n{namespaces}\n")
    assert look(site)["import_links"]["ao"] == []  # type: ignore[index]
    write(source / "__init__.py", "gone = 1\n")
    assert look(site)["import_links"]["ao"] != []  # type: ignore[index]


def test_a_folder_of_the_working_directory_named_like_a_module_hides_nothing(site: Path, tmp_path: Path) -> None:
    write(site / "ao" / "inner.py", "import sys, calendar\nassert sys.version_info and calendar.monthrange\n")
    (tmp_path / "root" / "sys").mkdir(parents=True)
    (tmp_path / "root" / "calendar").mkdir()
    standard = current().stdlib
    folders = Folders((str(tmp_path / "root"), standard, str(site)))
    interpreter = replace(current(), path=(str(tmp_path / "root"), standard, str(site)))
    assert probe.links(WANTED, {"ao": {"version": "1.0"}}, interpreter, folders, "Linux")["import_links"]["ao"] == []
    (tmp_path / "root" / "calendar.py").write_text("")
    folders = Folders((str(tmp_path / "root"), standard, str(site)))
    assert probe.links(WANTED, {"ao": {"version": "1.0"}}, interpreter, folders, "Linux")["import_links"]["ao"] != []


@pytest.mark.parametrize("file", ["torch/nn.py", "torch/version.py"])
def test_a_file_of_another_package_that_is_edited_in_place_is_noticed(site: Path, file: str) -> None:
    before = look(site)
    write(site / file, "__version__ = '2.0.0'\n")
    assert look(site) != before


def test_a_file_that_is_replaced_by_one_of_the_same_size_and_time_is_noticed(site: Path) -> None:
    look(site)
    file = site / "ao" / "inner.py"
    status, text = file.stat(), file.read_text()
    (site / "new").write_text(text.replace("there", "theer"))
    os.utime(site / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(site / "new", file)
    assert look(site)["import_links"]["ao"] != []  # type: ignore[index]


def test_a_file_that_is_written_while_it_is_looked_at_is_looked_at_again(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = probe._look

    def look_and_write(*given: object) -> object:
        found = real(*given)  # type: ignore[arg-type]
        write(site / "ao" / "inner.py", "from torch.nn import gone\n")
        return found

    monkeypatch.setattr(probe, "_look", look_and_write)
    assert look(site)["import_links"]["ao"] == []  # type: ignore[index]
    assert look(site)["import_links"]["ao"] != []  # type: ignore[index]


def test_the_value_of_a_variable_counts(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = counted(monkeypatch)
    for value in ("1", "0", "1"):
        monkeypatch.setenv("TORCHAO_FORCE_SKIP_LOADING_SO_FILES", value)
        look(site)
    assert len(looked) == 2


def test_what_cannot_be_listed_may_hold_what_is_missing(site: Path, tmp_path: Path) -> None:
    write(site / "ao" / "inner.py", "import nobody_has_it\n")
    assert look(site)["import_links"]["ao"] != []  # type: ignore[index]
    (tmp_path / "more.zip").write_text("")
    path = (str(tmp_path / "more.zip"), str(site))
    interpreter = replace(current(), path=path)
    found = probe.links(WANTED, {"ao": {"version": "1.0"}}, interpreter, Folders(path), "Linux")
    assert found["import_links"]["ao"] == []


def test_a_finder_that_is_edited_in_place_is_noticed(site: Path, tmp_path: Path) -> None:
    write(site / "ao" / "inner.py", "from hooked import there\n")
    source = tmp_path / "project" / "hooked"
    source.mkdir(parents=True)
    (source / "__init__.py").write_text("there = 1\n")
    finder = site / "__editable___hooked_1_0_finder.py"
    empty = "NAMESPACES: dict[str, list[str]] = {}\n"
    finder.write_text(f"MAPPING: dict[str, str] = {{'hooked': {str(source)!r}}}\n{empty}")
    assert look(site)["import_links"]["ao"] == []  # type: ignore[index]
    write(finder, f"MAPPING: dict[str, str] = {{}}\n{empty}")
    assert look(site)["import_links"]["ao"] != []  # type: ignore[index]


@pytest.mark.skipif(os.name == "nt", reason="only on POSIX: links")
def test_the_standard_library_under_another_name_is_still_that(site: Path, tmp_path: Path) -> None:
    write(site / "ao" / "inner.py", "import calendar\ncalendar.monthrange\n")
    (tmp_path / "standard").symlink_to(current().stdlib)
    path = (str(tmp_path / "standard"), str(site))
    interpreter = replace(current(), path=path)
    found = probe.links(WANTED, {"ao": {"version": "1.0"}}, interpreter, Folders(path), "Linux")
    assert found["import_links"]["ao"] == []
