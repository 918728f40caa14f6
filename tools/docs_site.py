"""MkDocs hooks for the site of `make docs`.

The site also has the pages of the top folder, whose links are written for a reader of the repository.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# File in the top folder: page of the site.
TOP_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "CHANGELOG.md": "CHANGELOG.md",
}
# What a browser fetches by itself; a link that a reader may click is none.
_LOADS = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//[^"'\s>]+""")


def on_files(files: Files, *, config: MkDocsConfig, **_others: object) -> Files:
    """Add the pages of the top folder."""
    for source, page in TOP_PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_others: object) -> str:
    """Point links at the pages of the site, which lie in one folder."""
    if page.file.src_uri in TOP_PAGES.values():
        markdown = markdown.replace("](docs/", "](")
    for source, target in TOP_PAGES.items():
        markdown = markdown.replace(f"](../{source}", f"]({target}").replace(f"]({source}", f"]({target}")
    return markdown


def on_post_page(output: str, *, page: Page, **_others: object) -> str:
    """Refuse a page that loads something from another host.

    Raises:
        PluginError: it does.
    """
    if found := _LOADS.search(output):
        raise PluginError(f"{page.file.src_uri}: loads {found[0]}; the site must do without other hosts")
    return output
