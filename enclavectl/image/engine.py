"""The Docker engine, as far as a build needs it. The only module that knows the Docker SDK."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from enclavectl.artifacts.engine_address import engine_of_this_user
from enclavectl.eif.ramdisk.platform import Platform
from enclavectl.errors import HostError

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container
    from docker.models.images import Image

# On all that a build leaves in the engine: containers by their purpose, images by the version that made them.
LABEL = "enclavectl"
OnLine = Callable[[str], None]
# Of one answer to one request; a build streams, so this bounds silence, not its length.
_TIMEOUT_S = 600
_MAX_TAIL = 12
_MAX_SAID = 12
_NEW_IMAGE = re.compile(r" ---> ([0-9a-f]{12})")
_BASE = re.compile(r"Step [0-9]+/[0-9]+ : FROM ", re.IGNORECASE)
_CACHED = " ---> Using cache"
_COLOR = re.compile(r"\x1b\[[0-9;]*m")  # the classic builder paints standard error red


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What the classic builder is asked for. ``dockerfile`` is a name in the context's root."""

    dockerfile: str = "Dockerfile"
    arguments: Mapping[str, str] = field(default_factory=dict)
    has_network: bool
    labels: Mapping[str, str] = field(default_factory=dict)


class Engine:
    """A connection to the engine that DOCKER_HOST names; ``connect`` makes them."""

    def __init__(self, client: DockerClient) -> None:
        """``client`` has answered."""
        self._client = client

    @property
    def identity(self) -> str:
        """What no other engine has as its ID."""
        with _explained("asking the Docker engine who it is"):
            return str(self._client.info().get("ID", ""))

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

    def require(self, reference: str, *, platform: Platform | None = None, on_line: OnLine) -> str:
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
                chosen = None if platform is None else str(platform)
                return _id(self._client.images.pull(repository, tag=tag, platform=chosen))
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
            HostError: ``container``, where the command cannot start or fails; or the engine failed.
        """
        from docker.errors import APIError
        from docker.types import LogConfig

        with _explained(f"running {argv[0]} in {image}"):
            container = self._client.containers.create(
                image,
                list(argv),
                entrypoint=[],
                network_mode="none",
                labels={LABEL: "probe"},
                log_config=LogConfig(type=LogConfig.types.JSON),  # an engine may keep none by default
            )
            with _removed(container):
                try:
                    container.start()
                except APIError as exc:
                    raise HostError(f"{argv[0]} cannot start ({_reason(exc)})", code="container") from exc
                status = container.wait()["StatusCode"]
                if status:
                    words = container.logs(stdout=False, stderr=True).decode(errors="replace")
                    message = f"{argv[0]} failed with status {status}: {words.strip()[-500:]}"
                    raise HostError(message, code="container")
                return bytes(container.logs(stdout=True, stderr=False))

    def build(self, context: BinaryIO, options: BuildOptions, *, on_line: OnLine) -> str:
        """The id of the image that the classic builder made of a context, a tar that has its Dockerfile.

        Raises:
            HostError: a step failed (with its last lines), or the engine did. Then none of its images are
            left.
        """
        tail: list[str] = []
        made: list[str] = []
        try:
            with _explained("building the image"):
                image = self._build(context, options, _Output(on_line, tail, made))
        except BaseException:
            self._remove(reversed(made))
            raise
        if not image:
            raise HostError("the Docker engine ended the build without an image", code="docker-build")
        return image

    def _build(self, context: BinaryIO, options: BuildOptions, output: _Output) -> str | None:
        answers = self._client.api.build(
            fileobj=context,
            custom_context=True,
            dockerfile=options.dockerfile,
            buildargs=dict(options.arguments),
            labels=dict(options.labels),
            network_mode=None if options.has_network else "none",
            rm=True,
            forcerm=True,
            decode=True,
        )
        image = None
        for answer in answers:
            if "error" in answer:
                raise build_error(str(answer["error"]), output.tail)
            for line in _COLOR.sub("", str(answer.get("stream", ""))).splitlines():
                if line.strip():
                    output.take(line)
            image = answer.get("aux", {}).get("ID", image)
        return image

    def _remove(self, images: Iterable[str]) -> None:
        """Remove images that a failed build made; what is in use, or gone with its engine, stays."""
        from docker.errors import DockerException
        from requests.exceptions import RequestException

        for image in images:
            with suppress(DockerException, RequestException):
                self._client.images.remove(image, noprune=True)

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
        except BaseException:
            if others:  # what went wrong before is what is worth a word
                self._remove([name])
            raise
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


@contextmanager
def _removed(container: Container) -> Iterator[None]:
    """The container is removed at the end of the block; of two errors the block's is raised."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except BaseException:
        with suppress(DockerException, RequestException):
            container.remove(force=True, v=True)
        raise
    container.remove(force=True, v=True)


@dataclass(frozen=True, slots=True)
class _Output:
    """Where the lines of a build go: to the caller, its last ones to ``tail``, new images to ``made``."""

    on_line: OnLine
    tail: list[str]
    made: list[str]

    def take(self, line: str) -> None:
        last = self.tail[-1] if self.tail else ""
        # A base image, and one of the cache, which is announced as such, were there before and stay.
        if (new := _NEW_IMAGE.fullmatch(line)) and last != _CACHED and not _BASE.match(last):
            self.made.append(new[1])
        self.tail[:] = [*self.tail[1 - _MAX_TAIL :], line]
        self.on_line(line)


def build_error(error: str, tail: Sequence[str]) -> HostError:
    """What a failed build becomes: its error, its last lines, and what mends it where that is known."""
    said = " | ".join(tail[-_MAX_SAID:])
    hint = None
    if "no space left" in error.lower():
        hint = "docker system df shows what fills the disk"
    elif any(words in error.lower() + said.lower() for words in ("unknown instruction", "unknown flag")):
        hint = (
            "is the engine's BuildKit too old for it? Heredocs need Docker 23; a first line "
            "# syntax=docker/dockerfile:1 takes the newest words from Docker's registry"
        )
    return HostError(
        f"docker build failed: {error.strip()}; its last lines: {said}", hint=hint, code="docker-build"
    )
