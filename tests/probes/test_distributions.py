from __future__ import annotations

import email
import os
import zipfile
from importlib.metadata import distributions as standard
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from installed_trees import egg_info, install, module

from envguard.probes.distributions import distributions, leftovers, parse_header, parse_requires_txt
from envguard.probes.folders import Folders
from envguard.versions import normalize


def look(*folders: Path, names: tuple[str, ...] | None = None, details: bool | None = None):
    return distributions(tuple(map(str, folders)), None if names is None else frozenset(names), details=details)


def test_a_named_distribution_has_what_rules_ask_for(tmp_path: Path) -> None:
    install(tmp_path, "nvidia-modelopt", "0.47.0", requires=("torch>=2.8", 'x; extra == "hf"'), python=">=3.10")
    assert look(tmp_path, names=("nvidia-modelopt",)).value == {
        "nvidia-modelopt": {
            "version": "0.47.0",
            "requires": ["torch>=2.8", 'x; extra == "hf"'],
            "requires_python": ">=3.10",
            "location": str(tmp_path),
            "editable": False,
            "duplicates": [],
        }
    }


def test_without_names_every_distribution_is_listed_with_details(tmp_path: Path) -> None:
    install(tmp_path, "gguf", files={"gguf/__init__.py": ""})
    install(tmp_path, "bare", record=False)
    observed = look(tmp_path)
    assert sorted(observed.value) == ["bare", "gguf"]
    assert observed.value["gguf"]["top_level"] == ["gguf"]
    assert observed.value["gguf"]["installer"] == "pip"
    assert observed.value["gguf"]["wheel_tags"] == ["py2-none-any", "py3-none-any"]
    assert observed.value["bare"]["top_level"] == []
    assert observed.unreadable == {}


def test_an_absent_distribution_is_null(tmp_path: Path) -> None:
    assert look(tmp_path, tmp_path / "nowhere", names=("torch",)).value == {"torch": None}


def test_folder_names_are_compared_normalized(tmp_path: Path) -> None:
    info = install(tmp_path, "Optimum.Quanto", "0.2.7")
    assert info.name == "Optimum.Quanto-0.2.7.dist-info"
    assert look(tmp_path, names=("optimum-quanto",)).value["optimum-quanto"]["version"] == "0.2.7"


def test_the_version_of_the_metadata_counts_not_that_of_the_folder(tmp_path: Path) -> None:
    info = install(tmp_path, "torch", "2.13.0")
    text = (info / "METADATA").read_text().replace("Version: 2.13.0", "Version: 2.13.0+cpu")
    (info / "METADATA").write_text(text)
    assert look(tmp_path, names=("torch",)).value["torch"]["version"] == "2.13.0+cpu"


def test_the_first_folder_of_the_path_wins_and_the_others_are_duplicates(tmp_path: Path) -> None:
    install(tmp_path / "user", "torch", "2.6.0")
    install(tmp_path / "site", "torch", "2.13.0")
    entry = look(tmp_path / "user", tmp_path / "site", names=("torch",)).value["torch"]
    assert (entry["version"], entry["duplicates"]) == ("2.6.0", ["2.13.0"])
    assert entry["location"] == str(tmp_path / "user")


def test_two_copies_in_one_folder_are_judged_as_the_standard_library_does(tmp_path: Path) -> None:
    install(tmp_path, "torch", "2.6.0")
    install(tmp_path, "torch", "2.13.0")
    entry = look(tmp_path, names=("torch",)).value["torch"]
    found = [one.version for one in standard(path=[str(tmp_path)])]
    assert [entry["version"], *entry["duplicates"]] == found


def test_a_folder_under_two_names_gives_no_duplicates(tmp_path: Path) -> None:
    install(tmp_path / "lib", "torch")
    (tmp_path / "lib64").symlink_to("lib")
    assert look(tmp_path / "lib", tmp_path / "lib64", names=("torch",)).value["torch"]["duplicates"] == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "does not exist"),
        (b"Name: torch\n\nVersion: 1\n", "gives no Version"),
        (b"", "gives no Version"),
        (b"Name: torch\nVersion: 2\nAuthor: J\xf6rg\n\n", "is not UTF-8"),
        (b"Version:\n", "gives no Version"),
    ],
)
def test_broken_metadata_gives_no_version_and_the_reason(tmp_path: Path, content: bytes | None, reason: str) -> None:
    info = install(tmp_path, "torch")
    (info / "METADATA").unlink()
    if content is not None:
        (info / "METADATA").write_bytes(content)
    observed = look(tmp_path, names=("torch",))
    assert observed.value["torch"]["version"] is None
    assert observed.unreadable == {"/distributions/torch/version": f"{info / 'METADATA'} {reason}"}


