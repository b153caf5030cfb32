"""A snapshot's text gives an Environment or one line with what is wrong and where, and nothing else."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import machine, pointers, snapshot

from envguard import subjects as subjects_module
from envguard.errors import BadInput, BadSnapshot
from envguard.model import Environment
from envguard.placing import write_whole
from envguard.snapshots import is_alone, parse
from envguard.subjects import Subject, subjects

SCHEMA_FILE = Path(__file__).parents[1] / "schemas" / "snapshot-1.schema.json"
SCHEMA: dict[str, Any] = json.loads(SCHEMA_FILE.read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

FULL = machine(
    native_libraries={
        "torchao": [
            {
                "file": "_C.abi3.so",
                "machine": "x86_64",
                "needs": ["libc.so.6"],
                "glibc": "2.17",
                "glibcxx": None,
                "path": "torchao/_C.abi3.so",
                "format": "ELF",
                "runpath": None,
                "cxxabi": "1.3.9",
                "gpu_archs": ["sm_80", "compute_90"],
            }
        ]
    },
    system_libraries={"libcuda.so.1": "/usr/lib/libcuda.so.1", "libze_loader.so.1": None},
    unreadable={"/drivers/rocm": "permission denied"},
    loaded_modules={"torch": {"version": "2.10.0", "file": None}},
    import_links={
        "torchao": [
            {"module": "a", "name": "b", "needed_from": "c", "line": 3, "certain": True, "effect": "feature-lost"}
        ]
    },
    compiled_kernels={"bitsandbytes": {"loaded": None, "reason": "no GPU"}},
    extras={"package/fact": [1, {"two": None}]},
)


def bad(text: str | bytes) -> str:
    """The one line with which a text is refused."""
    with pytest.raises(BadSnapshot) as caught:
        parse(text)
    assert str(caught.value).isprintable(), "one line, without control characters"
    return str(caught.value)


def refusal(text: str | bytes) -> str | None:
    """Why a text is refused, None where it gives an environment."""
    try:
        made = parse(text)
    except BadSnapshot as error:
        return str(error)
    assert isinstance(made, Environment)
    return None


def test_a_full_snapshot_is_valid_and_read_whole() -> None:
    VALIDATOR.validate(FULL)
    assert parse(json.dumps(FULL)).data == FULL


# Wrong types, field by field

SAMPLES: dict[str, list[Any]] = {
    "null": [None],
    "boolean": [True],
    "integer": [7],
    "number": [7.5],
    "string": ["some text"],
    "array": [[]],
    "object": [{}],
}
REQUIRED = {"distributions": {"version": "1"}, "accelerators": {"kind": "cuda"}, "native_libraries": {"file": "x"}}
REQUIRED["import_links"] = {"module": "a", "name": "b", "needed_from": "c"}


def fields(
    schema: dict[str, Any], path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    """The path of everything that the published schema describes, with its part of the schema."""
    if path:
        yield path, schema
    for name, part in schema.get("properties", {}).items():
        if (*path, name) != ("schema",):
            yield from fields(part, (*path, name))
    if isinstance(schema.get("additionalProperties"), dict):
        yield from fields(schema["additionalProperties"], (*path, "some-name"))
    if "items" in schema:
        yield from fields(schema["items"], (*path, 0))


def holding(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """A snapshot with one value at a path, and what is required beside it."""
    data = value
    beside = REQUIRED.get(str(path[0]), {})
    for depth in range(len(path), 0, -1):
        is_entry = path[depth - 1] == 0 or (path[0] == "distributions" and depth == 2)
        if is_entry and isinstance(data, dict):
            data = {**beside, **data}
        data = [data] if path[depth - 1] == 0 else {path[depth - 1]: data}
    return snapshot(**data)


def wrong(schema: dict[str, Any]) -> Iterator[Any]:
    types = schema.get("type", "string" if "enum" in schema else list(SAMPLES))
    allowed = {types} if isinstance(types, str) else set(types)
    for kind, samples in SAMPLES.items():
        if kind not in allowed and not (kind == "integer" and "number" in allowed):
            yield from samples
    if "enum" in schema:
        yield "something else"


WRONG = [(path, value) for path, part in fields(SCHEMA) for value in wrong(part)]


@pytest.mark.parametrize(
    ("path", "value"), WRONG, ids=lambda part: "/".join(map(str, part)) if isinstance(part, tuple) else None
)
def test_a_wrong_type_is_refused_with_its_json_pointer(path: tuple[str | int, ...], value: Any) -> None:
    data = holding(path, value)
    assert not VALIDATOR.is_valid(data), "the published schema refuses it too"
    pointer = "".join(f"/{step}" for step in path)
    assert bad(json.dumps(data)).startswith(f"{pointer}: expected ")


@pytest.mark.parametrize("path", [path for path, _ in fields(SCHEMA)], ids=lambda path: "/".join(map(str, path)))
def test_every_field_is_read_where_its_type_is_right(path: tuple[str | int, ...]) -> None:
    part: Any = dict(fields(SCHEMA))[path]
    types = part.get("type", ["string"])
    for kind in [types] if isinstance(types, str) else types:
        for value in part.get("enum", SAMPLES[kind]):
            data = holding(path, value)
            VALIDATOR.validate(data)
            parse(json.dumps(data))


@pytest.mark.parametrize(
    ("section", "name"), [(section, name) for section, names in REQUIRED.items() for name in names]
)
def test_a_missing_field_is_refused_by_name(section: str, name: str) -> None:
    entry = {key: value for key, value in REQUIRED[section].items() if key != name}
    part = SCHEMA["properties"][section]
    value = (
        [entry]
        if part["type"] == "array"
        else {"a": [entry] if section in ("native_libraries", "import_links") else entry}
    )
    text = bad(json.dumps(snapshot(**{section: value})))
    assert text.startswith(f"/{section}/")
    assert f"expected the field {name!r}" in text


@pytest.mark.parametrize(
    "found", [{}, {"schema": "envguard.snapshot/2"}, {"schema": 1}, {"schema": None}, {"schema": ["x"]}]
)
def test_another_schema_is_refused_with_both(found: dict[str, Any]) -> None:
    assert bad(json.dumps(found)).startswith("/schema: expected 'envguard.snapshot/1', found ")


@pytest.mark.parametrize("text", ["null", "[]", '"x"', "3", "true"])
def test_what_is_no_object_is_refused(text: str) -> None:
    assert bad(text).startswith("expected a JSON object, found ")


@pytest.mark.parametrize("name", ["a/b", "a~b", "~1/", "line\nbreak", "\x1b[31m", "half\ud800", "x" * 5000])
def test_an_odd_name_stays_one_json_pointer_on_one_line(name: str) -> None:
    text = bad(json.dumps(snapshot(distributions={name: 3})))
    pointer = text.partition(": ")[0]
    assert pointer.count("/") == 2
    assert len(text) < 300
    if name.isprintable() and len(name) < 80:
        assert pointer.removeprefix("/distributions/").replace("~1", "/").replace("~0", "~") == name


@pytest.mark.parametrize("version", ["1" * 201, "1.0\n2.0", "1\x1b[0m", "\ud800"])
@pytest.mark.parametrize("path", ["distributions", "torch_build", "python"])
def test_an_absurd_version_is_refused(path: str, version: str) -> None:
    value = {"torch": {"version": version}} if path == "distributions" else {"version": version}
    assert "expected a version of at most 200 printable characters" in bad(json.dumps(snapshot(**{path: value})))


# Agreement with the published schema

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
INTERESTING: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        0,
        1,
        1.0,
        1.5,
        "",
        "ok",
        "Linux",
        "cuda",
        "ELF",
        "package",
        [],
        [1],
        ["x"],
        [{}],
        {},
        {"version": None},
    ]
).map(deepcopy)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """The full snapshot with a few values replaced, keys left out or keys added."""
    data = deepcopy(FULL)
    for _ in range(draw(st.integers(1, 3))):
        *steps, last = draw(st.sampled_from(list(pointers(data)) or [("schema",)]))
        holder: Any = data
        for step in steps:
            holder = holder[step]
        match draw(st.sampled_from(["change", "change", "remove", "add", "append"])):
            case "remove":
                holder.pop(last, None)
            case "add":
                holder[draw(st.sampled_from(["kind", "version", "file", "new", "needs", "index"]))] = draw(INTERESTING)
            case "append" if isinstance(holder.get(last), list):
                holder[last].append(draw(INTERESTING))
            case _:
                holder[last] = draw(INTERESTING | JSON)
    return data


@given(mutated())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_a_snapshot_is_refused_exactly_where_the_schema_refuses_it(data: dict[str, Any]) -> None:
    told = next((error.message for error in VALIDATOR.iter_errors(data)), None)
    refused = refusal(json.dumps(data))
    if refused is None or told is not None:
        assert (refused is None) is (told is None), refused or told
    else:
        assert "of at most" in refused, f"{refused}: no limit of length, and the schema takes it"


# Hostile input


@given(st.binary(max_size=200) | st.text(max_size=200) | JSON.map(json.dumps))
@example(b"\xef\xbb\xbf{}")
@example('{"schema": "envguard.snapshot/1", "x": NaN}')
@example('{"schema": "envguard.snapshot/1", "x": -Infinity}')
@example("\udc80")
def test_arbitrary_text_gives_an_environment_or_one_line(text: str | bytes) -> None:
    assert (refusal(text) or "an environment").isprintable()


@given(st.dictionaries(st.sampled_from(list(SCHEMA["properties"])), JSON), st.booleans())
def test_arbitrary_values_of_known_sections_give_an_environment_or_one_line(
    data: dict[str, Any], is_ours: bool
) -> None:
    if is_ours:
        data = {**data, "schema": "envguard.snapshot/1"}
    assert (refusal(json.dumps(data)) or "an environment").isprintable()


def inside(value: str) -> str:
    return f'{{"schema": "envguard.snapshot/1", "extras": {{"x": {value}}}}}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b'{"schema": "caf\xe9"}', "not JSON"),
        (inside("NaN"), "not JSON: NaN is not a JSON value"),
        (inside("Infinity"), "not JSON: Infinity is not a JSON value"),
        (inside("1e999"), "not JSON: 1e999 is out of range"),
        (inside("-" + "9" * 400 + ".0"), "is out of range"),
        (inside("9" * 100_000), "not JSON"),
        (inside("[" * 200_000 + "]" * 200_000), "nested too deeply"),
        ("[" * 200_000, "nested too deeply"),
        ('{"a":' * 200_000, "nested too deeply"),
        (json.dumps(FULL) + json.dumps(FULL), "not JSON"),
        (json.dumps(FULL)[:-1], "not JSON"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value[:30],
)
def test_hostile_text_is_refused_with_its_reason(text: str | bytes, expected: str) -> None:
    line = bad(text)
    assert expected in line
    assert len(line) < 300


@pytest.mark.parametrize("depth", [10, 100, 500, 900, 950, 980, 985, 990, 995, 1000, 2000])
def test_a_deep_schema_is_an_error_and_no_traceback(depth: int) -> None:
    bad('{"schema": ' + "[" * depth + "]" * depth + "}")


def test_numbers_as_long_as_python_reads_them_are_kept() -> None:
    data = parse(inside("9" * 4000)).data
    assert data["extras"]["x"] == 10**4000 - 1
    assert parse(json.dumps(data)).data == data


def test_of_duplicate_keys_the_last_counts() -> None:
    text = '{"schema": "x", "schema": "envguard.snapshot/1", "host": 3, "host": {"system": "Linux"}}'
    assert parse(text).fact("host", "system") == "Linux"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_encodings_that_shells_write_are_read(encoding: str) -> None:
    text = json.dumps(snapshot(host={"release": "ü"}), ensure_ascii=False)
    assert parse(text.encode(encoding)).fact("host", "release") == "ü"
    assert parse("\ufeff" + text).fact("host", "release") == "ü"


# The round trip


@given(st.dictionaries(st.text(max_size=10), JSON, max_size=4), mutated())
def test_a_snapshot_survives_the_round_trip_with_keys_that_nobody_knows(
    more: dict[str, Any], data: dict[str, Any]
) -> None:
    data = {**more, **data, "schema": "envguard.snapshot/1"}
    try:
        environment = Environment.from_json(json.dumps(data))
    except BadSnapshot:
        return
    assert environment.data == data
    again = Environment.from_json(environment.to_json())
    assert again == environment
    assert again.to_json() == environment.to_json()


def test_half_a_surrogate_pair_survives_the_round_trip() -> None:
    environment = parse(json.dumps(snapshot(python={"executable": "/home/\udcff/python"})))
    assert Environment.from_json(environment.to_json().encode()) == environment


# Files and streams

GOOD = json.dumps(snapshot(host={"system": "Linux"}))
ALSO = json.dumps(snapshot(host={"system": "Darwin"}))


def written(folder: Path, text: str | bytes, name: str = "many.jsonl") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def told(found: list[Subject]) -> list[tuple[int | None, str]]:
    """Each subject's line and its system, or `bad`."""
    return [(s.line, "bad" if s.environment is None else s.environment.fact("host", "system")) for s in found]


