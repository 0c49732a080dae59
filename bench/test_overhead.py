"""Small calls, where the arithmetic hardly counts."""


def test_overhead(compete):
    compete()
