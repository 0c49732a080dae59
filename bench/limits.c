/* What the machine can do at most, by hand-written intrinsics: never part of the package.

   bench/limits.py compiles this once for each instruction set and dtype (BITS is 32 or 64). Every loop goes over n_rows rows
   of n elements, n a multiple of STEP; `out`, which begins at a cache line, takes what it writes. The exponentials are the
   package's (the same table and polynomials), but nothing else is paid for: no NaN, no -inf, no confident rows, sums in the
   working precision, no rest of a step. Short rows and columns, for which each row's own last steps count, are in limits_beside.h.

   Those "as promised" pay for what the package's bounds ask of any code, and still for nothing else: logits of -inf, the
   maximum's own 1 kept out of the sum, whose digits it would swallow, sums in twice the working precision, and results of 0
   where they would be subnormal. */

#include <immintrin.h>
#include <stddef.h>

#if BITS == 32
typedef float real;
#else
typedef double real;
#endif

#define JOIN2(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN2(a, b, c)
#if defined(__AVX512F__)
  #define BYTES 64
  #define PREFIX _mm512_
  #if BITS == 32
typedef __m512 vector;
  #else
typedef __m512d vector;
  #endif
#else
  #define BYTES 32
  #define PREFIX _mm256_
  #if BITS == 32
typedef __m256 vector;
  #else
typedef __m256d vector;
  #endif
#endif
#define D(name) JOIN(PREFIX, name, _pd)
#if BITS == 32
  #define V(name) JOIN(PREFIX, name, _ps)
#else
  #define V(name) D(name)
#endif
#if defined(__AVX512F__)
typedef __m512d doubles;
#else
typedef __m256d doubles;
#endif

#define WIDTH ((ptrdiff_t)(BYTES / sizeof(real)))
#define CHAINS 8                 /* registers of independent numbers: enough to hide the latency of max, load and store */
#if defined(__AVX512F__)
  #define EXP_CHAINS 4           /* of exponentials, each of which needs some registers of its own; there are 32 */
#else
  #define EXP_CHAINS 2           /* there are 16; with 4 storing takes 4 % longer (Zen 3) */
#endif
#define STEP (CHAINS * WIDTH)
#define UNROLLED _Pragma("GCC unroll 8")

/* exp(d) for -87 <= d <= 0 (-708 for doubles): d = k log 2 + r, exp(d) = 2**k (1 + p(r)); the low bits of t are k + bias. In floats
   k counts eighths, and a table has the fraction of 2**k less what k << 20 puts there. */
#if BITS == 32
static const int EIGHTHS[16] = {0, -0x46a3e, -0x7c810, -0xa0129, -0xafb0d, -0xa98d6, -0x8bb03, -0x53f39,
                                0, -0x46a3e, -0x7c810, -0xa0129, -0xafb0d, -0xa98d6, -0x8bb03, -0x53f39};

static inline vector exponential(vector d)
{
    const vector magic = V(set1)(1572864.0f + 127.0f);
    vector t = V(fmadd)(d, V(set1)(0x1.715476p+0f), magic);
    vector k = V(sub)(t, magic);
    vector near = V(fmadd)(k, V(set1)(-0x1.62e43p-1f), d);
    vector r = V(fmadd)(k, V(set1)(0x1.05c610p-29f), near);
    vector p = V(fmadd)(V(set1)(0x1.555916p-3f), near, V(set1)(0x1.00088ap-1f));
    p = V(fmadd)(V(mul)(near, near), p, r);
  #if defined(__AVX512F__)
    __m512i bits = _mm512_castps_si512(t), table = _mm512_loadu_si512(EIGHTHS);
    vector power = _mm512_castsi512_ps(_mm512_add_epi32(_mm512_permutexvar_epi32(bits, table), _mm512_slli_epi32(bits, 20)));
  #else
    __m256i bits = _mm256_castps_si256(t), table = _mm256_loadu_si256((const __m256i*)EIGHTHS);
    vector power = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_permutevar8x32_epi32(table, bits), _mm256_slli_epi32(bits, 20)));
  #endif
    return V(fmadd)(p, power, power);
}
#endif

