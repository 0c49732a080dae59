"""Each keyword, against the plain call."""


def test_options(compete):
    compete()
