"""``send`` and ``listen``: the tutorial's two parent roles, for use in two terminals."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from enclavectl.cli import options
from enclavectl.cli.answers import draw_result
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.setup import Trusting, begin, target_elsewhere, target_of

if TYPE_CHECKING:
    from enclavectl.backends.base import Backend
    from enclavectl.cli.screen import Screen
    from enclavectl.cli.setup import Target
    from enclavectl.client import Client
    from enclavectl.exchange import Expectation, VerifiedEnclave
    from enclavectl.listener import Delivered
    from enclavectl.pending import PendingStore
    from enclavectl.pictures import Picture

ANSWER_SCHEMA = "enclavectl.answer/1"


def send(
    images: Annotated[
        list[str],
        typer.Argument(help="Pictures, folders of pictures, or - for standard input.", show_default=False),
    ],
    enclave: options.EnclaveName = None,
    policy: options.PolicyFile = None,
    backend: options.BackendName = None,
    connect: options.Address = None,
    root: options.RootFile = None,
    unsafe_allow_debug: options.AllowDebug = False,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Seal pictures to a verified enclave and hand them in; the answers come to `enclavectl listen`.

    The keys to the answers wait in the state folder, readable by this user only.

    Example: enclavectl listen &  enclavectl send --enclave first picture.jpg
    """
    from enclavectl.client import Client
    from enclavectl.errors import EnclavectlError, PictureRefused
    from enclavectl.pending import PendingStore
    from enclavectl.pictures import collect, read_picture

    invocation = begin(output, config, {"backend": backend})
    settings = invocation.config
    names = collect(images)
    trusting = Trusting(
        policy=policy or settings.policy, allow_debug=unsafe_allow_debug, connect=connect, root=root
    )
    if connect is not None:
        target = target_elsewhere(connect, trusting)
    else:
        target = _running_target(_backend(settings), enclave, trusting)
    store = PendingStore(settings.state_dir)
    results: list[dict[str, object]] = []
    failures = 0
    with Client.connect(target.address, target.expectation, timeout_s=settings.diagnose.timeout_s) as client:
        trust = str(client.enclave.document.trust)
        for name in names:
            try:
                picture = read_picture(name, sys.stdin.buffer.read)
            except PictureRefused as error:
                failures += 1
                results.append({"image": name, "error": {"code": error.code, "message": error.message}})
                invocation.screen.note(error.message)
                continue
            request_id = _hand_in(client, store, picture, settings.diagnose.timeout_s)
            results.append({"image": name, "sha256": picture.sha256, "request_id": request_id.hex()})
            if not invocation.screen.as_json:
                typer.echo(f"handed in {name}: request {request_id.hex()[:16]}... ({trust})")
    if invocation.screen.as_json:
        value = {"schema": "enclavectl.sent/1", "trust": trust, "backend": target.backend, "results": results}
        invocation.screen.result(value)
    if failures:
        raise typer.Exit(EnclavectlError.exit_code if failures < 0 else PictureRefused.exit_code)
