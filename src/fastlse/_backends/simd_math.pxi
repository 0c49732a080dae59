# Elementary functions on one element, written so that a plain loop over lanes vectorises: no branches, no calls.

from libc.math cimport fabs, fabsf
from libc.stdint cimport int64_t, uint64_t, uintptr_t

cdef extern from *:
    """
    #include <math.h>
    #include <stdint.h>
    #include <string.h>

    /* What stands in an inner loop must be inlined or the loop is not vectorised (GCC's own judgement left some out of line:
       5 times slower at 100 elements a row). */
    #undef CYTHON_INLINE
    #if defined(_MSC_VER) && !defined(__clang__)
      #define CYTHON_INLINE __forceinline
    #else
      #define CYTHON_INLINE inline __attribute__((always_inline))
    #endif

    /* Explicit fused multiply-add where the instruction set has it (-ffp-contract=off keeps the compiler from adding
       its own, so every such backend rounds alike). Without it HAVE_FMA selects reductions whose products are exact. */
    #if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || (defined(_MSC_VER) && defined(__AVX2__))
      #define HAVE_FMA 1
      #define FMA_F32(a, b, c) fmaf((a), (b), (c))
      #define FMA_F64(a, b, c) fma((a), (b), (c))
    #else
      #define HAVE_FMA 0
      #define FMA_F32(a, b, c) ((a) * (b) + (c))
      #define FMA_F64(a, b, c) ((a) * (b) + (c))
    #endif

    /* From tools/make_constants.py, which prints them with the errors of the approximations. */
    #define LOG2_E_F32 0x1.715476p+0f
    #define LOG_2_F32 0x1.62e43p-1f
    #define LOG_2_REST_F32 -0x1.05c610p-29f
    #define LOG_2_HIGH_F32 0x1.63p-1f
    #define LOG_2_LOW_F32 -0x1.bd0106p-13f
    #define SCALE_BITS_F32 52
    #define UNSCALE_F32 0x1p-52
    #define EXP_C2_F32 0x1.fffff8p-2f
    #define EXP_C3_F32 0x1.55548ep-3f
    #define EXP_C4_F32 0x1.555b58p-5f
    #define EXP_C5_F32 0x1.123b9ep-7f
    #define EXP_C6_F32 0x1.687bf6p-10f
    #define EIGHTH_C2_F32 0x1.00088ap-1f
    #define EIGHTH_C3_F32 0x1.555916p-3f

    #define LOG2_E_F64 0x1.71547652b82fep+0
    #define LOG_2_F64 0x1.62e42fefa39efp-1
    #define LOG_2_REST_F64 0x1.abc9e3b39803fp-56
    #define LOG_2_HIGH_F64 0x1.62e42feep-1
    #define LOG_2_LOW_F64 0x1.a39ef35793c76p-33
    #define SCALE_BITS_F64 85
    #define UNSCALE_F64 0x1p-85
    #define EXP_C2_F64 0x1.000000000000bp-1
    #define EXP_C3_F64 0x1.5555555555513p-3
    #define EXP_C4_F64 0x1.55555555500a1p-5
    #define EXP_C5_F64 0x1.1111111121b38p-7
    #define EXP_C6_F64 0x1.6c16c1858534cp-10
    #define EXP_C7_F64 0x1.a01a014a2586cp-13
    #define EXP_C8_F64 0x1.a01996fabb6d3p-16
    #define EXP_C9_F64 0x1.71dedfd25527cp-19
    #define EXP_C10_F64 0x1.28afe6535eee4p-22
    #define EXP_C11_F64 0x1.adeb8704ca2b7p-26

    #define TWO_LOG2_E 0x1.71547652b82fep+1
    #define HALF_COTH_C0_F32 0x1.715476p+1f
    #define HALF_COTH_C1_F32 0x1.d92fdcp-4f
    #define HALF_COTH_C2_F32 -0x1.e2ee2ap-11f

    #define HALF_COTH_C0_F64 0x1.71547652b82fep+1
    #define HALF_COTH_C1_F64 0x1.d9303fea2f7bcp-4
    #define HALF_COTH_C2_F64 -0x1.e50096dde9ea9p-11
    #define HALF_COTH_C3_F64 0x1.63144e9998010p-17
    #define HALF_COTH_C4_F64 -0x1.10f32b30c3691p-23
    #define HALF_COTH_C5_F64 0x1.a40e2ea7c6702p-30

    #define TANH_C1_F32 -0x1.555498p-2f
    #define TANH_C2_F32 0x1.10ebfep-3f
    #define TANH_C3_F32 -0x1.b543f0p-5f
    #define TANH_C4_F32 0x1.41c0a6p-6f
    #define TANH_C5_F32 -0x1.375552p-8f

    #define TANH_C1_F64 -0x1.5555555555480p-2
    #define TANH_C2_F64 0x1.1111111104a05p-3
    #define TANH_C3_F64 -0x1.ba1ba1b1f111cp-5
    #define TANH_C4_F64 0x1.664f472870cd1p-6
    #define TANH_C5_F64 -0x1.226e138e1ae22p-7
    #define TANH_C6_F64 0x1.d6cf95d85217bp-9
    #define TANH_C7_F64 -0x1.7d75d9e052ef3p-10
    #define TANH_C8_F64 0x1.3405def75f359p-11
    #define TANH_C9_F64 -0x1.e7cddf4a5d987p-13
    #define TANH_C10_F64 0x1.653e1088c5bf4p-14
    #define TANH_C11_F64 -0x1.a096ec39afce3p-16
    #define TANH_C12_F64 0x1.1067d0dbfc632p-18

    #define LOG_C1 0x1.5555555555594p-1
    #define LOG_C2 0x1.999999997f672p-2
    #define LOG_C3 0x1.2492494245ed6p-2
    #define LOG_C4 0x1.c71c51cdbd460p-3
    #define LOG_C5 0x1.746649d6b1b6bp-3
    #define LOG_C6 0x1.39a0b8fe1ab50p-3
    #define LOG_C7 0x1.2f0ecfbf8ebcfp-3

    /* |x| / softcap up to which a softcap may be a series. */
    #define GENTLE 0.75

    /* Variables: against a literal GCC 12 makes of a maximum a comparison and a blend, 3 instructions for 1, and beside a literal that it
       adds it keeps the negative one that it subtracts, in a register of its own. */
    #if defined(__GNUC__)
      #define FASTLSE_HIDDEN __attribute__((visibility("hidden")))
    #else
      #define FASTLSE_HIDDEN static
    #endif
    FASTLSE_HIDDEN float EXP_CUTOFF_F32 = -0x1.ed8552p+6f;
    FASTLSE_HIDDEN double EXP_CUTOFF_F64 = -0x1.7fa82ed250221p+9;
    /* What an addition rounds k to an integer with (eighths in the table's), the exponent's bias and the scale added. */
    FASTLSE_HIDDEN float EXP_MAGIC_F32 = 12582912 + 127 + SCALE_BITS_F32;
    FASTLSE_HIDDEN float EIGHTH_MAGIC_F32 = 1572864 + 127 + SCALE_BITS_F32;
    #define EXP_MAGIC_F64 (6755399441055744.0 + 1023 + SCALE_BITS_F64)     /* a literal: as a variable tiles are up to 11 % slower */
    /* From here down 2^k is 0 in a softcap. */
    FASTLSE_HIDDEN float LEAST_POWER_F32 = -129;
    FASTLSE_HIDDEN double LEAST_POWER_F64 = -1025;

    static inline uint64_t bits_of(double x) { uint64_t u; memcpy(&u, &x, 8); return u; }
    static inline double from_bits(uint64_t u) { double x; memcpy(&x, &u, 8); return x; }
    /* 2^k, for the k that the addition of a magic number left in the low bits of t. */
    static inline double power_of_two_f64(double t) { return from_bits(bits_of(t) << 52); }
    static inline float power_of_two_f32(float t) {
        uint32_t u; float x; memcpy(&u, &t, 4); u <<= 23; memcpy(&x, &u, 4); return x; }
    /* e, or 0 below the floor: by its bits, for of a choice between e and 0 GCC makes one between products with e and 0, takes the first
       in any case, and where it is subnormal that costs 25 % (Zen 3) to 150 cycles. */
    static inline double flushed_f64(double e, double floor) { return from_bits(bits_of(e) & -(uint64_t)(e >= floor)); }
    static inline float flushed_f32(float e, float floor) {
        uint32_t u; memcpy(&u, &e, 4); u &= -(uint32_t)(e >= floor); memcpy(&e, &u, 4); return e; }
    /* y >= 0 with the sign of x: one operation less than copysign, which first takes y's own sign off. */
    static inline double signed_like_f64(double y, double x) {
        return from_bits(bits_of(y) | (bits_of(x) & 0x8000000000000000u)); }
    static inline float signed_like_f32(float y, float x) {
        uint32_t u, v; memcpy(&u, &y, 4); memcpy(&v, &x, 4); u |= v & 0x80000000u; memcpy(&y, &u, 4); return y; }
    """
    const bint HAVE_FMA
    const int SCALE_BITS_F32, SCALE_BITS_F64
    const double UNSCALE_F32, UNSCALE_F64
    float fma_f32 "FMA_F32"(float, float, float) noexcept nogil
    double fma_f64 "FMA_F64"(double, double, double) noexcept nogil
    uint64_t bits_of(double) noexcept nogil
    double from_bits(uint64_t) noexcept nogil
    float power_of_two_f32(float) noexcept nogil
    double power_of_two_f64(double) noexcept nogil
    float signed_like_f32(float, float) noexcept nogil
    float flushed_f32(float, float) noexcept nogil
    double flushed_f64(double, double) noexcept nogil
    double signed_like_f64(double, double) noexcept nogil
    const float LOG2_E_F32, LOG_2_F32, LOG_2_REST_F32, LOG_2_HIGH_F32, LOG_2_LOW_F32
    float EXP_CUTOFF_F32
    double EXP_CUTOFF_F64
    float EXP_MAGIC_F32, EIGHTH_MAGIC_F32
    const double EXP_MAGIC_F64
    float LEAST_POWER_F32
    double LEAST_POWER_F64
    const float EXP_C2_F32, EXP_C3_F32, EXP_C4_F32, EXP_C5_F32, EXP_C6_F32
    const float EIGHTH_C2_F32, EIGHTH_C3_F32
    const double LOG2_E_F64, LOG_2_F64, LOG_2_REST_F64, LOG_2_HIGH_F64, LOG_2_LOW_F64
    const double EXP_C2_F64, EXP_C3_F64, EXP_C4_F64, EXP_C5_F64, EXP_C6_F64
    const double EXP_C7_F64, EXP_C8_F64, EXP_C9_F64, EXP_C10_F64, EXP_C11_F64
    const double TWO_LOG2_E, GENTLE
    const float HALF_COTH_C0_F32, HALF_COTH_C1_F32, HALF_COTH_C2_F32
    const double HALF_COTH_C0_F64, HALF_COTH_C1_F64, HALF_COTH_C2_F64, HALF_COTH_C3_F64, HALF_COTH_C4_F64, HALF_COTH_C5_F64
    const float TANH_C1_F32, TANH_C2_F32, TANH_C3_F32, TANH_C4_F32, TANH_C5_F32
    const double TANH_C1_F64, TANH_C2_F64, TANH_C3_F64, TANH_C4_F64, TANH_C5_F64, TANH_C6_F64
    const double TANH_C7_F64, TANH_C8_F64, TANH_C9_F64, TANH_C10_F64, TANH_C11_F64, TANH_C12_F64
    const double LOG_C1, LOG_C2, LOG_C3, LOG_C4, LOG_C5, LOG_C6, LOG_C7

