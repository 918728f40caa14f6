"""The two builders of Docker images: BuildKit, and the engine's classic builder where BuildKit is missing.

``docker build`` has used BuildKit since Docker 23, and people write their Dockerfiles for it. BuildKit needs
a client that serves the context over a gRPC session. The Docker SDK has no such client, so the docker command
with its buildx plugin serves it (``buildkit``). The classic builder is one request of the API (``classic``).
It is deprecated, and it drops or refuses instructions that it does not know, so ``classic_limits`` first
searches the Dockerfile for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from enclavectl.image.context import ContextFile
from enclavectl.image.engine import BuildOptions, OnLine


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecipe:
    """The inputs of a Docker image. ``dockerfile`` is the Dockerfile's name among the files.

    ``base`` is the image id that the Dockerfile's argument BASE_IMAGE is set to. Without ``has_network``, the
    files must hold everything that the build needs.
    """

    files: Iterable[ContextFile]
    dockerfile: Path
    base: str | None = None
    has_network: bool
    labels: Mapping[str, str] = field(default_factory=dict)


class BuildEngine(Protocol):
    """The part of a Docker engine that a build uses."""

    @property
    def identity(self) -> str:
        """Return the engine's unique ID."""
        ...

    def build(self, context: BinaryIO, options: BuildOptions, *, on_line: OnLine) -> str:
        """Build a tar with the classic builder and return the image's id."""
        ...

    def named(self, image: str) -> AbstractContextManager[str]:
        """Give an image a name until the end of the block."""
        ...


class ImageBuilder(Protocol):
    """A builder of Docker images."""

    @property
    def name(self) -> str:
        """The builder's name in plans and locks: ``buildkit`` or ``classic``."""
        ...

    def require(self, dockerfile: Path) -> None:
        """Check that this builder supports everything that the Dockerfile uses.

        Raises:
            UsageError: ``needs-buildkit``.
        """
        ...

    def build(self, recipe: ImageRecipe, scratch: Path, on_line: OnLine) -> str:
        """Build the image and return its id; ``scratch`` is a folder with room for the context.

        Raises:
            HostError: a step failed (with its last lines), or the engine failed. The build leaves nothing
                behind.
        """
        ...
