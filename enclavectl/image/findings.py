"""Findings of the lint (rule, place, what to do), and the operator's exceptions with their reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from enclavectl.errors import UsageError
from enclavectl.suggest import suggestion

MAX_OF_A_RULE = 50  # findings listed per rule: more would bury the other rules, and a count says the rest


class Rule(StrEnum):
    """Every rule of the lint. The values are stable: scripts and locks name them."""

    PRIVATE_KEY = "private-key"
    CREDENTIAL = "credential"
    DYNAMIC_BATCH = "dynamic-batch"
    IGNORED_SETTING = "ignored-setting"
    ENTRYPOINT_AND_CMD = "entrypoint-and-cmd"
    NO_COMMAND = "no-command"
    RELATIVE_COMMAND = "relative-command"
    COMMAND = "command"
    COMMAND_SCRIPT = "command-script"
    WORKDIR_ARGUMENT = "workdir-argument"
    ROOT_DOCKERFILE = "root-dockerfile"
    HARD_LINKS = "hard-links"
    FILE_CAPABILITIES = "file-capabilities"
    MISSING_DIRECTORIES = "missing-directories"
    ARCHITECTURE = "architecture"
    MEMORY = "memory"


# These rules stop a build unless allowed. The findings of other rules are reported and recorded in the lock.
BLOCKING = frozenset(
    {
        Rule.PRIVATE_KEY,
        Rule.CREDENTIAL,
        Rule.ENTRYPOINT_AND_CMD,
        Rule.NO_COMMAND,
        Rule.RELATIVE_COMMAND,
        Rule.COMMAND,
        Rule.ROOT_DOCKERFILE,
        Rule.ARCHITECTURE,
        Rule.MEMORY,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LintFinding:
    """One finding. ``where`` is a place such as ``layer 3: /app/key.pem``; the message says what to do."""

    rule: Rule
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.where}: {self.message}"

    def to_json(self) -> dict[str, object]:
        """Return the finding as JSON values."""
        return {
            "rule": self.rule.value,
            "where": self.where,
            "message": self.message,
            "blocking": self.rule in BLOCKING,
        }


def bounded(findings: Iterable[LintFinding]) -> Iterator[LintFinding]:
    """Yield the first findings of each rule and the number of the others, so that the list stays short."""
    counts: Counter[Rule] = Counter()
    for finding in findings:
        counts[finding.rule] += 1
        if counts[finding.rule] <= MAX_OF_A_RULE:
            yield finding
    for rule, count in counts.items():
        if count > MAX_OF_A_RULE:
            yield LintFinding(rule=rule, where="elsewhere", message=f"{count - MAX_OF_A_RULE} more of these")


def parse_allowed(options: Sequence[str]) -> dict[str, str]:
    """Parse the values of ``--allow``: ``RULE`` or ``RULE:PLACE``, each with its reason.

    Raises:
        UsageError: the rule does not exist, the reason is missing, or the same rule and place occur twice.
    """
    allowed: dict[str, str] = {}
    for option in options:
        name, _, reason = (part.strip() for part in option.partition("="))
        rule, colon, place = name.partition(":")
        if rule not in list(Rule):
            raise UsageError(
                f"--allow: expected a rule of the lint, found {rule!r}; {suggestion(rule, list(Rule))}",
                hint=f"the rules: {', '.join(Rule)}",
            )
        if colon and not place:
            raise UsageError(
                f"--allow {name}: expected a place, such as --allow '{rule}:/app/test.pem=REASON'"
            )
        if not reason:
            raise UsageError(f"--allow {name}: expected a reason, such as --allow '{name}=only a test key'")
        if name in allowed:
            raise UsageError(f"--allow {name}: given twice")
        allowed[name] = reason
    return allowed


def is_allowed(finding: LintFinding, allowed: Mapping[str, str]) -> bool:
    """Return whether the rule is allowed everywhere, or at the finding's place (which may have wildcards)."""
    found = _place(finding.where)
    for name in allowed:
        rule, colon, place = name.partition(":")
        wanted = _place(place)
        if rule == finding.rule and (not colon or found == wanted or fnmatchcase(found, wanted)):
            return True
    return False


def _place(where: str) -> str:
    """Cut the path out of ``layer 3: /app/key.pem``: it is the same in context, layer and ramdisk."""
    return where.rpartition(": ")[2].removeprefix("/").removeprefix("rootfs/")


def refuse_blocking(findings: Iterable[LintFinding], allowed: Mapping[str, str]) -> None:
    """Refuse findings that block a build and are not allowed.

    Raises:
        UsageError: with every such finding.
    """
    left = [finding for finding in findings if finding.rule in BLOCKING and not is_allowed(finding, allowed)]
    if left:
        shown = "; ".join(map(str, left[:5])) + (f"; and {len(left) - 5} more" if len(left) > 5 else "")
        first, things = left[0], "things" if len(left) > 1 else "thing"
        raise UsageError(
            f"the lint found {len(left)} {things} that must not be built: {shown}",
            hint=f"correct it, or let it pass with a reason: --allow '{first.rule}=REASON', or here only: "
            f"--allow '{first.rule}:{first.where.rpartition(': ')[2]}=REASON'",
            code=f"lint-{first.rule}",
        )
