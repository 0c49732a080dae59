# The logistic function and its logarithms on one element. Everything follows from e = exp(-|x|), which is kept scaled as
# exp_scaled gives it, so that nothing before the last operation is subnormal.

from libc.math cimport fabsf, fma

cdef extern from *:
    """
    /* From tools/make_constants.py. */
    #define LOG1P_C1_F32 0x1.555500p-1f
    #define LOG1P_C2_F32 0x1.99d2c2p-2f
    #define LOG1P_C3_F32 0x1.1eb2dcp-2f
    #define LOG1P_C4_F32 0x1.1f0458p-2f

    #define LOG1P_C1_F64 0x1.5555555555534p-1
    #define LOG1P_C2_F64 0x1.99999999a08fep-2
    #define LOG1P_C3_F64 0x1.2492492082cb1p-2
    #define LOG1P_C4_F64 0x1.c71c741fe9640p-3
    #define LOG1P_C5_F64 0x1.745cb3a3d1fc5p-3
    #define LOG1P_C6_F64 0x1.3b1de1429001fp-3
    #define LOG1P_C7_F64 0x1.10678be8d565ap-3
    #define LOG1P_C8_F64 0x1.efdae0d496afdp-4
    #define LOG1P_C9_F64 0x1.55a92ddae9d4ap-4
    #define LOG1P_C10_F64 0x1.5c7d912ef46e5p-3

    /* Scaled exponentials of 2^-40 and 2^-70; variables, as EXP_CUTOFF_F32 is. */
    FASTLSE_HIDDEN float NEGLIGIBLE_F32 = 0x1p+12f;
    FASTLSE_HIDDEN double NEGLIGIBLE_F64 = 0x1p+15;
    """
    const float LOG1P_C1_F32, LOG1P_C2_F32, LOG1P_C3_F32, LOG1P_C4_F32
    const double LOG1P_C1_F64, LOG1P_C2_F64, LOG1P_C3_F64, LOG1P_C4_F64, LOG1P_C5_F64
    const double LOG1P_C6_F64, LOG1P_C7_F64, LOG1P_C8_F64, LOG1P_C9_F64, LOG1P_C10_F64
    float NEGLIGIBLE_F32
    double NEGLIGIBLE_F64

cdef enum Function:
    EXPIT
    LOG_EXPIT
    SOFTPLUS
    BINARY     # the binary loss: binary.pxi


cdef inline real magnitude(real x) noexcept nogil:
    if real is float:
        return fabsf(x)
    else:
        return fabs(x)


cdef inline real fma_of(real a, real b, real c) noexcept nogil:
    if real is float:
        return fma_f32(a, b, c)
    else:
        return fma_f64(a, b, c)


cdef inline real product(real a, real b) noexcept nogil:
    """a b where that may be subnormal: to multiply costs a hundred cycles then, to multiply and add does not (Zen 3: 1.7 for 3.9 ns)."""
    return fma_of(a, b, <real>0)


cdef inline real scale_of(real like) noexcept nogil:
    """The scale of exp_scaled."""
    if real is float:
        return <float>(1 / UNSCALE_F32)
    else:
        return 1 / UNSCALE_F64


cdef inline real unscale_of(real like) noexcept nogil:
    """What takes it off again."""
    if real is float:
        return <float>UNSCALE_F32
    else:
        return UNSCALE_F64


cdef inline real noticeable(real e_scaled) noexcept nogil:
    """The exponential itself, held where adding it to 1 makes no difference: its square is not subnormal then."""
    if real is float:
        return no_less(e_scaled, NEGLIGIBLE_F32) * unscale_of(e_scaled)
    else:
        return no_less(e_scaled, NEGLIGIBLE_F64) * unscale_of(e_scaled)


