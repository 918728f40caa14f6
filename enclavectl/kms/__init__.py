"""Key policies of AWS KMS: compiled from our policy, checked for the known mistakes, and explained.

    request = request_from_policy(policy, admin=..., parents=(...,), context={...}, at=now)
    key_policy = compile_key_policy(request)
    findings = lint(key_policy)
    verdict = evaluate(key_policy, call)

The room's rules: nothing here calls AWS. The evaluator and the lint know nothing of each other, so that one
can judge the other. What cannot be evaluated refuses.
"""

from enclavectl.kms.compile import KeyPolicyRequest, compile_key_policy
from enclavectl.kms.evaluate import Call, Recipient, Verdict, evaluate
from enclavectl.kms.explain import CallExplanation, explain_call
from enclavectl.kms.facts import KeyMetadata, LintFacts
from enclavectl.kms.findings import RULES, Finding, Severity
from enclavectl.kms.from_policy import key_releases, partly_revoked, request_from_policy
from enclavectl.kms.key_policy import KeyPolicy, KeyPolicyError, Statement
from enclavectl.kms.lint import fix, is_clean, lint
from enclavectl.kms.principals import Caller, parse_caller
from enclavectl.kms.reader import parse_key_policy
from enclavectl.kms.releases import KeyRelease

__all__ = [
    "RULES",
    "Call",
    "CallExplanation",
    "Caller",
    "Finding",
    "KeyMetadata",
    "KeyPolicy",
    "KeyPolicyError",
    "KeyPolicyRequest",
    "KeyRelease",
    "LintFacts",
    "Recipient",
    "Severity",
    "Statement",
    "Verdict",
    "compile_key_policy",
    "evaluate",
    "explain_call",
    "fix",
    "is_clean",
    "key_releases",
    "lint",
    "parse_caller",
    "parse_key_policy",
    "partly_revoked",
    "request_from_policy",
]
