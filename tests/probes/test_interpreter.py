from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from envguard.errors import BadInterpreter
from envguard.frozen import replace
from envguard.probes.interpreter import ask, current, machine_text, version_text
from envguard.probes.other_interpreter import find, parse_answer

PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
POSIX = pytest.mark.skipif(os.name == "nt", reason="shell scripts stand for interpreters")


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environments") / "a venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder


def script(folder: Path, text: str) -> Path:
    file = folder / "python"
    file.write_text(text)
    file.chmod(0o755)
    return file


def test_the_running_process_is_described_as_sysconfig_describes_it() -> None:
    found = current()
    assert found.version == sys.version.split()[0].rstrip("+")
    assert found.stdlib == sysconfig.get_path("stdlib")
    assert found.purelib == sysconfig.get_path("purelib")
    assert found.include == sysconfig.get_path("include", "nt" if os.name == "nt" else "posix_prefix")
    assert found.free_threaded is bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    assert found.suffixes == tuple(EXTENSION_SUFFIXES)
    assert (found.executable, found.prefix, found.base_prefix) == (sys.executable, sys.prefix, sys.base_prefix)
    assert found.current


def test_the_running_process_and_the_same_one_asked_agree() -> None:
    asked = ask(sys.executable)
    mine = current()
    assert replace(asked, path=(), current=True) == replace(mine, path=())
    assert not asked.current
    assert set(asked.path) <= {os.path.abspath(entry) for entry in mine.path}


def test_looking_at_the_running_process_imports_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules); from envguard.probes.interpreter import current; current(); "
        "print(*sorted(set(sys.modules) - before))"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ)
    heavy = {"re", "typing", "enum", "json", "collections", "subprocess", "sysconfig", "platform", "pathlib"}
    assert heavy.isdisjoint(done.stdout.split())


def test_a_virtual_environment_is_asked_by_its_folder(venv: Path) -> None:
    found = ask(str(venv))
    assert found.prefix == str(venv)
    assert found.base_prefix == sys.base_prefix
    assert found.executable.startswith(str(venv))
    assert found.purelib.startswith(str(venv))
    assert found.purelib in found.path


def test_a_virtual_environment_is_asked_by_its_python(venv: Path) -> None:
    folder = "Scripts" if os.name == "nt" else "bin"
    assert ask(str(venv / folder / "python")) == ask(str(venv))


