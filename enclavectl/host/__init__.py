"""What an enclave needs of its host: read through one injectable root, changed through one injectable hand.

Every file is read through ``Tree`` and every program asked through ``Asks``, so that a recorded folder is as
good a host as this machine. Nothing here prints, and nothing here starts a process by itself.
"""
