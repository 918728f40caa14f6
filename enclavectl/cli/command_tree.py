"""The tree of commands, which loads a command only when it is used, and the help pages.

Typer inspects every parameter of every command that it is given, and a command's module imports what the
command needs. Both take longer than most commands run, so the tree first holds only names and summaries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import typer
from typer.core import TyperCommand, TyperGroup

from enclavectl.cli.foreign_words import meant_by
from enclavectl.errors import UsageError

if TYPE_CHECKING:
    # Typer has no public name for the type of its contexts; pyproject.toml pins its release.
    from typer._click import Command as AnyCommand
    from typer._click import Context

_EXAMPLES = "Examples:"


class HelpPage(Protocol):
    """The methods of Typer's help formatter that a command uses."""

    def write(self, string: str) -> None:
        """Append text as it is."""

    def write_text(self, text: str) -> None:
        """Append paragraphs, wrapped."""

    def write_paragraph(self) -> None:
        """Append an empty line."""

    def write_heading(self, heading: str) -> None:
        """Append a heading."""

    def indent(self) -> None:
        """Indent what follows by one step."""

    def dedent(self) -> None:
        """End an indentation."""

    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Append names with their descriptions, in two columns."""


def split_help(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Split a command's docstring into its prose and its examples: command lines, each with a word on it.

    An example is a line below "Examples:"; two or more spaces part the command from the word on it.
    """
    prose, _, examples = text.partition(f"\n{_EXAMPLES}\n")
    rows = []
    for line in examples.splitlines():
        command, _, word = line.strip().partition("  ")
        if command:
            rows.append((command, word.strip()))
    return prose.strip(), rows


class CommandPage(TyperCommand):
    """A command whose help page has a section of examples, aligned."""

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        """Return the words of the usage line; a required argument stands there without braces."""
        return [
            piece[1:-1] if piece.startswith("{") and piece.endswith("}") else piece
            for piece in super().collect_usage_pieces(ctx)
        ]

    def format_help_text(self, ctx: Context, formatter: HelpPage) -> None:  # noqa: ARG002 - Typer's signature
        """Write the docstring: prose wrapped to the page's width, examples as they are."""
        prose, examples = split_help(self.help or "")
        formatter.write_paragraph()
        formatter.indent()
        formatter.write_text(prose)
        formatter.dedent()
        if examples:
            formatter.write_paragraph()
            formatter.write_heading(_EXAMPLES.removesuffix(":"))
            width = max(len(command) for command, _ in examples)
            for command, word in examples:
                formatter.write(f"  {command:<{width}}  {word}".rstrip() + "\n")


class CommandGroup(TyperGroup):
    """Commands below a word, each with its whole summary on the page, under headings."""

    headings: dict[str, str]

    def __init__(self, **attributes: Any) -> None:
        """Make an empty group of what Typer passes to every group."""
        super().__init__(**attributes)
        self.headings = {}

    def add(self, name: str, heading: str, summary: str, load: Callable[[], AnyCommand]) -> None:
        """Add a command below ``heading`` that ``load`` makes when it is used."""
        self.headings[name] = heading
        self.add_command(_NamedCommand(name, summary, load))

    def format_options(self, ctx: Context, formatter: HelpPage) -> None:
        """Write the commands under their headings, then the options."""
        width = max(map(len, self.commands))
        for heading, names in self._by_heading():
            formatter.write_paragraph()
            formatter.write_heading(heading)
            formatter.indent()
            formatter.write_dl([(name.ljust(width), self.commands[name].short_help or "") for name in names])
            formatter.dedent()
        rows = [row for param in self.get_params(ctx) if (row := param.get_help_record(ctx)) is not None]
        formatter.write_paragraph()
        formatter.write_heading("Options")
        formatter.indent()
        formatter.write_dl(rows)
        formatter.dedent()

    def _by_heading(self) -> Iterator[tuple[str, list[str]]]:
        for heading in dict.fromkeys(self.headings.values()):
            yield heading, [name for name in self.commands if self.headings[name] == heading]

    def resolve_command(
        self, ctx: Context, args: list[str]
    ) -> tuple[str | None, AnyCommand | None, list[str]]:
        """Find the command that ``args`` begin with.

        Raises:
            UsageError: there is none; the hint has the command that was probably meant.
        """
        word = args[0]
        if word not in self.commands and not ctx.resilient_parsing and not word.startswith("-"):
            above = ctx.command_path.split()[1:]
            raise UsageError(
                f"there is no command {' '.join([*above, word])!r}"
                + meant_by(word, above, list(self.commands)),
                hint=f"{ctx.command_path} --help lists the commands",
                code="no-such-command",
            )
        return super().resolve_command(ctx, args)


class _NamedCommand(TyperCommand):
    """A placeholder with a command's name and summary, which loads the command when it is used."""

    def __init__(self, name: str, summary: str, load: Callable[[], AnyCommand]) -> None:
        super().__init__(name, short_help=summary)
        self._load = load

    def make_context(
        self, info_name: str | None, args: list[str], parent: Context | None = None, **extra: Any
    ) -> Context:
        return self._load().make_context(info_name, args, parent=parent, **extra)

    def get_short_help_str(self, limit: int = 45) -> str:  # noqa: ARG002 - Typer would cut it there
        return self.short_help or ""


class CommandWithGroups(TyperCommand):
    """A command that has commands below it: the first word decides which is meant."""

    def __init__(self, groups: CommandGroup, load: Callable[[], AnyCommand]) -> None:
        super().__init__(groups.name)
        self._groups = groups
        self._load = load

    def make_context(
        self, info_name: str | None, args: list[str], parent: Context | None = None, **extra: Any
    ) -> Context:
        """Parse the arguments as the group's if a command of it is named, else as the command's."""
        meant = self._groups if args[:1] and args[0] in self._groups.commands else self._load()
        return meant.make_context(info_name, args, parent=parent, **extra)


def to_command(name: str, function: Callable[..., None]) -> AnyCommand:
    """Return the command that runs ``function``, whose parameters are its options."""
    # Rich's help pages take longer to start than all of Typer; plain pages have the same content.
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    app.command(name, cls=CommandPage)(function)
    return typer.main.get_command(app)


def to_group(name: str, callback: Callable[..., None], **settings: Any) -> CommandGroup:
    """Return a group without commands; ``callback`` has its own options, and its help as docstring."""
    app = typer.Typer(
        name=name,
        cls=CommandGroup,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        **settings,
    )
    app.callback()(callback)
    group = typer.main.get_command(app)
    if not isinstance(group, CommandGroup):
        raise TypeError(f"expected a group, found {group!r}")
    return group
