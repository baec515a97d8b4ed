"""A stream computed in a thread: the same items, the same errors, nothing left running."""

import threading
import time
from itertools import count

import pytest

from staf_cli.core.threads import in_thread, newest, side_by_side


def test_items_come_in_order():
    assert list(in_thread(iter(range(1000)), ahead=3)) == list(range(1000))
    assert list(in_thread([])) == []


def test_an_error_comes_where_its_item_would():
    def failing():
        yield 1
        raise ZeroDivisionError("here")

    stream = in_thread(failing())
    assert next(stream) == 1
    with pytest.raises(ZeroDivisionError, match="here"):
        next(stream)


def test_it_works_ahead_but_not_far():
    made = []

    def items():
        for n in range(100):
            made.append(n)
            yield n

    stream = in_thread(items(), ahead=2)
    assert next(stream) == 0
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(made) == 4  # one used, two waiting, one in hand
    stream.close()


def test_closing_ends_the_thread_and_the_stream():
    ended = threading.Event()

    def endless():
        try:
            yield from count()
        finally:
            ended.set()

    before = threading.active_count()
    stream = in_thread(in_thread(endless()))
    assert [next(stream) for _ in range(5)] == list(range(5))
    stream.close()
    assert ended.wait(5)
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_only_the_newest_item_is_handed_out():
    go_on = threading.Event()

    def items():
        yield 0
        go_on.wait(5)
        yield from range(1, 10)

    stream = newest(items(), lambda: False)
    assert next(stream) == (0, 0)
    go_on.set()
    time.sleep(0.2)  # the thread does not wait for us
    assert list(stream) == [(9, 8)]


def test_newest_ends_when_it_is_asked_to_though_nothing_comes():
    blocked, asked = threading.Event(), list[bool]()

    def items():
        yield 0
        blocked.wait(5)

    stream = newest(items(), lambda: bool(asked))
    assert next(stream) == (0, 0)
    threading.Timer(0.1, asked.append, [True]).start()
    begun = time.monotonic()
    threading.Timer(0.3, blocked.set).start()
    assert list(stream) == []
    assert time.monotonic() - begun < 2


def test_newest_raises_an_error_after_the_last_item():
    def failing():
        yield 1
        raise ZeroDivisionError("here")

    stream = newest(failing(), lambda: False)
    time.sleep(0.1)
    assert next(stream) == (1, 0)
    with pytest.raises(ZeroDivisionError, match="here"):
        next(stream)


@pytest.mark.parametrize("threads", [1, 2, 9])
def test_streams_side_by_side_are_each_in_order(threads):
    found = list(side_by_side([range(n, 2 * n) for n in (5, 0, 200, 1)], threads))
    for number, n in enumerate((5, 0, 200, 1)):
        assert [item for of, item in found if of == number] == list(range(n, 2 * n))
    assert list(side_by_side([], threads)) == []


def test_two_streams_are_computed_at_the_same_time():
    meeting = threading.Barrier(2, timeout=10)  # breaks if one stream waits for the other's end

    def stream(n):
        meeting.wait()
        yield n

    assert sorted(side_by_side([stream(7), stream(8)], 2)) == [(0, 7), (1, 8)]


def test_an_error_of_one_stream_ends_all():
    ended = threading.Event()

    def endless():
        try:
            yield from count()
        finally:
            ended.set()

    def failing():
        yield 1
        raise ZeroDivisionError("here")

    with pytest.raises(ZeroDivisionError, match="here"):
        for _ in side_by_side([endless(), failing()], 2):
            pass
    assert ended.wait(10)
