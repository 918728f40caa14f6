"""The table of all commands and the command tree made from it. Nothing here imports a command.

`enclavectl --help` shows the table; the module of a command is loaded when that command is used.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from enclavectl import __version__
from enclavectl.cli.command_tree import CommandGroup, CommandWithGroups, to_command, to_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typer._click import Command as AnyCommand


class Row(NamedTuple):
    """A command: its name, its summary, and its function below cli/commands."""

    name: str
    summary: str
    place: str
    # Words with commands below this one, which is a command itself.
    groups: tuple[GroupRow, ...] = ()


class GroupRow(NamedTuple):
    """A word with commands below it. ``about`` stands on its page below the summary."""

    name: str
    summary: str
    about: str
    commands: tuple[Row | GroupRow, ...]


# By their headings on the first page. The first line of a command's docstring is its summary here;
# tests/cli/test_help.py compares them.
COMMANDS: dict[str, tuple[Row | GroupRow, ...]] = {
    "Use": (
        Row(
            "diagnose", "Classify pictures in an enclave that first proves what it runs.", "diagnose:diagnose"
        ),
        Row("send", "Hand pictures to a verified enclave; listen shows the answers.", "send:send"),
        Row("listen", "Receive and show the answers to pictures that were sent.", "listen:listen"),
    ),
    "Evidence": (
        Row("attest", "Ask an enclave for its evidence, keep it, and judge it.", "attest:attest"),
        Row("verify", "Judge an attestation document, an evidence file or a receipt.", "verify:verify"),
        GroupRow(
            "receipt",
            "Look at the signed receipt of an answer.",
            "Every answer comes with a receipt that the enclave signed; --evidence keeps it.",
            (
                Row("show", "Decode a signed receipt, without judging it.", "receipt:show"),
                Row("extract", "Write the parts of an evidence file to files.", "receipt:extract"),
            ),
        ),
        GroupRow(
            "policy",
            "Say which images count, for how long, and which no more.",
            "A policy is what a client demands of an enclave before it sends anything: whole releases, each"
            " with a life, and a list of revoked ones.",
            (
                Row("new", "Write a policy with one release.", "policy.new:new"),
                Row("add", "Add a release to a policy, beside those that are there.", "policy.add:add"),
                Row("retire", "End the life of a release, now or at a later time.", "policy.retire:retire"),
                Row(
                    "revoke",
                    "Refuse a release at any time, whatever else the policy says.",
                    "policy.revoke:revoke",
                ),
                Row("show", "Print what a policy accepts: releases, lives, revocations.", "policy.show:show"),
                Row("check", "Check that a policy can be used, and note its risks.", "policy.check:check"),
                Row(
                    "explain",
                    "Say why a policy accepts a document's registers, or why not.",
                    "policy.explain:explain",
                ),
                Row("diff", "Say what differs between two policies.", "policy.diff:diff"),
                Row("kms", "Compile a key policy of AWS KMS from a policy.", "policy.kms:kms"),
                Row("kms-lint", "Check a key policy for the known mistakes.", "policy.kms_lint:kms_lint"),
                Row(
                    "kms-explain",
                    "Say whether a key policy lets a call through, and what decides.",
                    "policy.kms_explain:kms_explain",
                ),
            ),
        ),
    ),
    "Enclaves": (
        Row("run", "Start an enclave that stays until it is terminated.", "run:run"),
        Row("list", "List the enclaves of this host.", "list:list_enclaves"),
        Row("describe", "Show one enclave: state, measurements, addresses.", "describe:describe"),
        Row("console", "Print what a running enclave wrote to its console.", "console:console"),
        Row("logs", "Print the last console lines of an enclave that has ended.", "logs:logs"),
        Row("history", "List the enclaves that have ended, and how each did.", "history:history"),
        Row("terminate", "End an enclave, or all of them.", "terminate:terminate"),
    ),
    "Images": (
        Row("build", "Build an enclave image, measure it, and write its lock.", "build:build"),
        GroupRow(
            "lock",
            "Show what a build pinned, and check an image against it.",
            "A build writes a lock beside its image: what went into the image, by hash, and its PCRs.",
            (
                Row("show", "Print what a lock pins.", "lock:show"),
                Row("check", "Measure an image and compare it with its lock.", "lock:check"),
            ),
        ),
        GroupRow(
            "eif",
            "Read, measure, check, compare, sign and take apart image files.",
            "These commands work on enclave image files (EIF) of any builder, on any machine. They need no"
            " enclave, no root and no nitro-cli.",
            (
                Row("show", "Describe images: PCRs, signature, metadata, sections.", "eif.show:show"),
                Row("pcrs", "Compute the PCRs that an enclave with the image attests.", "eif.pcrs:pcrs"),
                Row("verify", "Check every rule that an image can break.", "eif.verify:verify"),
                Row("diff", "Say what differs between two images, and why.", "eif.diff:diff"),
                Row("sign", "Write a signed copy of an image.", "eif.sign:sign"),
                Row("extract", "Write each section of an image to a file.", "eif.extract:extract"),
            ),
        ),
        GroupRow(
            "kernel",
            "Make an enclave's boot files from a distribution's kernel.",
            "An image needs a kernel, the NSM driver and an init. nitro-cli brings its own; these are for a"
            " machine without it.",
            (Row("prepare", "Copy a kernel and its modules, and compile an init.", "kernel:prepare"),),
        ),
        GroupRow(
            "model",
            "Write, check and show models; fetch the published one.",
            "A model is a card, which says what it takes and gives, and weights, which the card names by"
            " hash.",
            (
                Row("show", "Print a model's card, and whether the model can serve.", "model:show"),
                Row(
                    "check", "Try a model on pictures: is it prepared as it was trained?", "model_check:check"
                ),
                GroupRow(
                    "card",
                    "Write a card.",
                    "A card says what weights take and give, and how a picture becomes their input.",
                    (
                        Row(
                            "new",
                            "Write the draft of a card: what the weights say, and what they do not.",
                            "model_card:new",
                        ),
                    ),
                ),
                Row("fetch", "Download the tutorial's published model.", "model:fetch"),
                Row("seal", "Encrypt weights, for attested enclaves only.", "model_seal:seal"),
                Row(
                    "release",
                    "Give a model's key to enclaves that prove themselves.",
                    "model_release:release",
                ),
            ),
        ),
    ),
    "Network": (
        Row(
            "gateway",
            "Relay between the network and enclaves, which it cannot read.",
            "gateway.serve:gateway",
            (
                GroupRow(
                    "token",
                    "Give out, list and revoke the tokens of a gateway's clients.",
                    "A gateway keeps the SHA-256 of each token. A token that is revoked ends its sessions.",
                    (
                        Row("add", "Make a token and print it once.", "gateway.token:add"),
                        Row("list", "List the tokens' names and when they end.", "gateway.token:list_tokens"),
                        Row("revoke", "Make a token worthless.", "gateway.token:revoke"),
                    ),
                ),
            ),
        ),
        GroupRow(
            "remote",
            "Name enclaves elsewhere, check the way, and invite others.",
            "A remote is an address with the policy that an enclave there must satisfy, and what its gateway"
            " demands. enclavectl diagnose --remote NAME uses it.",
            (
                Row("add", "Give an enclave elsewhere a name and a policy.", "remote.add:add"),
                Row("list", "List the remotes.", "remote.list:list_remotes"),
                Row("show", "Show one remote: its address, and what it must prove.", "remote.show:show"),
                Row("update", "Replace a remote's policy, token or other parts.", "remote.update:update"),
                Row("check", "Go to a remote step by step, and say which step fails.", "remote.check:check"),
                Row("remove", "Remove a remote with its policy, token and keys.", "remote.remove:remove"),
                Row("invite", "Write an invitation for a data owner.", "remote.invite:invite"),
            ),
        ),
        GroupRow(
            "fleet",
            "Run enclaves on Kubernetes, with a gateway beside each.",
            "Past the four enclaves of one host, Kubernetes places them, with AWS's device plugin. These"
            " commands write its manifests and check them; docs/kubernetes.md has the whole way.",
            (
                Row("render", "Write the manifests of a fleet for Kubernetes.", "fleet.render:render"),
                Row("check", "Check a fleet's manifests before a cluster sees them.", "fleet.check:check"),
                Row("node", "Write what makes a cluster's nodes hold enclaves.", "fleet.node:node"),
                Row("status", "Show the releases, enclaves and load of a fleet.", "fleet.status:status"),
                Row(
                    "probe",
                    "Challenge the announced enclaves, as a container's startup probe.",
                    "fleet.probe:probe",
                ),
            ),
        ),
        Row("page", "Write a web page that verifies and seals in the browser.", "page:page"),
    ),
    "Host": (
        Row("setup", "Prepare this instance for enclaves, step by step.", "setup:setup"),
        Row("doctor", "Check this host, and say how to fix what is wrong.", "doctor:doctor"),
        Row("plan", "Say whether an enclave fits on this host.", "plan:plan"),
        Row("units", "Write systemd units that start an enclave at boot.", "units:units"),
        GroupRow(
            "config",
            "Show, locate and create the configuration file.",
            "A flag goes before an environment variable, that before the file, and that before the default.",
            (
                Row("show", "Print every setting with its value and its source.", "config:show"),
                Row("path", "Print where the configuration file is, or would be.", "config:path"),
                Row("init", "Write a configuration file with every setting explained.", "config:init"),
            ),
        ),
        Row("selftest", "Try the attacks that must be refused, on this machine.", "selftest:selftest"),
        Row("schema", "Print the JSON Schema of an output or a file.", "schema:schema"),
    ),
}


def build_app() -> CommandGroup:
    """Return the tree of all commands; none of their modules is loaded."""
    app = to_group(
        "enclavectl",
        root,
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for heading, rows in COMMANDS.items():
        _add(app, rows, heading)
    return app


def command_path(arguments: Sequence[str]) -> str:
    """Return the words of a command line that name its command, with ``enclavectl`` before them."""
    path = ["enclavectl"]
    rows: Sequence[Row | GroupRow] = [row for rows in COMMANDS.values() for row in rows]
    for word in arguments:
        row = next((one for one in rows if one.name == word), None)
        if row is None:
            break
        path.append(word)
        rows = row.commands if isinstance(row, GroupRow) else row.groups
    return " ".join(path)


def _add(group: CommandGroup, rows: Sequence[Row | GroupRow], heading: str = "Commands") -> None:
    for row in rows:
        load = partial(_load_group, row) if isinstance(row, GroupRow) else partial(_load_command, row)
        group.add(row.name, heading, row.summary, load)


def _load_group(row: GroupRow) -> CommandGroup:
    about = f"{row.summary}\n\n{row.about}"
    group = to_group(row.name, lambda: None, help=about, no_args_is_help=True, add_completion=False)
    _add(group, row.commands)
    return group


def _load_command(row: Row) -> AnyCommand:
    module, _, function = row.place.partition(":")
    if row.groups:
        groups = to_group(row.name, lambda: None, help=row.summary, add_completion=False)
        _add(groups, row.groups)
        return CommandWithGroups(groups, partial(_load_command, row._replace(groups=())))
    return to_command(row.name, getattr(import_module(f"enclavectl.cli.commands.{module}"), function))


def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Confidential machine-learning inference in AWS Nitro Enclaves.

    A picture is sealed to an enclave that proved what it runs, and only then sent. On a machine without
    enclaves the local backend simulates one, and says so.

    Start with: enclavectl diagnose PICTURE

    Exit codes: 0 ok, 1 bug, 2 usage or configuration, 3 host or tool, 4 attestation refused,
    5 enclave or model failed, 6 not found or wrong state, 130 interrupted.
    """
    if version:
        typer.echo(f"enclavectl {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
