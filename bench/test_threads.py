"""One thread against two, in one process: give --threads 2."""


def test_threads(compete):
    compete()
