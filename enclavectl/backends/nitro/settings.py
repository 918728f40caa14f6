"""The settings of the nitro backend, and the values derived from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from enclavectl.files import read_bounded
from enclavectl.net.address import HostAddress, HybridVsockAddress, VsockAddress
from enclavectl.trust import Trust, trust_of_root

if TYPE_CHECKING:  # loads cryptography, which `list` starts nitro-cli before
    from enclavectl.attestation import TrustRoot

# A certificate in PEM has about 1 KiB; chains with text beside them stay below this.
_MAX_ROOT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class NitroSettings:
    """The backend's settings. ``root`` is the PEM file of another root than AWS's commercial one.

    The other two are set only where a host simulates Nitro: ``vsock_dir`` is where it has its sockets,
    ``host_root`` the root of its sysfs.
    """

    state_dir: Path
    environ: Mapping[str, str]
    port_in: int
    vsock_dir: Path | None = None
    root: Path | None = None
    host_root: Path | None = None

    def address(self, cid: int, port: int) -> HostAddress:
        """Return the address at which a client dials the enclave with that CID."""
        if self.vsock_dir is not None:
            return HybridVsockAddress(self.vsock_dir / f"{cid}.vsock", port)
        return VsockAddress(cid, port)

    def trust(self, *, debug: bool) -> Trust:
        """Return the maximum trust of an enclave's evidence."""
        if debug:
            return Trust.DEBUG
        return Trust.NITRO if self.root is None else trust_of_root(self._root_pem(self.root))

    def trust_root(self) -> TrustRoot:
        """Return AWS's commercial root, or the one in the configured file.

        Raises:
            UsageError: there is no such file, or it is no certificate.
        """
        from enclavectl.attestation.trust import TrustRoot, aws_nitro_root

        if self.root is None:
            return aws_nitro_root()
        return TrustRoot.from_operator(self._root_pem(self.root), file=str(self.root))

    def _root_pem(self, file: Path) -> bytes:
        return read_bounded(file, _MAX_ROOT_BYTES, what="root certificate")