ctypedef fused real:
    float
    double

ctypedef struct Pair:    # the unevaluated sum high + low
    double high
    double low


cdef inline real no_less(real x, real bound) noexcept nogil:
    """The larger of the two, NaN for NaN: one instruction, which returns its second operand where they do not compare."""
    return bound if bound > x else x


cdef inline float exp_scaled_f32(float d) noexcept nogil:
    """2^52 exp(d): scaled, so that nothing is subnormal inside a sum that float32 can hold.

    Domain: d <= 0; -inf and NaN included.
    Result: 2^-126, and so for the sums nothing, below the cutoff: 10^8 times 2^-178 is less than half the smallest number; NaN for NaN.
    Max error: 1.2 ulp.
    Source: Cody and Waite's reduction; polynomial by tools/make_constants.py.
    """
    # t = magic + k, k = round(d / log(2))
    cdef float t, k
    d = no_less(d, EXP_CUTOFF_F32)
    t = fma_f32(d, LOG2_E_F32, EXP_MAGIC_F32)
    k = t - EXP_MAGIC_F32
    # r = d - k log(2), |r| <= log(2) / 2
    cdef float r
    if HAVE_FMA:
        r = fma_f32(k, -LOG_2_REST_F32, fma_f32(k, -LOG_2_F32, d))
    else:
        r = (d - k * LOG_2_HIGH_F32) - k * LOG_2_LOW_F32
    # exp(r) = 1 + r + r^2 (c2 + c3 r + ... + c6 r^4)
    cdef float p = fma_f32(EXP_C6_F32, r, EXP_C5_F32)
    p = fma_f32(p, r, EXP_C4_F32)
    p = fma_f32(p, r, EXP_C3_F32)
    p = fma_f32(p, r, EXP_C2_F32)
    p = fma_f32(p, r, <float>1)
    p = fma_f32(p, r, <float>1)
    return p * power_of_two_f32(t)


