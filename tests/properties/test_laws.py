"""Every rigorous bound over every family of chains and its corners: nothing breaks one by more than rounding.

By default a few dozen examples a law; `make properties` runs 10,000 and records what they found in docs/properties.md.
"""

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.properties.laws import LAWS
from tests.properties.recipes import Recipe, build
from tests.properties.strategies import recipes
from tests.properties.tally import Tally

EXAMPLES = int(os.environ.get("SPI_PROPERTY_EXAMPLES", "150"))
RECORD = os.environ.get("SPI_PROPERTY_RECORD")


@pytest.mark.parametrize("tag", LAWS)
def test_no_chain_breaks_the_law_beyond_rounding(tag: str) -> None:
    law = LAWS[tag]
    tally = Tally(tag, law.sentence)

    # No database: a record counts the examples of its own seed and nothing replayed. No check of speed: on a busy
    # machine Hypothesis would fail a law for how long a chain took to draw, which is no property of the bound.
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(recipe=recipes())
    def holds(recipe: Recipe) -> None:
        verdict = law.slack(build(recipe))
        tally.add(recipe.family, verdict, repr(recipe))
        assert verdict is None or not verdict.violated, f"{law.sentence}: {verdict}"

    start = time.process_time()
    try:
        holds()
    finally:
        tally.seconds = time.process_time() - start
        if RECORD:
            tally.write(Path(RECORD))
    # Fewer may all miss a law of narrow hypotheses (T24 speaks of one chain in twenty); test_bite has chains for each.
    if EXAMPLES >= 1000:
        assert tally.total("checked") > 0, "no example met the law's hypotheses"
