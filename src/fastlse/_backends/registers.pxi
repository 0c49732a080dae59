# What no compiler makes of a plain loop over lanes: look-ups in a register, and trees across one. Intrinsics where the instruction
# set has them, and elsewhere loops that give the same bits.

cdef extern from *:
    """
    #if defined(__AVX2__)
      #include <immintrin.h>
    #endif
    /* Bytes of a register, or of two where they have 16. */
    #if defined(__AVX512F__)
      #define REGISTER_BYTES 64
    #else
      #define REGISTER_BYTES 32
    #endif

    /* (1 + expm1) 2^(k + 52) of `count` numbers: k, in eighths, is what the addition of a magic number left in the low bits of t. A power
       by its bits: the exponent is right in k << 20, and what its low three bits put into the fraction is taken off in the table. AVX-512
       multiplies by 2^k in one operation for two, whence 2^(j / 8 + 52) in the table. A look-up is what no compiler makes of a loop
       over elements but as a load for each. */
    #define OF_EIGHTHS(entry) \
        entry(0, 0x00000000u), entry(1, 0xfffb95c2u), entry(2, 0xfff837f0u), entry(3, 0xfff5fed7u), \
        entry(4, 0xfff504f3u), entry(5, 0xfff5672au), entry(6, 0xfff744fdu), entry(7, 0xfffac0c7u)
    #define ITS_FRACTION(j, fraction) fraction
    #define ITS_POWER(j, fraction) (fraction + (((127 + SCALE_BITS_F32) * 8u + j) << 20))
    static const uint32_t FRACTIONS[8] = { OF_EIGHTHS(ITS_FRACTION) };
    #if defined(__AVX512F__)
    static const uint32_t POWERS[16] = { OF_EIGHTHS(ITS_POWER), OF_EIGHTHS(ITS_POWER) };
    #endif
    static CYTHON_INLINE void times_powers_of_two_f32(const float* expm1, const float* t, const float* k, int count, float* e) {
        int j = 0;
    #if defined(__AVX512F__)
        for (; j + 16 <= count; j += 16) {
            __m512 power = _mm512_permutexvar_ps(_mm512_castps_si512(_mm512_loadu_ps(t + j)), _mm512_loadu_ps((const float*)POWERS));
            __m512 product = _mm512_fmadd_ps(_mm512_loadu_ps(expm1 + j), power, power);
            _mm512_storeu_ps(e + j, _mm512_scalef_ps(product, _mm512_loadu_ps(k + j)));
        }
    #endif
    #if defined(__AVX2__)
        for (; j + 8 <= count; j += 8) {
            __m256i bits = _mm256_castps_si256(_mm256_loadu_ps(t + j));
            __m256i fraction = _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const __m256i*)FRACTIONS), bits);
            __m256 power = _mm256_castsi256_ps(_mm256_add_epi32(fraction, _mm256_slli_epi32(bits, 20)));
            _mm256_storeu_ps(e + j, _mm256_fmadd_ps(_mm256_loadu_ps(expm1 + j), power, power));
        }
    #endif
        for (; j < count; j++) {
            uint32_t bits; float power;
            memcpy(&bits, t + j, 4); bits = FRACTIONS[bits & 7] + (bits << 20); memcpy(&power, &bits, 4);
            e[j] = FMA_F32(expm1[j], power, power);
        }
    }

    /* factor times those of `count` numbers that are no less than the floor, and times 0 for the others: a product that would be subnormal
       may cost 150 cycles, and only intrinsics say that nobody takes it. */
    static CYTHON_INLINE void products_f32(const float* e, int count, float factor, float floor, float* product) {
        int j = 0;
    #if defined(__AVX512F__)
        for (; j + 16 <= count; j += 16) {
            __m512 v = _mm512_loadu_ps(e + j), f = _mm512_set1_ps(factor);
            __mmask16 passes = _mm512_cmp_ps_mask(v, _mm512_set1_ps(floor), _CMP_GE_OQ);
            _mm512_storeu_ps(product + j, _mm512_mask_mul_ps(_mm512_mul_ps(_mm512_setzero_ps(), f), passes, v, f));
        }
    #endif
        for (; j < count; j++) product[j] = flushed_f32(e[j], floor) * factor;
    }
    static CYTHON_INLINE void products_f64(const double* e, int count, double factor, double floor, double* product) {
        int j = 0;
    #if defined(__AVX512F__)
        for (; j + 8 <= count; j += 8) {
            __m512d v = _mm512_loadu_pd(e + j), f = _mm512_set1_pd(factor);
            __mmask8 passes = _mm512_cmp_pd_mask(v, _mm512_set1_pd(floor), _CMP_GE_OQ);
            _mm512_storeu_pd(product + j, _mm512_mask_mul_pd(_mm512_mul_pd(_mm512_setzero_pd(), f), passes, v, f));
        }
    #endif
        for (; j < count; j++) product[j] = flushed_f64(e[j], floor) * factor;
    }

    /* The largest of LANES / 4 numbers, none NaN. */
    static CYTHON_INLINE float largest_of_f32(const float* value) {
    #if defined(__AVX2__)
        __m256 eight = _mm256_max_ps(_mm256_loadu_ps(value + 8), _mm256_loadu_ps(value));
        __m128 four = _mm_max_ps(_mm256_extractf128_ps(eight, 1), _mm256_castps256_ps128(eight));
        __m128 two = _mm_max_ps(_mm_movehl_ps(four, four), four);
        return _mm_cvtss_f32(_mm_max_ss(_mm_movehdup_ps(two), two));
    #else
        float largest = value[0];
        int j;
        for (j = 1; j < 16; j++) largest = value[j] > largest ? value[j] : largest;
        return largest;
    #endif
    }
    static CYTHON_INLINE double largest_of_f64(const double* value) {
    #if defined(__AVX2__)
        __m256d four = _mm256_max_pd(_mm256_loadu_pd(value + 4), _mm256_loadu_pd(value));
        __m128d two = _mm_max_pd(_mm256_extractf128_pd(four, 1), _mm256_castpd256_pd128(four));
        return _mm_cvtsd_f64(_mm_max_sd(_mm_unpackhi_pd(two, two), two));
    #else
        double largest = value[0];
        int j;
        for (j = 1; j < 8; j++) largest = value[j] > largest ? value[j] : largest;
        return largest;
    #endif
    }

    /* The first of `count` numbers, a literal of up to LANES, that equals a value that one of them has. */
    static CYTHON_INLINE int first_of_f32(const float* number, int count, float value) {
        int j = 0;
    #if defined(__AVX2__)
        __m256 v = _mm256_set1_ps(value);
        uint64_t bits = 0;
        #pragma GCC unroll 8
        for (; j < count; j += 8)
            bits |= (uint64_t)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(number + j), v, _CMP_EQ_OQ)) << j;
        return (int)_tzcnt_u64(bits);
    #else
        while (j < count - 1 && number[j] != value) j++;
        return j;
    #endif
    }
    static CYTHON_INLINE int first_of_f64(const double* number, int count, double value) {
        int j = 0;
    #if defined(__AVX2__)
        __m256d v = _mm256_set1_pd(value);
        uint32_t bits = 0;
        #pragma GCC unroll 8
        for (; j < count; j += 4)
            bits |= (uint32_t)_mm256_movemask_pd(_mm256_cmp_pd(_mm256_loadu_pd(number + j), v, _CMP_EQ_OQ)) << j;
        return (int)_tzcnt_u32(bits);
    #else
        while (j < count - 1 && number[j] != value) j++;
        return j;
    #endif
    }

    /* The sum of 16 numbers: a tree, each level adding the upper half to the lower. */
    static CYTHON_INLINE double sum_of_16(const double* part) {
    #if defined(__AVX2__)
        __m256d lower = _mm256_add_pd(_mm256_loadu_pd(part), _mm256_loadu_pd(part + 8));
        __m256d four = _mm256_add_pd(lower, _mm256_add_pd(_mm256_loadu_pd(part + 4), _mm256_loadu_pd(part + 12)));
        __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
        return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
    #else
        double sum[8];
        int half, j;
        for (j = 0; j < 8; j++) sum[j] = part[j] + part[8 + j];
        for (half = 4; half > 0; half /= 2)
            for (j = 0; j < half; j++) sum[j] += sum[half + j];
        return sum[0];
    #endif
    }
    /* The same of floats, in doubles. */
    static CYTHON_INLINE double sum_of_16_floats(const float* part) {
    #if defined(__AVX2__)
        __m256d a = _mm256_cvtps_pd(_mm_loadu_ps(part)), b = _mm256_cvtps_pd(_mm_loadu_ps(part + 4));
        __m256d c = _mm256_cvtps_pd(_mm_loadu_ps(part + 8)), d = _mm256_cvtps_pd(_mm_loadu_ps(part + 12));
        __m256d four = _mm256_add_pd(_mm256_add_pd(a, c), _mm256_add_pd(b, d));
        __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
        return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
    #else
        double wide[16];
        int j;
        for (j = 0; j < 16; j++) wide[j] = part[j];
        return sum_of_16(wide);
    #endif
    }
    /* The same of 8 pairs, high parts and then low parts: each level is a two_sum. */
    static CYTHON_INLINE double sum_of_8_pairs(const double* part, double* low) {
        double a, b, sum, from_b, rest;
    #if defined(__AVX2__)
        __m256d a4 = _mm256_loadu_pd(part), b4 = _mm256_loadu_pd(part + 4), s4 = _mm256_add_pd(a4, b4), f4 = _mm256_sub_pd(s4, a4);
        __m256d low4 = _mm256_add_pd(_mm256_add_pd(_mm256_loadu_pd(part + 8), _mm256_loadu_pd(part + 12)),
                                     _mm256_add_pd(_mm256_sub_pd(a4, _mm256_sub_pd(s4, f4)), _mm256_sub_pd(b4, f4)));
        __m128d a2 = _mm256_castpd256_pd128(s4), b2 = _mm256_extractf128_pd(s4, 1), s2 = _mm_add_pd(a2, b2), f2 = _mm_sub_pd(s2, a2);
        __m128d low2 = _mm_add_pd(_mm_add_pd(_mm256_castpd256_pd128(low4), _mm256_extractf128_pd(low4, 1)),
                                  _mm_add_pd(_mm_sub_pd(a2, _mm_sub_pd(s2, f2)), _mm_sub_pd(b2, f2)));
        a = _mm_cvtsd_f64(s2), b = _mm_cvtsd_f64(_mm_unpackhi_pd(s2, s2));
        rest = _mm_cvtsd_f64(_mm_add_sd(low2, _mm_unpackhi_pd(low2, low2)));
    #else
        double high[4], lows[4];
        int j;
        for (j = 0; j < 4; j++) {
            a = part[j], b = part[4 + j], sum = a + b, from_b = sum - a;
            high[j] = sum;
            lows[j] = (part[8 + j] + part[12 + j]) + ((a - (sum - from_b)) + (b - from_b));
        }
        for (j = 0; j < 2; j++) {
            a = high[j], b = high[2 + j], sum = a + b, from_b = sum - a;
            high[j] = sum;
            lows[j] = (lows[j] + lows[2 + j]) + ((a - (sum - from_b)) + (b - from_b));
        }
        a = high[0], b = high[1], rest = lows[0] + lows[1];
    #endif
        sum = a + b;
        from_b = sum - a;
        *low = rest + ((a - (sum - from_b)) + (b - from_b));
        return sum;
    }
    /* One bit for each of `count` numbers, a literal of up to 16: whether it is 0. */
    static CYTHON_INLINE uint64_t zeros_of_f32(const float* number, int count) {
        uint64_t bits = 0;
        int j = 0;
    #if defined(__AVX512F__)
        for (; j + 16 <= count; j += 16)
            bits |= (uint64_t)_mm512_cmp_ps_mask(_mm512_loadu_ps(number + j), _mm512_setzero_ps(), _CMP_EQ_OQ) << j;
    #endif
    #if defined(__AVX2__)
        #pragma GCC unroll 2
        for (; j + 8 <= count; j += 8)
            bits |= (uint64_t)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(number + j), _mm256_setzero_ps(), _CMP_EQ_OQ)) << j;
    #else
        for (; j < count; j++) bits |= (uint64_t)(number[j] == 0) << j;
    #endif
        return bits;
    }
    static CYTHON_INLINE uint64_t zeros_of_f64(const double* number, int count) {
        uint64_t bits = 0;
        int j = 0;
    #if defined(__AVX512F__)
        for (; j + 8 <= count; j += 8)
            bits |= (uint64_t)_mm512_cmp_pd_mask(_mm512_loadu_pd(number + j), _mm512_setzero_pd(), _CMP_EQ_OQ) << j;
    #endif
    #if defined(__AVX2__)
        #pragma GCC unroll 4
        for (; j + 4 <= count; j += 4)
            bits |= (uint64_t)_mm256_movemask_pd(_mm256_cmp_pd(_mm256_loadu_pd(number + j), _mm256_setzero_pd(), _CMP_EQ_OQ)) << j;
    #else
        for (; j < count; j++) bits |= (uint64_t)(number[j] == 0) << j;
    #endif
        return bits;
    }
    /* The lowest bit that is set, -1 for none. */
    static CYTHON_INLINE int lowest_bit(uint64_t bits) {
    #if defined(__GNUC__)
        return bits == 0 ? -1 : __builtin_ctzll(bits);
    #else
        int j = 0;
        if (bits == 0) return -1;
        while (!((bits >> j) & 1)) j++;
        return j;
    #endif
    }

    /* A whole cache line, past the caches. */
    #if defined(__AVX512F__)
      #define STREAMS 1
      #define stream_line(to, line) _mm512_stream_si512((__m512i*)(to), _mm512_loadu_si512(line))
      #define stream_end() _mm_sfence()
    #elif defined(__AVX2__)
      #define STREAMS 1
      #define stream_line(to, line) (_mm256_stream_si256((__m256i*)(to), _mm256_loadu_si256((const __m256i*)(line))), \
                                     _mm256_stream_si256((__m256i*)(to) + 1, _mm256_loadu_si256((const __m256i*)(line) + 1)))
      #define stream_end() _mm_sfence()
    #else
      #define STREAMS 0
      #define stream_line(to, line) memcpy(to, line, 64)
      #define stream_end() ((void)0)
    #endif

    /* Of every 8 numbers, none NaN, the largest; `count` times, filled up to a multiple of 8. */
    static CYTHON_INLINE void largest_of_eights_f32(const float* number, int count, float* largest) {
        int j = 0, k;
    #if defined(__AVX2__)
        for (; j < count; j += 8, number += 64) {
            __m256 a[8], b[4], c[2];
            #pragma GCC unroll 8
            for (k = 0; k < 8; k++) a[k] = _mm256_loadu_ps(number + 8 * k);
            #pragma GCC unroll 4
            for (k = 0; k < 4; k++)
                b[k] = _mm256_max_ps(_mm256_permute2f128_ps(a[k], a[k + 4], 0x20), _mm256_permute2f128_ps(a[k], a[k + 4], 0x31));
            for (k = 0; k < 2; k++) c[k] = _mm256_max_ps(_mm256_unpacklo_ps(b[k], b[k + 2]), _mm256_unpackhi_ps(b[k], b[k + 2]));
            _mm256_storeu_ps(largest + j, _mm256_max_ps(_mm256_unpacklo_ps(c[0], c[1]), _mm256_unpackhi_ps(c[0], c[1])));
        }
    #else
        for (; j < count; j++, number += 8) {
            largest[j] = number[0];
            for (k = 1; k < 8; k++) largest[j] = number[k] > largest[j] ? number[k] : largest[j];
        }
    #endif
    }
    static CYTHON_INLINE void largest_of_eights_f64(const double* number, int count, double* largest) {
        int j = 0, k;
    #if defined(__AVX2__)
        for (; j < count; j += 4, number += 32) {
            __m256d a[4], b[2];
            #pragma GCC unroll 4
            for (k = 0; k < 4; k++) a[k] = _mm256_max_pd(_mm256_loadu_pd(number + 8 * k), _mm256_loadu_pd(number + 8 * k + 4));
            for (k = 0; k < 2; k++)
                b[k] = _mm256_max_pd(_mm256_permute2f128_pd(a[k], a[k + 2], 0x20), _mm256_permute2f128_pd(a[k], a[k + 2], 0x31));
            _mm256_storeu_pd(largest + j, _mm256_max_pd(_mm256_unpacklo_pd(b[0], b[1]), _mm256_unpackhi_pd(b[0], b[1])));
        }
    #else
        for (; j < count; j++, number += 8) {
            largest[j] = number[0];
            for (k = 1; k < 8; k++) largest[j] = number[k] > largest[j] ? number[k] : largest[j];
        }
    #endif
    }

    """
    const Py_ssize_t REGISTER_BYTES
    const bint STREAMS
    void stream_line(void* to, const void* line) noexcept nogil
    void stream_end() noexcept nogil
    void times_powers_of_two_f32(const float* expm1, const float* t, const float* k, int count, float* e) noexcept nogil
    void products_f32(const float* e, int count, float factor, float floor, float* product) noexcept nogil
    void products_f64(const double* e, int count, double factor, double floor, double* product) noexcept nogil
    float largest_of_f32(const float* value) noexcept nogil
    double largest_of_f64(const double* value) noexcept nogil
    int first_of_f32(const float* number, int count, float value) noexcept nogil
    int first_of_f64(const double* number, int count, double value) noexcept nogil
    double sum_of_16(const double* part) noexcept nogil
    double sum_of_16_floats(const float* part) noexcept nogil
    double sum_of_8_pairs(const double* part, double* low) noexcept nogil
    uint64_t zeros_of_f32(const float* number, int count) noexcept nogil
    uint64_t zeros_of_f64(const double* number, int count) noexcept nogil
    int lowest_bit(uint64_t bits) noexcept nogil
    void largest_of_eights_f32(const float* number, int count, float* largest) noexcept nogil
    void largest_of_eights_f64(const double* number, int count, double* largest) noexcept nogil