cdef inline double exp_scaled_f64(double d) noexcept nogil:
    """2^85 exp(d): scaled, so that nothing is subnormal inside a sum that float64 can hold.

    Domain: d <= 0; -inf and NaN included.
    Result: 2^-1022, and so for the sums nothing, below the cutoff: 10^9 times 2^-1107 is less than half the smallest number; NaN for NaN.
    Max error: 1.2 ulp.
    Source: Cody and Waite's reduction; polynomial by tools/make_constants.py, its even and odd terms apart (a shorter
    chain of dependent operations: 0.91 against 0.96 ns).
    """
    cdef double t, k, r
    d = no_less(d, EXP_CUTOFF_F64)
    t = fma_f64(d, LOG2_E_F64, EXP_MAGIC_F64)
    k = t - EXP_MAGIC_F64
    if HAVE_FMA:
        r = fma_f64(k, -LOG_2_REST_F64, fma_f64(k, -LOG_2_F64, d))
    else:
        r = (d - k * LOG_2_HIGH_F64) - k * LOG_2_LOW_F64
    # 2^k exp(r) = 2^k + 2^k (r + r^2 (even(r^2) + r odd(r^2)))
    cdef double r2 = r * r
    cdef double odd = fma_f64(r2, EXP_C11_F64, EXP_C9_F64)
    cdef double even = fma_f64(r2, EXP_C10_F64, EXP_C8_F64)
    odd = fma_f64(odd, r2, EXP_C7_F64)
    even = fma_f64(even, r2, EXP_C6_F64)
    odd = fma_f64(odd, r2, EXP_C5_F64)
    even = fma_f64(even, r2, EXP_C4_F64)
    odd = fma_f64(odd, r2, EXP_C3_F64)
    even = fma_f64(even, r2, EXP_C2_F64)
    cdef double expm1 = fma_f64(fma_f64(odd, r, even), r2, r)
    cdef double power = power_of_two_f64(t)
    return fma_f64(expm1, power, power)


