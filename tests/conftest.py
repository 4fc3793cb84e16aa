"""The order of the tests: files whose processes fork run before those that load OpenVINO, behind which a fork is not safe.

Behind them come the files that take longest, so that two processes end at about the same time (`make test`).
"""

FIRST = ("test_loop", "test_tree", "test_distributed", "test_committed", "test_cluster", "test_grid", "test_benchmarks")


def pytest_collection_modifyitems(items):
    place = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(FIRST)))
