"""``enclavectl describe``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enclavectl.attestation import render_policy
from enclavectl.backends.registry import choose_backend, find_enclave
from enclavectl.cli import options
from enclavectl.cli.enclave_view import attest, show_enclave
from enclavectl.cli.invocation import begin
from enclavectl.cli.options import OutputFormat
from enclavectl.new_files import write_new

PolicyOutput = Annotated[
    Path | None,
    typer.Option(
        "--policy-file",
        metavar="FILE",
        help="Also write a policy that accepts exactly this enclave's image, for --policy elsewhere.",
    ),
]


def describe(
    name: options.Name,
    policy_file: PolicyOutput = None,
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Show one enclave: state, measurements, addresses.

    Shows the PCRs that were measured before the start, and asks the enclave for those that it attests now.
    Also shows which addresses clients and answers use.

    Examples:
      enclavectl describe first                            all about it
      enclavectl describe first --policy-file policy.yaml  and its policy
    """
    invocation = begin(output, config, {"backend": backend})
    chosen = choose_backend(invocation.config, invocation.screen)
    enclave = find_enclave(chosen, name)
    if policy_file is not None:
        from enclavectl.cli.policy_change import require_new_policy  # noqa: PLC0415 - few ask for a policy

        require_new_policy("--policy-file", policy_file)
        policy = chosen.policy([enclave], allow_debug=False)
        write_new(policy_file, [render_policy(policy).encode()], mode=0o644)
        invocation.screen.note(f"policy written to {policy_file}")
    show_enclave(invocation, chosen, enclave, attest(chosen, enclave))