static inline doubles exponential_of_doubles(doubles d)
{
    const doubles magic = D(set1)(6755399441055744.0 + 1023.0);
    doubles t = D(fmadd)(d, D(set1)(0x1.71547652b82fep+0), magic);
    doubles k = D(sub)(t, magic);
    doubles r = D(fmadd)(k, D(set1)(-0x1.62e42fefa39efp-1), d);
    r = D(fmadd)(k, D(set1)(-0x1.abc9e3b39803fp-56), r);
    doubles square = D(mul)(r, r);
    doubles odd = D(fmadd)(square, D(set1)(0x1.adeb8704ca2b7p-26), D(set1)(0x1.71dedfd25527cp-19));
    doubles even = D(fmadd)(square, D(set1)(0x1.28afe6535eee4p-22), D(set1)(0x1.a01996fabb6d3p-16));
    odd = D(fmadd)(odd, square, D(set1)(0x1.a01a014a2586cp-13));
    even = D(fmadd)(even, square, D(set1)(0x1.6c16c1858534cp-10));
    odd = D(fmadd)(odd, square, D(set1)(0x1.1111111121b38p-7));
    even = D(fmadd)(even, square, D(set1)(0x1.55555555500a1p-5));
    odd = D(fmadd)(odd, square, D(set1)(0x1.5555555555513p-3));
    even = D(fmadd)(even, square, D(set1)(0x1.000000000000bp-1));
    doubles p = D(fmadd)(D(fmadd)(odd, r, even), square, r);
  #if defined(__AVX512F__)
    doubles power = _mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(t), 52));
  #else
    doubles power = _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(t), 52));
  #endif
    return D(fmadd)(p, power, power);
}

#if BITS == 64
static inline vector exponential(vector d)
{
    return exponential_of_doubles(d);
}
#endif

static inline real largest_lane(vector v)
{
    real lane[BYTES / sizeof(real)];
    V(storeu)(lane, v);
    real result = lane[0];
    for (int i = 1; i < WIDTH; i++) result = lane[i] > result ? lane[i] : result;
    return result;
}

static inline real sum_of_lanes(vector v)
{
    real lane[BYTES / sizeof(real)];
    V(storeu)(lane, v);
    real result = lane[0];
    for (int i = 1; i < WIDTH; i++) result += lane[i];
    return result;
}

static inline real largest(const real* x, ptrdiff_t n)
{
    vector best[CHAINS];
    for (int c = 0; c < CHAINS; c++) best[c] = V(loadu)(x + c * WIDTH);
    for (ptrdiff_t i = STEP; i < n; i += STEP)
        UNROLLED for (int c = 0; c < CHAINS; c++) best[c] = V(max)(best[c], V(loadu)(x + i + c * WIDTH));
    for (int c = 1; c < CHAINS; c++) best[0] = V(max)(best[0], best[c]);
    return largest_lane(best[0]);
}

/* The sum of exp(x - max); the exponentials are stored where `out` is no null pointer. */
static inline real sum_of_exponentials(const real* x, ptrdiff_t n, real max, real* out)
{
    const vector shift = V(set1)(max);
    vector sum[EXP_CHAINS];
    for (int c = 0; c < EXP_CHAINS; c++) sum[c] = V(set1)(0);
    for (ptrdiff_t i = 0; i < n; i += EXP_CHAINS * WIDTH)
        UNROLLED for (int c = 0; c < EXP_CHAINS; c++) {
            vector e = exponential(V(sub)(V(loadu)(x + i + c * WIDTH), shift));
            if (out) V(storeu)(out + i + c * WIDTH, e);
            sum[c] = V(add)(sum[c], e);
        }
    for (int c = 1; c < EXP_CHAINS; c++) sum[0] = V(add)(sum[0], sum[c]);
    return sum_of_lanes(sum[0]);
}

/* As promised: for d down to -inf. */
static inline vector any_exponential(vector d)
{
  #if BITS == 32
    return exponential(V(max)(V(set1)(-87.0f), d));
  #else
    return exponential(V(max)(V(set1)(-708.0), d));
  #endif
}

#if defined(__AVX512F__) && BITS == 32
  #define KEEP_WHERE(mask, v) _mm512_maskz_mov_ps(mask, v)
  #define BELOW(a, b) _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ)
  #define AT_LEAST(a, b) _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ)
  #define EQUAL(a, b) _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ)
  #define WHERE(mask, a, b) _mm512_mask_blend_ps(mask, b, a)
#elif defined(__AVX512F__)
  #define KEEP_WHERE(mask, v) _mm512_maskz_mov_pd(mask, v)
  #define BELOW(a, b) _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ)
  #define AT_LEAST(a, b) _mm512_cmp_pd_mask(a, b, _CMP_GE_OQ)
  #define EQUAL(a, b) _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ)
  #define WHERE(mask, a, b) _mm512_mask_blend_pd(mask, b, a)
#else
  #define KEEP_WHERE(mask, v) V(and)(mask, v)
  #define BELOW(a, b) V(cmp)(a, b, _CMP_LT_OQ)
  #define AT_LEAST(a, b) V(cmp)(a, b, _CMP_GE_OQ)
  #define EQUAL(a, b) V(cmp)(a, b, _CMP_EQ_OQ)
  #define WHERE(mask, a, b) V(blendv)(b, a, mask)
#endif

