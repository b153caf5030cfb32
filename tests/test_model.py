"""What an environment says of a fact: a value, absent, or not observed with the reason."""

from __future__ import annotations

from envguard.model import NOT_OBSERVED, Environment, Unreadable

COMPLETE = Environment(
    {
        "schema": "envguard.snapshot/1",
        "distributions": {"torch": {"version": "2.6.0"}, "gguf": None, "torchao": {"version": None}},
        "distributions_complete": True,
        "torch_build": None,
        "unreadable": {"/distributions/accelerate": "permission denied", "/host/libc": "no loader"},
    }
)


def test_a_complete_list_makes_what_is_not_on_it_absent() -> None:
    assert COMPLETE.version("torch") == "2.6.0"
    assert COMPLETE.distribution("diffusers") is None
    assert COMPLETE.distribution("gguf") is None


def test_a_distribution_that_could_not_be_read_is_not_absent_from_a_complete_list() -> None:
    assert COMPLETE.distribution("accelerate") == Unreadable("permission denied")


def test_without_a_complete_list_what_is_not_on_it_was_not_observed() -> None:
    environment = Environment({"schema": "envguard.snapshot/1", "distributions": {}})
    assert environment.distribution("torch") is NOT_OBSERVED


def test_a_version_that_metadata_does_not_give_has_that_for_a_reason() -> None:
    assert COMPLETE.version("torchao") == Unreadable("its metadata gives no version")


def test_a_section_that_is_absent_has_only_absent_facts() -> None:
    assert COMPLETE.fact("torch_build", "cuda") is None
    assert COMPLETE.fact("host", "libc") == Unreadable("no loader")
    assert COMPLETE.fact("host", "system") is NOT_OBSERVED
