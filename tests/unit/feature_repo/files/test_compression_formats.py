"""What was packed is told from a file of lines by its first bytes, written by the packers themselves."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile

import pyarrow as pa
import pytest

from feature_repo.files.compression_formats import compression_of


def zipped(data):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("a.csv", data)
    return target.getvalue()


@pytest.mark.parametrize(
    ("pack", "name"),
    [
        (gzip.compress, "gzip"),
        (zipped, "ZIP"),
        (lambda data: pa.compress(data, "zstd", asbytes=True), "Zstandard"),
        (bz2.compress, "bzip2"),
        (lzma.compress, "xz"),
        (bytes, None),
    ],
)
def test_a_packed_file_is_known_by_its_first_bytes(pack, name):
    assert compression_of(pack(b"customerID,gender\n1,Female\n")[:4]) == name


def test_fewer_bytes_are_no_packed_file():
    assert compression_of(b"") is None
