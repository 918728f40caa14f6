"""BuildKit features that a Dockerfile uses and the classic builder lacks, found before anything is built.

Since Docker 23, the classic builder parses BuildKit's syntax and ignores it: ``RUN cat <<EOF > f`` makes an
empty file, ``ADD --checksum`` checks nothing, an automatic argument is empty. The build still succeeds.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from enclavectl.errors import UsageError
from enclavectl.image.dockerfile import Dockerfile, Instruction

_SHOWN = 5  # features in the message: enough to judge the Dockerfile, and still one readable error
# Of each instruction, the flags that the classic builder has always known; it drops or refuses all others.
_FLAGS = {
    "FROM": ("--platform",),
    "COPY": ("--from", "--chown"),
    "ADD": ("--chown",),
    "HEALTHCHECK": ("--interval", "--timeout", "--start-period", "--start-interval", "--retries"),
}
_PLATFORM_ARGUMENTS = frozenset(
    f"{side}{what}"
    for side in ("TARGET", "BUILD")
    for what in ("PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT", "STAGE")
) - {"BUILDSTAGE"}
_VARIABLE = re.compile(r"\$\{?([A-Z]+)")
# These frontends add no syntax beyond what this module looks for; -labs and third-party frontends may.
_PLAIN_SYNTAX = re.compile(r"(?:docker\.io/)?docker/dockerfile(?::1(?:\.[0-9]+){0,2})?")
_REPOSITORY = re.compile(r"git@\S+|(?:git|ssh)://\S+|https?://\S+\.git(?:[#?]\S*)?")
_HINT = (
    "install the docker command with its buildx plugin (package docker-buildx or docker-buildx-plugin) for "
    "this engine; or build it where they are (docker build -t NAME DIR), then: enclavectl build --image NAME"
)


def refuse_buildkit_only(dockerfile: Dockerfile, reason: str) -> None:
    """Check that the classic builder supports everything that the Dockerfile uses.

    ``reason`` is why BuildKit cannot be used.

    Raises:
        UsageError: ``needs-buildkit``, with the lines and the feature that each uses.
    """
    found = list(_needs(dockerfile))
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise UsageError(
            f"the Dockerfile needs BuildKit, which cannot be used here ({reason}); the engine's classic "
            f"builder would drop or refuse: {'; '.join(found[:_SHOWN])}{more}",
            hint=_HINT,
            code="needs-buildkit",
        )


def _needs(dockerfile: Dockerfile) -> Iterator[str]:
    syntax = dockerfile.directives.get("syntax")
    if syntax is not None and not _PLAIN_SYNTAX.fullmatch(syntax):
        yield f"# syntax={syntax[:80]}"
    given: set[str] = set()
    for step in dockerfile.instructions:
        if step.name == "ARG":
            given |= {name for name, mark, _ in (word.partition("=") for word in step.words()) if mark}
        for what in _step_needs(step, given):
            yield f"line {step.line}: {step.name[:20]} {what}"


def _step_needs(step: Instruction, given: Collection[str]) -> Iterator[str]:
    """Yield the BuildKit features of a step; ``given`` are the arguments that the Dockerfile itself sets."""
    if step.heredocs:
        yield "with a heredoc (<<)"
    for flag in step.flags:
        name = flag.partition("=")[0]
        if name not in _FLAGS.get(step.name, ()):
            yield f"with {name[:40]}"
    # ARG declares an automatic argument, FROM uses it.
    names = step.words() if step.name == "ARG" else []
    if step.name == "FROM":
        names = _VARIABLE.findall(" ".join((*step.flags, step.text)))
    for name in names:
        if name in _PLATFORM_ARGUMENTS and name not in given:
            yield f"with {name}, which only BuildKit sets"
    for word in step.words()[:-1] if step.name == "ADD" else []:
        if _REPOSITORY.fullmatch(word.strip("\"',[]")):
            yield "of a Git repository"
