# ruff: noqa: E501 - small programs stand on one line
"""Imports are judged by the files alone: what fails is told, and nothing else is."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envguard.links import Finding, Links, check_links
from envguard.links.outline import outline

_TORCH = {
    "torch/__init__.py": """
        from torch.version import __version__
        from torch import nn as nn, library as library, utils as utils
        class Tensor: ...
    """,
    "torch/version.py": "__version__ = '2.9.1+cpu'\ncuda = None\n",
    "torch/nn/__init__.py": "from . import functional as functional\n",
    "torch/nn/functional.py": "def linear(x): ...\n",
    "torch/library.py": "def custom_op(name): ...\n",
    "torch/utils/__init__.py": "from torch.utils import _pytree as _pytree\n",
    "torch/utils/_pytree.py": "def tree_map(f, tree): ...\n",
    "torch-2.9.1+cpu.dist-info/METADATA": "Name: torch\nVersion: 2.9.1+cpu\n",
}


def install(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), "utf-8")
    return folder


def looked_at(folder: Path, source: str | dict[str, str], complete: bool = True) -> Links:
    """The links of a package `ao` with this `__init__.py` (or these files), beside a small torch."""
    files = {"ao/__init__.py": source} if isinstance(source, str) else source
    install(folder, {**_TORCH, **files})
    return check_links([str(folder)], ["ao"], complete=complete)


def really_fails(folder: Path) -> bool:
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); import ao"],
        capture_output=True,
        check=False,
    )
    return done.returncode != 0


FAILS = {
    "a name that a module lacks": "from torch.nn.functional import ScalingType",
    "a module that a package lacks": "import torch._inductor.kernel.flex_attention",
    "a package that is not installed": "import sentencepiece_that_nobody_has",
    "an attribute of a module": "import torch\nx = torch.utils._pytree.register_constant",
    "an attribute in a default argument": "import torch\ndef f(x=torch.nn.missing): ...",
    "an attribute in an annotation of a base": "import torch\nclass A(torch.nn.Missing): ...",
    "an attribute in a class body": "import torch\nclass A:\n    x = torch.nn.functional.missing",
    "a decorator": "import torch\n@torch.library.register_fake('x')\ndef f(): ...",
    "a function that is called on import": "import torch\ndef f():\n    return torch.nn.missing\nf()",
    "a decorator of one's own": "import torch\ndef f(c):\n    torch.nn.missing(c)\n    return c\n@f\nclass A: ...",
    "a name that is bound later": "def f():\n    logger.info('x')\nf()\nlogger = None",
    "a name in a handler that is bound later": """
        def update():
            try:
                from torch.nn import Gone
            except (ImportError, ModuleNotFoundError):
                logger.warning("gone")
        update()
        import logging
        logger = logging.getLogger(__name__)
    """,
    "a version that is asked for": """
        import torch
        if torch.__version__ >= "2.9":
            from torch.nn import Gone
    """,
    "an exception that is raised": "import sys\nif sys.version_info >= (3, 8):\n    raise ImportError('needs another')",
    "an import whose handler is for something else": "try:\n    from torch.nn import Gone\nexcept ValueError: ...",
    "an import in a handler": "try:\n    import nobody_has_it\nexcept ImportError:\n    from torch.nn import Gone",
    "an annotation that is looked at": """
        import torch
        def f(x: torch.nn.Missing): ...
    """,
}


@pytest.mark.parametrize("source", FAILS.values(), ids=FAILS)
def test_what_fails_is_told(tmp_path: Path, source: str) -> None:
    if "annotation that is looked at" in source and sys.version_info >= (3, 14):
        return
    found = looked_at(tmp_path, source)
    assert [each.effect for each in found.broken] == ["import-fails"]
    assert found.broken[0].module == "ao"
    assert found.broken[0].file == "ao/__init__.py"
    assert really_fails(tmp_path)


WORKS = {
    "names that are there": "from torch.nn.functional import linear\nfrom torch import Tensor, nn\nimport torch.utils._pytree",
    "an optional package": "try:\n    import nobody_has_it\nexcept ImportError:\n    nobody_has_it = None",
    "an optional package and Exception": "try:\n    import nobody_has_it\nexcept Exception:\n    pass",
    "an optional package and everything": "try:\n    import nobody_has_it\nexcept:\n    pass",
    "a suppressed failure": "import contextlib\nwith contextlib.suppress(ImportError):\n    import nobody_has_it",
    "imports for the type checker": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from torch import Gone",
    "a later version": "import torch\nif torch.__version__ >= '2.10':\n    from torch.nn import Gone",
    "a parsed version": """
        import torch
        from importlib.metadata import version
        if tuple(int(x) for x in version("torch").split("+")[0].split(".")) >= (2, 10):
            from torch.nn import Gone
    """,
    "a function that compares versions": """
        import re
        import torch
        def parse(text):
            found = re.match(r"(\\d+)\\.(\\d+)", text)
            return [int(x) for x in found.groups()]
        def torch_version_at_least(wanted):
            return parse(torch.__version__) >= parse(wanted)
        TORCH_VERSION_AT_LEAST_2_10 = torch_version_at_least("2.10.0")
        if TORCH_VERSION_AT_LEAST_2_10:
            from torch.nn import Gone
    """,
    "a package that is looked for": """
        import importlib.util
        if importlib.util.find_spec("nobody_has_it") is not None:
            import nobody_has_it
    """,
    "another platform": "import sys\nif sys.platform == 'plan9':\n    import nobody_has_it",
    "another Python": "import sys\nif sys.version_info < (3, 8):\n    import nobody_has_it",
    "an attribute that is asked for": "import torch\nif hasattr(torch.nn, 'Gone'):\n    x = torch.nn.Gone",
    "an attribute with a default": "import torch\nx = getattr(torch.nn, 'Gone', None)",
    "a body that is not run": "import torch\ndef f():\n    import nobody_has_it\n    return torch.nn.Gone",
    "annotations that are not looked at": "from __future__ import annotations\nimport torch\ndef f(x: torch.nn.Gone): ...",
    "what cannot be known": "import os, torch\nif os.path.exists('/nowhere/at/all'):\n    x = torch.nn.Gone",
    "what cannot be known, and returns": """
        import os
        def f():
            if not os.path.exists("/nowhere/at/all"):
                return
            import nobody_has_it
        f()
    """,
    "what cannot be known, in a loop": """
        import os
        for name in os.listdir(os.curdir):
            if name == "nobody has it":
                import nobody_has_it
    """,
    "a manager of one's own": """
        class quiet:
            def __enter__(self): ...
            def __exit__(self, kind, *rest):
                return kind is not None and issubclass(kind, ImportError)
        with quiet():
            import nobody_has_it
    """,
    "names from the standard library": "import json, os.path, collections.abc\nfrom typing import Any\nfrom functools import wraps",
    "names that functions bind": "def f():\n    global x\n    x = 1\nf()\ny = x",
    "a loop variable": "for name in ('a', 'b'):\n    globals()[name] = 1\nc = a",
    "a name that is bound by exec": "exec('a = 1')\nb = a",
    "match": "import sys\nmatch sys.argv:\n    case [first, *rest]:\n        pass\n    case _:\n        first = rest = None\nx = first",
    "comprehensions and lambdas": "x = [i for i in range(3) if i]\ny = {k: v for k, v in {'a': 1}.items()}\nz = lambda a: gone",
    "an exception that is taken in and named": "try:\n    import nobody_has_it\nexcept ImportError as error:\n    x = str(error)",
}


@pytest.mark.parametrize("source", WORKS.values(), ids=WORKS)
def test_what_works_is_not_blamed(tmp_path: Path, source: str) -> None:
    found = looked_at(tmp_path, source)
    assert found.findings == ()
    assert found.looked == ("ao",)


def test_cases_that_need_no_real_torch_really_work(tmp_path: Path) -> None:
    for number, (name, source) in enumerate(WORKS.items()):
        if name == "a later version":  # compares as a version in the real torch alone
            continue
        folder = install(tmp_path / str(number), {**_TORCH, "ao/__init__.py": source})
        assert not really_fails(folder), name


def test_names_come_through_stars_reexports_and_lists(tmp_path: Path) -> None:
    files = {
        "other/__init__.py": "from .all import *\nfrom .plain import *\nfrom .deep.inner import thing as renamed\n",
        "other/all.py": "__all__ = ['listed']\nlisted = 1\nhidden = 2\n",
        "other/plain.py": "from .more import *\nplain = 1\n_private = 2\n",
        "other/more.py": "more = 1\n",
        "other/deep/__init__.py": "",
        "other/deep/inner.py": "thing = 1\n",
    }
    there = "from other import listed, plain, more, renamed, deep"
    assert looked_at(tmp_path / "there", {**files, "ao/__init__.py": there}).findings == ()
    for gone in ("hidden", "_private", "thing"):
        found = looked_at(tmp_path / gone, {**files, "ao/__init__.py": f"from other import {gone}"})
        assert [(each.name, each.needed_from) for each in found.broken] == [(gone, "other")]
        assert really_fails(tmp_path / gone)


@pytest.mark.parametrize(
    "source",
    [
        "def __getattr__(name): return 1",
        "globals().update(gone=1)",
        "globals()['go' + 'ne'] = 1",
        "import sys\nsys.modules[__name__] = object()",
        "exec('gone = 1')",
        "import sys\nsetattr(sys.modules[__name__], 'go' + 'ne', 1)",
        "from nowhere_near import *",
        "this is no Python",
    ],
)
def test_of_a_module_that_makes_its_own_names_nothing_is_told(tmp_path: Path, source: str) -> None:
    files = {"other.py": source, "ao/__init__.py": "from other import gone"}
    assert looked_at(tmp_path, files).findings == ()


ATTACH = """
import importlib
TABLE = {"inner": ["given", "also"]}
def _attach(package, submodules=None, submod_attrs=None):
    where = {name: module for module, names in submod_attrs.items() for name in names}
    def __getattr__(name):
        if name not in where:
            raise AttributeError(name)
        return getattr(importlib.import_module(f"{package}.{where[name]}"), name)
    return __getattr__, list, list(where)
