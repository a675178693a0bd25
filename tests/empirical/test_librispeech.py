"""LibriSpeech: what is missing or too many is named, and fetching ends with the published tree or with none."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from empirical.speech import librispeech, librispeech_fetch
from empirical.speech.clips import find_clips
from empirical.speech.datasets import check_data
from empirical.speech.fetch import FetchError, Patience
from empirical.speech.librispeech import SUBSETS, Subset, check_subset, find_subsets, read_speakers
from empirical.speech.librispeech_fetch import fetch_librispeech, plan_librispeech
from empirical.speech.unpack import UnpackError
from tests.helpers.file_server import Server, Site, fresh, good, running_site, status, upto
from tests.helpers.shared_data import needs_shared_data, shared_data

SPEAKERS = """; comment
12   | F | test-clean       | 8.05 | Somebody
60   | M | test-clean       | 8.18 | |CBW|Simon
77   | M | train-clean-100  | 25.1 | Nobody here
"""
TREE = {("12", "345"): 3, ("12", "346"): 2, ("60", "1"): 1}
HASTY = Patience(attempts=2, silence_s=5.0, pause_s=0.0)


def tree(root: Path) -> Path:
    """A subset of two readers, three chapters and six utterances, whose "audio" is noise; `root/LibriSpeech/...`."""
    home = root / "LibriSpeech"
    rng = np.random.default_rng(1)
    for (speaker, chapter), count in TREE.items():
        folder = home / "test-clean" / speaker / chapter
        folder.mkdir(parents=True)
        names = [f"{speaker}-{chapter}-{number:04d}" for number in range(count)]
        for name in names:
            (folder / f"{name}.flac").write_bytes(rng.bytes(3000))
        (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(f"{name} SOME WORDS\n" for name in names))
    (home / "SPEAKERS.TXT").write_text(SPEAKERS)
    return home / "test-clean"


def archive(source: Path) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as packed:
        packed.add(source / "LibriSpeech", "LibriSpeech")
    return made.getvalue()


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    source = tmp_path_factory.mktemp("source")
    tree(source)
    return archive(source)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, content: bytes) -> Subset:
    """The small subset in the place of test-clean."""
    return publish(monkeypatch, content)


def publish(monkeypatch: pytest.MonkeyPatch, content: bytes) -> Subset:
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    small = Subset("test-clean", sum(TREE.values()), 2, len(content), digest)
    for module in (librispeech, librispeech_fetch):
        monkeypatch.setattr(module, "SUBSETS", MappingProxyType(dict(SUBSETS) | {"test-clean": small}))
    return small


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_site() as running:
        yield running


@pytest.fixture
def site(server: Server, monkeypatch: pytest.MonkeyPatch) -> Site:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return fresh(server)


def fetched(site: Site, out: Path, **changes):
    return fetch_librispeech(["test-clean"], out, **({"mirrors": [site.address], "patience": HASTY} | changes))


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_published_counts_add_up() -> None:
    assert SUBSETS["test-clean"].utterances + SUBSETS["test-other"].utterances == 5559  # the paper's pairs
    # Panayotov et al. (2015): 281,241 training utterances, 2,484 readers in all.
    assert sum(one.utterances for one in SUBSETS.values() if one.name.startswith("train")) == 281241
    assert sum(one.speakers for one in SUBSETS.values()) == 2484
    assert all(len(one.archive_md5) == 32 and int(one.archive_md5, 16) for one in SUBSETS.values())
    assert len({one.archive_md5 for one in SUBSETS.values()}) == len(SUBSETS)


def test_speakers(tmp_path: Path) -> None:
    path = tmp_path / "SPEAKERS.TXT"
    path.write_text(SPEAKERS)
    found = read_speakers(path)
    assert list(found) == ["12", "60", "77"]
    assert (found["60"].name, found["60"].sex, found["60"].minutes) == ("|CBW|Simon", "M", 8.18)
    path.write_text("12 | F | test-clean | many | X\n")
    with pytest.raises(ValueError, match="line 1 must have five fields"):
        read_speakers(path)


def test_a_whole_tree_is_whole_from_wherever_it_is_looked_at(tmp_path: Path, published: Subset) -> None:
    place = tree(tmp_path)
    for root in (tmp_path, tmp_path / "LibriSpeech", place):
        assert find_subsets(root) == {"test-clean": place}
    check = check_subset("test-clean", place)
    assert check.whole and (check.utterances, check.speakers, check.receipt) == (6, 2, False)
    found = check_data(tmp_path, read="names")
    assert found.whole and (found.clips, found.references, found.speakers) == (6, 6, 2)
    with pytest.raises(ValueError, match="name must be one of dev-clean"):
        check_subset("test-cleen", place)


def test_what_is_missing_or_too_many_is_named(tmp_path: Path, published: Subset) -> None:
    place = tree(tmp_path)
    (place / "12/345/12-345-0001.flac").unlink()  # its transcript names it
    (place / "12/345/12-345-0005.flac").write_bytes(b"x")
    (place / "12/345/notes.doc").write_text("x")
    (place / "12/346/60-1-0000.flac").write_bytes(b"x")  # of another chapter
    (place / "12/345/.DS_Store").write_text("x")
    check = check_subset("test-clean", place)
    assert check.missing == ("12/345/12-345-0001.flac", "12/345/12-345-0003.flac", "12/345/12-345-0004.flac")
    assert check.extra == ("12/345/12-345-0005.flac", "12/345/notes.doc", "12/346/60-1-0000.flac")
    assert check.utterances == 5 and check.missing_unnamed == 0 and not check.whole
    shutil.rmtree(place / "60")
    check = check_subset("test-clean", place)
    assert check.missing_speakers == ("60",) and check.missing_unnamed == 0 and check.utterances == 4


def test_a_gap_in_the_numbers_is_named_and_a_lost_end_is_counted(tmp_path: Path, published: Subset) -> None:
    place = tree(tmp_path)
    (place / "12/345/12-345-0001.flac").unlink()
    (place / "12/346/12-346-0001.flac").unlink()
    (place / "12/345/12-345.trans.txt").write_text("12-345-0000 A\n12-345-0002 B\n")
    (place / "12/346/12-346.trans.txt").write_text("12-346-0000 A\n")
    (tmp_path / "LibriSpeech" / "SPEAKERS.TXT").unlink()
    check = check_subset("test-clean", place)
    assert check.missing == ("12/345/12-345-0001.flac",) and check.missing_unnamed == 1
    assert not check.speakers_known and not check.whole


def test_a_lost_transcript_file_is_what_is_missing(tmp_path: Path, published: Subset) -> None:
    place = tree(tmp_path)
    (place / "12/345/12-345.trans.txt").unlink()
    check = check_subset("test-clean", place)
    assert check.missing == ("12/345/12-345.trans.txt",) and check.extra == () and check.utterances == 3


def test_fetched_over_a_server_that_drops(tmp_path: Path, site: Site, published: Subset, content: bytes) -> None:
    site.serving(content, upto(5000), upto(9000), good, at="test-clean.tar.gz")
    out = tmp_path / "new"
    seen: set[str] = set()
    (check,) = fetched(site, out, progress=lambda doing, done, total: seen.add(doing))
    assert check.whole and check.receipt and seen == {"download", "check", "unpack"}
    assert names(out) == {"LibriSpeech", ".test-clean.lock"}
    assert names(out / "LibriSpeech") == {"SPEAKERS.TXT", "test-clean", ".test-clean.files.tsv"}
    source = tree(tmp_path / "source")
    again = {path.relative_to(source): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    there = out / "LibriSpeech" / "test-clean"
    assert again == {path.relative_to(there): path.read_bytes() for path in there.rglob("*") if path.is_file()}
    assert len(find_clips(out)) == 6
    asked = len(site.asked)
    assert fetched(site, out) == (check,) and len(site.asked) == asked
    assert plan_librispeech(["test-clean"], out)[0].there


def test_a_receipt_names_every_later_damage(tmp_path: Path, site: Site, published: Subset, content: bytes) -> None:
    site.serving(content, good, at="test-clean.tar.gz")
    fetched(site, tmp_path)
    place = tmp_path / "LibriSpeech" / "test-clean"
    shutil.rmtree(place / "60")
    (place / "12/346/12-346-0000.flac").write_bytes(b"cut")
    audio = place / "12/346/12-346-0001.flac"
    audio.write_bytes(bytes(reversed(audio.read_bytes())))
    (place / "more.txt").write_text("x")
    check = check_subset("test-clean", place)
    assert check.missing == ("60/1/60-1-0000.flac", "60/1/60-1.trans.txt") and check.missing_unnamed == 0
    assert (check.extra, check.altered) == (("more.txt",), ("12/346/12-346-0000.flac",))
    deeper = check_subset("test-clean", place, contents=True)
    assert deeper.altered == ("12/346/12-346-0000.flac", "12/346/12-346-0001.flac")
    with pytest.raises(FetchError, match="5 of 6 utterances, 1 files too many, 1 altered") as caught:
        fetched(site, tmp_path)
    assert caught.value.code == "not_whole" and (place / "more.txt").exists()
    (tmp_path / "LibriSpeech" / ".test-clean.files.tsv").write_text("damaged")
    assert not check_subset("test-clean", place).receipt


def test_an_archive_that_is_there_is_used_and_stays(
    tmp_path: Path, site: Site, published: Subset, content: bytes
) -> None:
    kept = tmp_path / "test-clean.tar.gz"
    kept.write_bytes(content)
    assert plan_librispeech(["test-clean"], tmp_path)[0].archive_bytes == 0
    fetched(site, tmp_path)
    assert kept.exists() and site.asked == []
    site.serving(content, good, at="test-clean.tar.gz")
    fetched(site, tmp_path / "other", keep_archives=True)
    assert (tmp_path / "other" / "test-clean.tar.gz").read_bytes() == content


def test_an_archive_that_a_stopped_fetch_left_is_not_the_users(
    tmp_path: Path, site: Site, published: Subset, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    site.serving(content, good, at="test-clean.tar.gz")
    for number, step in enumerate(("unpack", "_put_in_place", "_tidy"), start=1):
        out = tmp_path / step
        with monkeypatch.context() as patched:
            patched.setattr(librispeech_fetch, step, stop)
            with pytest.raises(KeyboardInterrupt):
                fetched(site, out)
        assert (out / "test-clean.tar.gz").exists() and not list(out.glob("*.tmp"))
        assert fetched(site, out)[0].whole and len(site.asked) == number
        assert names(out) == {".test-clean.lock", "LibriSpeech"}


def test_a_server_without_it_leaves_nothing(tmp_path: Path, site: Site, published: Subset) -> None:
    site.serving(b"", status(404), at="test-clean.tar.gz")
    with pytest.raises(FetchError, match="404"):
        fetched(site, tmp_path)
    assert names(tmp_path) == {".test-clean.lock"}
    with pytest.raises(ValueError, match=r"subsets must be among dev-clean, .* got 'x'"):
        fetch_librispeech(["x"], tmp_path)
    with pytest.raises(ValueError, match="at least one address"):
        fetched(site, tmp_path, mirrors=[])


def test_an_evil_archive_of_the_right_sum_leaves_nothing(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as packed:
        for name in ("LibriSpeech/test-clean/a.txt", "LibriSpeech/../../evil"):
            packed.addfile(tarfile.TarInfo(name), io.BytesIO())
    publish(monkeypatch, made.getvalue())
    site.serving(made.getvalue(), good, at="test-clean.tar.gz")
    out = tmp_path / "in" / "out"
    left = out / ".test-clean.0.tmp"  # of a fetch that was killed
    left.mkdir(parents=True)
    with pytest.raises(UnpackError, match="evil"):
        fetched(site, out)
    assert names(out) == {".test-clean.lock", "test-clean.tar.gz"}
    assert not list(tmp_path.rglob("*evil*"))


def test_no_room_is_said_before_anything_is_fetched(
    tmp_path: Path, site: Site, published: Subset, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.serving(content, good, at="test-clean.tar.gz")
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free._replace(free=len(content)))
    with pytest.raises(FetchError, match="while it is unpacked") as caught:
        fetched(site, tmp_path)
    assert caught.value.code == "no_space" and site.asked == []


def test_two_fetches_of_one_subset_keep_apart(tmp_path: Path, site: Site, published: Subset) -> None:
    fcntl = pytest.importorskip("fcntl")
    with open(tmp_path / ".test-clean.lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(FetchError, match="by another process"):
            fetched(site, tmp_path)


@needs_shared_data
def test_the_real_speakers_and_what_is_here_of_the_corpus() -> None:
    root = shared_data()
    assert root is not None
    speakers = read_speakers(root / "LibriSpeech" / "SPEAKERS.TXT").values()
    for subset in SUBSETS.values():
        assert sum(one.subset == subset.name for one in speakers) == subset.speakers
    found = check_data(root / "LibriSpeech")
    assert (found.clips, found.references, found.rejected) == (137, 137, ())
    by_name = {check.subset: check for check in found.subsets}
    other = by_name["test-other"]
    assert (other.utterances, other.expected, other.extra, other.whole) == (50, 2939, (), False)
    assert other.utterances + len(other.missing) + other.missing_unnamed == other.expected
    assert other.speakers + len(other.missing_speakers) == other.expected_speakers
    # dev-clean's chapter is here from its third utterance on.
    assert by_name["dev-clean"].missing[:1] == ("1272/141231/1272-141231-0000.flac",)
