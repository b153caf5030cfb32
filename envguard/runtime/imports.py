"""Imports a backend for a permit, and compares what came with what was checked."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

from envguard.errors import BackendChanged
from envguard.permits import Permit, verify
from envguard.versions import key

if TYPE_CHECKING:
    from types import ModuleType


def import_checked(permit: Permit) -> ModuleType:
    """The backend's module.

    Raises TypeError for a permit that was not issued, BackendChanged where another file or version than the checked one
    is imported or was before, and where the import fails although the rules passed.
    """
    verify(permit)
    name = permit.import_name
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise BackendChanged(
            f"{name} passed its rules, but importing it failed: {type(error).__name__}: {error}. Check again in a new"
            f" process ({sys.executable} -m envguard check --backend {permit.request.backend}); where that still"
            " passes, a rule is missing: please report it"
        ) from error
    _compare(module, permit)
    return module


def _compare(module: ModuleType, permit: Permit) -> None:
    file = getattr(module, "__file__", None)
    if permit.origin and file and not _same_file(file, permit.origin):
        raise BackendChanged(
            f"{permit.import_name} was checked at {permit.origin}, but {file} is what Python imported: another folder"
            " on sys.path hides it. Remove that folder from sys.path or rename it, and start Python again"
        )
    found = vars(module).get("__version__")
    if isinstance(found, str) and permit.version and not _same_version(found, permit.version):
        raise BackendChanged(
            f"{permit.import_name} {permit.version} was checked, but {found} is imported in this process: the package"
            " was changed after the import. Start Python again"
        )


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.normcase(os.path.abspath(one)) == os.path.normcase(os.path.abspath(other))


def _same_version(module: str, metadata: str) -> bool:
    """The same release: a module seldom has the local part (0.18.0+git123) that its metadata has."""
    one, other = key(module.partition("+")[0]), key(metadata.partition("+")[0])
    return one is None or other is None or one == other