def from_stdin(monkeypatch: pytest.MonkeyPatch, text: str | bytes) -> list[Subject]:
    data = text if isinstance(text, bytes) else text.encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
    return list(subjects(["-"]))


def test_a_bad_line_is_told_in_its_place_and_the_rest_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, f"{GOOD}\nnonsense\n\n   \r\n{ALSO}\r\n{{}}\n{GOOD}")
    found = list(subjects([path]))
    assert told(found) == [(1, "Linux"), (2, "bad"), (5, "Darwin"), (6, "bad"), (7, "Linux")]
    assert found[1].name == path
    assert found[1].error is not None
    assert found[1].error.startswith("not JSON: ")
    assert found[3].error == "/schema: expected 'envguard.snapshot/1', found no schema"


def test_an_empty_stream_holds_nothing(tmp_path: Path) -> None:
    assert list(subjects([written(tmp_path, "\n\n")])) == []
    assert list(subjects([written(tmp_path, "")])) == []


def test_an_empty_document_is_bad(tmp_path: Path) -> None:
    (found,) = subjects([written(tmp_path, "", "one.json")])
    assert found.environment is None
    assert found.line is None


def test_a_document_may_have_any_number_of_lines(tmp_path: Path) -> None:
    path = written(tmp_path, json.dumps(FULL, indent=4), "one.json")
    assert told(list(subjects([path]))) == [(None, "Linux")]


