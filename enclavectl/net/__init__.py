"""One conversation over bytes: addresses, sockets, frames."""
