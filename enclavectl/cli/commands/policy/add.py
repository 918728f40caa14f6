"""``enclavectl policy add``."""

from __future__ import annotations

from enclavectl.attestation.policy_edit import add_release
from enclavectl.cli.invocation import screen_for
from enclavectl.cli.option_groups import spreads_groups
from enclavectl.cli.options import DryRun, Output, OutputFormat
from enclavectl.cli.policy_arguments import PolicyPath, read_policy_text
from enclavectl.cli.policy_change import PolicyChangeRequest, apply_change
from enclavectl.cli.release_arguments import ReleaseArguments


@spreads_groups
def add(
    file: PolicyPath,
    release: ReleaseArguments,
    dry_run: DryRun = False,
    output: Output = OutputFormat.TEXT,
) -> None:
    """Add a release to a policy, beside those that are there.

    While two releases are valid, enclaves of both pass: that is how one follows the other without a pause.
    The file keeps its comments. The options are those of policy new.

    Examples:
      enclavectl policy add p.yaml --from-lock next.json            the next release
      enclavectl policy add p.yaml --from-lock next.json --dry-run  look first
    """
    screen = screen_for(output)
    text = read_policy_text(file)
    made = release.release()
    edited = add_release(text, made, source=str(file))
    request = PolicyChangeRequest(
        command="add",
        path=file,
        before=text,
        after=edited,
        did=f"added release {made.name}",
        is_dry_run=dry_run,
        new_release=made.name,
    )
    apply_change(screen, request)
