"""What a Dockerfile asks for and an engine's classic builder does not do, found before anything is built.

With Docker 23 and newer that builder reads BuildKit's words and drops them: ``RUN cat <<EOF > f`` makes an
empty file, ``ADD --checksum`` checks nothing, an automatic argument is empty; and the build ends well.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from enclavectl.errors import UsageError
from enclavectl.image.dockerfile import Dockerfile, Instruction

_SHOWN = 5
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
# These frontends add nothing that is not looked for here; -labs and everybody else's may.
_PLAIN_SYNTAX = re.compile(r"(?:docker\.io/)?docker/dockerfile(?::1(?:\.[0-9]+){0,2})?")
_REPOSITORY = re.compile(r"git@\S+|(?:git|ssh)://\S+|https?://\S+\.git(?:[#?]\S*)?")
_HINT = (
    "install the docker command with its buildx plugin (package docker-buildx or docker-buildx-plugin) for "
    "this engine; or build it where they are (docker build -t NAME DIR), then: enclavectl build --image NAME"
)


def refuse_buildkit_only(dockerfile: Dockerfile, reason: str) -> None:
    """Return if the classic builder does all that the Dockerfile asks for.

    ``reason`` is why BuildKit cannot be used.

    Raises:
        UsageError: ``needs-buildkit``; with the lines and what each asks for.
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
    """What the step asks for; ``given`` are the arguments that have a value of the Dockerfile's own."""
    if step.heredocs:
        yield "with a heredoc (<<)"
    for flag in step.flags:
        name = flag.partition("=")[0]
        if name not in _FLAGS.get(step.name, ()):
            yield f"with {name[:40]}"
    # An ARG names it, FROM uses it.
    names = step.words() if step.name == "ARG" else []
    if step.name == "FROM":
        names = _VARIABLE.findall(" ".join((*step.flags, step.text)))
    for name in names:
        if name in _PLATFORM_ARGUMENTS and name not in given:
            yield f"with {name}, which only BuildKit sets"
    for word in step.words()[:-1] if step.name == "ADD" else []:
        if _REPOSITORY.fullmatch(word.strip("\"',[]")):
            yield "of a Git repository"
