"""``enclavectl model release``: the model owner's side of a start."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclavectl.cli.invocation import begin
from enclavectl.cli.options import ConfigFile, Output, OutputFormat
from enclavectl.cli.screen import error_value
from enclavectl.errors import EnclavectlError, UsageError
from enclavectl.files import require_output
from enclavectl.run import hide_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from enclavectl.attestation import TrustRoot
    from enclavectl.cli.screen import Screen
    from enclavectl.client.exchange import Expectation, VerifiedEnclave
    from enclavectl.weights.key_file import ModelKey
    from enclavectl.weights.log import ReleaseLog
    from enclavectl.weights.owner import ReleaseTerms

RELEASE_SCHEMA = "enclavectl.model-release/1"
_EXCHANGE_S = 30.0

KeyPath = Annotated[Path, typer.Argument(metavar="FILE.key", help="The key that model seal wrote.")]
ReleasePolicy = Annotated[
    Path,
    typer.Option(
        "--policy", metavar="POLICY", help="What an enclave must prove; its PCR16 is checked anyway."
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to", metavar="ADDRESS", help="Dial one enclave's release port, such as vsock:16:5007, and end."
    ),
]
Listen = Annotated[
    str | None,
    typer.Option(
        "--listen", metavar="ADDRESS", help="Wait for operators' hosts at tls:HOST:PORT, until Ctrl-C."
    ),
]
Certificate = Annotated[
    Path | None, typer.Option("--cert", metavar="FILE", help="With tls: the service's certificate.")
]
CertificateKey = Annotated[Path | None, typer.Option("--cert-key", metavar="FILE", help="With tls: its key.")]
Root = Annotated[
    Path | None,
    typer.Option(
        "--root",
        metavar="FILE",
        help="The root that signs documents, if not AWS's: of a local backend, for trials.",
    ),
]
Lease = Annotated[
    str | None,
    typer.Option(
        "--lease", metavar="TIME", help="How long the enclave may serve, such as 24h; then it ends itself."
    ),
]
Limit = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many releases, by the log.")
]
LogFile = Annotated[
    Path | None, typer.Option("--log", metavar="FILE", help="Append a JSON line for each try.")
]


def release(
    key: KeyPath,
    policy: ReleasePolicy,
    to: To = None,
    listen: Listen = None,
    cert: Certificate = None,
    cert_key: CertificateKey = None,
    root: Root = None,
    lease: Lease = None,
    limit: Limit = None,
    log: LogFile = None,
    config: ConfigFile = None,
    output: Output = OutputFormat.TEXT,
) -> None:
    """Give a model's key to enclaves that prove themselves.

    An enclave must satisfy the policy and have measured this very model. The key is sealed to the enclave, so
    whoever carries the bytes cannot read it. Nothing is released that the log cannot hold. With --limit,
    --log counts the releases of earlier runs as well. The policy is read again for each enclave.

    Examples:
      enclavectl model release m.key --policy p.yaml --to vsock:16:5007   one
      enclavectl model release m.key --policy p.yaml --listen unix:./r    many
    """
    from enclavectl.attestation.trust import read_root  # noqa: PLC0415 - loaded with the rest
    from enclavectl.cli.lease import parse_lease  # noqa: PLC0415 - see above
    from enclavectl.weights.key_file import read_key  # noqa: PLC0415 - see above
    from enclavectl.weights.log import ReleaseLog  # noqa: PLC0415 - see above
    from enclavectl.weights.owner import ReleaseTerms  # noqa: PLC0415 - see above

    screen = begin(output, config, {}).screen
    screen.outlive_reader()
    if (to is None) == (listen is None):
        raise UsageError("expected --to ADDRESS or --listen ADDRESS, and not both")
    if log is not None:
        # Only look: a log that is there may be in a folder that takes no other file.
        require_output("--log", log, size=0)
    hide_memory()  # from here on this process has the key, and may wait for weeks
    secret = read_key(key)
    lease_s = None if lease is None else parse_lease(lease)
    trusted = None if root is None else read_root(root)

    def terms() -> ReleaseTerms:
        return ReleaseTerms(expectation=_expectation(policy, trusted), lease_s=lease_s)

    terms()  # what cannot be read is said at once, and not to the first enclave
    book = ReleaseLog(log, limit)
    tell = partial(_tell, screen, secret)
    if to is not None:
        tell(_release_to(to, secret, terms, book))
        return
    from enclavectl.net.address import parse_address  # noqa: PLC0415 - see above
    from enclavectl.weights.owner_service import OwnerListener, serve_releases, service_context  # noqa: PLC0415

    if (cert is None) != (cert_key is None):
        raise UsageError("--cert and --cert-key: expected both or neither")
    context = None if cert is None or cert_key is None else service_context(cert, cert_key)
    with OwnerListener(parse_address(listen or ""), context) as listener:
        where = listen if listener.port is None else f"port {listener.port}"
        screen.note(f"waiting for enclaves at {where}; Ctrl-C ends")
        serve_releases(listener, secret, terms, book, tell)


def _expectation(policy: Path, root: TrustRoot | None) -> Expectation:
    from enclavectl.attestation.trust import root_for  # noqa: PLC0415 - see above
    from enclavectl.backends.registry import load_policy  # noqa: PLC0415 - see above
    from enclavectl.client.exchange import Expectation  # noqa: PLC0415 - see above

    loaded = load_policy(policy, allow_debug=False)
    return Expectation(policy=loaded, root=root_for(loaded, root))


def _tell(screen: Screen, key: ModelKey, found: VerifiedEnclave | EnclavectlError) -> None:
    if isinstance(found, EnclavectlError):
        screen.note(f"refused: {found.message}")
        if screen.as_json:
            none: dict[str, object] = {"trust": None, "module_id": None, "release": None, "pcrs": {}}
            screen.line({**_base(key), "result": "refused", **none, "error": error_value(found)})
        return
    document = found.document
    if screen.as_json:
        facts = {
            "trust": str(document.trust),
            "module_id": document.module_id,
            "release": document.release,
            "pcrs": {str(index): value.hex() for index, value in document.pcrs.items() if any(value)},
        }
        screen.line({**_base(key), "result": "released", **facts, "error": None})
    else:
        screen.drawn((f"released {key.model_id} to {document.module_id} (trust: {document.trust})", ""))


def _base(key: ModelKey) -> dict[str, object]:
    return {"schema": RELEASE_SCHEMA, "model": key.model_id, "file": key.file_id.hex()}


def _release_to(
    to: str, key: ModelKey, terms: Callable[[], ReleaseTerms], book: ReleaseLog
) -> VerifiedEnclave:
    from enclavectl.net.address import is_network, parse_address  # noqa: PLC0415 - see above
    from enclavectl.net.frames import FrameStream  # noqa: PLC0415 - see above
    from enclavectl.net.transport import open_stream  # noqa: PLC0415 - see above
    from enclavectl.weights.owner import release_key  # noqa: PLC0415 - see above

    address = parse_address(to)
    stream = FrameStream(
        open_stream(address, _EXCHANGE_S), f"the enclave at {address}", is_remote=is_network(address)
    )
    try:
        return release_key(stream, key, terms, book, time.monotonic() + _EXCHANGE_S)
    finally:
        stream.close()
