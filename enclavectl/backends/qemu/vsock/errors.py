"""The one exception of the device's parsers."""

from __future__ import annotations


class VirtioError(ValueError):
    """The guest or QEMU broke a rule of virtio or vhost-user; the message says which."""
