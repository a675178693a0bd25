"""Which device a model is measured on, and why not on another."""

from __future__ import annotations

import torch

DEVICES = ("auto", "cpu", "cuda", "mps")


class DeviceError(ValueError):
    """A device that this machine has not, or that cannot do the arithmetic."""


def resolve_device(name: str = "auto") -> torch.device:
    """The device of this name; "auto" is the first CUDA device where torch finds one, else the CPU.

    Apple's GPUs (mps) are refused: norms, Gram matrices and every decomposition are in float64, also of a float32
    model, and they have none.

    Raises:
        DeviceError: if the name is unknown, or nothing can be measured there.
    """
    if name not in DEVICES:
        raise DeviceError(f"device must be one of {', '.join(DEVICES)}; got {name!r}")
    if name == "mps":
        raise DeviceError(
            "device must have float64, as norms and decompositions are computed in it; got 'mps', without it: use cpu"
        )
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        why = "torch was built without CUDA" if torch.version.cuda is None else "torch finds no usable CUDA device"
        raise DeviceError(f"device must be one that this machine has; got 'cuda', but {why}: use cpu")
    # cuDNN would round the convolutions' factors to 10 bits (TF32) of its own accord: an error of 1e-3 in float32.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device("cuda", 0)


def describe_device(device: torch.device) -> str:
    """The device in words, for provenance: "cpu", or "cuda:0 (its name)"."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
