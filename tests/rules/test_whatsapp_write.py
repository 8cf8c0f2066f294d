"""What goes out: as which kind, and what of a file is looked at for it."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pynchy.whatsapp.write import File, size_of

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480)
#: As a camera writes it: a segment of its own first, fillers, then the frame.
JPEG = b"\xff\xd8\xff\xe1\x00\x06Exif\xff\xff\xff\xc2\x00\x11\x08\x01\xe0\x02\x80\x03"


@pytest.mark.parametrize("content", [PNG, JPEG, JPEG.replace(b"\xff\xff\xff\xc2", b"\xff\xc0")])
def test_the_size_of_a_picture_is_in_its_head(content: bytes) -> None:
    assert size_of(content) == (640, 480)


@pytest.mark.parametrize(
    "content",
    [b"", b"GIF89a", PNG[:-1], JPEG[:-4], PNG[:16] + bytes(8), b"\xff\xd8\xff\xc4\x00\x00" * 9],
)
def test_what_is_no_picture_has_none(content: bytes) -> None:
    assert size_of(content) is None


@given(st.binary(max_size=200), st.sampled_from([PNG[:16], JPEG[:2], JPEG[:6], b""]))
@example(b"\xff\xda\xff\xff", JPEG[:2])
def test_whatever_comes_it_ends(noise: bytes, head: bytes) -> None:  # threat P7
    found = size_of(head + noise)
    assert found is None or min(found) > 0


@pytest.mark.parametrize(
    ("name", "content", "captioned", "kind"),
    [
        ("a.png", PNG, True, "image"),
        ("a.png", b"no picture", True, "document"),
        ("a.gif", b"GIF89a", False, "document"),
        ("a.mp4", b"", True, "video"),
        ("a.mkv", b"", False, "document"),
        ("a.mp3", b"", False, "audio"),
        ("a.mp3", b"", True, "document"),
        ("a.pdf", b"%PDF", True, "document"),
        ("a", PNG, True, "document"),
    ],
)
def test_what_phones_can_show_is_shown(
    name: str, content: bytes, captioned: bool, kind: str
) -> None:
    file = File.of(name, content, captioned=captioned)
    assert file.kind == kind
    assert file.size == ((640, 480) if kind == "image" else None)
