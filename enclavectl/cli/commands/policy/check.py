"""``enclavectl policy check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enclavectl.backends.registry import load_policy
from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import OutputFormat

PolicyPath = Annotated[Path, typer.Argument(metavar="POLICY", help="A policy file.")]


def check(file: PolicyPath) -> None:
    """Check that a policy can be used.

    A policy that cannot be used ends with exit code 2 and the line that is wrong.

    Examples:
      enclavectl policy check policy.yaml  before it is given to anybody
    """
    policy = load_policy(file, allow_debug=False)
    screen_for(OutputFormat.TEXT).facts([("releases", ", ".join(one.name for one in policy.releases))])
