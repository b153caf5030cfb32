"""Writes the reference of the rules, rules/reference/: an index, and a page for each rules file.

python tests/maintain/reference.py [--check]

The texts are those of `envguard explain`. With --check nothing is written: pages that are not what the rules say are
named, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from envguard import trials  # noqa: E402
from envguard.output.explain import need_text, told  # noqa: E402
from envguard.rule import Backend, Rule  # noqa: E402
from envguard.rulebook import RuleBook  # noqa: E402
from envguard.rulefiles import read_folder  # noqa: E402

FOLDER = ROOT / "rules" / "reference"
_DEEP = "deep"  # the page of the rules that stand in no file
_LABELS = {
    "needed": "Needs",
    "match": "Compared",
    "for": "For",
    "holds": "Since",
    "effect": "Effect",
    "why": "Why, and the error it prevents",
    "fix": "Fix",
    "after": "After",
    "source": "Source",
    "checked": "Checked",
}
_SPECIAL = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_[]<|~"})
_WRITTEN = "<!-- Written by tests/maintain/reference.py from rules/*.toml. Do not edit. -->"


def pages(book: RuleBook) -> dict[str, str]:
    """The text of each page by its file's name."""
    by_file: dict[str, dict[str, list[Rule]]] = {}
    for rule in trials.rows(book):
        by_file.setdefault(rule.file or _DEEP, {}).setdefault(rule.id, []).append(rule)
    made = {_page_of(file): _page(book, file, rules) for file, rules in by_file.items()}
    return {"README.md": _index(book, by_file), **made}


def _page_of(file: str) -> str:
    return f"{file.removesuffix('.toml')}.md"


def _index(book: RuleBook, by_file: dict[str, dict[str, list[Rule]]]) -> str:
    lines = [
        "# The rules",
        "",
        _WRITTEN,
        "",
        f"{len(trials.ids(book))} rules, as of {book.version}. `envguard explain RULE-ID` prints the same;",
        "[../README.md](../README.md) is about the files that they stand in.",
    ]
    for file, rules in by_file.items():
        page = _page_of(file)
        lines += ["", f"## [{file.removesuffix('.toml')}]({page})", "", "| rule | needs | effect |", "|---|---|---|"]
        for name, rows in rules.items():
            needs = list(dict.fromkeys(need_text(row.need) for row in rows))
            more = f" and {len(needs) - 1} more" if len(needs) > 1 else ""
            effects = " or ".join(dict.fromkeys(row.severity for row in rows))
            lines.append(f"| [{escaped(name)}]({page}#{anchor(name)}) | {escaped(needs[0])}{more} | {effects} |")
    return "\n".join([*lines, ""])


def _page(book: RuleBook, file: str, rules: dict[str, list[Rule]]) -> str:
    backend = next((each for each in book.backends.values() if f"{each.name}.toml" == file), None)
    title = file.removesuffix(".toml")
    lines = [f"# {title}", "", _WRITTEN, "", "[All rules](README.md)", ""]
    if backend is not None:
        lines += _about(book, backend, file)
    for name, rows in rules.items():
        common, owns = told(rows, book.releases)
        lines += [f"## {escaped(name)}", "", *_fields(common)]
        for number, own in enumerate(owns, 1):
            if own:
                lines += [f"### Row {number} of {len(rows)}", "", *_fields(own)]
    return "\n".join(lines)


def _about(book: RuleBook, backend: Backend, file: str) -> list[str]:
    """What a backend is called, and the rules of other files that can apply to it."""
    lines = [f"- **Distribution**: {escaped(backend.distribution)}, imported as {escaped(backend.import_name)}"]
    if backend.aliases:
        lines.append(f"- **Also called**: {escaped(', '.join(backend.aliases))}")
    schemes = [f"{name} ({', '.join(aliases)})" if aliases else name for name, aliases in backend.schemes.items()]
    lines.append(f"- **Schemes**: {escaped(', '.join(schemes))}")
    others = {rule.id: rule.file or _DEEP for rule in trials.rows(book, backend=backend.name) if rule.file != file}
    links = [f"[{escaped(name)}]({_page_of(other)}#{anchor(name)})" for name, other in others.items()]
    return [*lines, f"- **Rules of others for it**: {', '.join(links)}", ""]


def _fields(fields: dict[str, str]) -> list[str]:
    return [*(f"- **{_LABELS[label]}**: {escaped(text)}" for label, text in fields.items() if text), ""]


def escaped(text: str) -> str:
    """Text that Markdown shows as it stands, on one line."""
    return " ".join(text.split()).translate(_SPECIAL)


def anchor(name: str) -> str:
    """The fragment under which GitHub puts a heading."""
    return "".join([sign for sign in name.lower() if sign.isalnum() or sign in "-_"])


def main() -> int:
    """Write the pages, or name those that are not what the rules say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page has to be written")
    check = parser.parse_args().check
    made = pages(RuleBook(read_folder(str(ROOT / "rules"))))
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")} if FOLDER.is_dir() else {}
    stale = sorted(name for name in {*made, *there} if made.get(name) != there.get(name))
    for name in stale:
        print(f"rules/reference/{name}")
        if check:
            continue
        FOLDER.mkdir(exist_ok=True)
        if name in made:
            (FOLDER / name).write_text(made[name], encoding="utf-8", newline="\n")
        else:
            (FOLDER / name).unlink()
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
