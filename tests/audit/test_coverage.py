"""How rules stand to gates: covered, acknowledged, new, changed, gone."""

from __future__ import annotations

from typing import Any

import pytest
from support import book, row

from envguard.audit.coverage import Finding, cover
from envguard.audit.gate import Gate, Test
from envguard.audit.known import Known, parse
from envguard.errors import BadRules
from envguard.frozen import replace
from envguard.shipped import load

NOTHING = Known((), (), ())
HOST = {"host": ["diffusers"]}
FLOOR = Gate(
    host="diffusers",
    method="torchao",
    backends=("torchao",),
    stage="validate",
    effect="raises",
    kind="version",
    subject="torchao",
    operator=">=",
    value="0.15.0",
    needed=True,
    exception="RuntimeError",
    message="The minimum required version is 0.15.0.",
    file="quantizers/torchao/torchao_quantizer.py",
    line=193,
    where="TorchAoHfQuantizer.validate_environment",
    guards=(),
)
METHOD = replace(FLOOR, kind="method", effect="declares", subject="torchao", operator="", value="TorchAoConfig")
DEVICE = replace(FLOOR, kind="device", subject="device", operator="", value="cuda, xpu")
SYMBOL = replace(FLOOR, kind="symbol", effect="imports", operator="", value="torchao.quantization.FqnToConfig")


def needs(requirement: str, **more: Any) -> dict[str, Any]:
    return row("torchao/it", {"distribution": requirement}, **{"when": HOST, **more})


def found(gate: Gate, *rows: dict[str, Any], known: Known = NOTHING, version: str = "0.42.1") -> Finding:
    return cover("diffusers", version, [gate], book(*rows), known)[0]


@pytest.mark.parametrize(
    ("requirement", "status"),
    [
        ("torchao>=0.15.0", "covered"),
        ("torchao>=0.16.0", "covered"),  # asks for more than the gate
        ("torchao>=0.14.1", "changed"),
        ("torchao>=0.15.0.dev1", "changed"),
        ("torchao", "changed"),
        ("torch>=0.15.0", "new"),
    ],
)
def test_a_version_is_covered_where_the_rules_let_no_older_one_through(requirement: str, status: str) -> None:
    assert found(FLOOR, needs(requirement)).status == status


def test_two_rows_together_cover() -> None:
    gate = replace(FLOOR, operator=">", value="0.9.0", needed=False)  # torchao<=0.9.0
    upper = row("torchao/other", {"distribution": "torchao<0.9.0"}, when=HOST)
    assert found(gate, needs("torchao>=0.7.0"), upper).status == "covered"


@pytest.mark.parametrize(
    "when",
    [
        {"host": ["transformers"]},
        {**HOST, "release": {"diffusers": "<0.38.0"}},
        {**HOST, "scheme": ["int8"]},
        {**HOST, "operation": ["save"]},
        {**HOST, "system": ["Windows"]},
        {**HOST, "variable": {"X": ["1"]}},
        {**HOST, "accelerator": ["mps"]},
    ],
)
def test_a_row_for_other_requests_covers_nothing(when: dict[str, Any]) -> None:
    assert found(FLOOR, needs("torchao>=0.15.0", when=when)).status == "new"


def test_a_row_for_some_environments_covers_only_with_the_others() -> None:
    without = needs("torchao>=0.15.0", when={**HOST, "absent": ["optimum"]})
    beside = needs("torchao>=0.15.0", when={**HOST, "release": {"optimum": ">=0.0.1"}})
    assert found(FLOOR, without).status == "changed"
    assert found(FLOOR, without, beside).status == "covered"
    assert found(FLOOR, without, {**beside, "need": {"distribution": "torchao>=0.14.1"}}).status == "changed"


def test_a_row_for_what_stands_on_the_way_covers() -> None:
    row = needs("torchao>=0.15.0", when={**HOST, "release": {"kernels": ">=0.10.0"}})
    guarded = replace(FLOOR, guards=(Test("version", "kernels", ">=", "0.10.0"),))
    assert found(guarded, row).status == "covered"
    assert found(FLOOR, row).status == "changed"
    assert found(replace(FLOOR, guards=(Test("available", "kernels"),)), row).status == "changed"


