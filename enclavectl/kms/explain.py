"""Why KMS would answer a call as it does: the verdict, each statement's part in it, and what was assumed.

KMS itself answers AccessDeniedException without the condition that failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from enclavectl.kms.actions import WITH_RECIPIENT
from enclavectl.kms.evaluate import Call, Outcome, Tested, Verdict, evaluate
from enclavectl.kms.key_policy import KeyPolicy
from enclavectl.kms.operators import parse_operator
from enclavectl.kms.principals import Match

_PRINCIPALS = {
    Match.IDENTITY: "names the caller",
    Match.EVERYBODY: "means everybody",
    Match.ACCOUNT: "means the caller's account",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallExplanation:
    """A call, its verdict, and what the verdict rests on beside the policy, a sentence each."""

    call: Call
    verdict: Verdict
    assumptions: tuple[str, ...]

    @property
    def deciding(self) -> Outcome | None:
        """The outcome of the statement that decided."""
        found = self.verdict.statement
        return next((one for one in self.verdict.outcomes if one.statement is found), None)

    def to_json(self) -> dict[str, object]:
        """Return the explanation as JSON values."""
        verdict, statement = self.verdict, self.verdict.statement
        return {
            "allowed": verdict.allowed,
            "reason": verdict.reason,
            "decided_by": {
                "statement": None if statement is None else statement.place,
                "sid": None if statement is None else statement.sid,
                "key": verdict.key,
            },
            "call": {
                "principal": self.call.caller.arn,
                "action": f"kms:{self.call.action}",
                "key": self.call.key,
                "context": dict(self.call.context),
                "at": self.call.at.isoformat(timespec="seconds"),
                "attested": self.call.recipient is not None,
            },
            "statements": [_outcome_json(one) for one in verdict.outcomes],
            "assumptions": list(self.assumptions),
        }


def explain_call(policy: KeyPolicy, call: Call) -> CallExplanation:
    """Evaluate a call and say what the verdict rests on."""
    return CallExplanation(
        call=call, verdict=evaluate(policy, call), assumptions=tuple(_assumptions(policy, call))
    )


def part_of(outcome: Outcome) -> str:
    """Return what a statement says to the call, in a few words."""
    statement = outcome.statement
    if not statement.has_effect:
        return "has no effect: Resource or Action is missing"
    if outcome.match is None:
        return "is about other callers"
    if not outcome.covers:
        return "is about other actions or keys"
    if outcome.failing:
        return f"does not apply: {outcome.failing[0].condition.key} does not fit"
    return f"applies: {_PRINCIPALS[outcome.match]}, and every condition holds"


def expectation_of(tested: Tested) -> str:
    """Return what a condition asks for, such as ``equals demo-lesion``."""
    operator = parse_operator(tested.condition.operator)
    return f"{tested.condition.operator} {_some(tested.condition.values, operator.negated)}"


def found_of(tested: Tested) -> str:
    """Return what the call has for a condition's key."""
    return "(absent)" if tested.found is None else ", ".join(tested.found)


def _some(values: tuple[str, ...], negated: bool) -> str:
    return (" and " if negated else " or ").join(values)


def _assumptions(policy: KeyPolicy, call: Call) -> Iterator[str]:
    yield "the key has no grants; a grant allows calls whatever the policy's Allow statements say"
    if call.iam_allows:
        yield "the caller's own IAM policies allow the call"
    if call.key is None:
        yield "the key's ARN was not given: every Resource counts as this key, and accounts are not compared"
    if call.recipient is not None and call.action in WITH_RECIPIENT:
        yield "KMS also checks the document's signature and certificates, and refuses an old one"
    tested = {one.condition.key: one for outcome in evaluate(policy, call).outcomes for one in outcome.tested}
    attested = [key for key in tested if key.lower().startswith("kms:recipientattestation")]
    for key, one in tested.items():
        if one.found is None and key not in attested and not key.lower().startswith("kms:encryptioncontext"):
            yield f"the call has no {key}"


def _outcome_json(outcome: Outcome) -> dict[str, object]:
    return {
        "statement": outcome.statement.place,
        "sid": outcome.statement.sid,
        "effect": outcome.statement.effect.value,
        "applies": outcome.applies,
        "says": part_of(outcome),
        "conditions": [
            {
                "operator": one.condition.operator,
                "key": one.condition.key,
                "expected": list(one.condition.values),
                "found": None if one.found is None else list(one.found),
                "holds": one.holds,
            }
            for one in outcome.tested
        ],
    }
