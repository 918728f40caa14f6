"""The Docker engine, as far as a build needs it. The only module that knows the Docker SDK."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from enclavectl.artifacts.engine_address import engine_of_this_user
from enclavectl.errors import HostError

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

OnLine = Callable[[str], None]
# Of one answer to one request; a build streams, so this bounds silence, not its length.
_TIMEOUT_S = 600
_MAX_TAIL = 12
_COLOR = re.compile(r"\x1b\[[0-9;]*m")  # the classic builder paints standard error red


class Engine:
    """A connection to the engine that DOCKER_HOST names; ``connect`` makes them."""

    def __init__(self, client: DockerClient) -> None:
        """``client`` has answered."""
        self._client = client

    @property
    def version(self) -> str:
        """The engine's version."""
        with _explained("asking the Docker engine for its version"):
            return str(self._client.version().get("Version", "unknown"))

    def find(self, reference: str) -> str | None:
        """The id (``sha256:...``) of a local image, or None where there is none of this name."""
        from docker.errors import ImageNotFound

        with _explained(f"looking for the image {reference}"):
            try:
                return _id(self._client.images.get(reference))
            except ImageNotFound:
                return None

    def require(self, reference: str, *, on_line: OnLine) -> str:
        """The id of an image, which was pulled if it was not here.

        Raises:
            HostError: it is not here and cannot be pulled, or the engine fails.
        """
        from docker.errors import APIError

        found = self.find(reference)
        if found is not None:
            return found
        on_line(f"pulling {reference}")
        repository, _, tag = reference.partition("@") if "@" in reference else _split_tag(reference)
        try:
            with _explained(f"pulling {reference}"):
                return _id(self._client.images.pull(repository, tag=tag))
        except (HostError, APIError) as exc:
            raise HostError(
                f"the image {reference} is not on this machine and cannot be pulled ({exc})",
                hint=f"docker pull {reference}, or name an image that is here: enclavectl build --base-image",
                code="image-missing",
            ) from exc

    def inspect(self, reference: str) -> Mapping[str, object]:
        """What ``docker inspect`` says of an image.

        Raises:
            HostError: there is no such image, or the engine fails.
        """
        with _explained(f"inspecting the image {reference}"):
            return dict(self._client.images.get(reference).attrs)

    def run(self, image: str, argv: Sequence[str]) -> bytes:
        """What a command in a container without a network wrote to its standard output.

        Raises:
            HostError: it failed, or the engine did.
        """
        from docker.errors import ContainerError

        with _explained(f"running {argv[0]} in {image}"):
            try:
                return bytes(
                    self._client.containers.run(
                        image, list(argv), entrypoint=[], network_mode="none", remove=True
                    )
                )
            except ContainerError as exc:
                said = exc.stderr or b""
                words = said if isinstance(said, str) else said.decode(errors="replace")
                raise HostError(
                    f"{image}: {argv[0]} failed with status {exc.exit_status}: {words.strip()[-500:]}"
                ) from exc

    def build(
        self, context: BinaryIO, arguments: Mapping[str, str], *, has_network: bool, on_line: OnLine
    ) -> str:
        """The id of the image that was built from a context (a tar with a ``Dockerfile`` in its root).

        Without a network everything that is needed is in the context.

        Raises:
            HostError: a step failed (with its last lines), or the engine did.
        """
        tail: list[str] = []
        with _explained("building the image"):
            answers = self._client.api.build(
                fileobj=context,
                custom_context=True,
                buildargs=dict(arguments),
                network_mode=None if has_network else "none",
                rm=True,
                forcerm=True,
                decode=True,
            )
            image = None
            for answer in answers:
                if "error" in answer:
                    raise _build_error(str(answer["error"]), tail)
                for line in _COLOR.sub("", str(answer.get("stream", ""))).splitlines():
                    if line.strip():
                        tail = [*tail[1 - _MAX_TAIL :], line]
                        on_line(line)
                image = answer.get("aux", {}).get("ID", image)
        if not image:
            raise HostError("the Docker engine ended the build without an image", code="docker-build")
        return str(image)

    @contextmanager
    def named(self, image: str) -> Iterator[str]:
        """A name for an image, for tools that do not take an id; gone at the end if it is not the only one.

        Docker deletes an image with its last name.
        """
        name = f"enclavectl-build:{image.removeprefix('sha256:')[:32]}"
        with _explained(f"naming the image {image}"):
            found = self._client.images.get(image)
            others = [tag for tag in found.tags if tag != name]
            found.tag(*name.split(":"))
        try:
            yield name
        finally:
            if others:
                with _explained(f"removing the name {name}"):
                    self._client.images.remove(name, noprune=True)

    def save(self, image: str, sink: BinaryIO, *, on_bytes: Callable[[int], None] | None = None) -> None:
        """``sink`` has the image as ``docker save`` writes it.

        Raises:
            HostError: the engine failed, or the disk is full.
        """
        with _explained(f"saving the image {image}"):
            for chunk in self._client.images.get(image).save(chunk_size=1 << 20):
                sink.write(chunk)
                if on_bytes is not None:
                    on_bytes(len(chunk))


@contextmanager
def connect() -> Iterator[Engine]:
    """An engine that answers, where the docker command would ask.

    Raises:
        HostError: there is none.
    """
    import docker
    from docker.errors import DockerException

    try:
        # Named in so many words, so that every release of the SDK asks where doctor looks.
        environ = {**os.environ, **engine_of_this_user().to_environment()}
        client = docker.from_env(timeout=_TIMEOUT_S, environment=environ)
    except DockerException as exc:
        raise HostError(
            f"no Docker engine answers ({_reason(exc)})",
            hint="is it running? sudo systemctl start docker; is your user in the group docker? "
            "DOCKER_HOST or docker context use name an engine elsewhere",
            code="docker-missing",
        ) from exc
    try:
        yield Engine(client)
    finally:
        client.close()


def _split_tag(reference: str) -> tuple[str, str, str]:
    name, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag:  # a colon before a slash belongs to the registry's port
        return reference, ":", "latest"
    return name, colon, tag


def _id(image: Image) -> str:
    return str(image.id)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    from docker.errors import DockerException
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (DockerException, RequestException, HTTPError) as exc:
        reason = _reason(exc)
        hint = None
        if "no space left" in reason.lower():
            hint = "docker system df shows what fills the disk"
        elif not isinstance(exc, DockerException):  # no answer of the engine's, but none at all
            hint = "is the engine still running? sudo systemctl status docker"
        raise HostError(f"{what} failed: {reason}", hint=hint, code="docker") from exc


def _reason(exc: Exception) -> str:
    return str(getattr(exc, "explanation", None) or exc)


def _build_error(error: str, tail: Sequence[str]) -> HostError:
    said = " | ".join(tail[-4:])
    hint = None
    if "no space left" in error.lower():
        hint = "docker system df shows what fills the disk"
    elif "buildkit" in error.lower():
        hint = "the docker command has BuildKit: docker build -t NAME DIR, then --image NAME"
    return HostError(
        f"docker build failed: {error.strip()}; its last lines: {said}", hint=hint, code="docker-build"
    )
