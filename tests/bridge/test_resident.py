"""The peak of a task is its own, not that of whatever the worker did before."""

import mmap
import sys

import pytest

from bridge.running.resident import forget_peak, peak_rss_bytes

SIZE = 64 * 2**20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can forget a peak")
def test_a_peak_that_is_forgotten_is_not_said_of_what_comes_after():
    with mmap.mmap(-1, SIZE) as block:
        block.write(b"x" * SIZE)
        before = peak_rss_bytes()
    assert peak_rss_bytes() >= before > SIZE
    forget_peak()
    assert peak_rss_bytes() < before - SIZE // 2