def test_several_files_come_in_their_order(tmp_path: Path) -> None:
    one, many = written(tmp_path, GOOD, "one.json"), written(tmp_path, f"{ALSO}\n{GOOD}\n")
    found = list(subjects([one, many, one]))
    assert told(found) == [(None, "Linux"), (1, "Darwin"), (2, "Linux"), (None, "Linux")]
    assert [subject.name for subject in found] == [one, many, many, one]


@pytest.mark.parametrize("indent", [None, 0, 1, 4])
@pytest.mark.parametrize("around", ["{}", "{}\n", "\n\n{}\n\n", "\ufeff{}"])
def test_standard_input_may_be_one_document(monkeypatch: pytest.MonkeyPatch, indent: int | None, around: str) -> None:
    text = around.format(json.dumps(FULL, indent=indent))
    assert told(from_stdin(monkeypatch, text)) == [(None, "Linux")]


def test_standard_input_of_several_snapshots_is_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(from_stdin(monkeypatch, f"{GOOD}\n{ALSO}\n")) == [(1, "Linux"), (2, "Darwin")]
    assert told(from_stdin(monkeypatch, f"\n{GOOD}\n\n{ALSO}")) == [(2, "Linux"), (4, "Darwin")]


@pytest.mark.parametrize(
    "first", ["nonsense", "{}", '{"schema": 3}', '{"schema": "envguard.snapshot/1", "host": 3}', "["]
)
def test_a_bad_first_line_does_not_hide_the_stream_behind_it(monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    assert told(from_stdin(monkeypatch, f"{first}\n{GOOD}\n{ALSO}\n")) == [(1, "bad"), (2, "Linux"), (3, "Darwin")]


def test_a_bad_line_in_a_stream_on_standard_input_is_told_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(from_stdin(monkeypatch, f"{GOOD}\nnonsense\n{ALSO}\n")) == [(1, "Linux"), (2, "bad"), (3, "Darwin")]


@pytest.mark.parametrize("text", ["", "\n", "nonsense\nmore nonsense\n", json.dumps(FULL, indent=1)[:-20]])
def test_standard_input_without_any_snapshot_is_one_bad_subject(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    assert told(from_stdin(monkeypatch, text)) == [(None, "bad")]


def test_a_document_with_an_object_on_a_line_of_its_own_is_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"schema": "envguard.snapshot/1", "host": {"system": "Linux"}, "accelerators": [\n{"kind": "cuda"}\n]}\n'
    assert told(from_stdin(monkeypatch, text)) == [(None, "Linux")]


@given(st.lists(st.sampled_from([GOOD, ALSO, "", "nonsense", "{}"]), max_size=6))
def test_standard_input_and_a_file_give_the_same_stream(lines: list[str]) -> None:
    if sum(map(is_alone, [line.encode() for line in lines])) == 0 or len([line for line in lines if line]) < 2:
        return
    text = "\n".join(lines).encode()
    numbered = subjects_module._numbered(io.BytesIO(text))
    from_file = list(subjects_module._stream(numbered, "it"))
    assert list(subjects_module._either(io.BytesIO(text), "it")) == from_file


def test_a_line_longer_than_any_snapshot_is_one_bad_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects_module, "_LONGEST", 200)
    path = written(tmp_path, f"{GOOD}\n{'x' * 1000}\n{'y' * 201}\n{'z' * 199}\n{ALSO}\n{'x' * 402}")
    found = list(subjects([path]))
    assert told(found) == [(1, "Linux"), (2, "bad"), (3, "bad"), (4, "bad"), (5, "Darwin"), (6, "bad")]
    assert found[1].error is not None
    assert "longer than" in found[1].error
    assert found[3].error is not None
    assert "not JSON" in found[3].error


