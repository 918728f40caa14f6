"""The engine's classic builder: the context as one tar, through the API."""

from __future__ import annotations

from pathlib import Path

from enclavectl.image.builder import BuildEngine, ImageRecipe
from enclavectl.image.classic_limits import refuse_buildkit_only
from enclavectl.image.context import write_context
from enclavectl.image.dockerfile import read_dockerfile
from enclavectl.image.engine import BuildOptions, OnLine
from enclavectl.image.scratch import scratch_file


class ClassicBuilder:
    """The builder for engines without BuildKit; ``reason`` says why BuildKit cannot be used."""

    name = "classic"

    def __init__(self, engine: BuildEngine, reason: str) -> None:
        self._engine = engine
        self._reason = reason

    def require(self, dockerfile: Path) -> None:
        """Check that the Dockerfile uses nothing that this builder drops or refuses.

        Raises:
            UsageError: ``needs-buildkit``, or the Dockerfile is too large.
            HostError: the Dockerfile cannot be read.
        """
        refuse_buildkit_only(read_dockerfile(dockerfile), self._reason)

    def build(self, recipe: ImageRecipe, scratch: Path, on_line: OnLine) -> str:
        """Build the image as ``ImageBuilder.build`` describes."""
        options = BuildOptions(
            dockerfile=recipe.dockerfile.name,
            arguments={} if recipe.base is None else {"BASE_IMAGE": recipe.base},
            has_network=recipe.has_network,
            labels=recipe.labels,
        )
        with scratch_file(scratch) as context:
            write_context(recipe.files, context)
            context.seek(0)
            return self._engine.build(context, options, on_line=on_line)
