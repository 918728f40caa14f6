"""Edits of a policy file that keep what people wrote: comments, order, quotes, line ends.

An edit inserts lines at the places that the YAML nodes mark. It counts only if the result reads back as
exactly the wanted policy. Otherwise (a list in brackets, say) the file is written anew, which loses comments
and keeps the releases' notes; ``EditedPolicy.is_rewritten`` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from enclavectl.attestation.codes import PolicyCode, unusable
from enclavectl.attestation.policy import Policy
from enclavectl.attestation.policy_file import (
    compose_policy,
    parse_policy,
    quoted,
    release_lines,
    render_item,
    render_policy,
    revocation_lines,
)
from enclavectl.attestation.policy_nodes import at_place
from enclavectl.attestation.release import Release, Revocation
from enclavectl.attestation.times import render_time
from enclavectl.errors import UsageError
from enclavectl.label import is_label

if TYPE_CHECKING:
    import yaml

    # An edit of the text below its root node; None where it cannot be made in place.
    Step = Callable[[str, yaml.MappingNode], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EditedPolicy:
    """The file's new text and what it says. ``is_rewritten`` if comments could not be kept."""

    text: str
    policy: Policy
    is_rewritten: bool


def add_release(text: str, release: Release, *, source: str) -> EditedPolicy:
    """Put a release at the end of the list.

    Raises:
        UsageError: ``text`` is no policy, another release has the name or the very same registers, or the
            release contradicts a revocation.
    """
    old = parse_policy(text, source=source)
    if any(one.name == release.name for one in old.releases):
        raise UsageError(
            f"{source}: expected a new name, found a release named {release.name} in it already",
            hint="--name gives the new one another name; enclavectl policy show lists those that are there",
            code="name-taken",
        )
    same = next((one for one in old.releases if one.pcrs == release.pcrs), None)
    if same is not None:  # neither of the two could be ended: their lives have to be the same
        is_revoked = any(entry.matches(same.pcrs) for entry in old.revoked)
        raise UsageError(
            f"{source}: expected registers that no release has, found those of release {same.name}",
            hint="it is revoked, so no release may bring it back: build another image"
            if is_revoked
            else f"it needs no second one; for another life edit not_before or expires of {same.name} there",
            code="registers-taken",
        )
    with at_place(source):
        wanted = replace(old, releases=(*old.releases, release))
    lines = release_lines(release)
    return _edited(text, wanted, source, [lambda now, root: _append(now, root, "releases", lines)])


def end_release(text: str, name: str, expires: datetime, *, source: str) -> EditedPolicy:
    """Set when a release expires.

    Raises:
        UsageError: ``text`` is no policy, has no such release, or the time is before the release begins or
            after it ends already.
    """
    old = parse_policy(text, source=source)
    release = find_release(old, name, source=source)
    if release.expires is not None and release.expires < expires:
        raise UsageError(
            f"{source}: release {release.name} already expires at {render_time(release.expires)}; "
            "retiring it would lengthen its life",
            hint=f"if that is meant, edit the file: expires: {render_time(expires)}",
            code="longer-life",
        )
    with at_place(source):
        wanted = replace(old, releases=_ended(old.releases, {release.name: expires}))
    return _edited(text, wanted, source, [_expires_step(release.name, expires)])


def revoke(text: str, revocation: Revocation, *, source: str) -> EditedPolicy:
    """Put an entry at the end of ``revoked``, and end the releases that it names at its date.

    A release that was not valid by then gets an empty life.

    Raises:
        UsageError: ``text`` is no policy, or the list is full.
    """
    old = parse_policy(text, source=source)
    ends: dict[str, datetime] = {}
    for release in old.releases:
        end = max(revocation.date, release.not_before or revocation.date)
        if revocation.matches(release.pcrs) and (release.expires is None or release.expires > end):
            ends[release.name] = end
    with at_place(source):
        wanted = replace(old, releases=_ended(old.releases, ends), revoked=(*old.revoked, revocation))
    steps: list[Step] = [_expires_step(name, end) for name, end in ends.items()]
    lines = revocation_lines(revocation)
    return _edited(text, wanted, source, [*steps, lambda now, root: _append(now, root, "revoked", lines)])


def find_release(policy: Policy, name: str, *, source: str) -> Release:
    """Find a release by its name or label.

    Raises:
        UsageError: there is none, several have this label, or a name has the form of another one's label.
    """
    found = [one for one in policy.releases if one.name == name]
    # Whoever named it so would have it revoked in place of the release whose label that is.
    is_misleading = bool(found) and is_label(name) and found[0].label != name
    found = found or [one for one in policy.releases if one.label == name]
    if len(found) != 1 or is_misleading:
        known = ", ".join(one.name for one in policy.releases) or "none"
        problem = "several have this label" if found else f"it has: {known}"
        if is_misleading:
            problem = f"that is a name in the form of a label, whose own label is {found[0].label}"
        raise UsageError(
            f"{source}: expected the name of one of its releases, found {name!r:.110}; {problem}",
            hint="enclavectl policy show lists names and labels",
            code="no-such-release",
        )
    return found[0]