def test_a_row_for_installed_releases_leaves_the_other_releases() -> None:
    row = needs("torchao>=0.15.0", when={**HOST, "release": {"torchao": ">=0.4.0"}})
    assert found(FLOOR, row).status == "changed"
    assert found(replace(FLOOR, guards=(Test("version", "torchao", ">=", "0.4.0"),)), row).status == "covered"
    assert found(FLOOR, row, needs("torchao>=0.5.0", id="torchao/floor")).status == "covered"


def test_a_row_for_a_capability_covers_gates_behind_a_test_of_it() -> None:
    row = needs("torchao>=0.15.0", when={**HOST, "cuda_capability": "7.0"})
    capable = Test("capability", "compute capability", ">=", "7")
    assert found(FLOOR, row).status == "changed"
    assert found(replace(FLOOR, guards=(capable,)), row).status == "covered"
    assert found(replace(FLOOR, guards=(replace(capable, value="6"),)), row).status == "changed"


def test_a_version_that_the_host_asks_for_before_needs_no_rule() -> None:
    assert found(replace(FLOOR, guards=(Test("version", "torchao", ">=", "0.15.0"),))).status == "covered"
    assert found(replace(FLOOR, guards=(Test("version", "torchao", ">=", "0.14.0"),))).status == "new"


def test_a_configuration_that_is_read_back_is_that_of_a_load() -> None:
    gate = replace(FLOOR, stage="config", where="TorchAoConfig.from_dict")
    load_row = needs("torchao>=0.15.0", when={**HOST, "operation": ["load"]})
    assert found(gate, load_row).status == "covered"
    assert found(replace(gate, where="TorchAoConfig.post_init"), load_row).status == "new"


def test_a_row_that_only_warns_does_not_cover_what_raises() -> None:
    assert found(FLOOR, needs("torchao>=0.15.0", severity="warning")).status == "new"


def test_a_load_rule_covers_a_gate_for_quantized_models() -> None:
    gate = replace(FLOOR, guards=(Test("argument", "self.pre_quantized"),))
    assert found(gate, needs("torchao>=0.15.0", when={**HOST, "operation": ["load"]})).status == "covered"


def test_what_rules_stop_earlier_needs_no_rule_of_its_own() -> None:
    gate = replace(FLOOR, subject="numpy", guards=(Test("version", "torchao", ">=", "0.7.0", holds=False),))
    assert found(gate, needs("torchao>=0.7.0")).status == "covered"


@pytest.mark.parametrize(
    ("kinds", "status"),
    [(["cuda", "rocm", "xpu"], "covered"), (["cuda"], "covered"), (["cuda", "xpu", "mps"], "changed")],
)
def test_devices_are_covered_where_no_other_kind_comes_through(kinds: list[str], status: str) -> None:
    assert found(DEVICE, row("torchao/device", {"runs_on": kinds}, when=HOST)).status == status


def test_a_host_rule_for_devices_has_to_name_the_same() -> None:
    narrow = row("torchao/device", {"runs_on": ["cuda"]}, when=HOST, origin="host")
    assert found(DEVICE, narrow).status == "changed"


SYMBOLS = """
[[symbol]]
names = ["torchao.quantization.Fqn*"]
in = ">=0.15.0"
source = "torchao 0.15.0"
"""


def test_a_symbol_asks_for_the_releases_that_hold_it() -> None:
    assert found(SYMBOL, needs("torchao>=0.15.0")).status == "new"  # nobody has said which do
    assert found(SYMBOL, needs("torchao>=0.15.0"), known=parse(SYMBOLS)).status == "covered"
    assert found(SYMBOL, needs("torchao>=0.7.0"), known=parse(SYMBOLS)).status == "changed"


def test_a_guard_that_asks_for_those_releases_is_enough() -> None:
    guarded = replace(SYMBOL, guards=(Test("version", "torchao", ">=", "0.15.0"),))
    assert found(guarded, needs("torchao>=0.7.0"), known=parse(SYMBOLS)).status == "covered"


def test_an_import_that_is_caught_needs_no_rule() -> None:
    assert found(replace(SYMBOL, effect="optional"), needs("torch")).status == "acknowledged"


def test_a_gate_of_another_method_is_out_of_scope() -> None:
    assert found(replace(FLOOR, method="awq", backends=()), needs("torch")).status == "other"


