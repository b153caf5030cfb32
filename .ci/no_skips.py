"""Fail where a test was skipped that had to run.

python .ci/no_skips.py REPORT.xml [--without-backends | --with-backends]

A test may be bound to a platform or a user; the reason of its skip then begins with "only on" or "only as" ("only as
an ordinary user: root reads every folder"). Every other skip on Linux, where all can run, fails the run, so that
a missing tool or backend cannot turn it green. On other systems skips are printed.
With --without-backends, for a run in an environment that has none, our own plugin may skip the tests that run one. With
--with-backends, for a run that has all of them and no GPU, it may skip a scheme that wants a GPU, or that the installed
release has dropped.
"""

from __future__ import annotations

import re
import sys
from xml.etree import ElementTree

ALLOWED = ("only on ", "only as ")
BY_PLUGIN = "envguard: "
RUN_BACKENDS = ("tests.runtime.", "tests.modelfiles.", "tests.test_sizes::", "tests.test_models::")  # see .ci/backends
OTHER_DEVICE_OR_RELEASE = re.compile(r"envguard: \w+:\w+ \d\S* blocked: needs (a device of|a GPU|torchao<)")


def skips(report: str) -> list[tuple[str, str]]:
    """Test and reason of every skip in a JUnit report, without the failures that were expected."""
    return [
        (f"{case.get('classname')}::{case.get('name')}", skip.get("message", ""))
        for case in ElementTree.fromstring(report).iter("testcase")
        for skip in case.iter("skipped")
        if skip.get("type") != "pytest.xfail"
    ]


def allowed(test: str, reason: str, mode: str = "") -> bool:
    """Whether a test may be skipped for that reason."""
    if mode == "--without-backends" and test.startswith(RUN_BACKENDS) and reason.startswith(BY_PLUGIN):
        return True
    if mode == "--with-backends" and OTHER_DEVICE_OR_RELEASE.match(reason):
        return True
    return reason.startswith(ALLOWED)


def main() -> int:
    """Print every skip; 1 where one is not allowed, or where nothing ran at all."""
    mode = sys.argv[2] if len(sys.argv) > 2 else ""
    with open(sys.argv[1], encoding="utf-8") as file:
        report = file.read()
    if "<testcase" not in report:
        print("no test ran")
        return 1
    found = skips(report)
    for test, reason in found:
        print(f"{'skipped' if allowed(test, reason, mode) else 'SKIPPED'}: {test}: {reason}")
    refused = sum(not allowed(test, reason, mode) for test, reason in found)
    if refused == 0 or sys.platform != "linux":
        return 0
    print(f"{refused} skipped that must run here; the reason of an allowed skip begins with {' or '.join(ALLOWED)}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
