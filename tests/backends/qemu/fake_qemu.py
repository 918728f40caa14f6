"""A program in QEMU's place: it answers questions on itself, and plays the machine that its image names.

The copy of the image is named after the file that the user named, so ``panics.eif`` is a machine that panics.
"""

from __future__ import annotations

import re
import signal
import socket
import struct
import sys
import time

from enclavectl.backends.qemu.vsock.packet import Header, Op
from tests.backends.qemu.guest import Guest, packet

QUESTIONS = {
    "--version": "QEMU emulator version 10.0.2",
    "-M help": "nitro-enclave        AWS Nitro Enclave",
    "-accel help": "tcg",
}


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def boots(guest: Guest) -> list[Header]:
    """Report to the parent, as an init does; return the packets that have come since."""
    say("[    0.0] Linux version 6.12")
    cid = struct.unpack_from("<Q", guest.ask(24, struct.pack("<III", 0, 8, 0) + bytes(8)), 24)[0]
    guest.boot()
    guest.send(packet(Op.REQUEST, to=9000, changed={"source_cid": cid}))
    guest.send(packet(Op.RW, to=9000, data=b"\xb7", changed={"source_cid": cid}))
    deadline = time.monotonic() + 30
    while True:
        received = guest.received()
        if b"\xb7" in [data for _, data in received]:
            return [header for header, _ in received]
        if time.monotonic() > deadline:
            raise TimeoutError("no heartbeat came back")


def serves(guest: Guest) -> None:
    boots(guest)
    say("enclave_payload: serving model demo")
    time.sleep(600)


def takes(guest: Guest) -> None:
    """Accept a connection to the payload's port, and never answer."""
    headers = boots(guest)
    while True:
        for header in headers:
            if header.op == Op.REQUEST:
                changed = {"source_cid": header.target_cid, "target_cid": header.source_cid}
                guest.send(packet(Op.RESPONSE, header.target_port, header.source_port, changed=changed))
        headers = [header for header, _ in guest.received()]


def starves(_guest: Guest) -> None:
    """As Linux 6.12 with 160 MiB, whose ramdisks have 120."""
    say("[    0.0] Linux version 6.12")
    say("[    4.1] Initramfs unpacking failed: write error")
    say("[    4.4] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)")
    time.sleep(600)


def panics(_guest: Guest) -> None:
    say("[    1.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100")
    time.sleep(600)


def refuses(_guest: Guest) -> None:
    say("qemu-system-x86_64: Failed to parse EIF file")
    sys.exit(1)


def lies(guest: Guest) -> None:
    guest.boot()
    guest.descriptor(1, 0, (0, 44, 0, 0))
    guest.offer(1, head=0)
    time.sleep(600)


def floods(guest: Guest) -> None:
    boots(guest)
    for _ in range(40):
        sys.stdout.write("x" * 200_000)
    say("\nthe last line")
    time.sleep(600)


def dies(guest: Guest) -> None:
    boots(guest)
    say("ModuleNotFoundError: No module named 'numpy'")
    say("init: the command ended with status 1")


MACHINES = {
    machine.__name__: machine for machine in (serves, takes, starves, panics, refuses, lies, floods, dies)
}


def main(words: list[str]) -> None:
    if " ".join(words) in QUESTIONS:
        say(QUESTIONS[" ".join(words)])
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    found = re.search(r"-kernel \S*/image/([a-z]+)-.* -chardev \S+fd=([0-9]+)", " ".join(words))
    assert found is not None, words
    with Guest(link=socket.socket(fileno=int(found[2]))) as guest:
        MACHINES[found[1]](guest)


if __name__ == "__main__":
    main(sys.argv[1:])
