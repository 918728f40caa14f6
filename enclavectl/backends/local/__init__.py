"""The payload as a child process, with a simulated hypervisor beside it. It protects nothing."""
