"""Every exception that envguard raises on purpose. Imports nothing of ours."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from envguard.model import Report


class EnvguardError(Exception):
    """Base of all errors below; its text is one clear line."""


class BadInput(EnvguardError, ValueError):
    """Something given to envguard cannot be used: a snapshot, a rules folder, an interpreter, an option."""


class BadSnapshot(BadInput):
    """A snapshot that is not JSON, not of the known schema, or holds a value of the wrong type."""


class BadRules(BadInput):
    """A rules file that the loader refuses; the text names file, key and what was expected."""


class BadModel(BadInput):
    """A model file or folder that does not hold to its format; the text names file, place, expected and found."""


class BadInterpreter(BadInput):
    """The interpreter to inspect does not exist, does not start or is not a Python that envguard can read."""


class UnknownBackend(EnvguardError, ValueError):
    """A backend that no loaded rule set declares; the text lists the near names."""


class UnknownScheme(EnvguardError, ValueError):
    """A scheme that the backend does not have, or none where one is needed; the text lists the near names."""


class SchemeConflict(EnvguardError, ValueError):
    """A scheme given to quantize or load that differs from the one the guarded backend was made for."""


class RequirementsNotMet(EnvguardError, ImportError):
    """A backend's rules have not passed.

    `report` holds every outcome; the text of the error lists each failing rule with its fix.
    """

    def __init__(self, text: str, report: Report) -> None:
        super().__init__(text)
        self.report = report


class EnvguardWarning(UserWarning):
    """A backend runs degraded: what is lost is in the text."""


class UnknownOption(EnvguardError, TypeError):
    """An option that the backend does not have; the text lists those it has."""


class BackendChanged(EnvguardError, ImportError):
    """What was imported is not what was checked, or does not import although its rules passed."""
