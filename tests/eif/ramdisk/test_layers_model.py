"""Any layers flatten to what a plain reading of overlay2's rules makes of them, on dictionaries."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from enclavectl.eif.ramdisk.entries import Kind
from enclavectl.eif.ramdisk.layers import ImpliedParents, flatten
from tests.eif.samples import directory, hardlink, layer, member, text

IMPLIED, LISTED = 0o755, 0o700
NAMES = st.sampled_from(["a", "b", "a-b"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
MEMBERS = st.tuples(st.sampled_from(["file", "folder", "link", "whiteout", "opaque", "device"]), PATHS, PATHS)

# A file is its content, a folder the number of its mode, overlayfs' whiteout device a file of this content.
DEVICE = b"0:0"
Nodes = dict[str, bytes | int]


@dataclass
class Layer:
    """What a layer has and hides, and the members that say so in a tar."""

    nodes: Nodes = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)
    members: list[object] = field(default_factory=list)

    def add(self, kind: str, path: str, target: str, number: int) -> None:
        """Add a member, unless it would make a layer that is refused."""
        parent = path.rpartition("/")[0]
        folders = [parent[:end] for end in range(1, len(parent) + 1) if f"{parent}/"[end] == "/"]
        if any(isinstance(self.nodes.get(one), bytes) for one in folders):
            return
        if kind == "link" and not isinstance(self.nodes.get(target), bytes):
            return
        self.nodes.update({one: IMPLIED for one in folders if one not in self.nodes})
        where = f"{parent}/" if parent else ""
        if kind == "whiteout":
            self.hidden.add(path)
            self.members.append(text(f"{where}.wh.{path.removeprefix(where)}"))
        elif kind == "opaque":
            self.opaque.add(where)
            self.members.append(text(f"{where}.wh..wh..opq"))
        elif kind == "folder":
            self.nodes[path] = LISTED
            self.members.append(directory(path, mode=LISTED))
        else:
            content = {"file": b"%d" % number, "device": DEVICE}.get(kind) or self.nodes[target]
            remove_below(self.nodes, path)
            self.hidden = {one for one in self.hidden if not one.startswith(f"{path}/")}
            self.opaque = {one for one in self.opaque if not one.startswith(f"{path}/")}
            self.nodes[path] = content
            if kind == "device":
                self.members.append(member(path, tarfile.CHRTYPE))
            else:
                self.members.append(text(path, b"%d" % number) if kind == "file" else hardlink(path, target))


def remove_below(nodes: Nodes, path: str) -> None:
    for one in [one for one in nodes if one.startswith(f"{path}/")]:
        del nodes[one]


def lay_over(image: Nodes, top: Layer, implied: ImpliedParents) -> None:
    for where in top.opaque:
        for one in [one for one in image if one.startswith(where)]:
            del image[one]
    for path in top.hidden:
        remove_below(image, path)
        image.pop(path, None)
    for path, node in top.nodes.items():
        is_kept = node == IMPLIED and implied is ImpliedParents.KEEP and isinstance(image.get(path), int)
        if isinstance(node, bytes):
            remove_below(image, path)
        if node == DEVICE:
            image.pop(path, None)
        elif not is_kept:
            image[path] = node


@given(st.lists(st.lists(MEMBERS, max_size=8), max_size=4), st.sampled_from(ImpliedParents))
def test_layers_flatten_as_the_rules_say(
    drawn: list[list[tuple[str, str, str]]], implied: ImpliedParents
) -> None:
    expected: Nodes = {}
    blobs = []
    for number, members in enumerate(drawn):
        one = Layer()
        for index, (kind, path, target) in enumerate(members):
            one.add(kind, path, target, 100 * number + index)
        lay_over(expected, one, implied)
        blobs.append(layer(*one.members))  # type: ignore[arg-type]  # the model's members are plain tuples
    found: Nodes = {}
    with flatten(blobs, implied=implied, init_layer=False) as image:
        for entry in image.entries():
            name = entry.name.decode()
            if entry.kind is Kind.DIRECTORY:
                found[name] = entry.perm
            elif entry.kind is Kind.HARDLINK:
                found[name] = found[entry.target.decode()]
            else:
                assert entry.data is not None
                found[name] = entry.data.read(100)
    assert found == expected
