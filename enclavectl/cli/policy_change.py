"""The end of every command that changes a policy: the file is written, or the change is only shown."""

from __future__ import annotations

import difflib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from enclavectl.attestation.policy_edit import EditedPolicy
from enclavectl.attestation.policy_json import policy_json
from enclavectl.attestation.policy_review import review_policy
from enclavectl.cli.policy_arguments import read_policy_text
from enclavectl.cli.screen import Screen
from enclavectl.errors import StateError
from enclavectl.files import is_regular, require_output, stage_file
from enclavectl.folder_lock import folder_lock
from enclavectl.new_files import require_new, write_new

CHANGE_SCHEMA = "enclavectl.policy-change/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChangeRequest:
    """A new text for a policy file. ``before`` is None for a file that is not there yet.

    ``did`` says what changed, in words for a person. ``new_release`` is the name of a release that was not
    there before: what is risky in it is said.
    """

    command: str
    path: Path
    before: str | None
    after: EditedPolicy
    did: str
    is_dry_run: bool
    new_release: str | None = None


def apply_change(screen: Screen, request: PolicyChangeRequest) -> None:
    """Write the file, or show what would be written, and answer.

    Raises:
        StateError: another command changed the file since ``before`` was read.
        HostError: it is to be new and there is one, or it cannot be written; the old content is untouched.
    """
    had_comments = request.after.is_rewritten and "#" in (request.before or "")
    if not request.is_dry_run:
        _write(request)
    if had_comments:
        kept = "would lose" if request.is_dry_run else "lost"
        screen.note(
            f"{request.path}: its form cannot be edited in place, so it {kept} its comments; "
            "each release's notes stay"
        )
    now = datetime.now(UTC)
    if request.new_release is not None:
        for finding in review_policy(request.after.policy, at=now):
            if finding.release == request.new_release:
                screen.note(finding.message)
    if screen.as_json:
        screen.result(
            {
                "schema": CHANGE_SCHEMA,
                "command": request.command,
                "file": str(request.path),
                "written": not request.is_dry_run,
                "comments_kept": not had_comments,
                "did": request.did,
                "policy": policy_json(request.after.policy, at=now),
            }
        )
    elif request.is_dry_run:
        for line in _difference(request):
            screen.drawn((line, ""), soft_wrap=True)
    else:
        screen.facts([("policy", str(request.path)), ("change", request.did)])


def require_new_policy(option: str, path: Path, *, writes: bool = True) -> None:
    """Refuse to replace a policy by a new one: people review these files. Without ``writes`` only look.

    Raises:
        UsageError: something is at ``path``, or no file can be written there.
    """
    more = f", or enclavectl policy add '{path}'" if is_regular(path) else ""
    hint = f"a policy is never written over: name another file{more}"
    require_new(option, path, hint=hint, code="policy-exists")
    require_output(option, path, size=int(writes))


def _write(request: PolicyChangeRequest) -> None:
    data = request.after.text.encode()
    if request.before is None:
        write_new(request.path, [data], mode=0o644)
        return
    target = request.path.resolve()  # a link stays a link
    with folder_lock(target.parent):
        if read_policy_text(request.path) != request.before:
            raise StateError(
                f"{request.path}: another command changed it meanwhile; nothing was written",
                hint="repeat the command, which then begins with what the file has now",
                code="policy-changed",
            )
        old = target.stat()
        with stage_file(target.parent, mode=stat.S_IMODE(old.st_mode)) as staged:
            staged.file.write(data)
            # Root's revocation must not take the file from the service that reads it. Where the owner cannot
            # be kept, the change counts more: a user namespace without that user says "Invalid argument".
            with suppress(OSError):
                os.fchown(staged.file.fileno(), old.st_uid, old.st_gid)
            staged.commit(target)


def _difference(request: PolicyChangeRequest) -> list[str]:
    before = (request.before or "").splitlines()
    name = str(request.path)
    source = name if request.before is not None else "/dev/null"
    return list(difflib.unified_diff(before, request.after.text.splitlines(), source, name, lineterm=""))