"""
ATTACHES = "__getattr__, __dir__, __all__ = _attach(__name__, submodules=[], submod_attrs=TABLE)\n"


@pytest.mark.parametrize("attaches", [ATTACHES, ATTACHES.replace("submod_attrs=", "").replace("submodules=", "")])
def test_a_module_that_attaches_its_names_lazily_has_those_of_its_table(tmp_path: Path, attaches: str) -> None:
    files = {"other/__init__.py": ATTACH + attaches, "other/inner.py": "given = also = 1\n", "other/module.py": ""}
    there = {**files, "ao/__init__.py": "from other import given, also, inner, module, TABLE\n"}
    assert looked_at(tmp_path / "there", there).findings == ()
    found = looked_at(tmp_path / "gone", {**files, "ao/__init__.py": "from other import gone"})
    assert [(each.name, each.needed_from) for each in found.broken] == [("gone", "other")]
    assert really_fails(tmp_path / "gone")


@pytest.mark.parametrize(
    "attaches",
    [
        ATTACHES.replace("=TABLE", "=dict(TABLE, deep=['gone'])"),
        "TABLE['deep'] = ['gone']\n" + ATTACHES,
        ATTACHES + "globals().update(gone=1)\n",
        ATTACHES.replace("_attach(", "_other(").replace(
            "__getattr__, ", "def _other(*given, **named): ...\n__getattr__, "
        ),
    ],
)
def test_of_a_module_that_attaches_in_another_way_nothing_is_told(tmp_path: Path, attaches: str) -> None:
    files = {"other/__init__.py": ATTACH + attaches, "ao/__init__.py": "from other import gone"}
    assert looked_at(tmp_path, files).findings == ()


@pytest.mark.parametrize(
    "change",
    ["sys.path.insert(0, folder)", "sys.path[0:0] = [folder]", "sys.path += [folder]", "sys.path.extend([folder])"],
)
def test_where_a_package_adds_to_the_search_path_nothing_is_missing(tmp_path: Path, change: str) -> None:
    source = (
        f"import os, sys\nfolder = os.path.join(os.path.dirname(__file__), 'vendored')\n{change}\nimport only_there"
    )
    found = looked_at(tmp_path, {"ao/__init__.py": source, "ao/vendored/only_there.py": ""})
    assert found.findings == ()
    assert not really_fails(tmp_path)


def test_of_a_compiled_module_nothing_is_told(tmp_path: Path) -> None:
    files = {
        "other/__init__.py": "",
        "other/_c.abi3.so": "",
        "ao/__init__.py": "from other._c import gone\nimport other._c.x",
    }
    assert looked_at(tmp_path, files).findings == ()


def test_a_namespace_has_its_modules_and_nothing_else(tmp_path: Path) -> None:
    files = {"space/one.py": "", "ao/__init__.py": "import space.one\nfrom space import one"}
    assert looked_at(tmp_path / "a", files).findings == ()
    files["ao/__init__.py"] = "from space import two"
    assert looked_at(tmp_path / "b", files).broken[0].name == "two"


def test_modules_of_the_package_are_followed_and_those_of_others_not(tmp_path: Path) -> None:
    files = {
        "ao/__init__.py": "from .one import x",
        "ao/one.py": "import other\nfrom ao.two import y\nx = 1",
        "ao/two.py": "from torch.nn import Gone\ny = 1",
        "other.py": "from torch.nn import GoneToo",
    }
    (finding,) = looked_at(tmp_path, files).findings
    assert (finding.module, finding.name, finding.needed_from, finding.line) == ("ao.two", "Gone", "torch.nn", 1)
    assert finding.error == "cannot import name 'Gone' from 'torch.nn'"
    both = check_links([str(tmp_path)], ["ao"], follow=["ao", "other"])
    assert [each.module for each in both.findings] == ["other"]  # it comes first


def test_a_circular_import_is_none_of_our_business(tmp_path: Path) -> None:
    files = {
        "ao/__init__.py": "from .one import x\ny = 1",
        "ao/one.py": "import ao\nfrom ao import two\nx = 1",
        "ao/two.py": "",
    }
    assert looked_at(tmp_path, files).findings == ()


def test_a_caught_failure_of_what_is_installed_is_a_lost_feature(tmp_path: Path) -> None:
    found = looked_at(tmp_path, "try:\n    from torch.nn import Gone\nexcept ImportError:\n    Gone = None")
    assert [(each.name, each.effect) for each in found.findings] == [("Gone", "feature-lost")]
    assert found.broken == ()


def test_a_name_that_is_taken_from_another_place_is_not_lost(tmp_path: Path) -> None:
    found = looked_at(
        tmp_path,
        "try:\n    from torch.nn import linear\nexcept ImportError:\n    from torch.nn.functional import linear",
    )
    assert found.findings == ()


def test_lazy_packages_fetch_what_is_asked_for(tmp_path: Path) -> None:
    lazy = """
        import sys
        from .lazily import _LazyModule
        _import_structure = {"inner": ["Fine"], "broken": ["Bad"]}
        sys.modules[__name__] = _LazyModule(__name__, globals()["__file__"], _import_structure)
    """
    files = {
        "ao/__init__.py": lazy,
        "ao/lazily.py": "class _LazyModule: ...",
        "ao/inner.py": "class Fine: ...",
        "ao/broken.py": "from torch.nn import Gone\nclass Bad: ...",
        "ao/user.py": "from ao import Fine, unheard_of",
        "ao/loser.py": "from ao import Bad",
    }
    install(tmp_path, {**_TORCH, **files})
    assert check_links([str(tmp_path)], ["ao", "ao.inner", "ao.user"]).findings == ()
    assert check_links([str(tmp_path)], ["ao.loser"]).broken[0].module == "ao.broken"


def test_names_of_torch_itself_are_told_where_its_stubs_and_its_library_tell_them(tmp_path: Path) -> None:
    files = {
        "torch/__init__.py": "from torch.version import __version__\nfrom torch import _C\nfor n in dir(_C):\n    globals()[n] = 1\n",
        "torch/_C/__init__.pyi": "float8_e4m3fn: dtype = ...\n",
        "torch/_C/_VariableFunctions.pyi": "def zeros(): ...\n",
        "torch/lib/libtorch_python.so": "...\0_in_the_library\0...",
    }
    for name, there in (
        ("float8_e4m3fn", True),
        ("zeros", True),
        ("_in_the_library", True),
        ("uint4", True),  # so short a name may be anywhere in the library
        ("npu_of_somebody", False),
        ("accelerator", False),
        ("float8_e8m0fnu", False),
    ):
        found = looked_at(tmp_path / name, {**files, "ao/__init__.py": f"import torch\nx = torch.{name}"})
        assert (found.findings == ()) is there, name


def test_a_part_of_the_packages_is_enough(tmp_path: Path) -> None:
    source = "import nobody_has_it\nfrom torch.nn import Gone"
    assert looked_at(tmp_path / "a", source).broken[0].name == "nobody_has_it"
    assert looked_at(tmp_path / "b", source, complete=False).broken[0].name == "Gone"


def test_wheels_are_read_as_folders_are(tmp_path: Path) -> None:
    folder = install(tmp_path / "files", _TORCH)
    with zipfile.ZipFile(tmp_path / "ao-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("ao/__init__.py", "from torch.nn import Gone")
        wheel.writestr("ao-1.0.dist-info/METADATA", "Name: ao\nVersion: 1.0\n")
    found = check_links([str(tmp_path / "ao-1.0-py3-none-any.whl"), str(folder)], ["ao"])
    assert [each.name for each in found.broken] == ["Gone"]


def test_an_entry_that_a_release_does_not_have_is_passed_over(tmp_path: Path) -> None:
    install(tmp_path, {**_TORCH, "ao/__init__.py": ""})
    found = check_links([str(tmp_path)], ["ao", "ao.newer", "nothing.at.all"])
    assert found.findings == ()
    assert found.looked == ("ao",)


def test_nothing_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    looked_at(tmp_path, f"open({str(mark)!r}, 'w').close()\nimport os\nos.mkdir({str(mark)!r})")
    assert not mark.exists()


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    return f()\nf()",
        "def f(x):\n    return g(x)\ndef g(x):\n    return f(x)\nf(1)",
        "x = 'a' * 10 ** 12\ny = 10 ** 10 ** 10",
        "for a in range(10 ** 9):\n    b = a",
        "while True:\n    x = 1",
        f"import re\nre.match('(a+)+$', '{'a' * 40}b')",
        f"import re\nre.compile('(a|a)*$').match('{'a' * 40}b')",
        "x = " + "(" * 60 + "1" + ")" * 60,
    ],
)
def test_code_that_never_ends_does_not_hold_us_up(tmp_path: Path, source: str) -> None:
    assert looked_at(tmp_path, source).findings == ()


def test_a_finding_says_it_as_a_snapshot_does() -> None:
    finding = Finding("ao.x", "Gone", "torch.nn", 3, "import-fails", "no", "ao/x.py", "ao")
    assert finding.to_data() == {
        "module": "ao.x", "name": "Gone", "needed_from": "torch.nn", "line": 3, "effect": "import-fails",
        "error": "no", "file": "ao/x.py", "entry": "ao", "certain": True,
    }  # fmt: skip


def test_the_outline_keeps_every_line_in_its_place() -> None:
    source = textwrap.dedent('''
        import a
        def f(
            x=(1, 2),
        ) -> int:
            """Words."""
            return x

        class B:
            y = 1
            async def g(self):
                if self:
                    return 1
                # the end
            z = 2
        def one(): return 1
        last = 3
    ''')
    short, ends = outline(source)
    assert short.count("\n") == source.count("\n")
    assert "return x" not in short
    assert "return 1\n" in short  # it stands beside its header
    assert "last = 3" in short
    assert len(ends) == 2


def test_text_in_the_first_column_ends_no_function() -> None:
    source = 'def f():\n    return """\nimport nothing\n"""\nx = 1\n'
    assert outline(source)[0] == source


@given(
    st.lists(
        st.sampled_from(
            ["def f():", "    x = 1", "        y = 2", "class A:", "    def g(self):", '    """', "", "z = 3", "@f"]
        )
    )
)
def test_the_outline_never_loses_a_line(lines: list[str]) -> None:
    source = "\n".join(lines)
    short, _ = outline(source)
    assert short.count("\n") == source.count("\n")


