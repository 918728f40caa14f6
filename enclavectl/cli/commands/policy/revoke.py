"""``enclavectl policy revoke``."""

from __future__ import annotations

from typing import Annotated

import typer

from enclavectl.attestation import Policy, Revocation, parse_policy
from enclavectl.attestation.policy_edit import find_release
from enclavectl.attestation.policy_edit import revoke as revoke_in
from enclavectl.cli.completion import release_names
from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import DryRun, Output, OutputFormat
from enclavectl.cli.policy_arguments import PolicyPath, moment, parse_registers, read_policy_text
from enclavectl.cli.policy_change import PolicyChangeRequest, apply_change
from enclavectl.errors import UsageError
from enclavectl.label import is_label

_SHOWN_LABELS = 8  # more would hide the note; policy show lists all

ReleaseToRevoke = Annotated[
    str | None,
    typer.Argument(
        metavar="[RELEASE]", help="A release's name, or any release's label.", autocompletion=release_names
    ),
]
Reason = Annotated[str, typer.Option("--reason", metavar="REASON", help="Why; every refusal shows it.")]
Date = Annotated[
    str, typer.Option("--date", metavar="TIME", help="Since when: now, a date, or a time in UTC.")
]
RevokedRegisters = Annotated[
    list[str] | None,
    typer.Option(
        "--pcr",
        metavar="N=HEX",
        help="In place of RELEASE: revoke what holds this register; may be repeated.",
    ),
]


def revoke(
    file: PolicyPath,
    reason: Reason,
    release: ReleaseToRevoke = None,
    pcr: RevokedRegisters = None,
    date: Date = "now",
    dry_run: DryRun = False,
    output: Output = OutputFormat.TEXT,
) -> None:
    """Refuse a release at any time, whatever else the policy says.

    Adds an entry to revoked, and ends the releases that it names. Documents from before the date are refused
    as well: the date is for people. The entry has the release's label, which names its PCR0, PCR1, PCR2 and,
    where pinned, PCR16.

    Examples:
      enclavectl policy revoke p.yaml 1.0 --reason CVE-2027-1234       by its name
      enclavectl policy revoke p.yaml 0123456789abcdef --reason leaked  by its label
    """
    screen = screen_for(output)
    text = read_policy_text(file)
    policy = parse_policy(text, source=str(file))
    if (release is None) == (not pcr):
        raise UsageError(
            "expected RELEASE or --pcr, found " + ("neither" if release is None else "both"),
            hint="enclavectl policy show lists the releases",
        )
    name, label = ("", None) if release is None else _named(policy, release, str(file))
    entry = Revocation(
        date=moment("--date", date),
        reason=reason,
        name=name,
        label=label,
        pcrs=parse_registers(pcr) if pcr else None,
    )
    edited = revoke_in(text, entry, source=str(file))
    unmatched = _unmatched(policy, entry)
    request = PolicyChangeRequest(
        command="revoke",
        path=file,
        before=text,
        after=edited,
        did=f"revoked {entry.subject}{_also(policy, entry)}" + (", of no release here" if unmatched else ""),
        is_dry_run=dry_run,
    )
    apply_change(screen, request)
    if unmatched:
        screen.note(f"no release of {file} {unmatched}")


def _named(policy: Policy, name: str, source: str) -> tuple[str, str]:
    """Return the name and the label of what is revoked; a label need not be of a release in the file."""
    if is_label(name) and name not in {one.name for one in policy.releases}:
        same = [one.name for one in policy.releases if one.label == name]
        return (same[0] if len(same) == 1 else ""), name
    release = find_release(policy, name, source=source)
    return release.name, release.label


def _also(policy: Policy, entry: Revocation) -> str:
    ended = [one.name for one in policy.releases if entry.matches(one.pcrs) and one.name != entry.name]
    return f", and so {', '.join(ended)}" if ended else ""


def _unmatched(policy: Policy, entry: Revocation) -> str:
    """Return what no release has, where the entry revokes none of them (a typing error?); else nothing."""
    if any(entry.matches(one.pcrs) for one in policy.releases):
        return ""
    if entry.label is None:
        registers = ", ".join(f"PCR{index}" for index in entry.pcrs or ())
        return f"pins this {registers}, so all of them stay as they are; enclavectl policy show lists them"
    labels = [f"{one.label} ({one.name})" for one in policy.releases]
    shown = ", ".join(labels[:_SHOWN_LABELS]) + (", ..." if len(labels) > _SHOWN_LABELS else "")
    return f"has this label; it has: {shown or 'none'}"
