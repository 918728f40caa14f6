"""What the plan of a build says of the model that it tried."""

from __future__ import annotations

from enclavectl.image.plan import runtime_note


def test_nothing_is_said_where_the_image_has_the_same_python() -> None:
    assert runtime_note((3, 11), here=(3, 11)) is None


def test_another_python_than_the_images_is_named() -> None:
    note = runtime_note((3, 11), here=(3, 13))
    assert note is not None
    assert "this Python 3.13" in note
    assert "image's Python 3.11" in note
    assert "\n" not in note
