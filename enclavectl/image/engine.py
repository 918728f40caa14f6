"""The Docker engine, as far as a build needs it. Only this module imports the Docker SDK."""

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

# Label of everything that a build leaves in the engine: its value is a container's purpose, or the version of
# enclavectl that made an image.
LABEL = "enclavectl"
OnLine = Callable[[str], None]
# The longest silence within one answer. A build streams its output, so its length is not bounded; but `pip`
# or a compiler within one RUN may print nothing for minutes.
_TIMEOUT_S = 600
# Lines of a failed build that its error quotes: the failing step and its message, still readable in one
# error.
_MAX_TAIL = 12
_MAX_SAID = 12
_NEW_IMAGE = re.compile(r" ---> ([0-9a-f]{12})")
_BASE = re.compile(r"Step [0-9]+/[0-9]+ : FROM ", re.IGNORECASE)
_CACHED = " ---> Using cache"
_COLOR = re.compile(r"\x1b\[[0-9;]*m")  # the classic builder colors standard error red


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """The options of a classic build. ``dockerfile`` is a name in the context's root."""

    dockerfile: str = "Dockerfile"
    arguments: Mapping[str, str] = field(default_factory=dict)
    has_network: bool
    labels: Mapping[str, str] = field(default_factory=dict)


class Engine:
    """A connection to the engine that DOCKER_HOST names; ``connect`` opens it."""

    def __init__(self, client: DockerClient) -> None:
        """Wrap ``client``, which must have answered a request already."""
        self._client = client

    @property
    def identity(self) -> str:
        """Return the engine's unique ID."""
        with _explained("asking the Docker engine who it is"):
            return str(self._client.info().get("ID", ""))

    @property
    def version(self) -> str:
        """Return the engine's version."""
        with _explained("asking the Docker engine for its version"):
            return str(self._client.version().get("Version", "unknown"))

    def find(self, reference: str) -> str | None:
        """Find the id (``sha256:...``) of a local image; None if no image has this name."""
        from docker.errors import ImageNotFound

        with _explained(f"looking for the image {reference}"):
            try:
                return _id(self._client.images.get(reference))
            except ImageNotFound:
                return None

    def require(self, reference: str, *, platform: Platform | None = None, on_line: OnLine) -> str:
        """Return the id of an image; pull the image if it is not local.

        Raises:
            HostError: the image is not local and cannot be pulled, or the engine fails.
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
        """Return the answer of ``docker inspect`` for an image.

        Raises:
            HostError: there is no such image, or the engine fails.
        """
        with _explained(f"inspecting the image {reference}"):
            return dict(self._client.images.get(reference).attrs)

    def run(self, image: str, argv: Sequence[str]) -> bytes:
        """Run a command in a container without a network and return its standard output.

        Raises:
            HostError: ``container`` if the command cannot start or fails; or the engine failed.
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
                log_config=LogConfig(type=LogConfig.types.JSON),  # an engine's default may keep no logs
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
        """Build a context, a tar that contains its Dockerfile, with the classic builder; return the image's
        id.

        Raises:
            HostError: a step failed (with its last lines), or the engine failed. The images of the failed
                build are removed.
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
        """Remove the images of a failed build; skip those in use, and stop if the engine is gone."""
        from docker.errors import DockerException
        from requests.exceptions import RequestException

        for image in images:
            with suppress(DockerException, RequestException):
                self._client.images.remove(image, noprune=True)

    @contextmanager
    def named(self, image: str) -> Iterator[str]:
        """Give an image a temporary name, for tools that take no id.

        The name is removed at the end, unless it is the image's only one: Docker deletes an image with its
        last name.
        """
        name = f"enclavectl-build:{image.removeprefix('sha256:')[:32]}"
        with _explained(f"naming the image {image}"):
            found = self._client.images.get(image)
            others = [tag for tag in found.tags if tag != name]
            found.tag(*name.split(":"))
        try:
            yield name
        except BaseException:
            if others:  # an error of the block is the one to report
                self._remove([name])
            raise
        if others:
            with _explained(f"removing the name {name}"):
                self._client.images.remove(name, noprune=True)

    def save(self, image: str, sink: BinaryIO) -> None:
        """Write the image to ``sink`` as ``docker save`` does.

        Raises:
            HostError: the engine failed, or the disk is full.
        """
        with _explained(f"saving the image {image}"):
            sink.writelines(self._client.images.get(image).save(chunk_size=1 << 20))


@contextmanager
def connect() -> Iterator[Engine]:
    """Connect to the engine that the docker command would use.

    Raises:
        HostError: no engine answers there.
    """
    import docker
    from docker.errors import DockerException

    address = engine_of_this_user()
    try:
        # Passed explicitly, so that every release of the SDK uses the engine that `doctor` checks.
        environ = {**os.environ, **address.to_environment()}
        client = docker.from_env(timeout=_TIMEOUT_S, environment=environ)
    except DockerException as exc:
        raise HostError(
            f"no Docker engine answers at {address.url} ({_system_reason(exc)})",
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
        elif not isinstance(exc, DockerException):  # not an error answer of the engine, but no answer at all
            hint = "is the engine still running? sudo systemctl status docker"
        raise HostError(f"{what} failed: {reason}", hint=hint, code="docker") from exc


def _system_reason(exc: Exception) -> str:
    """Return what the system said of the connection, without the three libraries around it."""
    found: BaseException | None = exc
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
        found = found.__cause__ or found.__context__
    return _reason(exc)


def _reason(exc: Exception) -> str:
    return str(getattr(exc, "explanation", None) or exc)


@contextmanager
def _removed(container: Container) -> Iterator[None]:
    """Remove the container at the end of the block; an error of the block has precedence over a removal's."""
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
    """The lines of a build: passed to the caller, the last ones kept in ``tail``, new images in ``made``."""

    on_line: OnLine
    tail: list[str]
    made: list[str]

    def take(self, line: str) -> None:
        last = self.tail[-1] if self.tail else ""
        # Base images, and images from the cache (announced as such), existed before the build and must stay.
        if (new := _NEW_IMAGE.fullmatch(line)) and last != _CACHED and not _BASE.match(last):
            self.made.append(new[1])
        self.tail[:] = [*self.tail[1 - _MAX_TAIL :], line]
        self.on_line(line)


def build_error(error: str, tail: Sequence[str]) -> HostError:
    """Make the error of a failed build: its message, its last lines, and a hint for a known cause."""
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
