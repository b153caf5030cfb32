from __future__ import annotations

import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path

import pytest
from installed_trees import egg_info, install, module

from envguard.probes.distributions import import_owners
from envguard.probes.import_owners import has_module, record_line
from envguard.probes.importer import parse_finder


def owner(name: str, *folders: Path, candidates: tuple[str, ...] | None = None):
    found = import_owners(tuple(map(str, folders)), {name: (name,) if candidates is None else candidates})
    assert found.unreadable == {}
    return found.value[name]


def test_a_package_belongs_to_the_distribution_that_brought_it(tmp_path: Path) -> None:
    install(tmp_path, "gguf", files={"gguf/__init__.py": "", "gguf/reader.py": ""})
    assert owner("gguf", tmp_path) == {
        "origin": str(tmp_path / "gguf" / "__init__.py"),
        "distribution": "gguf",
        "distributions": ["gguf"],
        "kind": "package",
    }


def test_top_level_beside_the_package_is_enough(tmp_path: Path) -> None:
    module(tmp_path, "torch/__init__.py")
    install(tmp_path, "torch", top_level=("functorch", "torch"), record=False)
    assert owner("torch", tmp_path)["distribution"] == "torch"


def test_the_import_name_may_differ_from_the_distribution(tmp_path: Path) -> None:
    install(tmp_path, "nvidia-modelopt", files={"modelopt/__init__.py": ""}, top_level=("modelopt",))
    assert owner("modelopt", tmp_path, candidates=("nvidia-modelopt",))["distribution"] == "nvidia-modelopt"


def test_a_module_is_found_by_its_record(tmp_path: Path) -> None:
    install(tmp_path, "nvidia-ml-py", files={"pynvml.py": "", "example.py": ""})
    found = owner("pynvml", tmp_path, candidates=("pynvml", "nvidia-ml-py"))
    assert (found["kind"], found["distribution"]) == ("module", "nvidia-ml-py")
    assert found["origin"] == str(tmp_path / "pynvml.py")


def test_an_extension_module_is_found_with_its_whole_ending(tmp_path: Path) -> None:
    file = f"fast{EXTENSION_SUFFIXES[0]}"
    install(tmp_path, "fast", files={file: "", "fast.py": ""})
    found = owner("fast", tmp_path)
    assert (found["origin"], found["distribution"]) == (str(tmp_path / file), "fast")


def test_an_extension_module_of_another_python_is_not_loaded(tmp_path: Path) -> None:
    install(tmp_path, "fast", files={"fast.cpython-27-nowhere.so": ""})
    assert owner("fast", tmp_path)["kind"] == "missing"


def test_the_endings_of_the_inspected_python_count(tmp_path: Path) -> None:
    install(tmp_path, "fast", files={"fast.cp38-win_amd64.pyd": ""})
    found = import_owners((str(tmp_path),), {"fast": ("fast",)}, suffixes=(".cp38-win_amd64.pyd", ".pyd"))
    assert found.value["fast"]["kind"] == "module"


def test_a_local_folder_before_site_packages_shadows_and_nobody_owns_it(tmp_path: Path) -> None:
    module(tmp_path / "work", "gguf/__init__.py")
    install(tmp_path / "site", "gguf", files={"gguf/__init__.py": ""}, top_level=("gguf",))
    found = owner("gguf", tmp_path / "work", tmp_path / "site")
    assert found["origin"] == str(tmp_path / "work" / "gguf" / "__init__.py")
    assert (found["distribution"], found["distributions"]) == (None, [])


def test_a_local_script_shadows_too(tmp_path: Path) -> None:
    module(tmp_path / "work", "triton.py")
    install(tmp_path / "site", "triton", files={"triton/__init__.py": ""})
    found = owner("triton", tmp_path / "work", tmp_path / "site")
    assert (found["kind"], found["distribution"]) == ("module", None)


def test_a_folder_without_init_does_not_shadow_a_package_behind_it(tmp_path: Path) -> None:
    module(tmp_path / "work", "bitsandbytes/setup.py")
    install(tmp_path / "site", "bitsandbytes", files={"bitsandbytes/__init__.py": ""})
    assert owner("bitsandbytes", tmp_path / "work", tmp_path / "site")["distribution"] == "bitsandbytes"


