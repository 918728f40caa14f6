"""``enclavectl lock``: what a build pinned, and whether an image is what it says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclavectl.artifacts.names import LOCK_NAME
from enclavectl.cli.options import LockFile, Output, OutputFormat
from enclavectl.cli.screen import Screen

if TYPE_CHECKING:
    from enclavectl.artifacts.lock import Lock

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Show and check what a build pinned.")


@app.command("show")
def show_lock(lock: LockFile = Path(LOCK_NAME), output: Output = OutputFormat.TEXT) -> None:
    """Print what a lock pins."""
    from enclavectl.artifacts.lock import read_lock

    screen = Screen(as_json=output is OutputFormat.JSON)
    found = read_lock(lock)
    if screen.as_json:
        screen.result(found.to_json())
        return
    screen.facts(_lock_facts(found))


@app.command("check")
def check_lock(
    file: Annotated[
        Path | None,
        typer.Argument(help="An image; default: the one that the lock names.", show_default=False),
    ] = None,
    lock: LockFile = Path(LOCK_NAME),
    output: Output = OutputFormat.TEXT,
) -> None:
    """Measure the image that a lock names, and compare; exit code 6 if it is another one."""
    from enclavectl.artifacts.lock import check_lock as check
    from enclavectl.artifacts.lock import read_lock

    screen = Screen(as_json=output is OutputFormat.JSON)
    checked = check(read_lock(lock), lock, image=file)
    if screen.as_json:
        value = {"schema": "enclavectl.lock-check/1", "file": str(checked.path), "matches": True}
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
