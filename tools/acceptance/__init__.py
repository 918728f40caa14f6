"""What a Nitro host has to show once: the walk-through and the contract tests, measured, in one report.

``make nitro-acceptance`` runs it on an EC2 parent; docs/acceptance.md says what to rent and what it proves.
It refuses to run where there is no device. A report says under which root its documents were verified, so
one from a host that only simulates a device is known by that.
"""