def test_a_fork_that_wrote_over_the_files_is_told_by_their_hash(tmp_path: Path) -> None:
    both = {"top_level": ("bitsandbytes",)}
    install(tmp_path, "bitsandbytes", "0.50.2", files={"bitsandbytes/__init__.py": "original"}, **both)
    install(tmp_path, "bitsandbytes-cuda111", "0.26", files={"bitsandbytes/__init__.py": "fork"}, **both)
    found = owner("bitsandbytes", tmp_path)
    assert found["distribution"] == "bitsandbytes-cuda111"
    assert found["distributions"] == ["bitsandbytes", "bitsandbytes-cuda111"]


def test_the_original_written_over_a_fork_owns_the_files(tmp_path: Path) -> None:
    both = {"top_level": ("bitsandbytes",)}
    install(tmp_path, "bitsandbytes-cuda111", "0.26", files={"bitsandbytes/__init__.py": "fork"}, **both)
    install(tmp_path, "bitsandbytes", "0.50.2", files={"bitsandbytes/__init__.py": "original"}, **both)
    assert owner("bitsandbytes", tmp_path)["distribution"] == "bitsandbytes"


def test_an_unexpected_owner_is_named(tmp_path: Path) -> None:
    install(tmp_path, "statistics-for-plates", files={"nunchaku/__init__.py": ""}, top_level=("nunchaku",))
    assert owner("nunchaku", tmp_path)["distribution"] == "statistics-for-plates"


def test_metadata_in_another_folder_is_no_evidence(tmp_path: Path) -> None:
    module(tmp_path / "one", "torch/__init__.py")
    install(tmp_path / "two", "torch", top_level=("torch",), record=False)
    assert owner("torch", tmp_path / "one", tmp_path / "two")["distribution"] is None


def test_a_namespace_has_no_file_and_its_parts_have_owners(tmp_path: Path) -> None:
    install(tmp_path, "optimum-quanto", files={"optimum/quanto/__init__.py": ""}, top_level=("optimum",))
    names = {"optimum": ("optimum", "optimum-quanto"), "optimum.quanto": ("optimum-quanto",)}
    value = import_owners((str(tmp_path),), names).value
    assert value["optimum"] == {
        "origin": str(tmp_path / "optimum"),
        "distribution": "optimum-quanto",
        "distributions": ["optimum-quanto"],
        "kind": "namespace",
    }
    assert value["optimum.quanto"]["kind"] == "package"
    assert value["optimum.quanto"]["distribution"] == "optimum-quanto"


def test_the_owner_of_a_namespace_does_not_own_what_others_put_into_it(tmp_path: Path) -> None:
    install(tmp_path, "optimum", files={"optimum/exporters/__init__.py": ""}, top_level=("optimum",))
    install(tmp_path, "optimum-quanto", files={"optimum/quanto/__init__.py": ""}, top_level=("optimum",))
    assert owner("optimum.quanto", tmp_path, candidates=("optimum-quanto",))["distributions"] == ["optimum-quanto"]
    assert owner("optimum", tmp_path)["distributions"] == ["optimum", "optimum-quanto"]


def test_a_namespace_over_two_folders_finds_the_part_in_the_second(tmp_path: Path) -> None:
    install(tmp_path / "one", "optimum", files={"optimum/exporters/__init__.py": ""})
    install(tmp_path / "two", "optimum-quanto", files={"optimum/quanto/__init__.py": ""})
    found = owner("optimum.quanto", tmp_path / "one", tmp_path / "two", candidates=("optimum-quanto",))
    assert found["distribution"] == "optimum-quanto"


def test_a_part_that_is_not_there_is_missing(tmp_path: Path) -> None:
    install(tmp_path, "optimum", files={"optimum/exporters/__init__.py": ""})
    assert owner("optimum.quanto", tmp_path, candidates=("optimum-quanto",))["kind"] == "missing"
    assert owner("nothing.at.all", tmp_path)["kind"] == "missing"


def test_nothing_installed_is_missing(tmp_path: Path) -> None:
    missing = {"origin": None, "distribution": None, "distributions": [], "kind": "missing"}
    assert owner("torch", tmp_path, tmp_path / "nowhere") == missing


def test_a_distribution_whose_files_are_gone_is_missing_and_named(tmp_path: Path) -> None:
    install(tmp_path, "gguf", files={"gguf/__init__.py": ""})
    (tmp_path / "gguf" / "__init__.py").unlink()
    (tmp_path / "gguf").rmdir()
    found = owner("gguf", tmp_path)
    assert (found["kind"], found["distribution"], found["distributions"]) == ("missing", None, ["gguf"])


def test_a_distribution_without_any_module_is_a_placeholder(tmp_path: Path) -> None:
    install(tmp_path, "mslk", "0.0.0")
    found = owner("mslk", tmp_path)
    assert (found["kind"], found["distribution"], found["origin"]) == ("placeholder", "mslk", None)