def test_an_acknowledged_gate_says_why() -> None:
    known = parse('[[acknowledged]]\nkind = "version"\nvalue = "0.15.*"\nreason = "because"\n')
    finding = found(FLOOR, needs("torch"), known=known)
    assert (finding.status, finding.reason) == ("acknowledged", "because")
    assert found(replace(FLOOR, value="0.16.0"), needs("torch"), known=known).status == "new"


def test_an_acknowledgement_may_end_with_a_release() -> None:
    known = parse('[[acknowledged]]\nkind = "version"\nrelease = "<0.42.0"\nreason = "because"\n')
    assert found(FLOOR, needs("torch"), known=known, version="0.41.0").status == "acknowledged"
    assert found(FLOOR, needs("torch"), known=known).status == "new"


def test_an_acknowledgement_that_leans_on_a_rule_needs_a_row_of_it() -> None:
    known = parse('[[acknowledged]]\nkind = "version"\nrule = "torchao/other"\nreason = "that rule says it"\n')
    other = row("torchao/other", {"distribution": "torch"}, when={**HOST, "release": {"diffusers": ">=0.42.0"}})
    assert found(FLOOR, other, known=known).status == "acknowledged"
    assert found(FLOOR, other, known=known, version="0.41.0").status == "new"
    assert found(FLOOR, needs("torch"), known=known).status == "new"


def gone(*rows: dict[str, Any], gates: list[Gate], known: Known = NOTHING) -> list[str]:
    return [
        each.rules[0].id for each in cover("diffusers", "0.42.1", gates, book(*rows), known) if each.status == "gone"
    ]


def test_a_host_rule_that_no_gate_asks_for_is_gone() -> None:
    host = needs("torchao>=0.15.0", origin="host")
    assert gone(host, gates=[METHOD]) == ["torchao/it"]
    assert gone(host, gates=[METHOD, FLOOR]) == []
    assert gone(needs("torchao>=0.15.0"), gates=[METHOD]) == []  # of another origin: no matter of the host's code
    assert gone(needs("torchao>=0.16.0", origin="host"), gates=[METHOD, FLOOR]) == ["torchao/it"]


def test_a_rule_whose_reason_is_no_test_is_not_missed() -> None:
    known = parse('[[unread]]\nrule = "torchao/it"\nreason = "it unpacks a list"\n')
    assert gone(needs("torchao<0.44", origin="host"), gates=[METHOD], known=known) == []


def test_what_is_gone_is_told_with_its_own_row_alone() -> None:
    assert gone(needs("torchao>=0.15.0", origin="host", when={"host": ["transformers"]}), gates=[METHOD]) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[acknowledged]]\n", "known.toml: acknowledged 1: reason: missing"),
        ('[[acknowledged]]\nreason = ""\n', "known.toml: acknowledged 1: reason: expected text"),
        ('[[acknowledged]]\nreason = "x"\nkinds = "y"\n', "known.toml: acknowledged 1: kinds: unknown key"),
        ('[[acknowledged]]\nreason = "x"\nkind = "y"\n', "known.toml: acknowledged 1: kind: expected one of"),
        ('[[acknowledged]]\nreason = "x"\nrelease = "y"\n', "known.toml: acknowledged 1: release: 'y' is not"),
        ('[[acknowledged]]\nreason = "x"\nvalue = [1]\n', "known.toml: acknowledged 1: value: expected text"),
        ('[[symbol]]\nnames = ["a"]\nin = ">>1"\nsource = "b"\n', "known.toml: symbol 1: in: "),
        ("[[more]]\n", "known.toml: more: unknown table"),
        ("acknowledged = 1\n", "known.toml: acknowledged: expected [[acknowledged]] tables"),
        ("[", "known.toml: not TOML"),
    ],
)
def test_a_bad_row_is_named(text: str, said: str) -> None:
    with pytest.raises(BadRules) as error:
        parse(text)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_the_shipped_file_names_rules_that_exist() -> None:
    from envguard.audit import known

    shipped = known.load()
    leant_on = {each.rule for each in shipped.acknowledged} - {""}
    assert {each.rule for each in shipped.unread} | leant_on <= set(load().ids())
    assert all(each.reason.strip() and each.patterns for each in shipped.acknowledged)