def test_endless_standard_input_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects_module, "_LONGEST", 200)

    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            buffer[:] = b"nonsense\n" * (len(buffer) // 9) + b"x" * (len(buffer) % 9)
            return len(buffer)

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Endless())))
    (found,) = subjects(["-"])
    assert found.error is not None
    assert "longer than" in found.error


def test_a_missing_file_is_refused_before_any_other_is_read(tmp_path: Path) -> None:
    good = written(tmp_path, GOOD)
    for path in (str(tmp_path / "nowhere.json"), str(tmp_path), "a\0b"):
        with pytest.raises(BadInput, match="cannot be read: ") as caught:
            subjects([good, path])
        assert str(caught.value).startswith(path)


def test_a_folder_named_as_a_stream_is_refused(tmp_path: Path) -> None:
    (tmp_path / "many.jsonl").mkdir()
    with pytest.raises(BadInput, match="it is a folder"):
        subjects([str(tmp_path / "many.jsonl")])


# Writing


def test_a_snapshot_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "it.json"
    path.write_text("before")
    write_whole(GOOD, str(path))
    assert parse(path.read_bytes()) == parse(GOOD)
    assert [entry.name for entry in tmp_path.iterdir()] == ["it.json"]


@pytest.mark.parametrize("place", ["nowhere/it.json", ".", "a\0b"])
def test_a_place_that_cannot_be_written_is_refused_and_leaves_nothing(tmp_path: Path, place: str) -> None:
    with pytest.raises(BadInput, match="cannot be written: "):
        write_whole(GOOD, str(tmp_path / place))
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("before")
    (tmp_path / "link.json").symlink_to("real.json")
    write_whole(GOOD, str(tmp_path / "link.json"))
    assert (tmp_path / "link.json").is_symlink()
    assert parse((tmp_path / "real.json").read_bytes()) == parse(GOOD)


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    import os
    import threading

    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    os.mkfifo(tmp_path / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()), daemon=True)
    reader.start()
    write_whole(GOOD, str(tmp_path / "pipe"))
    reader.join(timeout=10)
    assert read == [GOOD + "\n"]
    assert (tmp_path / "pipe").is_fifo()