_ASKS_THE_STANDARD_LIBRARY = """
    import sys
    from calendar import monthrange
    if sys.version_info < (3, 8) or not monthrange(2026, 2):
        raise ImportError
"""
# what lies in a folder -> whether it hides the standard library where the folder is searched first, and last
NAMESAKES = {
    "a folder": ("calendar/thing.txt", False, False),
    "a package": ("calendar/__init__.py", True, False),
    "a module": ("calendar.py", True, False),
    "a module built into Python": ("sys.py", False, False),
    "a module that is loaded before": ("encodings.py", False, False),
}


@pytest.mark.parametrize(("python", "works"), [((3, 10, 0), False), ((3, 11, 0), True), ((3, 14, 0), True)])
def test_the_standard_library_is_that_of_the_python_that_is_looked_at(
    tmp_path: Path, python: tuple[int, int, int], works: bool
) -> None:
    install(tmp_path, {"ao/__init__.py": "import tomllib\n"})
    assert bool(check_links([str(tmp_path)], ["ao"], python=python).broken) is not works
    install(tmp_path, {"ao/__init__.py": "import sys\nif sys.version_info >= (3, 14):\n    import annotationlib\n"})
    assert not check_links([str(tmp_path)], ["ao"], python=python).broken


@pytest.mark.skipif(sys.platform == "win32", reason="only on POSIX: links")
def test_a_link_to_nothing_hides_nothing(tmp_path: Path) -> None:
    install(tmp_path, {"ao/__init__.py": _ASKS_THE_STANDARD_LIBRARY})
    (tmp_path / "calendar.py").symlink_to(tmp_path / "nothing")
    assert not check_links([str(tmp_path)], ["ao"], ahead=[str(tmp_path)]).broken


@pytest.mark.parametrize(("file", "first", "last"), NAMESAKES.values(), ids=NAMESAKES)
@pytest.mark.parametrize("searched", ["first", "last"])
def test_only_a_module_that_is_searched_first_hides_the_standard_library(
    tmp_path: Path, file: str, first: bool, last: bool, searched: str
) -> None:
    install(tmp_path, {"ao/__init__.py": _ASKS_THE_STANDARD_LIBRARY, file: ""})
    fails = first if searched == "first" else last
    found = check_links([str(tmp_path)], ["ao"], ahead=[str(tmp_path)] if searched == "first" else [])
    assert bool(found.broken) is fails
    place = "insert(0, " if searched == "first" else "append("
    program = f"import sys; sys.path.{place}{str(tmp_path)!r}); import ao"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, check=False)
    assert (done.returncode != 0) is fails
