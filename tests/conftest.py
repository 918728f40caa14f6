import os
import signal

from hypothesis import settings

# No deadline: what a shared machine does in between is not what these tests are about.
settings.register_profile("local", deadline=None)
# Where a failure should mean the change and not the dice; `fuzz/` is for the dice.
settings.register_profile("ci", deadline=None, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# `nohup make test` ignores the first and a script's `make test &` the second; every program that a test
# starts and hangs up or interrupts would inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a test by its parameter, not by long bytes: packed ones hold the time, which differs by worker."""
    return argname if isinstance(val, bytes) and len(val) > 8 else None
