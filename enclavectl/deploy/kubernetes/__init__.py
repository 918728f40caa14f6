"""Manifests for Kubernetes: enclaves on nodes with AWS's device plugin, a gateway beside each."""