def test_a_folder_in_which_nothing_can_be_imported_is_a_placeholder(tmp_path: Path) -> None:
    module(tmp_path, "gguf/models/llama.gguf")
    module(tmp_path, "gguf/__pycache__/left.cpython-311.pyc")
    found = owner("gguf", tmp_path)
    assert (found["kind"], found["origin"], found["distribution"]) == ("placeholder", str(tmp_path / "gguf"), None)


def test_an_egg_info_without_record_owns_by_top_level_or_name(tmp_path: Path) -> None:
    module(tmp_path / "one", "gguf/__init__.py")
    egg_info(tmp_path / "one", "gguf-py", top_level=("gguf",))
    assert owner("gguf", tmp_path / "one", candidates=("gguf", "gguf-py"))["distribution"] == "gguf-py"
    module(tmp_path / "two", "gguf/__init__.py")
    egg_info(tmp_path / "two", "gguf")
    assert owner("gguf", tmp_path / "two")["distribution"] == "gguf"


def test_an_editable_install_owns_what_lies_in_its_project(tmp_path: Path) -> None:
    project = tmp_path / "a project"
    module(project, "src/torchao/__init__.py")
    install(tmp_path / "site", "torchao", project=project)
    found = owner("torchao", tmp_path / "site", project / "src")
    assert (found["distribution"], found["origin"]) == ("torchao", str(project / "src" / "torchao" / "__init__.py"))


def test_a_project_does_not_own_its_virtual_environment(tmp_path: Path) -> None:
    site = tmp_path / "project" / ".venv" / "site-packages"
    install(site, "tool", project=tmp_path / "project")
    module(site, "gguf/__init__.py")
    assert owner("gguf", site)["distribution"] is None


FINDER = """from __future__ import annotations
raise SystemExit("nobody runs this")
MAPPING: dict[str, str] = {mapping!r}
NAMESPACES: dict[str, list[str]] = {namespaces!r}
PATH_PLACEHOLDER = '__editable__.x-1.0.finder' + ".__path_hook__"
"""


def finder(site: Path, mapping: dict[str, str], namespaces: dict[str, list[str]] | None = None) -> Path:
    return module(site, "__editable___x_1_0_finder.py", FINDER.format(mapping=mapping, namespaces=namespaces or {}))


def test_the_finder_of_an_editable_install_is_read_and_not_run(tmp_path: Path) -> None:
    project = tmp_path / "project"
    module(project, "lib/__init__.py")
    install(tmp_path / "site", "torchao", project=project)
    finder(tmp_path / "site", {"torchao": str(project / "lib")})
    found = owner("torchao", tmp_path / "site")
    assert (found["origin"], found["distribution"]) == (str(project / "lib" / "__init__.py"), "torchao")


def test_a_finder_maps_modules_and_parts_of_namespaces(tmp_path: Path) -> None:
    project = tmp_path / "project"
    module(project, "one.py")
    module(project, "quanto/__init__.py")
    install(tmp_path / "site", "optimum-quanto", project=project)
    finder(
        tmp_path / "site",
        {"one": str(project / "one"), "optimum.quanto": str(project / "quanto")},
        {"optimum": []},
    )
    assert owner("one", tmp_path / "site")["origin"] == str(project / "one.py")
    found = owner("optimum.quanto", tmp_path / "site", candidates=("optimum-quanto",))
    assert (found["kind"], found["distribution"]) == ("package", "optimum-quanto")


def test_a_folder_on_the_path_comes_before_a_finder(tmp_path: Path) -> None:
    module(tmp_path / "work", "torchao/README.md")
    module(tmp_path / "project", "torchao/__init__.py")
    install(tmp_path / "site", "torchao", project=tmp_path / "project")
    finder(tmp_path / "site", {"torchao": str(tmp_path / "project" / "torchao")})
    assert owner("torchao", tmp_path / "work", tmp_path / "site")["kind"] == "placeholder"


def test_a_finder_that_is_not_as_setuptools_writes_it_leaves_the_answer_open(tmp_path: Path) -> None:
    module(tmp_path, "__editable___x_1_0_finder.py", "MAPPING = dict(os.environ)\n")
    observed = import_owners((str(tmp_path),), {"torchao": ("torchao",)})
    assert observed.value == {}
    assert "MAPPING is not a plain mapping" in observed.unreadable["/import_owners/torchao"]