cdef inline real exp_scaled(real d) noexcept nogil:
    if real is float:
        return exp_scaled_f32(d)
    else:
        return exp_scaled_f64(d)


cdef struct Cap:         # rounded where they are used
    double quarter           # softcap / 4
    double steepness         # -2 log2(e) / softcap
    double inverse           # 1 / softcap

cdef struct CapPartsF32:
    float difference_4
    float above_4
    float below

cdef struct CapPartsF64:
    double difference_4
    double above_4
    double below


cdef inline float tanh_ratio_f32(float u2) noexcept nogil:
    """tanh(u) / u, given u^2 of a |u| up to GENTLE. Source: polynomial by tools/make_constants.py."""
    cdef float p = fma_f32(TANH_C5_F32, u2, TANH_C4_F32)
    p = fma_f32(p, u2, TANH_C3_F32)
    p = fma_f32(p, u2, TANH_C2_F32)
    p = fma_f32(p, u2, TANH_C1_F32)
    return fma_f32(p, u2, <float>1)


cdef inline double tanh_ratio_f64(double u2) noexcept nogil:
    """tanh_ratio_f32 for float64, its even and odd powers of u^2 apart."""
    cdef double u4 = u2 * u2
    cdef double odd = fma_f64(TANH_C11_F64, u4, TANH_C9_F64)
    cdef double even = fma_f64(TANH_C12_F64, u4, TANH_C10_F64)
    odd = fma_f64(odd, u4, TANH_C7_F64)
    even = fma_f64(even, u4, TANH_C8_F64)
    odd = fma_f64(odd, u4, TANH_C5_F64)
    even = fma_f64(even, u4, TANH_C6_F64)
    odd = fma_f64(odd, u4, TANH_C3_F64)
    even = fma_f64(even, u4, TANH_C4_F64)
    odd = fma_f64(odd, u4, TANH_C1_F64)
    even = fma_f64(even, u4, TANH_C2_F64)
    return fma_f64(fma_f64(even, u2, odd), u2, 1)


cdef inline bint is_steep(real magnitude, Cap cap) noexcept nogil:
    """Whether logits of up to this magnitude are too large for cap_gently."""
    return magnitude * <real>cap.inverse > <real>GENTLE


