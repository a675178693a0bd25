"""The device a model is measured on: what is refused, and that nothing is made anywhere else.

No machine of the tests has a GPU: that every tensor is asked for on the model's device is seen by watching the calls.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch.overrides import TorchFunctionMode

from empirical.analysis import analyze
from empirical.checkpoints.checkpoint import load_checkpoint
from empirical.checkpoints.device import DeviceError, resolve_device
from empirical.speech.clips import Clip
from empirical.speech.samples import Sample
from empirical.task import measure_task
from tests.helpers.tiny_whisper import write_tiny_whisper

torch.set_num_threads(1)

# What makes a tensor of nothing that is on a device yet.
FACTORIES = {torch.zeros, torch.ones, torch.empty, torch.full, torch.eye, torch.arange, torch.linspace, torch.randn}
FACTORIES |= {torch.rand, torch.randint, torch.randperm, torch.tensor}


class Watched(TorchFunctionMode):
    """Keeps the places, in this package, of factories that are not told a device."""

    def __init__(self) -> None:
        super().__init__()
        self.homeless: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = {"device", "generator"} & (kwargs or {}).keys()  # a generator names the device that it draws on
        if func in FACTORIES and not named:
            import traceback

            caller = traceback.extract_stack(limit=2)[0]
            if "empirical" in Path(caller.filename).parts and "site-packages" not in caller.filename:
                self.homeless.add(f"{Path(caller.filename).name}:{caller.lineno}")
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_whisper(tmp_path_factory.mktemp("model") / "tiny")


def test_what_no_machine_or_not_this_one_can_do_is_refused(monkeypatch: pytest.MonkeyPatch, directory: Path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device() == resolve_device("cpu") == torch.device("cpu")
    for name, why in (("mps", "float64"), ("cuda", "this machine has"), ("tpu", "one of auto, cpu, cuda, mps")):
        with pytest.raises(DeviceError, match=f"device must .*{why}.*got '{name}'|device must .*got '{name}'.*{why}"):
            resolve_device(name)
        with pytest.raises(DeviceError):
            load_checkpoint(directory, device=name)


def test_cuda_is_chosen_where_it_is_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 0)
    assert not torch.backends.cudnn.allow_tf32  # float32 is to mean float32
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("state", ["position", "sequence"])
def test_every_tensor_is_made_on_a_named_device(directory: Path, tmp_path: Path, state: Any):
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(16_000), 16_000)
    checkpoint = load_checkpoint(directory)
    with Watched() as watched:
        measure_task(checkpoint, Sample(Clip("a", path, None, None), "clean", 0), state, k=2)
    assert watched.homeless == set()


def test_a_loaded_model_is_measured_where_it_is(directory: Path, tmp_path: Path):
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(16_000), 16_000)
    checkpoint = load_checkpoint(directory)
    assert checkpoint.device == torch.device("cpu")
    table = analyze(checkpoint, [path], k=1, dtype="float32", device="cpu")
    assert len(table) == 3
    with pytest.raises(DeviceError):
        analyze(checkpoint, [path], k=1, dtype="float32", device="mps")
