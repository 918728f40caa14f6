"""Options on evidence that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EvidencePath = Annotated[
    Path | None,
    typer.Option(
        "--evidence",
        metavar="FILE",
        help="Keep the session's evidence, and its answers' signed receipts, in a new file.",
    ),
]
IncludeStatements = Annotated[
    bool,
    typer.Option(
        "--include-statements",
        help="With --evidence: keep the answers as well, and the SHA-256 of each picture.",
    ),
]
LockPath = Annotated[
    Path | None,
    typer.Option(
        "--lock",
        metavar="FILE",
        help="In place of a policy: exactly the image of this lock, under the root that counts.",
    ),
]
