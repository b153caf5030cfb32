"""Fail where a test was skipped that had to run.

python .ci/no_skips.py REPORT.xml [--without-backends]

A test may be bound to a platform or a user; the reason of its skip then begins with "only on" or "only as" ("only as
an ordinary user: root reads every folder"). Every other skip on Linux, where all can run, fails the run, so that
a missing tool or backend cannot turn it green. On other systems skips are printed.
With --without-backends, for a run in an environment that has none, our own plugin may skip tests of `tests/runtime`.
"""

from __future__ import annotations

import sys
from xml.etree import ElementTree

ALLOWED = ("only on ", "only as ")
BY_PLUGIN = "envguard: "


def skips(report: str) -> list[tuple[str, str]]:
    """Test and reason of every skip in a JUnit report, without the failures that were expected."""
    return [
        (f"{case.get('classname')}::{case.get('name')}", skip.get("message", ""))
        for case in ElementTree.fromstring(report).iter("testcase")
        for skip in case.iter("skipped")
        if skip.get("type") != "pytest.xfail"
    ]


def allowed(test: str, reason: str, without_backends: bool) -> bool:
    """Whether a test may be skipped for that reason."""
    if without_backends and test.startswith("tests.runtime.") and reason.startswith(BY_PLUGIN):
        return True
    return reason.startswith(ALLOWED)


def main() -> int:
    """Print every skip; 1 where one is not allowed, or where nothing ran at all."""
    without_backends = "--without-backends" in sys.argv[2:]
    with open(sys.argv[1], encoding="utf-8") as file:
        report = file.read()
    if "<testcase" not in report:
        print("no test ran")
        return 1
    found = skips(report)
    for test, reason in found:
        print(f"{'skipped' if allowed(test, reason, without_backends) else 'SKIPPED'}: {test}: {reason}")
    refused = sum(not allowed(test, reason, without_backends) for test, reason in found)
    if refused == 0 or sys.platform != "linux":
        return 0
    print(f"{refused} skipped that must run here; the reason of an allowed skip begins with {' or '.join(ALLOWED)}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
