"""``enclavectl remote check``: how far the way to a remote goes."""

from __future__ import annotations

import typer

from enclavectl.cli import options
from enclavectl.cli.invocation import begin
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.remote_view import RemoteArgument
from enclavectl.errors import visible
from enclavectl.targets.remote_check import CheckStep, check_remote
from enclavectl.targets.remote_store import RemoteStore
from enclavectl.targets.verification import verification_options

CHECK_SCHEMA = "enclavectl.remote-check/1"


def check(
    name: RemoteArgument, config: options.ConfigFile = None, output: options.Output = OutputFormat.TEXT
) -> None:
    """Go to a remote step by step, and say which step fails.

    The steps: its files, the connection, TLS, the gateway, and the evidence of the enclave behind it. No
    picture is sent. The exit code is that of the step that failed.

    Examples:
      enclavectl remote check lab  before the first picture
    """
    invocation = begin(output, config, {})
    screen = invocation.screen
    remote = RemoteStore(invocation.config.state_dir).find(name)
    steps: list[CheckStep] = []

    def tell(step: CheckStep) -> None:
        steps.append(step)
        if not screen.as_json:
            mark = "ok  " if step.error is None else "FAIL"
            typer.echo(f"{mark}  {step.name:<9} {visible(step.detail)}")

    verification = verification_options(invocation.config, allow_debug=False)
    timeout_s = invocation.config.diagnose.timeout_s
    error = check_remote(remote, verification, timeout_s=timeout_s, tell=tell)
    if screen.as_json:
        value = {"schema": CHECK_SCHEMA, "name": remote.name, "address": remote.address}
        screen.result({**value, "passed": error is None, "steps": [step.to_json() for step in steps]})
    if error is not None:
        error.after_answer = True
        raise error