def _ended(releases: Sequence[Release], ends: dict[str, datetime]) -> tuple[Release, ...]:
    return tuple(replace(one, expires=ends.get(one.name, one.expires)) for one in releases)


def _expires_step(name: str, expires: datetime) -> Step:
    return lambda text, root: _set_expires(text, root, name, expires)


def _edited(text: str, wanted: Policy, source: str, steps: Sequence[Step]) -> EditedPolicy:
    import yaml

    edited: str | None = text
    for step in steps:
        root = None if edited is None else compose_policy(edited, source=source)
        if edited is None or not isinstance(root, yaml.MappingNode) or root.flow_style:
            edited = None
            break
        edited = step(edited, root)
    if edited is not None and _reads_as(edited, wanted, source):
        return EditedPolicy(text=edited, policy=wanted, is_rewritten=False)
    rewritten = render_policy(wanted)
    if not _reads_as(rewritten, wanted, source):
        raise unusable(PolicyCode.FORMAT, f"{source}: the changed policy would be too large for a file")
    return EditedPolicy(text=rewritten, policy=wanted, is_rewritten=True)


def _reads_as(text: str, wanted: Policy, source: str) -> bool:
    try:
        return parse_policy(text, source=source) == wanted
    except UsageError:
        return False


def _append(text: str, root: yaml.MappingNode, key: str, lines: list[str]) -> str | None:
    """Append a mapping to the list under ``key``."""
    import yaml

    node = _member(root, key)
    if node is None:
        indent = root.start_mark.column
        added = [f"{' ' * indent}{key}:", *render_item(lines, indent=indent + 2)]
        return _insert(text, _place_of_new_list(text, root), added)
    if not isinstance(node, yaml.SequenceNode):
        return None
    if node.flow_style and not node.value:
        head = text[: node.start_mark.index].rstrip(" ")
        emptied = head + text[node.end_mark.index :]
        at = _next_line(emptied, len(head), root.start_mark.column)
        return _insert(emptied, at, render_item(lines, indent=root.start_mark.column + 2))
    if node.flow_style:
        return None
    column = node.start_mark.column
    return _insert(text, _next_line(text, _leaf_end(node), column), render_item(lines, indent=column))


def _place_of_new_list(text: str, root: yaml.MappingNode) -> int:
    """Return where a new list goes: before ``releases`` and the comments above that, else to the end.

    A file that was cut short then lacks releases rather than revocations.
    """
    previous: yaml.Node | None = None
    for name, value in root.value:
        if name.value == "releases":
            break
        previous = value
    if previous is None:
        return int(root.start_mark.index)
    return _next_line(text, _leaf_end(previous), root.start_mark.column)


def _set_expires(text: str, root: yaml.MappingNode, name: str, expires: datetime) -> str | None:
    """Replace or insert ``expires`` of a release, after its name and ``not_before``."""
    import yaml

    releases = _member(root, "releases")
    items = releases.value if isinstance(releases, yaml.SequenceNode) else []
    value = quoted(render_time(expires))
    for item in items:
        named = _member(item, "name") if isinstance(item, yaml.MappingNode) else None
        if named is None or named.value != name:
            continue
        present = _member(item, "expires")
        if present is not None:
            return text[: present.start_mark.index] + value + text[present.end_mark.index :]
        before = _member(item, "not_before") or named
        end = before.end_mark.index
        if item.flow_style:
            return f"{text[:end]}, expires: {value}{text[end:]}"
        column = item.value[0][0].start_mark.column
        return _insert(text, _next_line(text, end, column), [f"{' ' * column}expires: {value}"])
    return None


def _member(node: yaml.MappingNode, key: str) -> yaml.Node | None:
    return next((value for name, value in node.value if name.value == key), None)


def _leaf_end(node: yaml.Node) -> int:
    """Return where the last value in ``node`` ends: a block's own end is that of the comments after it."""
    import yaml

    while node.value and not getattr(node, "flow_style", True):
        if isinstance(node, yaml.MappingNode):
            node = node.value[-1][1]
        elif isinstance(node, yaml.SequenceNode):
            node = node.value[-1]
        else:
            break
    return int(node.end_mark.index)


def _next_line(text: str, end: int, column: int) -> int:
    """Return where the line after ``end`` begins, and after comments that belong to what ends there."""
    at = end if text[end - 1 : end] == "\n" else text.find("\n", end) + 1 or len(text)
    while True:
        line_end = text.find("\n", at)
        line = text[at : len(text) if line_end < 0 else line_end]
        if not line.lstrip(" ").startswith("#") or len(line) - len(line.lstrip(" ")) <= column:
            return at
        if line_end < 0:
            return len(text)
        at = line_end + 1


def _insert(text: str, at: int, lines: list[str]) -> str:
    """Insert whole lines, with the line ends that the text has."""
    end = "\r\n" if "\r\n" in text else "\n"
    head = text[:at] if not at or text[at - 1] == "\n" else text[:at] + end
    return head + "".join(f"{line}{end}" for line in lines) + text[at:]
