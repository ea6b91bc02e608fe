"""Work in a background thread: in order, waited for, and its errors reach the program."""

import signal
import sys
import threading
import time

import pytest

from vidrd_core.io.background import AHEAD, InBackground


def test_calls_run_in_order_beside_the_program_and_are_all_waited_for():
    seen, threads, gate = [], set(), threading.Event()

    def work(number):
        gate.wait(10)
        time.sleep(0.001)
        seen.append(number)
        threads.add(threading.get_ident())

    with InBackground(work) as call:
        for number in range(AHEAD + 1):
            call(number)
        assert seen == []
        gate.set()
        for number in range(AHEAD + 1, 20):
            call(number)
    assert seen == list(range(20))
    assert threads.isdisjoint({threading.get_ident()})
    assert len(threads) == 1


def test_no_more_than_a_few_calls_wait():
    running = threading.Semaphore(0)
    done = []

    def work(number):
        running.acquire()
        done.append(number)

    def give():
        with InBackground(work) as call:
            for number in range(10):
                call(number)
                given.append(number)

    given: list[int] = []
    thread = threading.Thread(target=give)
    thread.start()
    deadline = time.monotonic() + 10
    while len(given) < AHEAD + 1 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    assert len(given) == AHEAD + 1, "and the next call waits"
    running.release(10)
    thread.join(10)
    assert done == list(range(10))


def feed(work, numbers, then=None):
    """Give numbers to work in the background, and then raise an exception."""
    with InBackground(work) as call:
        for number in numbers:
            call(number)
        if then:
            raise then


@pytest.mark.parametrize("more", [0, 5])
def test_an_error_ends_the_work_and_is_raised(more):
    seen = []

    def work(number):
        seen.append(number)
        if number == 1:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        feed(work, range(2 + more))
    assert seen == [0, 1]


def slow(seen):
    def work(number):
        time.sleep(0.05)
        seen.append(number)

    return work


def test_after_a_stop_what_was_given_is_done():
    seen = []
    with pytest.raises(KeyboardInterrupt):
        feed(slow(seen), range(3), KeyboardInterrupt())
    assert seen == [0, 1, 2]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one thread")
def test_a_stop_while_it_waits_comes_after_all_is_done():
    seen = []
    threading.Timer(0.03, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        feed(slow(seen), range(3))
    assert seen == [0, 1, 2]
