"""``enclavectl lock``: what a build pinned, and whether an image is what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enclavectl.artifacts.lock import LOCK_OPTION_HINT, Lock, read_lock
from enclavectl.artifacts.locked_image import check_lock
from enclavectl.artifacts.names import LOCK_NAME
from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import LockFile, Output, OutputFormat

CHECK_SCHEMA = "enclavectl.lock-check/1"

ImageToCheck = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="An image; default: the one that the lock names.")
]


def show(lock: LockFile = Path(LOCK_NAME), output: Output = OutputFormat.TEXT) -> None:
    """Print what a lock pins.

    Shows the image file and its PCRs, the Docker image, the model, wheels, boot files and tools, by hash.

    Examples:
      enclavectl lock show                      the lock in this folder
      enclavectl lock show --lock my.lock.json  another one
    """
    screen = screen_for(output)
    found = read_lock(lock, hint_if_missing=LOCK_OPTION_HINT)
    if screen.as_json:
        screen.result(found.to_json())
        return
    screen.facts(_lock_facts(found))


def check(
    file: ImageToCheck = None,
    lock: LockFile = Path(LOCK_NAME),
    output: Output = OutputFormat.TEXT,
) -> None:
    """Measure an image and compare it with its lock.

    Exit code 6 if it is another image than the one that the lock describes.

    Examples:
      enclavectl lock check          the image that the lock names
      enclavectl lock check app.eif  this one
    """
    screen = screen_for(output)
    checked = check_lock(read_lock(lock, hint_if_missing=LOCK_OPTION_HINT), lock, image=file)
    if screen.as_json:
        value = {"schema": CHECK_SCHEMA, "file": str(checked.path), "matches": True}
        screen.result({**value, "pcrs": dict(checked.pcrs)})
    else:
        screen.facts([(str(checked.path), f"is what {lock} says"), *checked.pcrs.items()])


def _lock_facts(lock: Lock) -> list[tuple[str, str]]:
    pairs = [("image file", f"{lock.eif['file']} ({lock.eif['size']} bytes, SHA-256 {lock.eif['sha256']})")]
    pairs += [*lock.pcrs.items(), ("mode", lock.mode), ("Docker image", str(lock.image.get("id")))]
    if lock.model is not None:
        pairs.append(("model", f"{lock.model.get('id')}, SHA-256 {lock.model.get('sha256')}"))
    pairs += [(f"wheel {one.name}", f"{one.version} {one.sha256}") for one in lock.wheels]
    pairs += [(f"blob {name}", value) for name, value in lock.blobs.items()]
    pairs += [(f"tool {name}", value) for name, value in lock.tools.items()]
    pairs += [(f"allowed {rule}", reason) for rule, reason in lock.allowed.items()]
    return pairs
