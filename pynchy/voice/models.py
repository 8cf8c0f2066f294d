"""The models of whisper.cpp that are known: how large each is, and its hash.

Pure. Another name is fetched from the same place, too; then only its form is checked, and its hash told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

#: How a file of ggml begins, whatever is in it.
MAGIC: Final = b"lmgg"


@attrs.frozen
class Known:
    """A model as it is published."""

    size: int  # bytes
    sha256: str


KNOWN: Final[Mapping[str, Known]] = {
    "tiny": Known(77_691_713, "be07e048e1e599ad46341c8d2a135645097a538221678b7acdd1b1919c6e1b21"),
    "tiny.en": Known(
        77_704_715, "921e4cf8686fdd993dcd081a5da5b6c365bfde1162e72b08d75ac75289920b1f"
    ),
    "base": Known(147_951_465, "60ed5bc3dd14eea856493d334349b405782ddcaf0028d4b5df4088345fba2efe"),
    "base.en": Known(
        147_964_211, "a03779c86df3323075f5e796cb2ce5029f00ec8869eee3fdfb897afe36c6d002"
    ),
    "small": Known(487_601_967, "1be3a9b2063867b937e64e2ec7483364a79917e157fa98c5d94b5c1fffea987b"),
    "small.en": Known(
        487_614_201, "c6138d6d58ecc8322097e0f987c32f1be8bb0a18532a3f88f734d1bbf9c41e5d"
    ),
    "large-v3-turbo-q5_0": Known(
        574_041_195, "394221709cd5ad1f40c46e6031ca61bce88931e6e088c188294c6d5a55ffa7e2"
    ),
    "large-v3-turbo": Known(
        1_624_555_275, "1fc70f774d38eb169993ac391eea357ef47c88757ef72ee5943879b7e8e2bc69"
    ),
}


def file_of(model: str) -> str:
    """The name of a model's file, here and where it is published."""
    return f"ggml-{model}.bin"


def memory_for(size: int) -> int:
    """The memory that a sandbox needs to work with a model of that size."""
    return (1 << 30) + 2 * size
