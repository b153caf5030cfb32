"""The program of the child process: quantizes, runs, saves and loads a tiny model through the guarded backend.

It is run by its path, by the interpreter that is looked at, and imports nothing of ours before that one's own path is
set. One line of JSON on standard input says what to do; what came of it goes to a file: anything may be printed.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main() -> int:
    """Do what standard input says. What fails is a traceback, its last line the whole error on one line."""
    asked = json.loads(_line())
    _die_with_the_parent()
    _leave_no_core()
    sys.path[:] = asked["path"]
    _find_ourselves(asked["package"])
    answer: dict[str, Any] = {}
    try:
        _look(asked, answer)
    except Exception as error:  # noqa: BLE001 - whatever a backend raises is what is to be told
        import traceback

        traceback.print_exc()
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _look(asked: dict[str, Any], answer: dict[str, Any]) -> None:
    def tell(**more: Any) -> None:
        answer.update(more)
        with open(asked["answer"], "w", encoding="utf-8") as file:
            json.dump(answer, file)

    try:
        import packaging  # noqa: F401 - what a guarded backend needs of others, in the environment that is looked at

        from envguard.errors import RequirementsNotMet
        from envguard.guard import guarded_by
    except ImportError as error:
        tell(unable=str(error))
        return
    tell(step="while torch was imported")
    import torch

    from envguard.deep import models

    try:
        tell(step="while the rules were looked at")
        backend = guarded_by(
            asked["spec"],
            asked["host"],
            asked["device"],
            asked["operation"],
            asked["undecided"],
            tuple(asked["ignore"]),
        )
        with torch.no_grad():
            _try(backend, asked, models, tell)
    except RequirementsNotMet as error:
        failing = [o for b in error.report.backends for o in b.outcomes if o.status in ("unmet", "undecided")]
        worst = [each for each in failing if each.severity == "error" and not each.ignored]
        tell(refused=[[each.rule, each.message] for each in worst[:1]])


def _try(backend: Any, asked: dict[str, Any], models: Any, tell: Any) -> None:
    folder = asked["folder"]
    tell(step=f"while {asked['host']} was imported" if asked["host"] != "none" else "while the model was made")
    cls, model, run = models.make(asked["host"], backend.backend)
    wanted = run(model)
    place = os.path.join(folder, "saved")

    tell(step="while it quantized", device=backend.device)
    if backend.backend == "gguf":
        place += ".gguf"
        quantized = backend.quantize(model, path=place)
    elif asked["host"] == "none":
        quantized = backend.quantize(model)
    else:
        model.save_pretrained(os.path.join(folder, "full"))
        quantized = backend.load(cls, os.path.join(folder, "full"), torch_dtype=models.torch.bfloat16)
    tell(step="while the quantized model ran")
    found = run(quantized)
    tell(step="while it saved", error=models.error(found.cpu(), wanted))
    if backend.backend != "gguf":
        backend.save(quantized, place)
    tell(step="while it loaded what it had saved")
    # a host takes the other layers in the type that it is told; our own folders and files hold theirs
    theirs = os.path.isfile(os.path.join(place, "config.json")) and not os.path.isfile(
        os.path.join(place, "envguard.json")
    )
    again = backend.load(cls, place, **({"torch_dtype": models.torch.bfloat16} if theirs else {}))
    tell(step="while the loaded model ran")
    tell(again=models.error(run(again), found))
    tell(step="while the process ended")


def _line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 1 << 16)
        if not piece:
            raise SystemExit(1)
        line += piece
    return line


def _die_with_the_parent() -> None:
    """Standard input ends when the parent does, however that ended; then nobody waits for us."""
    import threading

    def watch() -> None:
        if not os.read(0, 1):
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _leave_no_core() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _find_ourselves(package: str) -> None:
    """Make our package importable, and nothing else of the environment that it is installed in."""
    from importlib.util import module_from_spec, spec_from_file_location

    file = os.path.join(package, "__init__.py")
    spec = spec_from_file_location("envguard", file, submodule_search_locations=[package])
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be imported")
    sys.modules["envguard"] = module = module_from_spec(spec)
    spec.loader.exec_module(module)


if __name__ == "__main__":
    raise SystemExit(main())
