"""Packages that nobody would publish: one clear line, and no crash."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from small_hosts import files, release, validating, wheel, written

from envguard.audit import source
from envguard.audit.extract import extract
from envguard.audit.source import given
from envguard.errors import BadInput
from envguard.shipped import load

QUANTIZER = "quantizers/torchao/torchao_quantizer.py"


def refused(path: Path, host: str = "diffusers") -> str:
    with pytest.raises(BadInput) as error:
        extract(given(host, str(path)), load().backends)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def f(:\n", f"{QUANTIZER}: cannot be read as Python: line "),
        ("x = " + "(" * 5000 + "1" + ")" * 5000, f"{QUANTIZER}: cannot be read as Python: "),
        ("x = " + "-" * 100_000 + "1", f"{QUANTIZER}: cannot be read as Python: "),
        ("x = '\0'\n", f"{QUANTIZER}: cannot be read as Python: "),
        ("# coding: no-such-codec\n", f"{QUANTIZER}: cannot be read as Python: "),
        ("x = 1\n" * 800_000, f"{QUANTIZER}: longer than 4 MiB"),
    ],
    ids=["syntax", "brackets", "signs", "nul", "codec", "long"],
)
def test_a_file_that_is_no_source_is_named(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(written(tmp_path, {**files(""), QUANTIZER: text}))


@pytest.mark.parametrize("depth", [3_000, 60_000])
def test_deep_expressions_are_refused(tmp_path: Path, depth: int) -> None:
    deep = "x = b" + ".a" * depth + "\n"
    assert "nested too deeply" in refused(written(tmp_path, {**files(""), QUANTIZER: deep}))


def test_functions_that_call_each_other_end(tmp_path: Path) -> None:
    code = """
        def a():
            return b()

        def b():
            return a()

        class TorchAoHfQuantizer:
            def validate_environment(self):
                if a():
                    raise ValueError("a")
                self.validate_environment()
                a()
        """
    extract(release(tmp_path, code), load().backends)


def test_a_condition_of_a_million_ways_is_told_as_one(tmp_path: Path) -> None:
    tests = " and ".join(f'(kwargs["a{n}"] or is_torchao_version(">", "{n}"))' for n in range(20))
    found = validating(tmp_path, f"if {tests}:\n    raise ValueError('x')")
    assert found
    assert all("torchao" in line for line in found)


def test_no_more_is_read_than_a_release_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envguard.audit.reading._MOST_STEPS", 100)
    assert "more to read than any release has" in refused(written(tmp_path, files("x = 1\n" * 200)))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    assert "expected the source of diffusers" in refused(tmp_path)


def test_a_release_without_quantizers_is_refused(tmp_path: Path) -> None:
    content = files("")
    del content["quantizers/auto.py"]
    assert "has no quantizers/auto.py" in refused(written(tmp_path, content))


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    assert "no such wheel or folder" in refused(tmp_path / "nothing.whl")


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06", b"no zip at all"])
def test_a_file_that_is_no_wheel_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "diffusers-1-py3-none-any.whl"
    path.write_bytes(data)
    assert "cannot be read as a wheel" in refused(path)


def test_a_wheel_of_another_package_is_refused(tmp_path: Path) -> None:
    assert "expected a wheel of transformers" in refused(wheel(tmp_path, files("")), "transformers")


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    path = wheel(tmp_path, files("x = 1\n" * 1000))
    data = bytearray(path.read_bytes())
    place = data.index(b"diffusers/" + QUANTIZER.encode()) + len(QUANTIZER) + 20
    data[place : place + 8] = b"\xff" * 8
    path.write_bytes(bytes(data))
    assert "cannot be read" in refused(path)


def test_a_small_member_that_unpacks_to_much_is_refused(tmp_path: Path) -> None:
    assert "longer than 4 MiB" in refused(wheel(tmp_path, {**files(""), QUANTIZER: "#" * (source.MOST_BYTES + 1)}))


@pytest.mark.skipif(sys.platform == "win32", reason="only on POSIX: named pipes")
def test_a_pipe_in_the_place_of_a_file_does_not_hang(tmp_path: Path) -> None:
    folder = written(tmp_path, files(""))
    (folder / "diffusers" / QUANTIZER).unlink()
    os.mkfifo(folder / "diffusers" / QUANTIZER)
    extract(given("diffusers", str(folder)), load().backends)


def test_nothing_of_a_release_is_run(tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    code = f"open({str(witness)!r}, 'w')\n"
    content = {name: code + text if name.endswith(".py") else text for name, text in files("").items()}
    content["__init__.py"] = files("")["__init__.py"] + code
    extract(given("diffusers", str(written(tmp_path, content))), load().backends)
    assert not witness.exists()
