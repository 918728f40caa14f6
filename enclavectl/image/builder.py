"""Who makes a Docker image of a context: BuildKit, or the engine's classic builder where that is not there.

BuildKit is what ``docker build`` has used since Docker 23, and what people write their Dockerfiles for. It
wants a client that serves the context over a session of gRPC, and the Docker SDK has none; so the docker
command with its buildx plugin is that client (``buildkit``). The classic builder is one request of the API
(``classic``): it is deprecated, and what it does not know it drops or refuses, so a Dockerfile is looked
through for that first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from enclavectl.image.context import ContextFile
from enclavectl.image.engine import BuildOptions

OnLine = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecipe:
    """What an image is built from. ``dockerfile`` has its name among the files.

    ``base`` is the id of the image that the Dockerfile's argument BASE_IMAGE gets. Without a network
    everything that is needed is in the files.
    """

    files: Iterable[ContextFile]
    dockerfile: Path
    base: str | None = None
    has_network: bool
    labels: Mapping[str, str] = field(default_factory=dict)


class BuildEngine(Protocol):
    """What building needs of an engine."""

    @property
    def identity(self) -> str:
        """What no other engine has as its ID."""
        ...

    def build(self, context: BinaryIO, options: BuildOptions, *, on_line: OnLine) -> str:
        """The id of the image that the classic builder made of a tar."""
        ...

    def named(self, image: str) -> AbstractContextManager[str]:
        """A name for an image, until the end of the block."""
        ...


class ImageBuilder(Protocol):
    """One way to build."""

    @property
    def name(self) -> str:
        """What plans and locks call it: ``buildkit`` or ``classic``."""
        ...

    def require(self, dockerfile: Path) -> None:
        """Return if it does all that a Dockerfile asks for.

        Raises:
            UsageError: ``needs-buildkit``.
        """
        ...

    def build(self, recipe: ImageRecipe, scratch: Path, on_line: OnLine) -> str:
        """The id of the image; ``scratch`` is a folder with room for the context.

        Raises:
            HostError: a step failed (with its last lines), or the engine did. Nothing of the build is left.
        """
        ...
