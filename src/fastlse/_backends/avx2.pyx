"""The kernels of kernels.pxi compiled for AVX2 and fused multiply-add."""

NAME = "avx2"

include "kernels.pxi"
