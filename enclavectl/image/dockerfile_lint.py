"""What a Dockerfile says of itself that it will do wrong, for whoever only plans a build.

A build looks at the layers themselves and knows better; this reads the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from enclavectl.image.dockerfile import Dockerfile
from enclavectl.image.findings import LintFinding, Rule
from enclavectl.image.secrets import secret_arguments

_SHOWN = 80
# Within one command of a shell: up to the next one.
_KEY_MAKERS = re.compile(
    r"\b(?:ssh-keygen\b(?![^&|;]{0,400}\s-[elyFRHB]\b)|openssl\s+(?:genrsa|genpkey|gendsa|"
    r"(?:ecparam|dsaparam)\b[^&|;]{0,400}\s-genkey|req\b[^&|;]{0,400}\s-newkey)|keytool\b[^&|;]{0,400}\s-genkey(?:pair)?|"
    r"gpg2?\b[^&|;]{0,400}--(?:full-)?gen(?:erate)?-key|wg\s+genkey|age-keygen)\b[^&|;]{0,400}"
)


def lint_dockerfile(dockerfile: Dockerfile) -> Iterator[LintFinding]:
    """Steps that make a private key, or that have a secret in their words."""
    for step in dockerfile.instructions:
        if step.name not in ("RUN", "ENV", "ARG"):
            continue
        where = f"context: Dockerfile, line {step.line}"
        text = " ".join((step.text, *step.heredocs))
        if step.name == "RUN" and (maker := _KEY_MAKERS.search(text)):
            shown = " ".join(maker[0].split())[:_SHOWN]
            message = f"makes a private key, which stays in this step's layer: {shown}"
            yield LintFinding(rule=Rule.PRIVATE_KEY, where=where, message=message)
        for name in secret_arguments(text):
            message = f"a value for {name[:_SHOWN]}, which stays in the image; remove it"
            yield LintFinding(rule=Rule.CREDENTIAL, where=where, message=message)
