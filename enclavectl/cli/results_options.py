"""``--results``: a file that has each answer as soon as it comes, and from which a later run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclavectl.errors import UsageError

if TYPE_CHECKING:
    from enclavectl.results.results_file import ResultsFile

ResultsPath = Annotated[
    Path | None,
    typer.Option(
        "--results",
        metavar="FILE",
        help="Write each answer to a .jsonl or .csv file as it comes; the same command goes on with it.",
    ),
]
RetryRefused = Annotated[
    bool,
    typer.Option("--retry-refused", help="With --results: ask again for the pictures that were refused."),
]


def open_results(path: Path | None, *, retry_refused: bool, report: Path | None) -> ResultsFile | None:
    """Open the results file before an enclave is started; None if none was asked for.

    Raises:
        UsageError: the file is another program's, cannot be written, or the options do not fit together.
        StateError: another command writes to it.
    """
    if path is None:
        if retry_refused:
            raise UsageError("--retry-refused: expected --results FILE as well")
        return None
    if report is not None:
        raise UsageError(
            "expected one of --results and --report, found both",
            hint="a report is of one run: leave --results out, or report on fewer pictures",
        )
    # It needs the cryptography of a session, and few command lines keep results.
    from enclavectl.results.results_file import ResultsFile  # noqa: PLC0415 - see above

    return ResultsFile(path, retry_refused=retry_refused)