cdef inline void cap_gently(real x, Cap cap, real* y, real* slope) noexcept nogil:
    """close_cap by a series, for logits of magnitudes that are not steep.

    Result: x itself and 1 where the cap is far away; NaN for NaN.
    Max error: 2.2 ulp, of the slope 3, measured (float64: 1.6 and 2.5).
    """
    cdef real u = x * <real>cap.inverse
    cdef real u2 = u * u
    cdef real ratio, tanh_u
    if real is float:
        ratio = tanh_ratio_f32(u2)
        tanh_u = u * ratio
        slope[0] = fma_f32(-tanh_u, tanh_u, <float>1)
    else:
        ratio = tanh_ratio_f64(u2)
        tanh_u = u * ratio
        slope[0] = fma_f64(-tanh_u, tanh_u, 1)
    y[0] = x * ratio


cdef inline CapPartsF32 cap_parts_f32(float x, Cap cap) noexcept nogil:
    """What a softcap's value and slope are quotients of, for close_cap.

    Source: with e = exp(-2 |x| / softcap) = 2^k 2^r, (1 - e) / (1 + e) and 4 e / (1 + e)^2. 2^r = (b + r) / (b - r) with the even
    function b = r coth(r log(2) / 2), so that one division serves both quotients and nothing cancels near 0; polynomial in
    r^2 by tools/make_constants.py. e = above / below; the difference is (1 - e) below.
    """
    # the exponent's bias and two more, for the slope's 4: 2^k is 0 from k = -129 down
    cdef float magic = <float>(12582912 + 127 + 2)
    cdef float d = no_less(fabsf(x) * <float>cap.steepness, LEAST_POWER_F32)
    cdef float t = d + magic
    cdef float r = d - (t - magic)
    cdef float r2 = r * r
    cdef float b = fma_f32(HALF_COTH_C2_F32, r2, HALF_COTH_C1_F32)
    b = fma_f32(b, r2, HALF_COTH_C0_F32)
    cdef float power_4 = power_of_two_f32(t)
    cdef CapPartsF32 parts
    parts.difference_4 = fma_f32(<float>4 - power_4, b, -((<float>4 + power_4) * r))
    parts.above_4 = power_4 * (b + r)
    parts.below = b - r
    return parts


cdef inline CapPartsF64 cap_parts_f64(double x, Cap cap) noexcept nogil:
    """cap_parts_f32 for float64."""
    cdef double magic = 6755399441055744.0 + 1023 + 2
    cdef double d = no_less(fabs(x) * cap.steepness, LEAST_POWER_F64)
    cdef double t = d + magic
    cdef double r = d - (t - magic)
    cdef double r2 = r * r
    cdef double b = fma_f64(HALF_COTH_C5_F64, r2, HALF_COTH_C4_F64)
    b = fma_f64(b, r2, HALF_COTH_C3_F64)
    b = fma_f64(b, r2, HALF_COTH_C2_F64)
    b = fma_f64(b, r2, HALF_COTH_C1_F64)
    b = fma_f64(b, r2, HALF_COTH_C0_F64)
    cdef double power_4 = power_of_two_f64(t)
    cdef CapPartsF64 parts
    parts.difference_4 = fma_f64(4 - power_4, b, -((4 + power_4) * r))
    parts.above_4 = power_4 * (b + r)
    parts.below = b - r
    return parts


cdef inline void open_cap(real x, Cap cap, real* difference_4, real* above_4, real* below) noexcept nogil:
    cdef CapPartsF32 f32
    cdef CapPartsF64 f64
    if real is float:
        f32 = cap_parts_f32(x, cap)
        difference_4[0] = f32.difference_4
        above_4[0] = f32.above_4
        below[0] = f32.below
    else:
        f64 = cap_parts_f64(x, cap)
        difference_4[0] = f64.difference_4
        above_4[0] = f64.above_4
        below[0] = f64.below


cdef inline void close_cap(real x, Cap cap, real difference_4, real above_4, real below, real* y, real* slope) noexcept nogil:
    """softcap tanh(x / softcap) and its slope 1 - tanh^2.

    Domain: all numbers.
    Result: +-softcap and 0 for infinities, and where 4 e is below half the smallest normal number; NaN for NaN.
    Max error: 3 ulp, measured; of the slope 3 + 2 |x| / softcap ulp, for the quotient is rounded (fastlse.losses.SOFTCAP_ULP).
    """
    cdef real inverse
    if real is float:
        inverse = <float>1 / fma_f32(above_4, <float>0.25, below)
        y[0] = signed_like_f32(<float>cap.quarter * (difference_4 * inverse), x)
    else:
        inverse = 1 / fma_f64(above_4, 0.25, below)
        y[0] = signed_like_f64(cap.quarter * (difference_4 * inverse), x)
    slope[0] = (above_4 * inverse) * (below * inverse)


