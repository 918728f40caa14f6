"""What layers flatten to: overlay2's rules, one by one."""

from __future__ import annotations

import tarfile

import pytest

from enclavectl.eif.errors import LayerError
from enclavectl.eif.file_range import FileRange
from enclavectl.eif.ramdisk.entries import Entry, Kind
from enclavectl.eif.ramdisk.layers import ImpliedDirectories, ImpliedParents, flatten
from tests.eif.samples import directory, hardlink, layer, member, symlink, text


def shown(*layers: FileRange, implied: ImpliedParents = ImpliedParents.DOCKER) -> dict[str, Entry]:
    with flatten(layers, implied=implied, init_layer=False) as found:
        return {entry.name.decode(): entry for entry in found.entries()}


def content(entry: Entry) -> bytes:
    assert entry.data is not None
    return entry.data.read(1 << 20)


def refused(*layers: FileRange) -> str:
    with pytest.raises(LayerError) as caught, flatten(layers):
        pass
    return caught.value.code


BASE = layer(
    directory("a", mode=0o750, uid=5),
    text("a/one", b"1"),
    text("a/two", b"2"),
    directory("a/sub"),
    text("a/sub/x", b"x"),
    text("b", b"b"),
    symlink("l", "a"),
)


def test_one_layer_is_walked_depth_first_in_byte_order() -> None:
    unordered = layer(
        text("b"), directory("a-b"), directory("a"), text("a/z"), directory("a/b"), text("a/b/c"), text("a.c")
    )
    assert list(shown(unordered)) == ["a", "a/b", "a/b/c", "a/z", "a-b", "a.c", "b"]


def test_a_whiteout_removes_from_lower_layers_only() -> None:
    top = layer(directory("a"), text("a/.wh.one"), text(".wh.b"), text("a/.wh.absent"))
    assert list(shown(BASE, top)) == ["a", "a/sub", "a/sub/x", "a/two", "l"]


@pytest.mark.parametrize("first", [True, False])
def test_a_whiteout_spares_its_own_layer_in_either_order(first: bool) -> None:
    members = [text("a/.wh.one"), text("a/one", b"new")]
    found = shown(BASE, layer(directory("a"), *(members if first else members[::-1])))
    assert content(found["a/one"]) == b"new"


def test_a_whiteout_holds_however_often_its_own_layer_replaces_the_path() -> None:
    found = shown(BASE, layer(text(".wh.a"), directory("a"), text("a"), directory("a")))
    assert list(found) == ["a", "b", "l"]


def test_a_whiteout_goes_with_its_folder_when_its_own_layer_replaces_that() -> None:
    """The second folder is laid over the lower one as if the first had never been there."""
    found = shown(BASE, layer(directory("a"), text("a/.wh.one"), text("a"), directory("a")))
    assert list(found) == ["a", "a/one", "a/sub", "a/sub/x", "a/two", "b", "l"]


@pytest.mark.parametrize("first", [True, False])
def test_an_opaque_directory_hides_lower_children_but_not_its_own(first: bool) -> None:
    members = [text("a/.wh..wh..opq"), text("a/new", b"n")]
    found = shown(BASE, layer(directory("a", mode=0o700), *(members if first else members[::-1])))
    assert list(found) == ["a", "a/new", "b", "l"]
    assert found["a"].perm == 0o700


def test_a_whiteout_of_a_directory_removes_the_tree_and_a_new_one_starts_empty() -> None:
    assert list(shown(BASE, layer(text(".wh.a")))) == ["b", "l"]
    assert list(shown(BASE, layer(text(".wh.a")), layer(directory("a"), text("a/n")))) == [
        "a",
        "a/n",
        "b",
        "l",
    ]


def test_a_directory_over_a_directory_changes_only_its_metadata() -> None:
    found = shown(BASE, layer(directory("a", mode=0o711, uid=9, mtime=7)))
    assert (found["a"].perm, found["a"].uid, found["a"].mtime) == (0o711, 9, 7)
    assert content(found["a/one"]) == b"1"


def test_a_change_of_type_replaces() -> None:
    found = shown(BASE, layer(text("a", b"file"), directory("b"), text("l", b"was a link")))
    assert list(found) == ["a", "b", "l"]
    assert [entry.kind for entry in found.values()] == [Kind.FILE, Kind.DIRECTORY, Kind.FILE]


def test_the_last_of_two_members_with_one_name_counts() -> None:
    found = shown(
        layer(text("x", b"1"), text("./x", b"2"), directory("d", mode=0o700), directory("d/", mode=0o711))
    )
    assert content(found["x"]) == b"2"
    assert found["d"].perm == 0o711


