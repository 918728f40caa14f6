"""``enclavectl remote add``: an enclave elsewhere under a name."""

from __future__ import annotations

from typing import Annotated

import typer

from enclavectl.cli import options
from enclavectl.cli.invitation_options import ExpectedPcr0, Invitation, read_named_invitation
from enclavectl.cli.invocation import begin, refuse_together
from enclavectl.cli.network_options import NO_NETWORK, NetworkFlags
from enclavectl.cli.option_groups import spreads_groups
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.remote_view import PolicyToKeep, RootToKeep, confirm_invitation, draw_remote
from enclavectl.errors import UsageError
from enclavectl.targets.remote_store import RemoteStore

NewName = Annotated[str, typer.Argument(metavar="NAME", help="The name to give it, such as hospital.")]
AddressArgument = Annotated[
    str | None, typer.Argument(metavar="[ADDRESS]", help="Where it is: wss://HOST/v1 or tls:HOST:PORT.")
]
AsDefault = Annotated[
    bool, typer.Option("--default", help="Use it where a command names no enclave and no remote.")
]


@spreads_groups
def add(
    name: NewName,
    address: AddressArgument = None,
    policy: PolicyToKeep = None,
    invitation: Invitation = None,
    expect_pcr0: ExpectedPcr0 = None,
    network: NetworkFlags = NO_NETWORK,
    root: RootToKeep = None,
    default: AsDefault = False,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Give an enclave elsewhere a name and a policy.

    Keeps them with the token, CA and certificate that its gateway demands: copies of the files in the state
    folder, readable by this user only. Nothing is sent: enclavectl remote check tries it.

    Examples:
      enclavectl remote add lab wss://lab.example --policy p.yaml  by hand
      enclavectl remote add lab --from mail.txt                    invited
    """
    invocation = begin(output, config, {})
    store = RemoteStore(invocation.config.state_dir)
    store.require_new(name)  # before anybody types PCRs
    if invitation is None:
        if address is None or policy is None:
            raise UsageError(
                "remote add: expected an address and --policy, or --from with an invitation",
                hint="the policy says which releases may get pictures; enclavectl build prints their PCRs",
            )
        content = network.content(address, policy=policy, root=root)
    else:
        refuse_together(**{"from": invitation, "policy": policy})
        if address is not None:
            raise UsageError("remote add: expected an address or --from, found both", hint="leave one out")
        found = read_named_invitation(invitation)
        content = network.added_to(found)
        confirm_invitation(invocation.screen, content, expect_pcr0 or [], own_root=root)
    remote = store.add(name, content)
    if default:
        store.set_default(name)
        remote = store.find(name)
    draw_remote(invocation.screen, remote)
