"""``enclavectl remote update``: other files for a remote, as after a rollout."""

from __future__ import annotations

from dataclasses import astuple
from typing import Annotated

import typer

from enclavectl.cli import options
from enclavectl.cli.invitation_options import ExpectedPcr0, Invitation, read_named_invitation
from enclavectl.cli.invocation import begin, refuse_together
from enclavectl.cli.network_options import NO_NETWORK, NetworkFlags
from enclavectl.cli.option_groups import spreads_groups
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.remote_view import (
    PolicyToKeep,
    RemoteArgument,
    RootToKeep,
    confirm_invitation,
    draw_remote,
)
from enclavectl.errors import UsageError
from enclavectl.targets.remote_store import RemoteStore

NewAddress = Annotated[str | None, typer.Option("--address", metavar="ADDRESS", help="Where it is now.")]
Default = Annotated[
    bool | None,
    typer.Option(
        "--default/--no-default", help="Use it, or no longer, where a command names no enclave and no remote."
    ),
]


@spreads_groups
def update(
    name: RemoteArgument,
    address: NewAddress = None,
    policy: PolicyToKeep = None,
    invitation: Invitation = None,
    expect_pcr0: ExpectedPcr0 = None,
    network: NetworkFlags = NO_NETWORK,
    root: RootToKeep = None,
    default: Default = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Replace a remote's policy, token or other parts.

    What is not named stays, and so does what an invitation does not have. A command that runs meanwhile sees
    the old parts or the new ones, never both.

    Examples:
      enclavectl remote update lab --policy new.yaml   after a rollout
      enclavectl remote update lab --from mail.txt     by a new invitation
      enclavectl remote update lab --token-file token  a new token
      enclavectl remote update lab --default           for commands without a name
    """
    invocation = begin(output, config, {})
    store = RemoteStore(invocation.config.state_dir)
    remote = store.find(name)
    old = remote.content()
    base = old
    if invitation is not None:
        refuse_together(**{"from": invitation, "policy": policy})
        refuse_together(**{"from": invitation, "address": address})
        base = old.replaced_by(read_named_invitation(invitation))
    kept_root = root if invitation is None else None
    new = network.added_to(base, address=address, policy=policy, root=kept_root)
    if invitation is not None:
        confirm_invitation(invocation.screen, new, expect_pcr0 or [], own_root=root, before=old)
    if all(part is None for part in (address, policy, invitation, root, default, *astuple(network))):
        raise UsageError("remote update: expected a part, found none", hint="such as --policy FILE")
    if new != old:
        remote = store.update(name, new)
    elif default is None:  # a script that ran before
        invocation.screen.note("nothing changes: the remote has these parts already")
    if default is not None and default is not remote.is_default:
        store.set_default(name if default else None)
    draw_remote(invocation.screen, store.find(name))