def test_hard_links_share_one_inode_and_its_last_attributes() -> None:
    found = shown(layer(text("z", b"data", uid=1), hardlink("m", "z", uid=7, mode=0o600, mtime=99)))
    assert (found["m"].kind, found["z"].kind, found["z"].target) == (Kind.FILE, Kind.HARDLINK, b"m")
    assert content(found["m"]) == b"data"
    for entry in found.values():
        assert (entry.uid, entry.perm, entry.mtime) == (7, 0o600, 99)


def test_a_hard_link_to_a_symbolic_link_changes_its_owner_only() -> None:
    found = shown(
        layer(symlink("a", "t", mode=0o777, mtime=5), hardlink("b", "a", uid=3, mode=0o600, mtime=99))
    )
    assert (found["a"].uid, found["a"].perm, found["a"].mtime) == (3, 0o777, 5)
    assert found["b"].kind is Kind.HARDLINK


def test_a_symbolic_link_has_no_mode_of_its_own() -> None:
    assert shown(layer(symlink("a", "t", mode=0o640)))["a"].perm == 0o777


def test_replacing_one_name_of_a_hard_link_leaves_the_other() -> None:
    found = shown(layer(text("a", b"old"), hardlink("b", "a")), layer(text("a", b"new")))
    assert content(found["a"]) == b"new"
    assert (found["b"].kind, content(found["b"])) == (Kind.FILE, b"old")


def test_hard_links_that_no_docker_would_unpack() -> None:
    assert refused(BASE, layer(hardlink("h", "b"))) == "layer-hardlink"
    assert refused(layer(directory("d"), hardlink("h", "d"))) == "layer-hardlink"
    assert refused(layer(hardlink("h", "h"))) == "layer-hardlink"


def test_an_unlisted_parent_is_made_anew_by_docker_and_kept_by_oci() -> None:
    top = layer(text("a/three", b"3"), text("n/o/p", b"4"))
    docker, kept = shown(BASE, top), shown(BASE, top, implied=ImpliedParents.KEEP)
    assert (docker["a"].perm, docker["a"].uid, docker["a"].mtime) == (0o755, 0, 0)
    assert (kept["a"].perm, kept["a"].uid) == (0o750, 5)
    assert docker["n/o"].perm == kept["n/o"].perm == 0o755
    assert content(docker["a/one"]) == b"1"
    with flatten([BASE, top]) as found:
        assert found.implied == ImpliedDirectories(count=3, examples=(b"a", b"n", b"n/o"))


def test_a_parent_that_the_layer_lists_later_is_not_implied() -> None:
    with flatten([layer(text("a/x"), directory("a", mode=0o700))], init_layer=False) as found:
        assert found.implied == ImpliedDirectories()
        assert next(iter(found.entries())).perm == 0o700


def test_a_parent_that_is_no_directory_is_refused() -> None:
    assert refused(layer(symlink("l", "a"), text("l/x"))) == "layer-parent"
    assert refused(layer(text("."))) == "layer-parent"
    with pytest.raises(LayerError) as caught, flatten([layer(symlink("opt/l", "a"), text("opt/l/x/y"))]):
        pass
    assert "opt/l: expected a directory, as opt/l/x says, found a link" in caught.value.message
    assert "at the link's target" in (caught.value.hint or "")


def test_a_lower_link_is_replaced_by_an_unlisted_directory() -> None:
    found = shown(BASE, layer(text("l/x", b"x")))
    assert found["l"].kind is Kind.DIRECTORY
    assert "a/x" not in found


def test_names_of_aufs_and_whiteouts_without_a_name() -> None:
    assert list(shown(layer(directory(".wh..wh.plnk"), text(".wh..wh.aufs"), text("x")))) == ["x"]
    assert refused(layer(text(".wh."))) == "layer-whiteout"


def test_devices_and_fifos_pass() -> None:
    found = shown(
        layer(member("n", tarfile.CHRTYPE, devmajor=1, devminor=3), member("f", tarfile.FIFOTYPE, mode=0o600))
    )
    assert (found["n"].kind, found["n"].rdev) == (Kind.CHAR, (1, 3))
    assert found["f"].kind is Kind.FIFO


def device(name: str) -> tarfile.TarInfo:
    """overlayfs' own whiteout, as a tar of its upper folder has it."""
    return member(name, tarfile.CHRTYPE, devmajor=0, devminor=0)


