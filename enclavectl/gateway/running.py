"""One run of the gateway, from its first socket to the end of its drain."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping

from enclave_payload.heap import keep_freed_memory
from enclavectl.errors import EnclavectlError, StateError
from enclavectl.gateway.gateway import Gateway
from enclavectl.gateway.listener import Listener, bound_tls_buffers, listen_on, quiet_loop
from enclavectl.gateway.settings import GatewaySettings
from enclavectl.gateway.tls import ServerTls

# Some reads of 256 KiB with the messages in them: a third of the CPU of a request by WebSocket.
_KEPT_BYTES = 4 * 1024 * 1024
# How often deadlines, tokens and certificates are looked at: a token that was revoked counts for this long.
_SWEEP_S = 0.25


def run_gateway(
    settings: GatewaySettings,
    *,
    record: Callable[[Mapping[str, object]], None],
    note: Callable[[str], None],
    listening: Callable[[int], None],
) -> None:
    """Relay until SIGTERM or SIGINT, then drain.

    ``listening`` is called with the port once an enclave has answered.

    Raises:
        UsageError: the settings, or a file that they name, cannot be used.
        HostError: the address cannot be listened on.
        StateError: no enclave answered within ``wait_s``.
    """
    asyncio.run(_run(settings, Gateway(settings, record, note), listening))


async def _run(settings: GatewaySettings, gateway: Gateway, listening: Callable[[int], None]) -> None:
    note = gateway.note
    quiet_loop(note)
    bound_tls_buffers(settings.limits.message_bytes)
    keep_freed_memory(_KEPT_BYTES)
    tls = None
    if settings.certificate is not None and settings.key is not None:
        tls = ServerTls(settings.certificate, settings.key, settings.client_ca)
    gateway.start()
    stop = _stop_event(tls, note)
    listener = Listener(listen_on(settings.listen), gateway, settings, tls)
    loop = asyncio.get_running_loop()
    sweeping = loop.create_task(_sweep(gateway, tls))
    metrics = None
    try:
        listener.start()
        if settings.metrics is not None:
            from enclavectl.gateway.metrics import serve_metrics  # noqa: PLC0415 - an extra has its library

            metrics = await serve_metrics(gateway, listen_on(settings.metrics, "--metrics"))
        if await _wait_for_enclave(gateway, stop, settings.wait_s):
            listening(listener.port)
            await stop.wait()
            note("stopping: new clients are served for a moment, then what is under way")
            await gateway.drain(listener.close)
    finally:
        sweeping.cancel()
        if metrics is not None:
            metrics.close()
        await listener.stop()
        await gateway.stop()


async def _wait_for_enclave(gateway: Gateway, stop: asyncio.Event, wait_s: float) -> bool:
    """Wait until an enclave answers; return False if we are told to stop before.

    Raises:
        StateError: none did in time.
    """
    deadline = asyncio.get_running_loop().time() + wait_s
    while not gateway.routes.is_ready and not stop.is_set():
        if asyncio.get_running_loop().time() > deadline:
            raise StateError(
                f"expected an enclave that answers within {wait_s:g} s, found none",
                hint="enclavectl list shows what runs; --wait waits longer",
            )
        await asyncio.sleep(0.02)
    return gateway.routes.is_ready


def _stop_event(tls: ServerTls | None, note: Callable[[str], None]) -> asyncio.Event:
    """Return what SIGTERM and SIGINT set; SIGHUP reads the certificate again."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def reload() -> None:
        if tls is not None:
            _try_reload(tls.reload, note)

    loop.add_signal_handler(signal.SIGHUP, reload)
    return stop


def _try_reload(reload: Callable[[], object], note: Callable[[str], None]) -> None:
    try:
        if reload() is not False:
            note("the certificate was read again")
    except EnclavectlError as exc:
        note(f"{exc.message}; the old certificate stays in use")


async def _sweep(gateway: Gateway, tls: ServerTls | None) -> None:
    while True:
        await asyncio.sleep(_SWEEP_S)
        gateway.sweep()
        if tls is not None:
            _try_reload(tls.reload_if_changed, gateway.note)
