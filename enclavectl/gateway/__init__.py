"""The relay between the network and enclaves: it follows frames by their headers and can open none.

This room imports leaves and net only. A process that never loads attestation, protocol, client or a seal
cannot decrypt by mistake (tests/gateway/test_blindness.py looks at the running process).
"""