def test_a_character_device_of_number_0_0_is_a_whiteout() -> None:
    found = shown(BASE, layer(directory("a"), device("a/one"), device("a/sub"), device("l"), device("new")))
    assert list(found) == ["a", "a/two", "b"]
    assert list(shown(layer(text("x"), device("y")))) == ["x"]
    assert list(shown(BASE, layer(device("a")), layer(directory("a")))) == ["a", "b", "l"]


def test_a_whiteout_device_and_what_replaces_it_in_its_own_layer() -> None:
    assert content(shown(BASE, layer(device("b"), text("b", b"new")))["b"]) == b"new"
    assert list(shown(BASE, layer(text("b", b"new"), device("b")))) == [
        "a",
        "a/one",
        "a/sub",
        "a/sub/x",
        "a/two",
        "l",
    ]
    assert list(shown(BASE, layer(device("b"), hardlink("l", "b")))) == [
        "a",
        "a/one",
        "a/sub",
        "a/sub/x",
        "a/two",
    ]
    assert refused(BASE, layer(device("b"), text("b/x"))) == "layer-parent"


def test_other_devices_of_major_or_minor_0_are_devices() -> None:
    kinds = [(tarfile.CHRTYPE, 0, 1), (tarfile.CHRTYPE, 1, 0), (tarfile.BLKTYPE, 0, 0)]
    found = shown(
        layer(*(member(f"{n}", kind, devmajor=a, devminor=b) for n, (kind, a, b) in enumerate(kinds)))
    )
    assert [entry.rdev for entry in found.values()] == [(0, 1), (1, 0), (0, 0)]


@pytest.mark.parametrize(
    "name", ["trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.whiteout"]
)
def test_attributes_by_which_overlayfs_hides_files_are_refused(name: str) -> None:
    marked = directory("a", pax_headers={f"SCHILY.xattr.{name}": "y"})
    with pytest.raises(LayerError, match=name) as caught, flatten([BASE, layer(marked)]):
        pass
    assert caught.value.code == "layer-overlay"
    assert "docker build" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["trusted.overlay.origin", "user.comment", "trusted.overlayed"])
def test_attributes_that_hide_nothing_pass(name: str) -> None:
    marked = directory("a", pax_headers={f"SCHILY.xattr.{name}": "y"})
    assert list(shown(BASE, layer(marked))) == list(shown(BASE))


def test_names_may_begin_with_slashes() -> None:
    """As ko, kaniko, buildpacks, nix2container and distroless write them."""
    top = layer(
        directory("/"),
        directory("/a"),
        text("/a/.wh.one"),
        text("//a//three", b"3"),
        symlink("/link", "/a/two"),
        hardlink("/hard", "/a/three"),
        text("/n/o", b"4"),
    )
    found = shown(BASE, top)
    assert list(found) == ["a", "a/sub", "a/sub/x", "a/three", "a/two", "b", "hard", "l", "link", "n", "n/o"]
    assert (found["link"].target, found["hard"].target) == (b"/a/two", b"a/three")
    assert list(shown(BASE, layer(text("/.wh..wh.plnk"), text("/.wh.a")))) == ["b", "l"]


def test_the_init_layer_replaces_what_docker_replaces() -> None:
    image = layer(
        directory("etc", mode=0o2755, gid=7),
        text("etc/hosts", b"mine"),
        symlink("etc/mtab", "elsewhere"),
        text("dev", b"no directory"),
        directory("sys", mode=0o555),
    )
    with flatten([image]) as flattened:
        found = {entry.name.decode(): entry for entry in flattened.entries()}
    assert content_or_none(found["etc/hosts"]) is None
    assert found["etc/hosts"].perm == 0o755
    assert (found["etc/mtab"].target, found["etc/mtab"].perm) == (b"/proc/mounts", 0o777)
    assert (found["etc/mtab"].gid, found["etc/hosts"].gid) == (7, 0)
    assert [found[name].kind for name in ("dev", "dev/pts", "dev/shm")] == [Kind.DIRECTORY] * 3
    assert found["dev/console"].kind is Kind.FILE
    assert found["sys"].perm == 0o555
    assert ".dockerenv" in found


def test_directories_of_the_init_layer_inherit_setgid() -> None:
    with flatten([layer(directory("./", mode=0o2755))]) as flattened:
        found = {entry.name: entry for entry in flattened.entries()}
    assert found[b"dev"].perm == found[b"dev/pts"].perm == 0o2755
    assert found[b"dev/console"].perm == 0o755


def content_or_none(entry: Entry) -> bytes | None:
    return entry.data.read(100) if entry.data else None
