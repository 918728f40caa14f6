"""Remotes on the screen, and the question whether an invitation's PCRs are the right ones."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.cli.completion import remote_names
from enclavectl.cli.screen import Screen
from enclavectl.errors import AttestationError, UsageError
from enclavectl.files import read_bounded
from enclavectl.net.access import MAX_CA_BYTES
from enclavectl.targets.invitation import require_pcr0, weaknesses
from enclavectl.targets.remotes import Remote, RemoteContent

RemoteArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A remote's name (enclavectl remote list).", autocompletion=remote_names
    ),
]
PolicyToKeep = Annotated[
    Path | None,
    typer.Option(
        "--policy", metavar="FILE", help="A policy: what an enclave there must prove. A copy is kept."
    ),
]
RootToKeep = Annotated[
    Path | None,
    typer.Option(
        "--root",
        metavar="FILE",
        help="A root (PEM) in place of AWS's: GovCloud's, or a development root (simulated). A copy is kept."
        " With --from: your own copy, which the invitation's must equal.",
    ),
]


def draw_remote(screen: Screen, remote: Remote) -> None:
    """Draw a remote as facts; secrets are named, not shown."""
    if screen.as_json:
        screen.result(remote.to_json())
        return
    content = remote.content()
    kept = [word.replace("_", " ") for word in ("token", "client_certificate", "ca") if word in remote.files]
    screen.facts(
        [
            ("name", f"{remote.name} (default)" if remote.is_default else remote.name),
            *facts_of(content),
            ("kept", ", ".join(kept) or "no token, certificate or CA"),
            ("files", str(remote.files["policy"].parent)),
        ]
    )


def facts_of(content: RemoteContent) -> list[tuple[str, str]]:
    """Return what an address must prove, as names and values."""
    policy = content.read_policy()
    root = content.read_root()
    signer = f"AWS's root {root.name}"
    if content.root is not None:
        signer = f"a root that is kept with it ({root.trust})"
    facts = [
        ("address", content.address),
        ("accepts", f"{', '.join(sorted(policy.accept))}; signed by {signer}"),
    ]
    if policy.unsafe_allow_debug:
        facts.append(("unsafe", "enclaves in debug mode pass, whose code nothing measures"))
    for release in policy.releases:
        facts.append(("release", release.name))
        facts += [(f"PCR{index}", value.hex()) for index, value in release.pcrs.items()]
    return facts


def confirm_invitation(
    screen: Screen,
    content: RemoteContent,
    expected: Sequence[str],
    *,
    own_root: Path | None = None,
    before: RemoteContent | None = None,
) -> None:
    """Show an invitation, and compare its PCR0 values, and its root, with those that the user has.

    A release that the remote had ``before``, under the same root and terms, was compared then.

    Raises:
        UsageError: there is neither ``expected`` nor a terminal, or the answer was no.
        AttestationError: a value differs, or nobody was asked about terms that make it worthless.
    """
    if not screen.as_json:
        screen.heading("The invitation says")
        screen.facts(facts_of(content))
    screen.note(
        "compare PCR0 with the value that you have from whoever built the image, or built yourself, not with"
        " the message that the invitation came in: who can change one can change both"
    )
    known = _compared(before, content)
    given = list(expected)
    is_asked = not given
    if is_asked:
        given = _ask_for_pcrs(content, known)
    require_pcr0(content, [*given, *known])
    for release in content.read_policy().releases:
        where = "the remote as it was" if release.pcrs[0].hex() in known else "both"
        screen.note(f"release {release.name}: PCR0 is {release.pcrs[0].hex()} in {where}")
    if own_root is not None or not known:
        _warn(screen, content, own_root, is_asked=is_asked)
    question, nothing = (
        ("Add it?", "nothing was added") if before is None else ("Take it?", "nothing changed")
    )
    if is_asked and not _confirms(question):
        raise UsageError(nothing, code="not-confirmed")


def _warn(screen: Screen, content: RemoteContent, own_root: Path | None, *, is_asked: bool) -> None:
    data = None if own_root is None else read_bounded(own_root, MAX_CA_BYTES, what="root")
    for weakness in weaknesses(content, data):
        if not is_asked:
            raise AttestationError(
                f"invitation: {weakness}",
                hint="give your own copy of a development root (--root), or name address and policy yourself",
                code="invitation-terms",
            )
        screen.note(f"WARNING: {weakness}")


def _compared(before: RemoteContent | None, content: RemoteContent) -> set[str]:
    """Return the PCR0 values that were compared before; none if they would now mean something else."""
    if before is None:
        return set()
    old, new = before.read_policy(), content.read_policy()
    old_root, new_root = before.read_root(), content.read_root()
    is_same_root = (old_root.trust, old_root.fingerprint) == (new_root.trust, new_root.fingerprint)
    is_as_strict = new.accept <= old.accept and new.unsafe_allow_debug <= old.unsafe_allow_debug
    return {release.pcrs[0].hex() for release in old.releases} if is_same_root and is_as_strict else set()


def _confirms(question: str) -> bool:
    _require_terminal()
    return typer.confirm(question, default=False, err=True)


def _require_terminal() -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "invitation: its PCRs must be compared with the builder's, and there is no terminal to ask at",
            hint="--expect-pcr0 HEX, once for each release, with the values of whoever built the image",
            code="needs-pcr0",
        )


def _ask_for_pcrs(content: RemoteContent, known: Collection[str]) -> list[str]:
    _require_terminal()
    return [
        typer.prompt(f"PCR0 of release {release.name}, from its builder", err=True).strip()
        for release in content.read_policy().releases
        if release.pcrs[0].hex() not in known
    ]