def test_metadata_that_is_a_folder_gives_the_reason(tmp_path: Path) -> None:
    info = install(tmp_path, "torch")
    (info / "METADATA").unlink()
    (info / "METADATA").mkdir()
    observed = look(tmp_path, names=("torch",))
    assert observed.value["torch"]["version"] is None
    assert "cannot be read" in observed.unreadable["/distributions/torch/version"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_metadata_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    info = install(tmp_path, "torch")
    (info / "METADATA").unlink()
    os.mkfifo(info / "METADATA")
    assert look(tmp_path, names=("torch",)).value["torch"]["version"] is None


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="only as an ordinary user: root reads every folder"
)
def test_a_folder_without_permission_leaves_absence_open(tmp_path: Path) -> None:
    install(tmp_path / "closed", "torch")
    (tmp_path / "closed").chmod(0)
    try:
        observed = look(tmp_path / "closed", names=("torch",))
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert observed.value == {}
    assert "Permission denied" in observed.unreadable["/distributions/torch"]


def test_a_folder_that_cannot_be_listed_leaves_absence_open(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    install(tmp_path / "site", "gguf")
    observed = look(tmp_path / "loop", tmp_path / "site", names=("torch", "gguf"))
    assert list(observed.value) == ["gguf"]
    assert "cannot be listed" in observed.unreadable["/distributions/torch"]
    assert "cannot be listed" in look(tmp_path / "loop").unreadable["/distributions"]


def test_a_zip_archive_on_the_path_leaves_absence_open(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        archive.writestr("torch-1.0.dist-info/METADATA", "Name: torch\nVersion: 1.0\n")
    observed = look(tmp_path / "app.pyz", names=("torch",))
    assert observed.value == {}
    assert "zip archives" in observed.unreadable["/distributions/torch"]


def test_the_zip_of_the_standard_library_holds_no_distributions(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "python311.zip", "w"):
        pass
    observed = look(tmp_path / "python311.zip", names=("torch",))
    assert (observed.value, dict(observed.unreadable)) == ({"torch": None}, {})


def test_what_an_interrupted_pip_leaves_behind_is_told_and_not_taken_for_installed(tmp_path: Path) -> None:
    install(tmp_path, "torch", "2.1").rename(tmp_path / "~orch-2.1.dist-info")
    module(tmp_path, "~orch/__init__.py")
    assert look(tmp_path, names=("torch", "orch")).value == {"torch": None, "orch": None}
    assert leftovers((str(tmp_path),)) == [str(tmp_path / "~orch"), str(tmp_path / "~orch-2.1.dist-info")]


def test_nothing_left_behind_is_an_empty_list(tmp_path: Path) -> None:
    install(tmp_path, "torch")
    assert leftovers((str(tmp_path),)) == []


def test_direct_url_tells_an_editable_install(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    install(tmp_path / "site", "torchao", project=tmp_path / "project")
    assert look(tmp_path / "site", names=("torchao",)).value["torchao"]["editable"] is True


@pytest.mark.parametrize(
    "text",
    [
        '{"url": "file:///w/torchao.whl", "archive_info": {}}',
        '{"url": "file:///p", "dir_info": {"editable": false}}',
        '{"url": "file:///p", "dir_info": {}}',
        '{"editable": true',
        '["editable"]',
        '{"dir_info": {"editable": true}}',
    ],
)
def test_other_direct_urls_are_no_editable_install(tmp_path: Path, text: str) -> None:
    (install(tmp_path, "torchao") / "direct_url.json").write_text(text)
    assert look(tmp_path, names=("torchao",)).value["torchao"]["editable"] is False


def test_setup_py_develop_is_an_editable_install(tmp_path: Path) -> None:
    egg_info(tmp_path / "project", "torchao", "0.9")
    module(tmp_path / "site", "torchao.egg-link", f"{tmp_path / 'project'}\n.")
    entry = look(tmp_path / "site", tmp_path / "project", names=("torchao",)).value["torchao"]
    assert (entry["version"], entry["editable"], entry["location"]) == ("0.9", True, str(tmp_path / "project"))


def test_a_stale_egg_link_does_not_make_a_wheel_editable(tmp_path: Path) -> None:
    install(tmp_path, "torchao")
    module(tmp_path, "torchao.egg-link", "/gone\n.")
    assert look(tmp_path, names=("torchao",)).value["torchao"]["editable"] is False


def test_a_pth_file_of_setuptools_tells_an_editable_install(tmp_path: Path) -> None:
    install(tmp_path, "optimum-quanto", "0.2.7")
    module(tmp_path, "__editable__.optimum_quanto-0.2.7.pth", "/src")
    assert look(tmp_path, names=("optimum-quanto",)).value["optimum-quanto"]["editable"] is True


def test_the_build_metadata_of_an_editable_project_is_no_duplicate(tmp_path: Path) -> None:
    project = tmp_path / "project"
    egg_info(project / "src", "torchao", "0.9")
    install(tmp_path / "site", "torchao", "0.9", project=project)
    assert look(tmp_path / "site", project / "src", names=("torchao",)).value["torchao"]["duplicates"] == []


def test_other_metadata_beside_an_editable_install_is_a_duplicate(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    install(tmp_path / "site", "torchao", "0.9", project=tmp_path / "project")
    install(tmp_path / "user", "torchao", "0.8")
    entry = look(tmp_path / "site", tmp_path / "user", names=("torchao",)).value["torchao"]
    assert entry["duplicates"] == ["0.8"]


def test_an_egg_info_folder_gives_version_and_requirements(tmp_path: Path) -> None:
    info = egg_info(tmp_path, "gguf", "0.9")
    (info / "requires.txt").write_text("numpy>=1.17\n\n[gui:python_version < '3.9']\nPySide6\n")
    entry = look(tmp_path, names=("gguf",)).value["gguf"]
    assert entry["version"] == "0.9"
    assert entry["requires"] == ["numpy>=1.17", "PySide6; (python_version < '3.9') and extra == \"gui\""]


def test_an_egg_info_file_gives_the_version(tmp_path: Path) -> None:
    (tmp_path / "numpy-1.26.0.egg-info").write_text("Metadata-Version: 1.2\nName: numpy\nVersion: 1.26.0\n")
    assert look(tmp_path, names=("numpy",)).value["numpy"]["version"] == "1.26.0"


def test_an_egg_on_the_path_gives_the_version(tmp_path: Path) -> None:
    egg = tmp_path / "gguf-0.6-py3.8.egg"
    (egg / "EGG-INFO").mkdir(parents=True)
    (egg / "EGG-INFO" / "PKG-INFO").write_text("Name: gguf\nVersion: 0.6\n")
    assert look(egg, names=("gguf",)).value["gguf"]["version"] == "0.6"


def test_one_look_is_shared_and_a_new_one_sees_changes(tmp_path: Path) -> None:
    folders = Folders((str(tmp_path),))
    install(tmp_path, "torch")
    assert distributions((), frozenset({"torch"}), folders).value == {"torch": None}
    assert look(tmp_path, names=("torch",)).value["torch"] is not None


def test_this_environment_reads_as_the_standard_library_reads_it() -> None:
    import sys

    ours = distributions(tuple(sys.path), None).value
    seen = set()
    for one in standard():
        name = normalize(one.metadata["Name"])
        if name not in seen:
            seen.add(name)
            assert ours[name]["version"] == one.version
            assert ours[name]["requires"] == (one.requires or [])
            assert ours[name]["requires_python"] == one.metadata.get("Requires-Python")
    assert seen == set(ours)


def test_the_header_ends_at_the_first_empty_line(tmp_path: Path) -> None:
    info = install(tmp_path, "torch", "2.0")
    (info / "METADATA").write_bytes(b"Name: torch\r\nVersion: 2.0\r\n\r\nRequires-Dist: numpy\r\n")
    entry = look(tmp_path, names=("torch",)).value["torch"]
    assert (entry["version"], entry["requires"]) == ("2.0", [])


def test_a_long_header_is_read_whole(tmp_path: Path) -> None:
    lines = tuple(f"package-{number:05}>=1.0" for number in range(2000))
    install(tmp_path, "torch", "2.0", requires=lines)
    assert look(tmp_path, names=("torch",)).value["torch"]["requires"] == list(lines)


def test_a_value_goes_on_where_the_next_line_is_indented() -> None:
    text = "Version: 1.0\nRequires-Dist: torch>=2.6 ;\n  extra == 'hf'\nLicense: MIT\n        Requires-Dist: no\n"
    assert parse_header(text) == ("1.0", ["torch>=2.6 ; extra == 'hf'"], None)


word = st.text("abcdefghijklmnopqrstuvwxyz0123456789.+-", min_size=1, max_size=12)
field = st.one_of(
    st.tuples(st.just("Requires-Dist"), word),
    st.tuples(st.just("Requires-Python"), word),
    st.tuples(st.just("Classifier"), word),
    st.tuples(st.just("License"), word.map(lambda text: f"{text}\n        Version: 0")),
)


@given(word, st.lists(field, max_size=12), st.sampled_from(["\n", "\r\n"]))
def test_any_header_reads_as_the_mail_parser_reads_it(version: str, fields: list[tuple[str, str]], end: str) -> None:
    text = "".join(f"{name}: {value}\n" for name, value in [("Version", version), *fields]).replace("\n", end)
    message = email.message_from_string(text)
    assert parse_header(text) == (message["Version"], message.get_all("Requires-Dist", []), message["Requires-Python"])


def test_a_requires_txt_keeps_its_conditions() -> None:
    text = "# comment\na\n\n[:python_version < '3.8']\nb>=1\n\n[hf]\nc @ https://x/c.whl\n"
    assert parse_requires_txt(text) == ["a", "b>=1; python_version < '3.8'", 'c @ https://x/c.whl ; extra == "hf"']


@given(st.text("ab-_.AB", min_size=1))
def test_names_are_normalized_as_packaging_does(name: str) -> None:
    import re

    assert normalize(name) == re.sub(r"[-_.]+", "-", name).lower()
