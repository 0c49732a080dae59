"""From a thousand to a thousand million elements."""


def test_scaling(compete):
    compete()
