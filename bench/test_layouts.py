"""Columns, Fortran order and strides, against contiguous rows."""


def test_layouts(compete):
    compete()
