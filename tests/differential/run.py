"""Compares envguard's verdicts with what host releases do: upstream's own code, in environments made by hypothesis.

python tests/differential/run.py [--host HOST] [--release R]... [--environments N] [--slice] [--verbose]

Every release gets its share of the environments. Prints, for each release and for all of them, agreement,
disagreements by kind, how often each gate of upstream fired and passed, and which rules of another origin refused what
upstream takes. Exit status 1 for any disagreement, or a gate that was seen too seldom.
The wheels come from the package index and are kept in a cache; `wheels.py` says where.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

import compare  # noqa: E402 - after the path
import environments  # noqa: E402 - after the path
import gates  # noqa: E402 - after the path
import wheels  # noqa: E402 - after the path
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402 - after the path

from envguard.model import Environment, Request  # noqa: E402
from envguard.rulefiles import read_folder  # noqa: E402
from envguard.shipped import rules_folder  # noqa: E402

HOSTS = {
    "diffusers": [release for release in environments.RELEASES["diffusers"] if release >= "0.31.0"],
    # those in which a quantizer, a configuration or a test for a package changed, and the last before
    "transformers": [
        *("4.46.1", "4.46.3", "4.47.0", "4.49.0", "4.50.0", "4.51.3", "4.52.1", "4.52.4", "4.53.0", "4.56.2", "4.57.6"),
        *("5.0.0", "5.1.0", "5.3.0", "5.4.0", "5.5.0", "5.9.0", "5.10.1", "5.14.1", "5.15.0", "5.19.0", "5.20.0"),
        "5.23.0",
    ],
}
# What CI compares: the releases that changed most, and the newest.
SLICE = {
    "diffusers": ("0.33.1", "0.36.0", "0.38.0", "0.40.0", "0.42.1"),
    "transformers": ("4.46.3", "4.51.3", "4.57.6", "5.0.0", "5.23.0"),
}
LEAST = 20  # environments in which each gate has to fire, and in which it has to pass
COLD = 100  # of so many environments one is asked about twice, the second time with all of the host's modules afresh


def made(host: str, release: str, number: int) -> list[environments.Made]:
    """Some environments, the same ones for a release in every run: a quarter any, the others each with an aim."""
    aims = environments.aims(host, release)
    each = 0.75 * number / sum(aim.get("weight", 1) for aim in aims)
    found = _drawn(f"{release}", environments.environments(host, release), number // 4)
    for place, aim in enumerate(aims):
        strategy = environments.environments(host, release, aim)
        found += _drawn(f"{release} {place}", strategy, max(1, round(each * aim.get("weight", 1))))
    random.Random(release).shuffle(found)
    return found


def _drawn(name: str, strategy: Any, number: int) -> list[environments.Made]:
    found: list[environments.Made] = []

    @seed(name)
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(one: environments.Made) -> None:
        found.append(one)

    collect()
    return found


class Release:
    """One release: its child process, what was asked, what came of it."""

    def __init__(self, host: str, release: str, pool: str) -> None:
        self.host, self.release, self._pool = host, release, pool
        self._wheel = str(wheels.wheel(host, release))
        self.environments = self.requests = self.cold = 0
        self.disagreements: Counter[str] = Counter()
        self.examples: dict[str, Any] = {}
        self.fired: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()
        self.others: Counter[str] = Counter()
        self.unmet: Counter[str] = Counter()
        self.met: Counter[str] = Counter()
        self.open: Counter[str] = Counter()
        self.places: set[str] = set()
        self.words: dict[str, str] = {}

    def run(self, all_made: list[environments.Made], envguard: compare.Envguard) -> None:
        """Ask upstream and envguard about each environment."""
        path = json.dumps([str(HERE), *_libraries()])
        code = f"import sys; sys.path[:0] = {path}; import upstream; upstream.main()"
        command = [sys.executable, "-S", "-I", "-c", code, self.host, self._wheel]
        with subprocess.Popen(
            [*command, self._pool], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            for place, one in enumerate(all_made):
                self._compare(one, self._answers(child, one, cold=place % COLD == 0), envguard)
            assert child.stdin is not None
            child.stdin.close()

    def _answers(self, child: Any, one: environments.Made, *, cold: bool) -> list[list[Any]]:
        ways: list[dict[str, bool]] = [{}]
        if environments.has_pre_release(one):
            ways.append({"before": True})
        if environments.has_both_optimums(one):
            ways += [{**way, "reverse": True} for way in ways]
        answers = [self._ask(child, environments.child(one, self._pool, self._wheel, **way)) for way in ways]
        if cold:
            again = self._ask(child, environments.child(one, self._pool, self._wheel, cold=True))
            self.cold += 1
            if again != answers[0]:
                self._disagree("a module that was kept changes the answer", one, {"warm": answers[0], "cold": again})
        return answers

    def _ask(self, child: Any, told: dict[str, Any]) -> list[Any]:
        child.stdin.write(json.dumps(told) + "\n")
        child.stdin.flush()
        line = child.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.host} {self.release}: the child process ended at {told}")
        answer: list[Any] = json.loads(line)
        return answer

    def _compare(self, one: environments.Made, answers: list[list[Any]], envguard: compare.Envguard) -> None:
        self.environments += 1
        environment = Environment(environments.snapshot(one, self.host, self.release))
        fired: set[str] = set()
        passed: set[str] = set()
        unmet: set[str] = set()
        met: set[str] = set()
        for place, asked in enumerate(environments.requests(one)):
            self.requests += 1
            request = Request(asked["backend"], asked["scheme"], asked["operation"], self.host, one.device)  # type: ignore[arg-type]
            judged = envguard.judge(environment, request)
            said = [answer[place] for answer in answers]
            by_order = asked["backend"] == "quanto" and environments.has_both_optimums(one)
            wrong = compare.agreement(said, judged, by_order)
            if wrong:
                self._disagree(f"{asked['backend']}: {wrong}", one, {"request": asked, "said": said, "judged": judged})
            if any((each is None) != (said[0] is None) for each in said):
                self.open[asked["backend"]] += 1
            first = said[0]
            if first is None:
                passed.add(asked["backend"])
            else:
                gate = _gate(first, asked["backend"])
                fired.add(gate)
                self.words.setdefault(gate, next((line for line in first["text"].splitlines() if line), ""))
                self.places.update([first["place"], *first["others"]])
            if first is None or first["stage"] != "import":
                passed.add("any backend")
            unmet.update(judged.unmet)
            met.update(judged.met)
            if first is None and judged.verdict == "blocked":
                self.others.update(set(judged.others))
        self.fired.update(fired)
        self.passed.update(passed)
        self.unmet.update(unmet)
        self.met.update(met)

    def lacks(self, gate: str) -> bool:
        """Whether a gate is that the release does not have the backend at all, so that no request passes."""
        words = self.words[gate]
        return ("has no attribute" in words and "module diffusers" in words) or "Unknown quantization type" in words

    def _disagree(self, kind: str, one: environments.Made, what: dict[str, Any]) -> None:
        self.disagreements[kind] += 1
        self.examples.setdefault(kind, {"environment": one, **what})


def _gate(failure: dict[str, str], backend: str) -> str:
    """What stopped a request: for whom, where, and how."""
    return f"{'any backend' if failure['stage'] == 'import' else backend}|{failure['place']}: {failure['error']}"


def _libraries() -> list[str]:
    """A folder with the real `packaging` and nothing else."""
    import packaging

    folder = Path(tempfile.gettempdir()) / "envguard-differential-libraries"
    link = folder / "packaging"
    folder.mkdir(exist_ok=True)
    if not link.exists():
        link.symlink_to(Path(packaging.__file__).parent)
    return [str(folder)]


def main() -> int:
    """Run and report; 0 where upstream and envguard agree everywhere."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", choices=list(HOSTS), action="append")
    parser.add_argument("--release", action="append")
    parser.add_argument("--environments", type=int, default=28_500, help="of each host, over all its releases")
    parser.add_argument("--slice", action="store_true", help="only some releases, as CI does")
    parser.add_argument("--verbose", action="store_true", help="every gate, not only those seen too seldom")
    arguments = parser.parse_args()
    whole = arguments.environments >= 28_500 or bool(arguments.release)
    start, failed, whole_run = time.perf_counter(), False, Total()
    envguard = compare.Envguard(read_folder(rules_folder()))
    with tempfile.TemporaryDirectory() as pool:
        for host in arguments.host or HOSTS:
            wanted = arguments.release or (SLICE if arguments.slice else HOSTS)[host]
            releases = [each for each in HOSTS[host] if each in wanted]
            for release in releases:
                one = Release(host, release, pool)
                one.run(made(host, release, -(-arguments.environments // len(releases))), envguard)
                failed |= report(one, arguments.verbose, whole)
                whole_run.add(one)
    print(f"\n{whole_run.text()}\n{time.perf_counter() - start:.0f} s")
    return 1 if failed else 0


class Total:
    """What came of all releases together."""

    def __init__(self) -> None:
        self.releases: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.disagreements: Counter[str] = Counter()
        self.fired: list[tuple[int, str]] = []
        self.passed: list[tuple[int, str]] = []
        self.others: Counter[str] = Counter()

    def add(self, one: Release) -> None:
        """Count a release in."""
        self.releases[one.host] += 1
        self.counts.update(environments=one.environments, cold=one.cold, requests=one.requests)
        self.disagreements.update(one.disagreements)
        self.others.update(one.others)
        for gate, number in one.fired.items():
            self.fired.append((number, f"{one.release} {gate}"))
            if not one.lacks(gate):
                self.passed.append((one.passed[gate.partition("|")[0]], f"{one.release} {gate}"))

    def text(self) -> str:
        """The figures, a line each."""
        kinds = dict(self.disagreements.most_common())
        lines = [f"{dict(self.counts)}; releases: {dict(self.releases)}"]
        lines.append(f"disagreements: {self.disagreements.total()} {kinds or ''}".rstrip())
        lines.append(f"gates that fired, counted for each release: {len(self.fired)}")
        if self.fired:
            lines.append(f"  seen firing in the fewest environments: {min(self.fired)}")
        if self.passed:
            lines.append(f"  seen passing in the fewest environments: {min(self.passed)}")
        others = dict(self.others.most_common())
        lines.append(f"refused by rules of another origin alone: {self.others.total()} {others}")
        return "\n".join(lines)


def report(one: Release, verbose: bool, whole: bool) -> bool:
    """Print what came of one release; whether something is wrong with it."""
    print(
        f"\n{one.host} {one.release}: {one.environments} environments ({one.cold} of them cold too), {one.requests}"
        f" requests, {one.disagreements.total()} disagreements; the facts left {dict(one.open)} open"
    )
    for kind, number in one.disagreements.most_common():
        print(f"  DISAGREE {number} times: {kind}\n    {one.examples[kind]}")
    seldom = False
    for gate, number in sorted(one.fired.items()):
        whom, _, what = gate.partition("|")
        few = number < LEAST or (one.passed[whom] < LEAST and not one.lacks(gate))
        seldom |= few
        if verbose or (few and whole):
            mark = "SELDOM " if few else ""
            words = one.words[gate][:100]
            print(f"  {mark}fired {number:4}, passed {one.passed[whom]:4}: {whom}: {what}: {words}")
    asks = importlib.import_module(f"asks_{one.host}")
    for gate in gates.gates(str(wheels.wheel(one.host, one.release)), one.host, asks):
        if gate.place in one.places:
            continue
        why = next((why for words, why in asks.NOT_DECIDED.items() if words in gate.text), None)
        if why is None and whole:
            seldom = True
            print(f"  NEVER REACHED: {gate.place}: {gate.text[:150]}")
        elif verbose:
            print(f"  not decided by the environment ({why}): {gate.place}")
    fired = sum(number >= LEAST for number in one.fired.values())
    print(
        f"  gates: {len(one.fired)} fired, {fired} of them in {LEAST} environments or more; passed: {dict(one.passed)}"
    )
    counts = {rule: (one.met[rule], one.unmet[rule]) for rule in sorted(one.met | one.unmet)}
    print(f"  the host's rules, met and unmet: {counts}")
    print(f"  refused by rules of another origin alone: {dict(one.others.most_common())}")
    return bool(one.disagreements) or (seldom and whole)


if __name__ == "__main__":
    sys.exit(main())
