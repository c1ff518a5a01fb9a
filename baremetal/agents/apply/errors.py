"""What can be wrong with metadata, templates and their control files."""

from __future__ import annotations

from baremetal.errors import BaremetalError


class ApplyError(BaremetalError):
    """Nothing was written; the message names the file that is wrong."""

    code = "config-apply"


class BadMetadata(ApplyError):
    """A metadata file cannot be read, is no JSON, or lacks what was asked for."""

    code = "config-metadata"


class BadTemplate(ApplyError):
    """A template cannot be parsed or rendered."""

    code = "config-template"


class BadControl(ApplyError):
    """A control file (.oac) says something we do not understand."""

    code = "config-control"


class CheckFailed(ApplyError):
    """A file's own check refused the new version."""

    code = "config-check"


class WriteFailed(ApplyError):
    """A file could not be put in place; what was there before is there again."""

    code = "config-write"


class TemplateProblem(Exception):
    """What a template engine says of a template: its line (from 1, 0 unknown) and the problem."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}" if line else problem)
        self.line = line
        self.problem = problem
