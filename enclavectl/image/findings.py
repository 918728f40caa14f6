"""What a lint finds: a rule, a place, what to do; and how an operator lets one pass, with a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from enclavectl.errors import UsageError
from enclavectl.nearest import suggestion

MAX_OF_A_RULE = 50


class Rule(StrEnum):
    """Every rule of the lint. The values are stable: scripts and locks name them."""

    PRIVATE_KEY = "private-key"
    CREDENTIAL = "credential"
    DYNAMIC_BATCH = "dynamic-batch"
    IGNORED_SETTING = "ignored-setting"
    ENTRYPOINT_AND_CMD = "entrypoint-and-cmd"
    NO_COMMAND = "no-command"
    RELATIVE_COMMAND = "relative-command"
    ROOT_DOCKERFILE = "root-dockerfile"
    HARD_LINKS = "hard-links"
    FILE_CAPABILITIES = "file-capabilities"
    MISSING_DIRECTORIES = "missing-directories"
    ARCHITECTURE = "architecture"
    MEMORY = "memory"


# These end a build unless they are allowed; the others are said and go into the lock.
BLOCKING = frozenset(
    {
        Rule.PRIVATE_KEY,
        Rule.CREDENTIAL,
        Rule.ENTRYPOINT_AND_CMD,
        Rule.NO_COMMAND,
        Rule.RELATIVE_COMMAND,
        Rule.ROOT_DOCKERFILE,
        Rule.ARCHITECTURE,
        Rule.MEMORY,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LintFinding:
    """``where`` is a place such as ``layer 3: /app/key.pem``; the message says what to do about it."""

    rule: Rule
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.where}: {self.message}"

    def to_json(self) -> dict[str, object]:
        """The finding as JSON values."""
        return {
            "rule": self.rule.value,
            "where": self.where,
            "message": self.message,
            "blocking": self.rule in BLOCKING,
        }


def bounded(findings: Iterable[LintFinding]) -> Iterator[LintFinding]:
    """The first findings of each rule and the number of the others: no image makes this a long list."""
    counts: Counter[Rule] = Counter()
    for finding in findings:
        counts[finding.rule] += 1
        if counts[finding.rule] <= MAX_OF_A_RULE:
            yield finding
    for rule, count in counts.items():
        if count > MAX_OF_A_RULE:
            yield LintFinding(rule=rule, where="elsewhere", message=f"{count - MAX_OF_A_RULE} more of these")


def parse_allowed(options: Sequence[str]) -> dict[Rule, str]:
    """The rules that ``--allow RULE=REASON`` lets pass, each with its reason.

    Raises:
        UsageError: there is no such rule, no reason, or a rule is named twice.
    """
    allowed: dict[Rule, str] = {}
    for option in options:
        name, _, reason = option.partition("=")
        try:
            rule = Rule(name.strip())
        except ValueError:
            raise UsageError(
                f"--allow: expected a rule of the lint, found {name!r}; {suggestion(name, list(Rule))}",
                hint=f"the rules: {', '.join(Rule)}",
            ) from None
        if not reason.strip():
            raise UsageError(f"--allow {name}: expected a reason, such as --allow '{name}=only a test key'")
        if rule in allowed:
            raise UsageError(f"--allow {name}: given twice")
        allowed[rule] = reason.strip()
    return allowed


def refuse_blocking(findings: Iterable[LintFinding], allowed: Mapping[Rule, str]) -> None:
    """Return if no finding blocks that is not allowed.

    Raises:
        UsageError: with every one that does.
    """
    left = [finding for finding in findings if finding.rule in BLOCKING and finding.rule not in allowed]
    if left:
        shown = "; ".join(map(str, left[:5])) + (f"; and {len(left) - 5} more" if len(left) > 5 else "")
        raise UsageError(
            f"the lint found {len(left)} thing{'s' if len(left) > 1 else ''} that must not be built: {shown}",
            hint=f"correct it, or let it pass with a reason: --allow '{left[0].rule}=REASON'",
            code=f"lint-{left[0].rule}",
        )