cdef inline real largest_of(const real* value) noexcept nogil:
    """The largest of LANES / 4 numbers, none NaN."""
    if real is float:
        return largest_of_f32(value)
    else:
        return largest_of_f64(value)


cdef inline int first_of(const real* number, int count, real value) noexcept nogil:
    """The first of `count` numbers, a literal of up to LANES, that equals a value that one of them has."""
    if real is float:
        return first_of_f32(number, count, value)
    else:
        return first_of_f64(number, count, value)


cdef inline uint64_t zeros_of(const real* number, int count) noexcept nogil:
    """One bit for each of `count` numbers, a literal of up to 16: whether it is 0."""
    if real is float:
        return zeros_of_f32(number, count)
    else:
        return zeros_of_f64(number, count)


cdef inline void largest_of_eights(const real* number, int count, real* largest) noexcept nogil:
    """Of every 8 numbers, none NaN, the largest; `count` times, filled up to a multiple of 8."""
    if real is float:
        largest_of_eights_f32(number, count, largest)
    else:
        largest_of_eights_f64(number, count, largest)


cdef inline void exp_of_lanes(const real* d, int count, real* e) noexcept nogil:
    """exp_scaled of `count` numbers, a literal of up to 32, from which it may differ by an ulp. e is apart from d.

    Domain and result: as exp_scaled.
    Max error: 1.3 ulp.
    Source: for float32 the nearest 2^(k / 8) from a table and a polynomial for the rest, by tools/make_constants.py: three
    multiply-adds less. The square of the rest is taken before the rest's last digits are in: a shorter chain.
    """
    cdef float clamped, near, r
    cdef float t[32]
    cdef float k[32]
    cdef float expm1[32]
    cdef int j
    if real is double:
        for j in range(count):
            e[j] = exp_scaled_f64(d[j])
    else:
        for j in range(count):
            clamped = no_less(<float>d[j], EXP_CUTOFF_F32)
            t[j] = fma_f32(clamped, LOG2_E_F32, EIGHTH_MAGIC_F32)
            k[j] = t[j] - EIGHTH_MAGIC_F32
            if HAVE_FMA:       # d - k log(2) but for its last digits, and with them
                near = fma_f32(k[j], -LOG_2_F32, clamped)
                r = fma_f32(k[j], -LOG_2_REST_F32, near)
            else:
                near = clamped - k[j] * LOG_2_HIGH_F32
                r = near - k[j] * LOG_2_LOW_F32
                near = r
            expm1[j] = fma_f32(near * near, fma_f32(EIGHTH_C3_F32, near, EIGHTH_C2_F32), r)
        times_powers_of_two_f32(<const float*>expm1, <const float*>t, <const float*>k, count, e)