cdef inline real log1p_series(real s2) noexcept nogil:
    """g of log(1 + e) = 2 s + s^3 g(s^2), s = e / (2 + e)."""
    cdef real g, odd, s4
    if real is float:
        g = fma_f32(LOG1P_C4_F32, s2, LOG1P_C3_F32)
        g = fma_f32(g, s2, LOG1P_C2_F32)
        return fma_f32(g, s2, LOG1P_C1_F32)
    else:
        # even and odd terms apart: a shorter chain
        s4 = s2 * s2
        odd = fma_f64(LOG1P_C10_F64, s4, LOG1P_C8_F64)
        g = fma_f64(LOG1P_C9_F64, s4, LOG1P_C7_F64)
        odd = fma_f64(odd, s4, LOG1P_C6_F64)
        g = fma_f64(g, s4, LOG1P_C5_F64)
        odd = fma_f64(odd, s4, LOG1P_C4_F64)
        g = fma_f64(g, s4, LOG1P_C3_F64)
        odd = fma_f64(odd, s4, LOG1P_C2_F64)
        g = fma_f64(g, s4, LOG1P_C1_F64)
        return fma_f64(odd, s2, g)


cdef inline real log1p_scaled(real e_scaled, real e, real inverse) noexcept nogil:
    """log(1 + e) in the scale of exp_scaled.

    Domain: e in [0, 1], as exp_scaled(d) and noticeable(exp_scaled(d)) are for d <= 0; inverse = 1 / (2 + e), to an ulp or two.
    Result: never subnormal; NaN for NaN.
    Max error: 0.8 ulp, and that of e_scaled.
    Source: the odd series in s = e / (2 + e) of FreeBSD's log1p, without its reduction; polynomial by tools/make_constants.py.
    """
    # log(1 + e) = 2 s + s^3 g = e (1 - (s - s^2 g / (2 + e))): only a small part of the result is rounded twice
    cdef real s = e * inverse
    cdef real s2 = s * s
    cdef real missing = fma_of(-(s2 * inverse), log1p_series(s2), s)
    return fma_of(-e_scaled, missing, e_scaled)


cdef inline real expit_of(real x) noexcept nogil:
    """1 / (1 + exp(-x)).

    Domain: every number; infinities and NaN included.
    Result: exact to the last subnormal.
    Max error: see EXPIT_ULP in elementwise.py.
    Source: e / (1 + e) and 1 / (1 + e) on the two sides of 0, e = exp(-|x|).
    """
    cdef real e_scaled = exp_scaled(-magnitude(x))
    cdef real e = noticeable(e_scaled)
    return product(pick(x < 0, e_scaled, scale_of(x)) / (<real>1 + e), unscale_of(x))


cdef inline real softplus_of(real x) noexcept nogil:
    """log(1 + exp(x)).

    Domain: every number; infinities and NaN included.
    Result: exact to the last subnormal.
    Max error: see SOFTPLUS_ULP in elementwise.py.
    Source: max(x, 0) + log(1 + exp(-|x|)).
    """
    cdef real e_scaled = exp_scaled(-magnitude(x))
    cdef real e = noticeable(e_scaled)
    return fma_of(log1p_scaled(e_scaled, e, <real>1 / (<real>2 + e)), unscale_of(x), larger(x, <real>0))


cdef inline void elementwise_group(Function function, const real* x, real* out) noexcept nogil:
    """LANES elements; out does not overlap x."""
    cdef int lanes = 64 if real is float else 32
    cdef int lane
    if function == EXPIT:
        for lane in range(lanes):
            out[lane] = expit_of(x[lane])
    elif function == LOG_EXPIT:
        for lane in range(lanes):
            out[lane] = -softplus_of(-x[lane])
    else:
        for lane in range(lanes):
            out[lane] = softplus_of(x[lane])


cdef inline void elementwise_run(Function function, const real* x, real* out, Py_ssize_t count) noexcept nogil:
    """One contiguous run; out may be x. The tail is filled up and goes the same way."""
    cdef int lanes = 64 if real is float else 32
    cdef real group[64]
    cdef real result[64]
    cdef Py_ssize_t at = 0
    cdef int lane
    while at + lanes <= count:
        elementwise_group(function, x + at, result)
        memcpy(out + at, result, lanes * sizeof(real))
        at += lanes
    if at < count:
        for lane in range(lanes):
            group[lane] = 0
        memcpy(group, x + at, (count - at) * sizeof(real))
        elementwise_group(function, group, result)
        memcpy(out + at, result, (count - at) * sizeof(real))