def test_an_import_hook_of_another_tool_leaves_the_answer_open(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    install(tmp_path / "site", "torchao", project=tmp_path / "project")
    observed = import_owners((str(tmp_path / "site"),), {"torchao": ("torchao",)})
    assert "import hook" in observed.unreadable["/import_owners/torchao"]


def test_an_editable_project_that_was_deleted_is_missing(tmp_path: Path) -> None:
    install(tmp_path / "site", "torchao", project=tmp_path / "deleted", record=False)
    assert owner("torchao", tmp_path / "site")["kind"] == "missing"


def test_a_folder_that_cannot_be_listed_leaves_only_what_was_not_found_open(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    install(tmp_path / "site", "gguf", files={"gguf/__init__.py": ""})
    names = {"gguf": ("gguf",), "torch": ("torch",)}
    observed = import_owners((str(tmp_path / "loop"), str(tmp_path / "site")), names)
    assert list(observed.value) == ["gguf"]
    assert "cannot be listed" in observed.unreadable["/import_owners/torch"]


@pytest.mark.parametrize("name", ["pytest", "_pytest", "hypothesis", "packaging", "json", "nothing_of_this_name"])
def test_this_environment_is_read_as_python_imports_it(name: str) -> None:
    spec = PathFinder.find_spec(name)
    found = import_owners(tuple(sys.path), {name: ()}).value[name]
    assert found["origin"] == (spec.origin if spec else None)
    assert (found["kind"] == "missing") == (spec is None)


def test_who_owns_pytest_is_found_without_being_told() -> None:
    found = import_owners(tuple(sys.path), {"_pytest": ()}).value["_pytest"]
    assert found["distribution"] == "pytest"


def test_a_real_editable_install_is_understood(tmp_path: Path) -> None:
    setuptools = pytest.importorskip("setuptools", reason="setuptools writes editable installs")
    if int(setuptools.__version__.split(".")[0]) < 71:
        pytest.skip("this setuptools does not build wheels alone")
    project = tmp_path / "project"
    module(project, "somewhere/else/__init__.py", "name = 1")
    module(
        project,
        "pyproject.toml",
        '[project]\nname = "odd-one"\nversion = "1.5"\n[tool.setuptools]\npackages = ["odd"]\n'
        '[tool.setuptools.package-dir]\nodd = "somewhere/else"\n',
    )
    script = (
        "import setuptools.build_meta as b, zipfile, sys\n"
        "_, wheels, site = sys.argv\n"
        "zipfile.ZipFile(wheels + '/' + b.build_editable(wheels)).extractall(site)\n"
    )
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    wheels.mkdir()
    subprocess.run([sys.executable, "-c", script, wheels, site], cwd=project, check=True, capture_output=True)
    info = next(site.glob("*.dist-info"))
    module(info, "direct_url.json", f'{{"url": "{project.as_uri()}", "dir_info": {{"editable": true}}}}')
    found = owner("odd", site, candidates=("odd-one",))
    assert found["origin"] == str(project / "somewhere" / "else" / "__init__.py")
    assert (found["kind"], found["distribution"]) == ("package", "odd-one")


def test_a_finder_text_gives_its_two_mappings() -> None:
    text = FINDER.format(mapping={"a": "/p/a"}, namespaces={"n": ["/p/n"]})
    assert parse_finder(text) == ({"a": "/p/a"}, {"n": ["/p/n"]})
    assert parse_finder("MAPPING = {'a': '/p/a'}\n") == ({"a": "/p/a"}, {})
    assert parse_finder("    MAPPING = f()\n") == ({}, {})


@pytest.mark.parametrize("text", ["MAPPING = [1]", "MAPPING = {'a': 1}", "MAPPING = {", "NAMESPACES = {1: []}"])
def test_a_finder_text_with_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a plain mapping"):
        parse_finder(text)


RECORD = b"a/__init__.py,sha256=x,1\r\nab/c.py,,\nb/a/__init__.py,,\n"


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("a/__init__.py", b"a/__init__.py,sha256=x,1"),
        ("ab/", b"ab/c.py,,"),
        ("b/a/__init__.py", b"b/a/__init__.py,,"),
        ("c.py", None),
        ("a/__init__", None),
        ("b/", b"b/a/__init__.py,,"),
        ("c/", None),
    ],
)
def test_a_record_is_searched_by_whole_names(file: str, line: bytes | None) -> None:
    assert record_line(RECORD, file) == line


def test_a_record_with_nothing_but_metadata_has_no_module() -> None:
    assert not has_module(b"x-1.dist-info/METADATA,,\nx-1.dist-info/hook.py,,\nREADME.md,,\n")
    assert has_module(b"x-1.dist-info/METADATA,,\nx/_C.so,,\n")
