"""The default folders of a user's own files."""

from __future__ import annotations

from pathlib import Path

from enclavectl.config.setting import PathContext


def xdg_folder(variable: str, fallback: str, around: PathContext) -> Path:
    """Return enclavectl's folder below a base folder of the XDG specification.

    Raises:
        ValueError: the variable is not set, and this user has no home.
    """
    # The specification says to ignore relative values:
    # https://specifications.freedesktop.org/basedir-spec/latest/#variables
    base = Path(around.environ.get(variable, ""))
    return (base if base.is_absolute() else around.home() / fallback) / "enclavectl"


def default_state_dir(around: PathContext) -> Path:
    """Return the default folder of records, keys and images.

    Raises:
        ValueError: this user has no home.
    """
    return xdg_folder("XDG_STATE_HOME", ".local/state", around)


def default_data_dir(around: PathContext) -> Path:
    """Return the default folder of fetched models.

    Raises:
        ValueError: this user has no home, and no state folder is named.
    """
    try:
        return xdg_folder("XDG_DATA_HOME", ".local/share", around)
    except ValueError:
        # A container's random user has no home. One variable must suffice for both folders.
        if named := around.environ.get("ENCLAVECTL_STATE_DIR"):
            return around.absolute(named) / "data"
        raise
