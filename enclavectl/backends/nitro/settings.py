"""The settings of the nitro backend, and the values derived from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from enclavectl.net.address import Address, HybridVsockAddress, VsockAddress
from enclavectl.trust import Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class NitroSettings:
    """The backend's settings; the last three are set only on a host that simulates Nitro.

    ``vsock_dir`` is the folder of such a host's sockets, ``root`` the trust root of its evidence,
    ``host_root`` the root folder of its sysfs.
    """

    state_dir: Path
    environ: Mapping[str, str]
    port_in: int
    vsock_dir: Path | None = None
    root: Path | None = None
    host_root: Path | None = None

    def address(self, cid: int, port: int) -> Address:
        """Return the address at which a client dials the enclave with that CID."""
        if self.vsock_dir is not None:
            return HybridVsockAddress(self.vsock_dir / f"{cid}.vsock", port)
        return VsockAddress(cid, port)

    def trust(self, *, debug: bool) -> Trust:
        """Return the maximum trust of an enclave's evidence."""
        if debug:
            return Trust.DEBUG
        return Trust.NITRO if self.root is None else Trust.SIMULATED
