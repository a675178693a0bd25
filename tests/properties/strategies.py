"""Hypothesis strategies over chains: every family and corner, kept to a dozen draws so that an example costs little."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.helpers.chains import seeds, unit_floats
from tests.properties.recipes import CHOICES, FAMILIES, Recipe

__all__ = ["recipes"]


def recipes() -> st.SearchStrategy[Recipe]:
    """Recipes of chains with d = 1..8 and L = 1..12, sometimes 40.

    Alignment and gap are drawn from [0, 1], whose ends Hypothesis visits by itself; the modes put exact corners into
    single layers or into all of them.
    """
    corner = st.sampled_from((0.0, 0.5, 1.0))
    return st.builds(
        Recipe,
        family=st.sampled_from(FAMILIES),
        seed=seeds(),
        depth=st.one_of(st.integers(1, 12), st.sampled_from((1, 2, 3, 40))),
        dimension=st.integers(1, 8),
        context=st.integers(1, 5),
        alignment=st.one_of(unit_floats(), unit_floats(0.8), corner),
        gap=st.one_of(unit_floats(), unit_floats(0.0, 0.1), corner),
        **{name: st.sampled_from(values) for name, values in CHOICES.items()},
    )
