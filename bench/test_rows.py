"""Rows of 2 to 100 elements, against rows of 1000."""


def test_rows(compete):
    compete()
