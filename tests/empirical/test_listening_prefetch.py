"""A thread makes the next items: in order, no more than asked for, and never longer than someone wants them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from empirical.loading import prefetch


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert threads() == []


@pytest.mark.parametrize("depth", [0, 1, 3, 100])
def test_order_and_number(depth: int):
    with prefetch(iter(range(40)), depth) as items:
        assert list(items) == list(range(40))
        assert next(items, "none") == "none"  # an end is an end at every further question
    with prefetch([], depth) as items:
        assert list(items) == []


@pytest.mark.parametrize("depth", [0, 2])
def test_an_exception_comes_where_its_item_would_have_been(depth: int):
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise ZeroDivisionError("third")

    with prefetch(source(), depth) as items:
        assert [next(items), next(items)] == [1, 2]
        with pytest.raises(ZeroDivisionError, match="third"):
            next(items)


def test_no_more_than_depth_are_made_ahead():
    made: list[int] = []
    asked = threading.Semaphore(0)

    def source() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            asked.release()
            yield number

    with prefetch(source(), 3) as items:
        assert next(items) == 0
        # One taken, three that wait and one in the hand of the thread, which waits for room.
        for _ in range(5):
            assert asked.acquire(timeout=30)
        assert not asked.acquire(timeout=0.3) and len(made) == 5


@pytest.mark.parametrize("kind", [None, KeyboardInterrupt, ValueError])
def test_leaving_early_closes_the_source_in_its_own_thread(kind: type[BaseException] | None):
    closed: list[str] = []

    def source() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(threading.current_thread().name)

    def use() -> None:
        with prefetch(source(), 2) as items:
            next(items)
            if kind is not None:
                raise kind

    if kind is None:
        use()
    else:
        with pytest.raises(kind):
            use()
    assert closed == ["prefetch"]


def test_work_is_done_ahead_while_the_user_is_busy():
    """The second item is asked for only after it was made: a loader that waits for `next` would never come to it."""
    second = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        second.set()
        yield 2

    with prefetch(source(), 1) as items:
        assert next(items) == 1
        assert second.wait(timeout=30)
        assert next(items) == 2


def test_negative_depth_is_refused():
    with pytest.raises(ValueError, match="depth must be at least 0; got -1"), prefetch([1], -1):
        pass
