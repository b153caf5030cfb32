"""What a release of a host does in an environment: its own code, imported and called.

A child process, one for each release: `python -S -I upstream.py HOST WHEEL`. Reads one environment as JSON a line,
writes one answer a line. The host's modules come from its wheel and are executed afresh for every environment; what
they import beside themselves are stand-ins, in a fabricated site-packages with real metadata.
"""

from __future__ import annotations

import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import sys
import traceback
import warnings
import zipfile
from pathlib import Path
from typing import Any

import standins
import tomllib


class Wheel(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """A host's modules, compiled once and executed for each environment."""

    def __init__(self, path: str, top: str, but: tuple[str, ...]) -> None:
        self.top, self._but = top, but
        self._wheel = zipfile.ZipFile(path)
        self._names = frozenset(self._wheel.namelist())
        self._code: dict[str, Any] = {}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] != self.top or name.startswith(self._but):
            return None
        base = name.replace(".", "/")
        for file in (f"{base}/__init__.py", f"{base}.py"):
            if file in self._names:
                spec = importlib.machinery.ModuleSpec(name, self, origin=file, is_package=file.endswith("/__init__.py"))
                spec.has_location = True
                return spec
        return None

    def read(self, file: str) -> bytes:
        """The source of a module."""
        return self._wheel.read(file)

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: Any) -> None:
        file = module.__spec__.origin
        if file not in self._code:
            self._code[file] = compile(self.read(file), file, "exec", dont_inherit=True)
        exec(self._code[file], module.__dict__)


def failure(error: BaseException, top: str) -> dict[str, Any]:
    """An exception in the words that name the gate: type, text, and the place in the host's own code."""
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    frames = traceback.extract_tb(causes[-1].__traceback__)
    inside = [frame for frame in frames if frame.filename.startswith(f"{top}/")]
    place = f"{inside[-1].filename}:{inside[-1].lineno}" if inside else "outside"
    others = [failure(other, top)["place"] for other in getattr(error, "others", [])]
    return {"error": type(causes[-1]).__name__, "text": str(causes[-1])[:400], "place": place, "others": others}


class Host:
    """One release of a host, asked about one environment after another."""

    def __init__(self, name: str, wheel: str, pool: str) -> None:
        here = Path(__file__).parent
        self.name = name
        self.finder = standins.Finder(tomllib.loads((here / "symbols.toml").read_text("utf-8")))
        self.pool = pool
        standins.FINDER = self.finder
        self.stdlib = [each for each in sys.path if "site-packages" not in each and each != str(here)]
        self.requests = importlib.import_module(f"asks_{name}")
        self.finder.also = getattr(self.requests, "STOOD_IN", ())
        modules = Wheel(wheel, name, self.finder.also)
        if hasattr(self.requests, "prepare"):
            self.requests.prepare(modules.read)
        sys.meta_path[:0] = [modules]
        sys.meta_path.append(self.finder)
        self.variables = dict(os.environ)
        self.variables["DIFFUSERS_VERBOSITY"] = self.variables["TRANSFORMERS_VERBOSITY"] = "critical"
        warnings.simplefilter("ignore")

    def answer(self, environment: dict[str, Any]) -> list[dict[str, str] | None]:
        """For each request of an environment None where it passes, else what stopped it."""
        self.finder.environment = environment
        cold = environment.get("cold", False)
        for name in list(sys.modules):
            top = name.partition(".")[0]
            if top in standins.STANDING_IN or (top == self.name and (cold or self.requests.is_fresh(name))):
                del sys.modules[name]
        sys.path[:] = [*self.stdlib, *(f"{self.pool}/{each}" for each in environment["folders"])]
        os.environ.clear()
        os.environ.update(self.variables | environment["variables"])
        try:
            imported = self.requests.import_host()
        except Exception as error:  # noqa: BLE001 - any is an answer
            stopped = {"stage": "import", **failure(error, self.name)}
            return [stopped] * len(environment["requests"])
        environment["accelerators"] = environment["devices"]  # those that the requests mean
        return [self.ask(imported, request) for request in environment["requests"]]

    def ask(self, imported: Any, request: dict[str, Any]) -> dict[str, str] | None:
        """What one request comes to, after the host was imported."""
        stage = ["config"]
        try:
            self.requests.ask(imported, request, stage)
        except Exception as error:  # noqa: BLE001 - any is an answer
            return {"stage": stage[0], **failure(error, self.name)}
        return None


def main() -> None:
    """Answer until there are no more lines."""
    name, wheel, pool = sys.argv[1:]
    host = Host(name, wheel, pool)
    gc.disable()
    for number, line in enumerate(sys.stdin):
        print(json.dumps(host.answer(json.loads(line))), flush=True)
        if number % 50 == 49:
            gc.collect()


if __name__ == "__main__":
    main()
