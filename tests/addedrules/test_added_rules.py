"""Rules of others: folders, and packages that ship some. Data, held to the format; they change nothing of ours."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import run

from envguard import shipped
from envguard.errors import BadRules
from envguard.rulebook import RuleBook
from envguard.rulepackages import shipping_rules
from envguard.shipped import load

ROW = """\
[[rule]]
id = "acme-envguard-rules/acme/driver"
when = { backend = ["gguf"] }
need = { distribution = "acme-driver>=2.0" }
fact = "metadata"
comparison = "version"
severity = "error"
kind = "version"
why = "Our cluster needs it."
fix = { install = ["acme-driver>=2.0"] }
origin = "table"
source = "acme-driver 2.0 NOTES"
checked = 2026-11-22
"""
ID = "acme-envguard-rules/acme/driver"


def folder(tmp_path: Path, *texts: str, **files: str) -> str:
    place = tmp_path / "rules"
    place.mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        (place / f"{number}.toml").write_text(text, encoding="utf-8")
    for name, text in files.items():
        (place / f"{name}.toml").write_text(text, encoding="utf-8")
    return str(place)


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(BadRules) as caught:
        load([folder(tmp_path, text)])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_rule_of_a_folder_decides_like_our_own(tmp_path: Path) -> None:
    done = run("check", "--rules", folder(tmp_path, ROW), "--backend", "gguf", "--device", "cpu", "--format", "json")
    outcomes = {each["rule"]: each for each in json.loads(done.out)["backends"][0]["outcomes"]}
    assert outcomes[ID]["status"] == "unmet"
    assert "acme-driver" in outcomes[ID]["fix"]["commands"][0]
    assert done.status == 1


def test_a_folder_s_rules_are_listed_explained_and_can_be_ignored(tmp_path: Path) -> None:
    place = folder(tmp_path, ROW)
    assert ID in run("rules", "--rules", place, "--backend", "gguf").out
    assert "Our cluster needs it." in run("explain", ID, "--rules", place).out
    assert run("check", "--rules", place, "--ignore", ID, "--backend", "gguf").err == ""
    assert "no rule has the id" in run("explain", ID).refused()


def test_folders_add_up(tmp_path: Path) -> None:
    one, other = tmp_path / "a", tmp_path / "b"
    for place, name in ((one, "driver"), (other, "kernel")):
        place.mkdir()
        (place / "it.toml").write_text(ROW.replace("acme/driver", f"acme/{name}"), encoding="utf-8")
    assert {ID, ID.replace("driver", "kernel")} <= set(load([str(one), str(other)]).ids())
    assert ID not in load().ids()


def test_the_version_of_the_rules_stays_that_of_our_own(tmp_path: Path) -> None:
    assert load([folder(tmp_path, ROW.replace("2026-11-22", "2031-01-01"))]).version == load().version


def test_rules_may_bring_a_backend_of_their_own(tmp_path: Path) -> None:
    header = """\