/* Sums in twice the working precision. */
#if BITS == 32
  #if defined(__AVX512F__)
    #define LOWER_HALF(v) _mm512_cvtps_pd(_mm512_castps512_ps256(v))
    #define UPPER_HALF(v) _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1))
    #define ADD_WIDE(a, b) _mm512_add_pd(a, b)
  #else
    #define LOWER_HALF(v) _mm256_cvtps_pd(_mm256_castps256_ps128(v))
    #define UPPER_HALF(v) _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1))
    #define ADD_WIDE(a, b) _mm256_add_pd(a, b)
  #endif
typedef struct { doubles lower, upper; } sums;

static inline sums add_wide(sums s, vector v)
{
    return (sums){ADD_WIDE(s.lower, LOWER_HALF(v)), ADD_WIDE(s.upper, UPPER_HALF(v))};
}
#else
typedef struct { vector lower, upper; } sums;      /* the unevaluated sum of the two */

static inline sums add_wide(sums s, vector v)
{
    vector sum = V(add)(s.upper, v);
    vector from_v = V(sub)(sum, s.upper);
    vector lost = V(add)(V(sub)(s.upper, V(sub)(sum, from_v)), V(sub)(v, from_v));
    return (sums){V(add)(s.lower, lost), sum};
}
#endif

static inline double sum_of_sums(sums s)
{
    double lower[BYTES / sizeof(double)], upper[BYTES / sizeof(double)], result = 0;
    __builtin_memcpy(lower, &s.lower, BYTES);
    __builtin_memcpy(upper, &s.upper, BYTES);
    for (size_t i = 0; i < BYTES / sizeof(double); i++) result += lower[i] + upper[i];
    return result;
}

/* As promised: the sum of exp(x - max) but for those of the maximum, which are 1 and counted in `ones`. */
static inline double sum_as_promised(const real* x, ptrdiff_t n, real max, real* out, double* ones)
{
    const vector shift = V(set1)(max), zero = V(set1)(0), one = V(set1)(1);
    sums sum[2] = {{{0}}};
    vector below[EXP_CHAINS];
    for (int c = 0; c < EXP_CHAINS; c++) below[c] = zero;
    for (ptrdiff_t i = 0; i < n; i += STEP) {
        vector folded[2] = {zero, zero};
        _Pragma("GCC unroll 1") for (int c = 0; c < CHAINS; c += EXP_CHAINS) {
            UNROLLED for (int k = 0; k < EXP_CHAINS; k++) {
                vector d = V(sub)(V(loadu)(x + i + (c + k) * WIDTH), shift);
                vector e = any_exponential(d);
                if (out) V(storeu)(out + i + (c + k) * WIDTH, e);
                below[k] = V(add)(below[k], KEEP_WHERE(BELOW(d, zero), one));
                folded[k % 2] = V(add)(folded[k % 2], KEEP_WHERE(BELOW(d, zero), e));
            }
        }
        for (int k = 0; k < 2; k++) sum[k] = add_wide(sum[k], folded[k]);
    }
    for (int c = 1; c < EXP_CHAINS; c++) below[0] = V(add)(below[0], below[c]);
    *ones = (double)n - (double)sum_of_lanes(below[0]);
    return sum_of_sums(sum[0]) + sum_of_sums(sum[1]);
}

/* As promised: what would be subnormal is 0. */
static inline void scaled_as_promised(real* out, ptrdiff_t n, real factor, real floor)
{
    const vector f = V(set1)(factor), least = V(set1)(floor);
    for (ptrdiff_t i = 0; i < n; i += STEP)
        UNROLLED for (int c = 0; c < CHAINS; c++) {
            vector v = V(loadu)(out + i + c * WIDTH);
            V(storeu)(out + i + c * WIDTH, V(mul)(KEEP_WHERE(AT_LEAST(v, least), v), f));
        }
}

/* Every other element of a row as a run in L1. */
#define MOST_STRIDED 4096
static _Thread_local real run[MOST_STRIDED];

static inline const real* every_other(const real* x, ptrdiff_t n)
{
    if (n > MOST_STRIDED) __builtin_trap();
    for (ptrdiff_t i = 0; i < n; i++) run[i] = x[2 * i];
    return run;
}

/* out = x * factor, or a plain copy for a factor of 1, which the compiler knows. */
static inline void scaled(const real* x, ptrdiff_t n, real factor, int is_copy, int streams, real* out)
{
    const vector f = V(set1)(factor);
    for (ptrdiff_t i = 0; i < n; i += STEP)
        UNROLLED for (int c = 0; c < CHAINS; c++) {
            vector v = V(loadu)(x + i + c * WIDTH);
            if (!is_copy) v = V(mul)(v, f);
            if (streams) V(stream)(out + i + c * WIDTH, v);
            else V(storeu)(out + i + c * WIDTH, v);
        }
}

