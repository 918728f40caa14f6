"""From an image archive to the application ramdisk, in one step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from enclavectl.eif.ramdisk.archive import ImageArchive
from enclavectl.eif.ramdisk.cpio import ByteSink
from enclavectl.eif.ramdisk.layers import FlattenedImage, ImpliedDirectories, ImpliedParents, flatten
from enclavectl.eif.ramdisk.ramdisks import Mode, application_entries, init_lines, write_ramdisk


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenRamdisk:
    """A ramdisk of ``size`` bytes.

    ``implied`` are directories that a layer uses but does not list. Two hosts that pull such an image get
    different PCRs from nitro-cli itself, so no mode can match nitro-cli.
    """

    size: int
    implied: ImpliedDirectories


def write_application(
    sink: ByteSink,
    archive: ImageArchive,
    mode: Mode,
    *,
    inspect: Callable[[FlattenedImage], None] | None = None,
) -> WrittenRamdisk:
    """Write the application ramdisk of an image: its files, its command and its environment.

    ``inspect`` is called with the flattened image before anything is written.

    Raises:
        EifError: a layer is damaged or breaks a rule, there is no command, or a file does not fit the format.
    """
    keep = ImpliedParents.KEEP if mode is Mode.REPRODUCIBLE else ImpliedParents.DOCKER
    cmd = init_lines(archive.config.command())
    env = init_lines(archive.config.env)
    with flatten(archive.layers, implied=keep) as image:
        if inspect is not None:
            inspect(image)
        size = write_ramdisk(sink, application_entries(image.entries(), cmd=cmd, env=env), mode)
        return WrittenRamdisk(size=size, implied=image.implied)
