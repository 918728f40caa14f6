"""The configuration file that ``config init`` writes."""

from __future__ import annotations

from enclavectl.config.load import SECTIONS, SETTINGS


def render_default() -> str:
    """Render the default configuration file, every setting commented out, so that later defaults apply."""
    lines = [
        "# Configuration of enclavectl. A line with #: shows a default; remove the #: and change it.",
        "# A flag goes before an environment variable, which goes before this file. Relative paths are",
        "# relative to the folder of this file. `enclavectl config show` prints every value with its source.",
        "# `enclavectl schema config-file` prints a JSON Schema; editors complete this file with it.",
    ]
    section = ""
    for one in SETTINGS:
        name = one.key.rpartition(".")[2]
        if (found := one.key.rpartition(".")[0]) != section:
            section = found
            lines += ["", f"# {(SECTIONS[section].__doc__ or '').replace('``', '')}", f"{section}:"]
        indent = "  " if section else ""
        lines += ["", f"{indent}# {one.about}"]
        lines += [f"{indent}# Expects {one.kind.expected}. Environment: {one.variable}"]
        lines += [f"{indent}#: {name}: {one.default_text}"]
    return "\n".join(lines) + "\n"