static _Thread_local const long long* targets;       /* a class for each row, of the loops with a loss */

#include "limits_beside.h"

#define FOR_EACH_ROW for (const real* end = x + n_rows * n; x < end; x += n, out += n)

void read_once(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    for (ptrdiff_t row = 0; row < n_rows; row++) out[row] = largest(x + row * n, n);
}

void copy(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    scaled(x, n_rows * n, 1, 1, 0, out);
}

void copy_streaming(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    scaled(x, n_rows * n, 1, 1, 1, out);
    _mm_sfence();
}

void read_twice_write_once(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    FOR_EACH_ROW scaled(x, n, largest(x, n), 0, 0, out);
}

void read_twice_write_once_streaming(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    FOR_EACH_ROW scaled(x, n, largest(x, n), 0, 1, out);
    _mm_sfence();
}

void max_and_sum(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    if (n < MOST_SIDE_BY_SIDE) { side_by_side(x, n_rows, n, LSE, 0, out); return; }
    for (ptrdiff_t row = 0; row < n_rows; row++, x += n) {
        real max = largest(x, n);
        out[row] = max + sum_of_exponentials(x, n, max, 0);
    }
}

void store_and_rescale(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    if (n < MOST_SIDE_BY_SIDE) { side_by_side(x, n_rows, n, SOFTMAX, 0, out); return; }
    FOR_EACH_ROW scaled(out, n, 1 / sum_of_exponentials(x, n, largest(x, n), out), 0, 0, out);
}

void max_and_sum_as_promised(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    if (n < MOST_SIDE_BY_SIDE) { side_by_side(x, n_rows, n, LSE, 1, out); return; }
    for (ptrdiff_t row = 0; row < n_rows; row++, x += n) {
        real max = largest(x, n);
        double ones, rest = sum_as_promised(x, n, max, 0, &ones);
        out[row] = (real)(max + (rest + ones));
    }
}

void store_and_rescale_as_promised(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    if (n < MOST_SIDE_BY_SIDE) { side_by_side(x, n_rows, n, SOFTMAX, 1, out); return; }
    FOR_EACH_ROW {
        double ones, rest = sum_as_promised(x, n, largest(x, n), out, &ones);
        scaled_as_promised(out, n, (real)(1 / (rest + ones)), (real)((rest + ones) * (BITS == 32 ? 0x1p-126 : 0x1p-1022)));
    }
}

/* Of rows of less than MOST_SIDE_BY_SIDE elements. */
void log_of_softmax(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    side_by_side(x, n_rows, n, LOG_SOFTMAX, 0, out);
}

void log_of_softmax_as_promised(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    side_by_side(x, n_rows, n, LOG_SOFTMAX, 1, out);
}

void loss_and_gradient(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    side_by_side(x, n_rows, n, GRADIENT, 0, out);
}

void loss_and_gradient_as_promised(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    side_by_side(x, n_rows, n, GRADIENT, 1, out);
}

/* Of every other element: element i of row r is x[2 * (r * n + i)]. */
void strided_read_once(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    for (ptrdiff_t row = 0; row < n_rows; row++) out[row] = largest(x + 2 * row * n, 2 * n);
}

void strided_max_and_sum(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    for (ptrdiff_t row = 0; row < n_rows; row++) max_and_sum(every_other(x + 2 * row * n, n), 1, n, out + row);
}

void strided_max_and_sum_as_promised(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    for (ptrdiff_t row = 0; row < n_rows; row++) max_and_sum_as_promised(every_other(x + 2 * row * n, n), 1, n, out + row);
}

void strided_store_and_rescale(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    for (ptrdiff_t row = 0; row < n_rows; row++) store_and_rescale(every_other(x + 2 * row * n, n), 1, n, out + row * n);
}

void strided_store_and_rescale_as_promised(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    for (ptrdiff_t row = 0; row < n_rows; row++) store_and_rescale_as_promised(every_other(x + 2 * row * n, n), 1, n, out + row * n);
}

void columns_max_and_sum(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    columns(x, n_rows, n, 0, 0, out);
}

void columns_store_and_rescale(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    columns(x, n_rows, n, 1, 0, out);
}

void columns_max_and_sum_as_promised(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    columns(x, n_rows, n, 0, 1, out);
}

void columns_store_and_rescale_as_promised(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    columns(x, n_rows, n, 1, 1, out);
}

typedef void loop(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out);

/* So that Python's call, of about a microsecond, does not count. */
void repeat(loop* function, ptrdiff_t times, const real* x, const long long* classes, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    targets = classes;
    while (times-- > 0) function(x, n_rows, n, out);
}
