"""A report's overview of a batch: the number of pictures by label, the refused ones, and links."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from enclavectl.results.cards import bar
from enclavectl.results.markup import Object, as_object, percent, string, text

# As many links and lines as a person reads; the pages have all of them.
_MAX_LINKS = 12
_MAX_REFUSED = 200


@dataclass(slots=True)
class _Label:
    name: str
    count: int = 0
    first: list[int] = field(default_factory=list)


class Overview:
    """A count of the results of a batch, in constant memory."""

    def __init__(self, total: int) -> None:
        """Start the count of a batch of ``total`` pictures."""
        self._total = total
        self._labels: dict[str, _Label] = {}
        self._refused: list[tuple[int, str, str]] = []
        self._warned: list[int] = []
        self._warnings = self._refusals = self.answered = 0

    def add(self, result: Object, position: int) -> None:
        """Count one element of ``results``.

        Raises:
            UsageError: it is not such an element; the message names the field.
        """
        if "error" in result:
            self._refusals += 1
            if len(self._refused) < _MAX_REFUSED:
                error = result["error"]
                code = error.get("code") if isinstance(error, Mapping) else error
                self._refused.append((position, string(result, "image"), str(code)))
            return
        self.answered += 1
        if result.get("warnings"):
            self._warnings += 1
            _link(self._warned, position)
        label = as_object(result, "label")
        counted = self._labels.setdefault(string(label, "code"), _Label(string(label, "name")))
        counted.count += 1
        _link(counted.first, position)

    @property
    def title(self) -> str:
        """The page's title and heading."""
        return f"{self.answered} of {self._total} picture{'' if self._total == 1 else 's'} classified"

    def render(self, address: Callable[[int], str]) -> str:
        """Render the section; ``address`` returns the link to the picture at a position."""
        missing = self._total - self.answered - self._refusals
        incomplete = (
            f'<p class="wrong"><strong>Incomplete:</strong> the command was interrupted; '
            f"{missing} of {self._total} pictures got neither an answer nor a refusal.</p>\n"
            if missing
            else ""
        )
        ranked = sorted(self._labels.values(), key=lambda label: -label.count)
        rows = "".join(self._row(label, address) for label in ranked)
        table = (
            f'<table class="counts"><caption class="hidden">Pictures by their first label</caption>\n{rows}'
        )
        return f"""<section class="card overview"><h2>Overview</h2>
{incomplete}{table + "</table>" if rows else ""}
{self._warned_line(address)}{self._refused_list(address)}</section>"""

    def _row(self, label: _Label, address: Callable[[int], str]) -> str:
        share = label.count / self.answered
        links = _links(label.first, label.count, address)
        return (
            f'<tr><th scope="row">{text(label.name)}</th><td class="bar">{bar(share)}</td>'
            f'<td class="share">{label.count}</td><td class="share">{percent(share)}</td>'
            f'<td class="links quiet">{links}</td></tr>\n'
        )

    def _warned_line(self, address: Callable[[int], str]) -> str:
        if not self._warnings:
            return ""
        links = _links(self._warned, self._warnings, address)
        return f'<p class="caution">{self._warnings} with a warning: {links}</p>\n'

    def _refused_list(self, address: Callable[[int], str]) -> str:
        if not self._refusals:
            return ""
        items = "".join(
            f'<li><a href="{text(address(position))}">{position}. <bdi>{text(name)}</bdi></a> '
            f"({text(code)})</li>\n"
            for position, name, code in self._refused
        )
        rest = self._refusals - len(self._refused)
        more = f"<li>and {rest} more</li>\n" if rest else ""
        return f"<h3>{self._refusals} without an answer</h3>\n<ul>\n{items}{more}</ul>\n"


def _link(positions: list[int], position: int) -> None:
    if len(positions) < _MAX_LINKS:
        positions.append(position)


def _links(positions: list[int], count: int, address: Callable[[int], str]) -> str:
    links = ", ".join(f'<a href="{text(address(position))}">{position}</a>' for position in positions)
    rest = count - len(positions)
    return f"{links} and {rest} more" if rest else links
