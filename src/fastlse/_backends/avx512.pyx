"""The kernels of kernels.pxi compiled for AVX-512 (F, CD, BW, DQ, VL)."""

NAME = "avx512"

include "kernels.pxi"
