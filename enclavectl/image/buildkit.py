"""BuildKit, through ``docker build`` with the buildx plugin.

We call ``docker build``, not ``docker buildx build``: it uses the engine's own BuildKit, whichever builder
the user chose for buildx, so the image ends in the engine's store and the base image comes from there. The
command finds its engine by the caller's DOCKER_HOST or context. It is used only if that is the engine that we
use.
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
from enclavectl.image.builder import BuildEngine, ImageBuilder, ImageRecipe
from enclavectl.image.classic import ClassicBuilder
from enclavectl.image.context import write_context, write_context_folder
from enclavectl.image.dockerfile import MAX_DOCKERFILE
from enclavectl.image.engine import OnLine, build_error
from enclavectl.image.scratch import scratch_folder
from enclavectl.run import Command, capture, follow

# The variables that the docker command gets: the engine's address, how to reach it, and registries' logins.
# Not BUILDX_BUILDER and SOURCE_DATE_EPOCH, which would change where an image is built, or its content.
_PASSED = (
    *("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS", "DOCKER_TLS_VERIFY"),
    *("DOCKER_CERT_PATH", "DOCKER_API_VERSION", "SSH_AUTH_SOCK", "XDG_RUNTIME_DIR", "SSL_CERT_FILE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
_QUESTION_S = 60  # an engine behind SSH takes seconds to answer
_MAX_TAIL = 24  # lines: BuildKit prints the Dockerfile's lines around the one that failed last
_MAX_ID = 128  # bytes; an id is "sha256:" and 64 digits
_ORNAMENT = re.compile(r"-{4,}$|\s*[0-9]+ \| |\S+:[0-9]+$")  # rules, and the lines of the Dockerfile
# The build prefers it to a .dockerignore: our own rules have already chosen what is in the folder.
_NOTHING_IGNORED = b"# enclavectl left out what is to be left out\n"


@dataclass(frozen=True, slots=True)
class BuildKit:
    """The engine's BuildKit, with the docker command as its client."""

    engine: BuildEngine
    program: Path
    environment: Mapping[str, str]

    @property
    def name(self) -> str:
        """The builder's name in plans and locks."""
        return "buildkit"

    def require(self, dockerfile: Path) -> None:
        """Accept every Dockerfile: BuildKit itself refuses what it does not know."""

    def build(self, recipe: ImageRecipe, scratch: Path, on_line: OnLine) -> str:
        """Build the image as ``ImageBuilder.build`` describes."""
        with ExitStack() as stack:
            folder = stack.enter_context(scratch_folder(scratch)).absolute()
            base = None
            if recipe.base is not None:
                # BuildKit would take an id for a name in a registry, so the base gets a temporary name.
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
    """Make the error of a failed build from its last lines."""
    error, said = f"docker build ended with status {status}", list[str]()
    for line in tail:
        if line.startswith("ERROR: "):
            error = line.removeprefix("ERROR: ")
        elif not _ORNAMENT.match(line):
            said.append(line)
    return build_error(error, said)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    """The context for ``docker build``: ``archive`` on its standard input, or a folder as its argument."""

    argument: str
    dockerfile: str
    archive: Path | None = None


def _write(recipe: ImageRecipe, folder: Path) -> _Context:
    """Write the context below ``folder``: as one tar, which BuildKit always reads whole, where that is
    possible.

    From a folder, BuildKit skips each file whose size and time equal those of an earlier build, whatever its
    content, and all files of our tars have the same time. A Dockerfile that the context must not contain has
    to stand beside it, which only a folder allows; the files of such a folder get the time of this build.
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
    """Choose BuildKit if ``docker build`` has it for this engine and DOCKER_BUILDKIT is not 0; else classic.

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
    if _docker_output(builder, "buildx", "version") is None:
        return ClassicBuilder(engine, f"{program} has no buildx plugin")
    if _docker_output(builder, "info", "--format", "{{.ID}}") != engine.identity:
        return ClassicBuilder(engine, f"{program} does not talk to the engine that enclavectl talks to")
    return builder


def _docker_output(builder: BuildKit, *words: str) -> str | None:
    """Run the docker command and return its output; None if it fails."""
    command = Command(argv=[str(builder.program), *words], cwd=Path("/"), environment=builder.environment)
    try:
        done = capture(command, timeout_s=_QUESTION_S)
    except HostError:
        return None
    return None if done.status else done.out.decode(errors="replace").strip()
