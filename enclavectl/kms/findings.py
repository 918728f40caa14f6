"""The rules of the lint, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from enclavectl.kms.key_policy import Statement


class Severity(StrEnum):
    """The weight of a finding: a clean key policy has neither errors nor warnings."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


_ERROR, _WARNING, _INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

# Each rule's weight and what it says. Numbers are never used again; docs/kms.md explains each.
RULES: dict[str, tuple[Severity, str]] = {
    "K01": (_ERROR, "a releasing call is allowed without an attestation condition"),
    "K02": (_ERROR, "a whole account may make releasing calls, so its IAM administrators decide"),
    "K03": (_ERROR, "the attestation condition, if there is one, stands only in somebody's IAM policy"),
    "K04": (_ERROR, "a register's value is all zero, as in debug mode"),
    "K05": (_ERROR, "a register's value is not 96 hexadecimal digits, so nothing ever equals it"),
    "K06": (_ERROR, "PCR0, PCR1 and PCR2 are not all pinned"),
    "K07": (_ERROR, "two values for one register in one statement mix releases"),
    "K08": (_ERROR, "only registers of the host or the signer are pinned"),
    "K09": (_ERROR, "IfExists on an attestation key is true without a document"),
    "K10": (_ERROR, "ForAllValues on an attestation key is true without a document"),
    "K11": (_ERROR, "a wildcard stands for a register"),
    "K12": (_ERROR, "this attestation key does not exist for an enclave"),
    "K13": (_ERROR, "a negated operator in an Allow is true of every other enclave"),
    "K14": (_ERROR, "a document is asked for, but no register's value"),
    "K15": (_ERROR, "CreateGrant goes around every condition"),
    "K16": (_ERROR, "ReEncrypt moves the data key under another key, without a document"),
    "K17": (_ERROR, "a data key is handed out in the clear, without a document"),
    "K18": (_WARNING, "a Deny for a missing document strikes calls that never carry one"),
    "K19": (_ERROR, "a statement without Resource or Action has no effect"),
    "K20": (_ERROR, "anybody may ask"),
    "K21": (_WARNING, "the encryption context is not pinned as the sealing pins it"),
    "K22": (_WARNING, "upper-case digits with an operator that knows case never match"),
    "K23": (_WARNING, "PCR16 is not pinned, so any model gets the key"),
    "K24": (_ERROR, "PCR16 to PCR31 are pinned without the image that sets them"),
    "K25": (_ERROR, "NotAction in an Allow allows whatever it does not name"),
    "K26": (_ERROR, "a Deny with several registers strikes only if all of them differ"),
    "K27": (_WARNING, "this call takes no document, so the attestation condition never holds"),
    "K28": (_ERROR, "the key's administrator may also decrypt"),
    "K29": (_ERROR, "PutKeyPolicy for somebody other than the owner's administrator"),
    "K30": (_WARNING, "GenerateRandom names no key, so no key policy is asked"),
    "K31": (_WARNING, "this is not what the policy says of its releases"),
    "K32": (_ERROR, "the key is in the account of the operator"),
    "K33": (_ERROR, "the key has grants, each of which is a way around the policy"),
    "K34": (_WARNING, "the key is of a kind that this policy does not protect whole"),
    "K35": (_WARNING, "an alias where a key belongs: it can be moved to another key"),
    "K36": (_ERROR, "a principal is a unique id: its role is gone"),
    "K37": (_ERROR, "PutKeyPolicy refuses this text"),
    "K38": (_WARNING, "the guard does not name every releasing call"),
    "K39": (_ERROR, "a service or a whole class of callers may decrypt"),
    "K40": (_INFO, "a release may also be held to one operator"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A broken rule. ``statement`` is None if the rule is about the policy or the key.

    ``reason`` says what this statement does, and ``advice`` what to do. ``fixed`` has the statements to write
    in place of the statement: none removes it, and None is no change of the policy's text. Without a
    statement they are added. Capital words in angle brackets are for a person to fill in.
    """

    rule: str
    statement: Statement | None
    reason: str
    advice: str
    fixed: tuple[Statement, ...] | None = None

    @property
    def severity(self) -> Severity:
        """The rule's weight."""
        return RULES[self.rule][0]

    @property
    def title(self) -> str:
        """What the rule says."""
        return RULES[self.rule][1]

    def to_json(self) -> dict[str, object]:
        """Return the finding as JSON values."""
        return {
            "rule": self.rule,
            "severity": self.severity.value,
            "title": self.title,
            "statement": None if self.statement is None else self.statement.place,
            "sid": None if self.statement is None else self.statement.sid,
            "reason": self.reason,
            "advice": self.advice,
            "fixed": None if self.fixed is None else [one.to_json() for one in self.fixed],
        }
