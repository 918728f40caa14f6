"""``enclavectl fleet``: enclaves on the nodes of a Kubernetes cluster."""