cdef inline Pair two_sum(double a, double b) noexcept nogil:
    """The exact sum of two numbers (Knuth)."""
    cdef Pair sum
    cdef double from_b
    sum.high = a + b
    from_b = sum.high - a
    sum.low = (a - (sum.high - from_b)) + (b - from_b)
    return sum


cdef inline Pair fast_two_sum(double large, double small) noexcept nogil:
    """The exact sum of two numbers, abs(large) >= abs(small) (Dekker)."""
    cdef Pair sum
    sum.high = large + small
    sum.low = small - (sum.high - large)
    return sum


cdef inline double log_f32(double x) noexcept nogil:
    """log(x), good enough to be rounded to float32.

    Domain: x >= 1.
    Result: some number for x infinite or NaN.
    Max error: 2^-29 of the result, relative near x = 1 too.
    Source: log_pair's reduction and series, cut short.
    """
    # x = 2^k (1 + z): above sqrt(1/2), the exponent is k
    cdef uint64_t above = bits_of(x) - <uint64_t>0x3fe6a09e667f3bcd
    cdef double z = from_bits(bits_of(x) - (above & <uint64_t>0xfff0000000000000)) - 1
    cdef double k = from_bits((above >> 52) | <uint64_t>0x4330000000000000) - 4503599627370496.0
    # log(1 + z) = 2 atanh(t) = t (2 + t^2 g(t^2)), t = z / (2 + z)
    cdef double t = z / (2 + z)
    cdef double t2 = t * t
    cdef double g = fma_f64(t2, LOG_C5, LOG_C4)
    g = fma_f64(g, t2, LOG_C3)
    g = fma_f64(g, t2, LOG_C2)
    g = fma_f64(g, t2, LOG_C1)
    return fma_f64(k, LOG_2_F64, t * fma_f64(g, t2, 2))


cdef inline Pair log_pair(double x, double correction) noexcept nogil:
    """log(x) + correction as a pair; with correction = y / x for a y within an ulp or so of x, log(x + y).

    Domain: x normal and positive.
    Result: NaN for x infinite or NaN.
    Max error: 0.2 ulp of the result, relative near x = 1 too.
    Source: the reduction to [sqrt(1/2), sqrt(2)] and the odd series in z / (2 + z) of Tang 1990 and FreeBSD's log1p;
    polynomial by tools/make_constants.py.
    """
    # x = 2^k (1 + z); the offset keeps the shifted word positive, so that a logical shift (which AVX2 has) will do
    cdef uint64_t offset = <uint64_t>1024 << 52
    cdef uint64_t word = bits_of(x)
    cdef uint64_t k_biased = (word - <uint64_t>0x3fe6a09e667f3bcd + offset) >> 52
    cdef double z = from_bits(word - ((k_biased - 1024) << 52)) - 1
    # an integer below 2^52 becomes a double by its bits: AVX2 has no such conversion
    cdef double k = from_bits(k_biased | <uint64_t>0x4330000000000000) - (4503599627370496.0 + 1024)
    # log(1 + z) = z - z^2/2 + t (z^2/2 + t^2 g(t^2)), t = z / (2 + z)
    cdef double t = z / (2 + z)
    cdef double t2 = t * t
    cdef double g = fma_f64(t2, LOG_C7, LOG_C6)
    g = fma_f64(g, t2, LOG_C5)
    g = fma_f64(g, t2, LOG_C4)
    g = fma_f64(g, t2, LOG_C3)
    g = fma_f64(g, t2, LOG_C2)
    g = fma_f64(g, t2, LOG_C1)
    cdef double half_square = 0.5 * z * z
    cdef double tail = fma_f64(t, fma_f64(t2, g, half_square), -half_square)
    tail = tail + fma_f64(k, LOG_2_LOW_F64, correction)
    cdef Pair result = two_sum(k * LOG_2_HIGH_F64, z)
    result = fast_two_sum(result.high, result.low + tail)
    # x - x is 0, but NaN for an infinity or a NaN, which the bits above took for a number
    result.high = result.high + (x - x)
    return result
