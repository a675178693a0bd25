"""Chance alignments of measured vectors whose energy by position is kept (T35), on a decoder's chain."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from empirical.checkpoints.checkpoint import load_checkpoint
from empirical.jacobians.chain import DecoderChain
from empirical.jacobians.positional import POSITIONAL_FIELDS, positional_fields
from empirical.jacobians.propagators import LayerMeasurement, measure_position_layers, measure_sequence_layers
from observables import RandomAlignment
from tests.helpers.tiny_whisper import write_tiny_whisper

torch.set_num_threads(1)

TOKENS = [281, 282, 3, 4, 5]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> DecoderChain:
    directory = write_tiny_whisper(tmp_path_factory.mktemp("model") / "tiny", decoder_layers=3)
    model = load_checkpoint(directory, dtype="float64").model
    states = torch.randn(100, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return DecoderChain(model, states, TOKENS)


@pytest.fixture(scope="module")
def layers(chain: DecoderChain) -> list[LayerMeasurement]:
    return measure_sequence_layers(chain)


def test_one_position_is_that_of_random_directions_T22(chain: DecoderChain):
    layers = measure_position_layers(chain)
    rows = positional_fields(layers, chain.width)
    law = RandomAlignment(chain.width)
    assert all(math.isnan(value) for value in rows[0].values()) and rows[0].keys() == set(POSITIONAL_FIELDS)
    for row, layer in zip(rows[1:], layers[1:], strict=True):
        assert row["alignment_largest"] == pytest.approx(1.0, rel=1e-12)
        assert row["alignment_positional_rms"] == pytest.approx(law.rms, rel=1e-12)
        assert row["alignment_positional_q95"] == pytest.approx(law.quantile(0.95), rel=1e-9)
        assert row["alignment_positional_chance"] == pytest.approx(law.exceeded(layer.alignment), abs=1e-10)


def test_vectors_turned_inside_their_positions_align_as_the_columns_say_T35(
    chain: DecoderChain, layers: list[LayerMeasurement]
):
    n, generator = 4000, np.random.default_rng(1)
    for row, own, before in zip(positional_fields(layers, 16)[1:], layers[1:], layers[:-1], strict=True):
        v, u = (one.numpy().reshape(len(TOKENS), 16) for one in (own.v, before.u))
        drawn = generator.standard_normal((n, len(TOKENS), 16))
        drawn *= (np.linalg.norm(u, axis=1) / np.linalg.norm(drawn, axis=2))[..., None]
        found = np.abs(np.einsum("td,ntd->n", v, drawn))
        assert own.alignment <= row["alignment_largest"] * (1 + 1e-12)
        assert found.max() <= row["alignment_largest"]
        assert abs(np.square(found).mean() / row["alignment_positional_rms"] ** 2 - 1) < 5 * math.sqrt(2 / n)
        # Counts are binomial: 5 standard deviations of either.
        assert abs((found > row["alignment_positional_q95"]).mean() - 0.05) < 5 * math.sqrt(0.05 * 0.95 / n)
        chance = row["alignment_positional_chance"]
        assert abs((found >= own.alignment).mean() - chance) <= 5 * math.sqrt(max(chance * (1 - chance), 1 / n) / n)


def test_what_has_no_alignment_or_no_direction_has_no_law(layers: list[LayerMeasurement]):
    zero = dataclasses.replace(layers[1], sigma=0.0, u=torch.zeros_like(layers[1].u), v=torch.zeros_like(layers[1].v))
    unknown = dataclasses.replace(layers[1], alignment=math.nan)
    for odd in (zero, unknown):
        rows = positional_fields([layers[0], odd, layers[2]], 16)
        assert all(math.isnan(value) for value in rows[1].values())
    assert all(math.isnan(value) for value in positional_fields([layers[0], zero, layers[2]], 16)[2].values())