def test_a_name_is_looked_for_on_path(venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = "Scripts" if os.name == "nt" else "bin"
    monkeypatch.setenv("PATH", f"{venv / folder}{os.pathsep}{os.environ['PATH']}")
    assert ask("python").prefix == str(venv)


def test_a_folder_here_is_found_by_its_bare_name(venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(venv.parent)
    assert ask(venv.name).prefix == str(venv)


def test_neither_our_folders_nor_the_working_directory_are_on_its_path(
    venv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('a stranger ran')")
    monkeypatch.chdir(tmp_path)
    found = ask(str(venv))
    assert str(tmp_path) not in found.path
    assert found.path == tuple(dict.fromkeys(found.path))
    assert not [entry for entry in found.path if "envguard" in entry]


def test_what_the_shell_adds_to_the_path_is_part_of_the_environment(
    venv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert str(tmp_path) in ask(str(venv)).path


def test_user_site_packages_are_part_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUSERBASE", str(tmp_path))
    monkeypatch.delenv("PYTHONNOUSERSITE", raising=False)
    base = os.path.join(sys.base_prefix, "python.exe" if os.name == "nt" else "bin/python3")
    if not os.path.exists(base):
        pytest.skip("the base interpreter is not where it usually is")
    user = subprocess.run(
        [base, "-c", "import site; print(site.getusersitepackages())"], capture_output=True, text=True, check=True
    ).stdout.strip()
    Path(user).mkdir(parents=True)
    assert user in ask(base).path


def test_nothing_is_written_into_the_environment(venv: Path) -> None:
    before = sorted(venv.rglob("*"))
    ask(str(venv))
    assert sorted(venv.rglob("*")) == before


def test_noise_of_site_does_not_disturb(venv: Path) -> None:
    folder = Path(ask(str(venv)).purelib)
    noisy = folder / "noisy.pth"
    noisy.write_text(
        "import sys, atexit; print('>hello<' * 900); sys.stderr.write('{\"version\": 1}\\n'); "
        "atexit.register(lambda: print('bye'))\n"
    )
    try:
        assert ask(str(venv)).prefix == str(venv)
    finally:
        noisy.unlink()


@POSIX
def test_a_background_process_of_site_is_not_waited_for(venv: Path) -> None:
    pth = Path(ask(str(venv)).purelib) / "background.pth"
    pth.write_text("import subprocess; subprocess.Popen(['sleep', '20'])\n")
    try:
        assert ask(str(venv)).prefix == str(venv)
    finally:
        pth.unlink()


OTHERS = {
    version: folders[0]
    for version in ("3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
    if (folders := sorted(PYENV.glob(f"{version}.*")))
}


@pytest.mark.parametrize("version", [*OTHERS, "this one"])
def test_every_python_from_3_6_answers(version: str) -> None:
    found = ask(str(OTHERS.get(version, sys.executable)))
    version = f"3.{sys.version_info[1]}" if version == "this one" else version
    assert found.version.startswith(f"{version}.")
    assert os.path.isfile(os.path.join(found.stdlib, "os.py"))
    assert os.path.isdir(found.purelib)
    assert found.implementation == "CPython"
    assert found.suffixes


def test_python_2_is_refused_by_name() -> None:
    folders = sorted(PYENV.glob("2.7.*")) if PYENV.is_dir() else []
    if not folders:
        pytest.skip("only on machines that have Python 2.7")
    with pytest.raises(BadInterpreter, match=r"is Python 2\.7\.\d+; envguard reads Python 3\.6 and newer"):
        ask(str(folders[0]))


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInterpreter, match=r"nowhere/python: there is no such file$"):
        ask(str(tmp_path / "nowhere" / "python"))
    with pytest.raises(BadInterpreter, match=r"python9\.9: no such file, here or on PATH$"):
        ask("python9.9")


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(BadInterpreter, match="is not the name of an interpreter"):
        ask(name)


def test_a_folder_without_a_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInterpreter, match="is a folder without a Python: none of bin/python"):
        ask(str(tmp_path))


@POSIX
def test_a_file_that_is_not_executable_is_refused(tmp_path: Path) -> None:
    file = script(tmp_path, "#!/bin/sh\n")
    file.chmod(stat.S_IRUSR)
    with pytest.raises(BadInterpreter, match=r"is not executable$"):
        ask(str(file))


@POSIX
def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInterpreter, match=r"does not start: cannot be run on this machine$"):
        ask(str(script(tmp_path, "no program\n")))
    with pytest.raises(BadInterpreter, match=r"does not start: No such file or directory$"):
        ask(str(script(tmp_path, "#!/nowhere/python\n")))


@POSIX
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exit 3\n", "exits with status 3$"),
        ("echo 'one' >&2; echo 'the last \033[31mword' >&2; exit 1\n", r"exits with status 1: the last \?\[31mword$"),
        ("echo rubbish\n", "does not answer like a Python: rubbish$"),
        ("exit 0\n", "does not answer like a Python$"),
        ('echo "$4 $5"\n', "its answer cannot be read$"),
        ('echo "$4 {} $5"\n', "its answer cannot be read$"),
        ('echo "$4 [1] $5"\n', "its answer cannot be read$"),
        ("yes\n", "its output does not end$"),
    ],
)
def test_what_is_no_python_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInterpreter, match=message) as caught:
        ask(str(script(tmp_path, f"#!/bin/sh\n{text}")))
    assert "\n" not in str(caught.value)


