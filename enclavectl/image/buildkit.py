"""BuildKit, through ``docker build`` with the buildx plugin.

``docker build`` and not ``docker buildx build``: it takes the engine's own BuildKit, whatever builder is
chosen for buildx, so that the image is in the engine's store and the base image is looked for there. The
command finds its engine by the caller's DOCKER_HOST or context; it is used only if that is the engine which
we talk to.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL

from enclavectl.errors import HostError
from enclavectl.files import read_bounded
from enclavectl.image.builder import BuildEngine, ImageBuilder, ImageRecipe, OnLine
from enclavectl.image.classic import ClassicBuilder
from enclavectl.image.context import write_context, write_context_folder
from enclavectl.image.dockerfile import MAX_DOCKERFILE
from enclavectl.image.engine import build_error
from enclavectl.image.scratch import scratch_folder
from enclavectl.run import Command, capture, follow

# What the docker command may know of its caller: where the engine is, how to reach it, and registries'
# logins. Not BUILDX_BUILDER and not SOURCE_DATE_EPOCH, which would change what is built, or where.
_PASSED = (
    *("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS", "DOCKER_TLS_VERIFY"),
    *("DOCKER_CERT_PATH", "DOCKER_API_VERSION", "SSH_AUTH_SOCK", "XDG_RUNTIME_DIR", "SSL_CERT_FILE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
_QUESTION_S = 60  # an engine behind SSH takes seconds to answer
_MAX_TAIL = 24  # lines: BuildKit prints the Dockerfile's lines around the one that failed last
_MAX_ID = 128
_ORNAMENT = re.compile(r"-{4,}$|\s*[0-9]+ \| |\S+:[0-9]+$")  # rules, and the lines of the Dockerfile
# For the Dockerfile only, and before any .dockerignore: what is in the folder has been chosen already.
_NOTHING_IGNORED = b"# enclavectl left out what is to be left out\n"


@dataclass(frozen=True, slots=True)
class BuildKit:
    """The engine's BuildKit, with the docker command as its client."""

    engine: BuildEngine
    program: Path
    environment: Mapping[str, str]

    @property
    def name(self) -> str:
        """What plans and locks call it."""
        return "buildkit"

    def require(self, dockerfile: Path) -> None:
        """Return: BuildKit itself refuses what it does not know."""

    def build(self, recipe: ImageRecipe, scratch: Path, on_line: OnLine) -> str:
        """As ``ImageBuilder`` has it."""
        with ExitStack() as stack:
            folder = stack.enter_context(scratch_folder(scratch)).absolute()
            base = None
            if recipe.base is not None:
                # By a name of its own: BuildKit takes an id for a name in a registry.
                base = stack.enter_context(self.engine.named(recipe.base))
            context = _write(recipe, folder)
            source = stack.enter_context(context.archive.open("rb")) if context.archive else DEVNULL
            argv = [*self._options(recipe, folder, base), "--file", context.dockerfile, context.argument]
            tail: list[str] = []

            def line(text: str) -> None:
                if text.strip():
                    tail[:] = [*tail[1 - _MAX_TAIL :], text]
                    on_line(text)

            command = Command(argv=argv, cwd=folder, environment=self.environment)
            status = follow(command, on_line=line, source=source)
            if status:
                raise _failure(status, tail)
            return (folder / "id").read_bytes()[:_MAX_ID].decode().strip()

    def _options(self, recipe: ImageRecipe, folder: Path, base: str | None) -> Sequence[str]:
        options = ["--progress", "plain", "--iidfile", str(folder / "id")]
        options += [] if recipe.has_network else ["--network", "none"]
        options += [] if base is None else ["--build-arg", f"BASE_IMAGE={base}"]
        for name, value in recipe.labels.items():
            options += ["--label", f"{name}={value}"]
        return [str(self.program), "build", *options]


def _failure(status: int, tail: Sequence[str]) -> HostError:
    """The error of a build whose last lines these are."""
    error, said = f"docker build ended with status {status}", list[str]()
    for line in tail:
        if line.startswith("ERROR: "):
            error = line.removeprefix("ERROR: ")
        elif not _ORNAMENT.match(line):
            said.append(line)
    return build_error(error, said)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    """What ``docker build`` is given: ``archive`` on its standard input, or a folder as its argument."""

    argument: str
    dockerfile: str
    archive: Path | None = None


def _write(recipe: ImageRecipe, folder: Path) -> _Context:
    """The context below ``folder``: one tar, which BuildKit always takes whole.

    Of a folder it takes only what is not as large and as old as in some build before, whatever is in it; and
    all our files are equally old. A Dockerfile that is not to be seen in the context must stand beside it,
    which only a folder allows: there the files are as old as this build.
    """
    name = recipe.dockerfile.name
    if not any(file.is_for_docker for file in recipe.files):
        archive = folder / "context.tar"
        with archive.open("wb") as file:
            write_context(recipe.files, file)
        return _Context(argument="-", dockerfile=name, archive=archive)
    write_context_folder((file for file in recipe.files if not file.is_for_docker), folder / "context")
    path = folder / "dockerfile" / name
    path.parent.mkdir()
    path.write_bytes(read_bounded(recipe.dockerfile, MAX_DOCKERFILE, what="Dockerfile"))
    path.with_name(f"{name}.dockerignore").write_bytes(_NOTHING_IGNORED)
    return _Context(argument=str(folder / "context"), dockerfile=str(path))


def choose_builder(engine: BuildEngine, environ: Mapping[str, str]) -> ImageBuilder:
    """BuildKit where ``docker build`` has it for this engine, unless DOCKER_BUILDKIT=0; else the classic one.

    Raises:
        HostError: the engine failed.
    """
    if environ.get("DOCKER_BUILDKIT") == "0":
        return ClassicBuilder(engine, "DOCKER_BUILDKIT is 0")
    program = shutil.which("docker", path=environ.get("PATH"))
    if program is None:
        return ClassicBuilder(engine, "there is no docker command on the PATH")
    environment = {key: environ[key] for key in _PASSED if key in environ}
    environment |= {"LANG": "C.UTF-8", "DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
    builder = BuildKit(engine, Path(program), environment)
    if _ask(builder, "buildx", "version") is None:
        return ClassicBuilder(engine, f"{program} has no buildx plugin")
    if _ask(builder, "info", "--format", "{{.ID}}") != engine.identity:
        return ClassicBuilder(engine, f"{program} does not talk to the engine that enclavectl talks to")
    return builder


def _ask(builder: BuildKit, *words: str) -> str | None:
    """What the docker command says; None if it fails."""
    command = Command(argv=[str(builder.program), *words], cwd=Path("/"), environment=builder.environment)
    try:
        done = capture(command, timeout_s=_QUESTION_S)
    except HostError:
        return None
    return None if done.status else done.out.decode(errors="replace").strip()