[backend]
name = "acmequant"
distribution = "acmequant"
import_name = "acmequant"
extra = "acme"
install = ["acmequant"]
schemes = { int3 = [] }
"""
    place = folder(tmp_path, header + ROW.replace('when = { backend = ["gguf"] }\n', ""))
    done = run("check", "--rules", place, "--backend", "acmequant:int3", "--device", "cpu", "--format", "json")
    assert ID in {each["rule"] for each in json.loads(done.out)["backends"][0]["outcomes"]}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ((ID, "acme/driver"), "id: expected package/owner/name, which says whose rule it is"),
        ((ID, "gguf/installed"), "id: expected package/owner/name"),
        (('kind = "version"', 'kind = "odd"'), "kind: expected one of"),
        (('severity = "error"\n', ""), "severity: missing"),
        (("[[rule]]", "[releases]\nx = ['1']\n[[rule]]"), "releases: unknown key, expected one of backend, rule"),
        (('{ distribution = "acme-driver>=2.0" }', "{ code = 'x' }"), "need.code: expected one of"),
        (('backend = ["gguf"]', 'backend = ["none"]'), "when.backend: expected a list of"),
        (("[[rule]]", "[[rule"), "not TOML"),
        (("[[rule]]", '[backend]\nname = "gguf"\n[[rule]]'), "backend: distribution: missing"),
    ],
)
def test_a_bad_row_is_told_with_file_and_key(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    text = refused(tmp_path, ROW.replace(*change, 1))
    assert complaint in text
    assert "0.toml" in text


def test_our_names_and_ids_are_not_replaced(tmp_path: Path) -> None:
    header = '[backend]\nname = "mine"\naliases = ["bnb"]\ndistribution = "d"\nimport_name = "d"\nextra = "e"\n'
    assert "'bnb' is taken" in refused(tmp_path, header + 'install = ["d"]\nschemes = { x = [] }\n')
    one, other = tmp_path / "a", tmp_path / "b"
    for place in (one, other):
        place.mkdir()
        (place / "it.toml").write_text(ROW, encoding="utf-8")
    with pytest.raises(BadRules, match="this one is taken"):
        load([str(one), str(other)])


def test_rows_of_one_id_that_overlap_and_circles_are_refused(tmp_path: Path) -> None:
    assert "do not overlap" in refused(tmp_path, ROW + ROW)
    assert "circle" in refused(tmp_path, ROW.replace("severity", f'after = ["{ID}"]\nseverity'))
    assert "expected the id of an error rule" in refused(tmp_path, ROW.replace("severity", 'after = ["a/b"]\nseverity'))


def test_a_rule_may_wait_for_one_of_ours(tmp_path: Path) -> None:
    assert ID in load([folder(tmp_path, ROW.replace("severity", 'after = ["gguf/installed"]\nseverity'))]).ids()


# Folders that mean harm


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside.toml").write_text(ROW, encoding="utf-8")
    place = folder(tmp_path)
    try:
        os.symlink(tmp_path / "outside.toml", Path(place) / "it.toml")
    except OSError:
        pytest.skip("only on systems where this user may make links")
    with pytest.raises(BadRules, match="a link that leads out of it"):
        load([place])


@pytest.mark.skipif(sys.platform == "win32", reason="only on POSIX: needs a pipe with a name")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    place = folder(tmp_path)
    os.mkfifo(Path(place) / "it.toml")
    with pytest.raises(BadRules, match="it is no file"):
        load([place])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("#" * (1 << 20) + "\n", "longer than 1 MiB"),
        ("x = " + "[" * 100_000, "not TOML: nested too deeply"),
        ("[[rule]]\n" * 2_001, "more than 2000 rules"),
        ("x = " + "9" * 10_000, "not TOML"),
    ],
)
def test_what_is_too_much_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    assert complaint in refused(tmp_path, text)


def test_too_many_files_and_none_are_refused(tmp_path: Path) -> None:
    assert "found none" in run("rules", "--rules", folder(tmp_path)).refused()
    with pytest.raises(BadRules, match="more than 100 files"):
        load([folder(tmp_path, *["a = 1"] * 101)])
    with pytest.raises(BadRules, match="cannot be read: No such file"):
        load([str(tmp_path / "nowhere")])


def test_code_beside_the_rules_is_not_run(tmp_path: Path) -> None:
    place = folder(tmp_path, ROW)
    (Path(place) / "__init__.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    assert ID in load([place]).ids()


# Packages


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a package with rules on the search path and gives the rules that are loaded then."""
    site = tmp_path / "site-packages"

    def install(
        module: str = "acme_envguard.rules",
        name: str = "acme_envguard_rules",
        row: str = ROW,
        record: str | None = None,
    ) -> RuleBook:
        info = site / f"{name}-1.0.dist-info"
        place = site / "acme_envguard" / "rules"
        for each in (info, place):
            each.mkdir(parents=True)
        (site / "acme_envguard" / "__init__.py").write_text("raise SystemExit('imported')", encoding="utf-8")
        (place / "driver.toml").write_text(row, encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[x]\na = b\n\n[envguard.rules]\nmine = {module}\n", encoding="utf-8")
        (info / "RECORD").write_text(
            record or "acme_envguard/__init__.py,,\nacme_envguard/rules/driver.toml,sha256=x,1\n", encoding="utf-8"
        )
        monkeypatch.setattr(sys, "path", [str(site), *sys.path])
        monkeypatch.setattr(shipped, "_loaded", None)
        return load()

    return install


def test_an_installed_package_adds_its_rules_without_being_imported(installed: Any) -> None:
    assert ID in installed().ids()
    assert "acme_envguard" not in sys.modules
    assert ID in run("rules", "--backend", "gguf").out


def test_what_a_project_s_settings_name_counts_for_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "_loaded", None)
    for _ in range(2):
        assert ID in shipped.use([folder(tmp_path, ROW)]).ids()
    assert ID in load().ids()


def test_packages_can_be_left_out(installed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVGUARD_ADDED_RULES", "0")
    assert ID not in installed().ids()


def test_only_a_distribution_with_our_name_in_its_own_is_looked_into(installed: Any) -> None:
    assert ID not in installed(name="acme_rules").ids()


def test_a_file_that_the_package_did_not_install_does_not_count(installed: Any) -> None:
    with pytest.raises(BadRules, match=r"acme-envguard-rules: entry point envguard.rules: no file that ends in .toml"):
        installed(record="acme_envguard/__init__.py,,\n")


def test_a_package_s_ids_carry_its_name(installed: Any) -> None:
    with pytest.raises(BadRules, match="expected acme-envguard-rules/owner/name"):
        installed(row=ROW.replace("acme-envguard-rules/", "other/"))


def test_a_broken_package_is_named_with_the_way_around_it(installed: Any) -> None:
    with pytest.raises(BadRules, match=r"^acme-envguard-rules: .*driver.toml: not TOML: .*ENVGUARD_ADDED_RULES=0"):
        installed(row="[[rule")


@pytest.mark.parametrize("module", ["../../etc", "acme_envguard/rules", "a..b", "", "os.system('x')"])
def test_an_entry_point_that_is_no_module_path_is_refused(installed: Any, module: str) -> None:
    with pytest.raises(BadRules, match="expected the module path of a folder"):
        installed(module)


def test_an_editable_project_is_found_by_its_path_file(installed: Any, tmp_path: Path) -> None:
    project = tmp_path / "project" / "acme_envguard" / "rules"
    project.mkdir(parents=True)
    (project / "driver.toml").write_text(ROW.replace("acme/driver", "acme/other"), encoding="utf-8")
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "__editable__.acme.pth").write_text(f"{tmp_path / 'project'}\n", encoding="utf-8")
    assert ID.replace("driver", "other") in installed(record="__editable__.acme.pth,,\n").ids()


def test_our_own_distribution_ships_none(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    (site / "envguard_quant-0.1.0.dist-info").mkdir(parents=True)
    (site / "My_EnvGuard-1.0.dist-info").mkdir()
    assert shipping_rules({}, [str(site), str(tmp_path / "x-packages")]) == [(str(site), "My_EnvGuard-1.0.dist-info")]
