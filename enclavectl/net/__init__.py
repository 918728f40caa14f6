"""The transport of a conversation: addresses, sockets, frames."""
