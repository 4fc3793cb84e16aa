"""The order of the tests: those whose processes fork run before those that load OpenVINO, behind which a fork is not safe."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: "test_loop.py" not in item.nodeid)