@POSIX
@pytest.mark.parametrize("text", ["sleep 30\n", "exec sleep 30\n", "sleep 30 & exit 0\n"])
def test_an_interpreter_that_hangs_is_given_up(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInterpreter, match=r"did not answer within 0\.5 s$"):
        ask(str(script(tmp_path, f"#!/bin/sh\n{text}")), 0.5)


@POSIX
def test_an_interpreter_that_answers_and_does_not_end_is_given_up(tmp_path: Path) -> None:
    file = script(tmp_path, f'#!/bin/sh\n"{sys.executable}" "$@"\nexec sleep 30\n')
    with pytest.raises(BadInterpreter, match=r"did not end within 2 s$"):
        ask(str(file), 2.0)


def test_a_folder_is_searched_before_it_is_started(tmp_path: Path) -> None:
    (tmp_path / "Scripts").mkdir()
    (tmp_path / "Scripts" / "python.exe").touch()
    assert find(str(tmp_path)) == str(tmp_path / "Scripts" / "python.exe")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    assert find(str(tmp_path)) == str(tmp_path / "bin" / "python")


@POSIX
def test_the_symbolic_link_of_a_venv_is_not_followed(venv: Path) -> None:
    assert (venv / "bin" / "python").is_symlink()
    assert find(str(venv / "bin" / "python")) == str(venv / "bin" / "python")
    assert shutil.which("sh") == find("sh")


def test_an_answer_is_read_out_of_any_output() -> None:
    answer = (
        b'{"version_info": [3, 15, 0, "alpha", 2], "executable": "", "implementation": "pypy", "prefix": "/p",'
        b'"base_prefix": "/b", "stdlib": "/s", "path": ["/a"], "purelib": "/l", "include": "/i", "wide": true,'
        b'"free_threaded": false, "machine": "x86_64", "version": "3", "suffixes": [".so"]}'
    )
    found = parse_answer(b"\xff noise <envguard-interpreter<" + answer + b">envguard-interpreter> more", "/usr/bin/x")
    assert (found.version, found.implementation, found.executable) == ("3.15.0a2", "PyPy", "/usr/bin/x")
    assert found.path == ("/a",)
    with pytest.raises(BadInterpreter, match=r"is Python 3\.5\.2"):
        parse_answer(b'<envguard-interpreter<{"version_info": [3, 5, 2]}>envguard-interpreter>', "/x")


@pytest.mark.parametrize(
    ("info", "text"),
    [
        ((3, 13, 0, "final", 0), "3.13.0"),
        ((3, 15, 0, "alpha", 2), "3.15.0a2"),
        ((3, 14, 0, "candidate", 1), "3.14.0rc1"),
        ((3, 14, 0, "beta", 4), "3.14.0b4"),
    ],
)
def test_versions_are_written_as_pep_440_does(info: tuple[object, ...], text: str) -> None:
    assert version_text(info) == text


@pytest.mark.parametrize(
    ("uname", "version", "wide", "machine"),
    [
        ("x86_64", "3.11.7 (main) [GCC 12.2.0]", True, "x86_64"),
        ("x86_64", "3.11.7 (main) [GCC 12.2.0]", False, "i686"),
        ("aarch64", "", False, "armv8l"),
        ("arm64", "", True, "arm64"),
        ("", "3.12.1 (tags/v3.12.1:2305ca5, Dec  7 2023) [MSC v.1937 64 bit (AMD64)]", True, "AMD64"),
        ("", "3.12.1 (tags/v3.12.1:2305ca5, Dec  7 2023) [MSC v.1937 64 bit (ARM64)]", True, "ARM64"),
        ("", "3.12.1 (tags/v3.12.1:2305ca5, Dec  7 2023) [MSC v.1937 32 bit (Intel)]", False, "x86"),
    ],
)
def test_the_machine_is_that_of_the_build(uname: str, version: str, wide: bool, machine: str) -> None:
    assert machine_text(uname, version, wide) == machine
