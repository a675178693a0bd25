"""Unpacking: nothing leaves the directory, whatever the archive says, and damage is an error and no shorter file."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from empirical.speech.unpack import Unpacked, UnpackError, unpack

NOISE = np.random.default_rng(3).integers(0, 256, size=200_000, dtype=np.uint8).tobytes()


def entry(name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, 0o7777
    made.size = len(content) if kind in (tarfile.REGTYPE, tarfile.GNUTYPE_SPARSE) else 0
    return made, content


def packed(path: Path, *entries: tuple) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for made, content in entries:
            archive.addfile(made, io.BytesIO(content) if made.size else None)
    return path


def taken(archive: Path, into: Path, **changes) -> tuple[Unpacked, ...]:
    into.mkdir()
    return unpack(archive, into, **({"folder": "Top", "most_bytes": 1 << 20} | changes))


def test_files_come_out_as_they_went_in(tmp_path: Path) -> None:
    long = "Top/" + "n" * 200 + "/b.flac"
    archive = packed(
        tmp_path / "a.tar.gz", entry("Top", kind=tarfile.DIRTYPE), entry("./Top/a.txt", b""), entry(long, NOISE)
    )
    seen: list[tuple[str, int, int]] = []
    files = taken(archive, tmp_path / "out", progress=lambda *what: seen.append(what))
    assert files == (
        Unpacked("Top/a.txt", 0, hashlib.sha256(b"").hexdigest()),
        Unpacked(long, len(NOISE), hashlib.sha256(NOISE).hexdigest()),
    )
    assert (tmp_path / "out" / long).read_bytes() == NOISE
    assert (tmp_path / "out" / long).stat().st_mode & 0o7111 == 0  # no rights that the archive would like to have
    assert {what for what, _, _ in seen} == {"unpack"} and seen[-1][2] == archive.stat().st_size


@pytest.mark.parametrize(
    "name",
    [
        "/etc/x",
        "../x",
        "Top/../../x",
        "Top/../x",
        "Other/x",
        "x",
        "Top\\..\\x",
        "Top/C:x",
        "Top/a\nb",
        "Top" + "/d" * 20,
    ],
)
def test_no_path_leaves_the_folder(tmp_path: Path, name: str) -> None:
    archive = packed(tmp_path / "a.tar.gz", entry("Top/good"), entry(name))
    with pytest.raises(UnpackError, match="no path inside Top/") as caught:
        taken(archive, tmp_path / "out")
    assert caught.value.code == "leaves_target"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.tar.gz", "good"]


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "good"),
        (tarfile.LNKTYPE, "Top/good"),
        (tarfile.LNKTYPE, "../../x"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
        (b"Z", ""),
    ],
)
def test_only_files_and_directories_come_out(tmp_path: Path, kind: bytes, link: str) -> None:
    archive = packed(tmp_path / "a.tar.gz", entry("Top/good"), entry("Top/bad", kind=kind, link=link))
    with pytest.raises(UnpackError, match="Top/bad") as caught:
        taken(archive, tmp_path / "out")
    assert caught.value.code == "not_a_file" and not (tmp_path / "out" / "Top" / "bad").exists()


def test_nothing_is_written_twice(tmp_path: Path) -> None:
    both = [entry("Top/a", b"first"), entry("Top/./a", b"second")]
    under = [entry("Top/a"), entry("Top/a/b")]
    over = [entry("Top/a/b"), entry("Top/a")]
    folder = [entry("Top/a"), entry("Top/a", kind=tarfile.DIRTYPE)]
    for number, entries in enumerate((both, under, over, folder)):
        with pytest.raises(UnpackError, match="twice"):
            taken(packed(tmp_path / f"{number}.tar.gz", *entries), tmp_path / f"out{number}")
    assert (tmp_path / "out0" / "Top" / "a").read_bytes() == b"first"


def test_a_few_bytes_do_not_fill_the_disk(tmp_path: Path) -> None:
    bomb = packed(tmp_path / "a.tar.gz", entry("Top/a", bytes(50 << 20)))
    assert bomb.stat().st_size < 100_000
    with pytest.raises(UnpackError, match="more than 1048576 bytes") as caught:
        taken(bomb, tmp_path / "out")
    assert caught.value.code == "too_large"
    assert (tmp_path / "out" / "Top" / "a").stat().st_size <= 1 << 20
    many = packed(tmp_path / "b.tar.gz", *(entry(f"Top/{number}") for number in range(6)))
    with pytest.raises(UnpackError, match="more than 5 entries"):
        taken(many, tmp_path / "out2", most_files=5)


def test_damage_is_an_error_wherever_it_is(tmp_path: Path) -> None:
    whole = packed(tmp_path / "a.tar.gz", *(entry(f"Top/{name}", NOISE) for name in "ab")).read_bytes()
    tar = gzip.decompress(whole)
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 255
    damaged = {
        "cut in the data": whole[: len(whole) // 3],
        "cut at the end": whole[:-4],
        "one byte changed": bytes(changed),
        "a tar that ends between two files": gzip.compress(tar[: 512 + -(-len(NOISE) // 512) * 512]) + b"\x1f\x8b",
        "a tar that ends within a file": gzip.compress(tar[: len(tar) // 4]),
        "no tar": gzip.compress(b"hello" * 1000),
        "no gzip": b"<html>not found</html>" * 100,
        "nothing": b"",
        "an empty tar": gzip.compress(bytes(10240)),
    }
    for number, (what, content) in enumerate(damaged.items()):
        path = tmp_path / f"{number}.tar.gz"
        path.write_bytes(content)
        with pytest.raises(UnpackError) as caught:
            taken(path, tmp_path / f"out{number}")
        assert caught.value.code == "damaged", what
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
