"""Where parts are worked on does not show in what comes back."""

from vidrd_core.data.executors import Here, Processes, in_order


def test_results_come_in_the_order_of_their_parts():
    parts = [range(10_000_000), range(2), range(5_000_000), range(3)]  # the first takes longest
    for executor in (Here(), Processes(2)):
        assert list(in_order(executor, sum, parts)) == [49999995000000, 1, 12499997500000, 3]
    assert list(in_order(Processes(2), sum, [])) == []
