"""Models of the hub: pinned to a revision, recorded by commit, refused in one line. No test asks a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import errors

from empirical.checkpoints.checkpoint import CheckpointError, load_checkpoint
from empirical.checkpoints.hub import commit_of, looks_like_id, split_revision
from tests.helpers.tiny_whisper import write_tiny_whisper

FIRST, SECOND = "1" * 40, "a" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local cache with two commits of one model, `main` at the second and the tag v1 at the first; offline."""
    root = tmp_path / "hub" / "models--owner--tiny"
    for commit, seed in ((FIRST, 1), (SECOND, 2)):
        write_tiny_whisper(root / "snapshots" / commit, seed=seed)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(SECOND, encoding="ascii")
    (root / "refs" / "v1").write_text(FIRST, encoding="ascii")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return root


def hub_that(answer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that answers a question about a model in this way."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", answer)


def refused(kind: type[errors.HfHubHTTPError]) -> Callable[..., Any]:
    def answer(*_: Any, **__: Any) -> Any:
        response: Any = SimpleNamespace(headers={}, status_code=404, request=None)
        raise kind("404 Client Error. (Request ID: Root=1-2)\n\nMore lines\nof advice", response=response)

    return answer


def error_of(ref: str, **options: Any) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(ref, **options)
    return caught.value


@pytest.mark.parametrize(
    ("ref", "revision", "commit"),
    [
        ("owner/tiny", None, SECOND),
        ("owner/tiny", FIRST, FIRST),
        ("owner/tiny", "v1", FIRST),
        (f"owner/tiny@{FIRST}", None, FIRST),
        ("owner/tiny@v1", "v1", FIRST),
        ("owner/tiny@main", None, SECOND),
    ],
)
def test_a_pinned_revision_is_the_one_loaded_and_recorded(
    cache: Path, ref: str, revision: str | None, commit: str
) -> None:
    loaded = load_checkpoint(ref, revision=revision)
    assert loaded.sha256 == load_checkpoint(cache / "snapshots" / commit).sha256
    assert (loaded.name, loaded.ref, loaded.commit) == ("tiny", ref, commit)
    assert loaded.notes == (f"commit:{commit}",)


def test_two_pins_that_differ_are_refused(cache: Path) -> None:
    with pytest.raises(ValueError, match="revision must be the one in"):
        load_checkpoint("owner/tiny@v1", revision="main")
    with pytest.raises(ValueError, match="revision must be of a hub id"):
        load_checkpoint(cache / "snapshots" / FIRST, revision="main")
    assert load_checkpoint(cache / "snapshots" / FIRST).commit == ""


def test_a_revision_that_is_not_in_the_cache_says_which_are(cache: Path) -> None:
    error = error_of("owner/tiny@v9")
    tried, advice = error.message.split("\n")
    assert error.code == "unreachable" and "owner/tiny@v9" in tried and "--model /path/to/" in advice
    assert FIRST in tried and SECOND in tried


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        (errors.RevisionNotFoundError, "no_revision", "owner/tiny: the hub has no revision 'v9' of it"),
        (errors.RepositoryNotFoundError, "not_found", "owner/tiny: the hub knows no such model"),
        (errors.GatedRepoError, "not_found", "owner/tiny: its owner gives it out on request only"),
    ],
)
def test_what_the_hub_refuses_is_one_line(
    cache: Path, monkeypatch: pytest.MonkeyPatch, kind: type[errors.HfHubHTTPError], code: str, words: str
) -> None:
    hub_that(refused(kind), monkeypatch)
    error = error_of("owner/tiny", revision="v9")
    assert error.code == code and error.message.startswith(words) and "\n" not in error.message


def test_a_branch_is_resolved_once_and_downloaded_at_that_commit(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[dict[str, Any]] = []
    files = [SimpleNamespace(rfilename=name) for name in ("config.json", "model.safetensors")]

    def info(_api: Any, ref: str, *, revision: str | None, timeout: float) -> Any:
        asked.append({"ref": ref, "revision": revision})
        return SimpleNamespace(sha=SECOND, siblings=files)

    def download(ref: str, **options: Any) -> str:
        if options.get("local_files_only"):
            raise errors.LocalEntryNotFoundError("not here")
        asked.append({"ref": ref, "revision": options["revision"]})
        return str(cache / "snapshots" / SECOND)

    hub_that(info, monkeypatch)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert load_checkpoint("owner/tiny@dev").commit == SECOND
    assert asked == [{"ref": "owner/tiny", "revision": "dev"}, {"ref": "owner/tiny", "revision": SECOND}]


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"])
def test_an_incomplete_cache_is_not_taken_for_the_model(cache: Path, name: str) -> None:
    (cache / "snapshots" / SECOND / name).unlink()
    assert error_of("owner/tiny").code == "unreachable"
    assert load_checkpoint(f"owner/tiny@{FIRST}").commit == FIRST


def test_shards_in_the_cache_must_be_all_there(cache: Path) -> None:
    directory = cache / "snapshots" / SECOND
    whole = load_checkpoint("owner/tiny").model
    (directory / "model.safetensors").unlink()
    whole.save_pretrained(directory, max_shard_size="20KB")
    assert load_checkpoint("owner/tiny").commit == SECOND
    sorted(directory.glob("model-*.safetensors"))[1].unlink()
    assert error_of("owner/tiny").code == "unreachable"


def test_references_with_a_revision() -> None:
    assert split_revision("owner/name@refs/pr/3") == ("owner/name", "refs/pr/3")
    assert split_revision("owner/name") == ("owner/name", None)
    for odd in ("owner/name@", "owner/name@a b", "owner/name@/x"):
        assert split_revision(odd) == (odd, None) and not looks_like_id(odd)
    assert error_of("owner/name@").code == "missing"
    assert commit_of(Path("snapshots") / FIRST) == FIRST
    assert commit_of(Path("other") / FIRST) == commit_of(Path("snapshots/main")) == ""
