"""Options of commands that read an invitation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.files import read_bounded
from enclavectl.targets.invitation import MAX_INVITATION_BYTES, parse_invitation
from enclavectl.targets.remotes import RemoteContent

Invitation = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="FILE",
        help="An invitation in place of an address and a policy; - for standard input.",
    ),
]
ExpectedPcr0 = Annotated[
    list[str] | None,
    typer.Option(
        "--expect-pcr0",
        metavar="HEX",
        help="With --from: PCR0 of a release, from whoever built the image; once for each. Asks nothing.",
    ),
]


def read_named_invitation(path: Path) -> RemoteContent:
    """Read the invitation in a file, or for ``-`` in standard input.

    Raises:
        UsageError: there is none, or it is not as it was written.
    """
    if str(path) == "-":
        return parse_invitation(sys.stdin.buffer.read(MAX_INVITATION_BYTES + 1), source="standard input")
    return parse_invitation(read_bounded(path, MAX_INVITATION_BYTES, what="invitation"), source=str(path))
