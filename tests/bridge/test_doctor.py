"""The doctor: whatever is missing is a finding with a reason, never an error."""

from __future__ import annotations

import json

import pytest

from bridge import doctor

CHECKS = {"torch", "jax", "cuda", "mps", "organisms", "clips", "espeak-ng", "hub"}


def _refuse() -> None:
    raise OSError("no route to host")


def test_everything_is_looked_at_and_every_finding_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    found = json.loads(json.dumps(doctor.examine(reach_hub=_refuse)))
    assert set(found["checks"]) == CHECKS
    assert all(check["detail"] for check in found["checks"].values())
    assert found["checks"]["torch"]["ok"] and found["checks"]["jax"]["ok"]
    assert found["checks"]["jax"]["detail"].startswith("cpu:0")
    assert found["checks"]["hub"]["ok"] is False
    assert "no route to host" in found["checks"]["hub"]["detail"]
    text = doctor.render(found)
    for name in CHECKS:
        assert any(line.startswith(("yes", "no")) and f" {name} " in line for line in text.splitlines())


def test_a_reachable_hub_is_said_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert doctor.examine(reach_hub=lambda: None)["checks"]["hub"] == {"ok": True, "detail": "huggingface.co answers"}


def test_offline_by_choice_is_not_called_a_network_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    check = doctor.examine(reach_hub=_refuse)["checks"]["hub"]
    assert check["ok"] is False and "HF_HUB_OFFLINE is set" in check["detail"]


def test_a_broken_installation_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise ImportError("libcudart.so: cannot open\nshared object file")

    monkeypatch.setattr(doctor, "_torch", broken)
    check = doctor.examine(reach_hub=_refuse)["checks"]["torch"]
    assert check == {"ok": False, "detail": "ImportError: libcudart.so: cannot open shared object file"}


def test_a_missing_programme_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    check = doctor.examine(reach_hub=_refuse)["checks"]["espeak-ng"]
    assert check["ok"] is False and "spi organism train" in check["detail"]
