"""``enclavectl policy retire``."""

from __future__ import annotations

from typing import Annotated

import typer

from enclavectl.attestation import parse_policy
from enclavectl.attestation.policy_edit import end_release, find_release
from enclavectl.attestation.times import render_time
from enclavectl.cli.completion import release_names
from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import DryRun, Output, OutputFormat
from enclavectl.cli.policy_arguments import PolicyPath, moment, read_policy_text
from enclavectl.cli.policy_change import PolicyChangeRequest, apply_change
from enclavectl.errors import UsageError

ReleaseToEnd = Annotated[
    str, typer.Argument(metavar="RELEASE", help="A release's name or label.", autocompletion=release_names)
]
End = Annotated[
    str, typer.Option("--expires", metavar="TIME", help="When it ends: now, a date, or a time in UTC.")
]


def retire(
    file: PolicyPath,
    name: ReleaseToEnd,
    expires: End = "now",
    dry_run: DryRun = False,
    output: Output = OutputFormat.TEXT,
) -> None:
    """End the life of a release, now or at a later time.

    Sets the release's expires. Documents from before that time still pass, judged at their own time. For a
    release that must not pass at any time, use policy revoke. A life is never made longer.

    Examples:
      enclavectl policy retire p.yaml 1.0                       it passes no more
      enclavectl policy retire p.yaml 1.0 --expires 2027-01-31  it does until then
    """
    screen = screen_for(output)
    text = read_policy_text(file)
    end = moment("--expires", expires)
    release = find_release(parse_policy(text, source=str(file)), name, source=str(file))
    now = moment("--expires", "now")
    if release.expires is not None and release.expires < end <= now:
        raise UsageError(
            f"{file}: release {release.name} has ended already, at {render_time(release.expires)}",
            hint="nothing is to be done: no enclave of it passes",
            code="ended-already",
        )
    edited = end_release(text, release.name, end, source=str(file))
    request = PolicyChangeRequest(
        command="retire",
        path=file,
        before=text,
        after=edited,
        did=f"release {release.name} expires at {render_time(end)}",
        is_dry_run=dry_run,
    )
    apply_change(screen, request)
