"""A vhost-user vsock device: the guest's vsock, served over Unix sockets of this host.

The guest is hostile: it writes the rings, the descriptors and the packets at any time, and again while they
are read. So each value is read once, checked, and used from there on; what breaks the rules of virtio stops
the device with one ``VirtioError``, and what breaks those of vsock resets one connection. Memory, connections
and the work of one turn are bounded. Sources: virtio 1.3 (docs.oasis-open.org/virtio/virtio/v1.3),
sections 2.7 and 5.10, and https://www.qemu.org/docs/master/interop/vhost-user.html
"""

from enclavectl.backends.qemu.vsock.device import VsockDevice
from enclavectl.backends.qemu.vsock.errors import VirtioError
from enclavectl.backends.qemu.vsock.hybrid import HybridListener
from enclavectl.backends.qemu.vsock.reactor import Reactor

__all__ = ["HybridListener", "Reactor", "VirtioError", "VsockDevice"]
