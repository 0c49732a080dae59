"""The kernels of kernels.pxi compiled for the instruction set that every machine of this architecture has."""

NAME = "baseline"

include "kernels.pxi"
