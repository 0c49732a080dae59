/* What the machine can do at most, by hand-written intrinsics: never part of the package.

   bench/limits.py compiles this once for each instruction set and dtype (BITS is 32 or 64). Every loop goes over n_rows rows
   of n elements; `out`, which begins at a cache line, takes what it writes. Loops that only read and copy take whole STEPs.
   The exponentials are the package's (the same table and polynomials), but nothing else is paid for: no NaN, no -inf, no
   confident rows, sums in the working precision, and of logsumexp no logarithm. Short rows and columns are in limits_beside.h.

   Those "as promised" pay for what the package's bounds ask of any code, and still for nothing else: logits of -inf, the
   maximum's own 1 kept out of the sum, whose digits it would swallow, sums in twice the working precision, results of 0
   where they would be subnormal, the logarithm and the target's entry of confident rows, rows that are ignored, losses added
   up in twice the working precision. */

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

static const real LANE[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* Of a vector its last `count` lanes, or all: what an overlapping vector has not in common with the one before. */
static inline vector last_of(vector v, ptrdiff_t count)
{
    return KEEP_WHERE(AT_LEAST(V(loadu)(LANE), V(set1)((real)(WIDTH - count))), v);
}

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

static inline ptrdiff_t least(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

/* Rows of at least WIDTH elements: their last vector overlaps the one before. */
static inline real largest(const real* x, ptrdiff_t n)
{
    vector best[CHAINS];
    UNROLLED for (int c = 0; c < CHAINS; c++) best[c] = V(loadu)(x + least(c * WIDTH, n - WIDTH));
    ptrdiff_t i = STEP;
    for (; i + STEP <= n; i += STEP)
        UNROLLED for (int c = 0; c < CHAINS; c++) best[c] = V(max)(best[c], V(loadu)(x + i + c * WIDTH));
    UNROLLED for (int c = 0; c < CHAINS; c++)
        if (i + c * WIDTH < n) best[c] = V(max)(best[c], V(loadu)(x + least(i + c * WIDTH, n - WIDTH)));
    UNROLLED for (int c = 1; c < CHAINS; c++) best[0] = V(max)(best[0], best[c]);
    return largest_lane(best[0]);
}

/* The sum of exp(x - max); the exponentials are stored where `out` is no null pointer. */
static inline real sum_of_exponentials(const real* x, ptrdiff_t n, real max, real* out)
{
    const vector shift = V(set1)(max);
    vector sum[EXP_CHAINS];
    ptrdiff_t i = 0;
    for (int c = 0; c < EXP_CHAINS; c++) sum[c] = V(set1)(0);
    for (; i + EXP_CHAINS * WIDTH <= n; i += EXP_CHAINS * WIDTH)
        UNROLLED for (int c = 0; c < EXP_CHAINS; c++) {
            vector e = exponential(V(sub)(V(loadu)(x + i + c * WIDTH), shift));
            if (out) V(storeu)(out + i + c * WIDTH, e);
            sum[c] = V(add)(sum[c], e);
        }
    for (; i < n; i += WIDTH) {
        ptrdiff_t at = least(i, n - WIDTH);
        vector e = exponential(V(sub)(V(loadu)(x + at), shift));
        if (out) V(storeu)(out + at, e);
        sum[0] = V(add)(sum[0], at < i ? last_of(e, n - i) : e);
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

/* As promised: a vector's exponentials are added to `sum` but for those of the maximum, and counted in `below`. */
static inline void add_below(const real* x, vector max, real* out, ptrdiff_t count, vector* sum, vector* below)
{
    const vector zero = V(set1)(0), one = V(set1)(1);
    vector d = V(sub)(V(loadu)(x), max), e = any_exponential(d);
    if (out) V(storeu)(out, e);
    vector counts = KEEP_WHERE(BELOW(d, zero), one);
    e = KEEP_WHERE(BELOW(d, zero), e);
    *below = V(add)(*below, count < WIDTH ? last_of(counts, count) : counts);
    *sum = V(add)(*sum, count < WIDTH ? last_of(e, count) : e);
}

/* As promised: the sum of exp(x - max) but for those of the maximum, which are 1 and counted in `ones`. */
static inline double sum_as_promised(const real* x, ptrdiff_t n, real max, real* out, double* ones)
{
    const vector shift = V(set1)(max), zero = V(set1)(0);
    sums sum[2];
    vector below[EXP_CHAINS], folded[2] = {zero, zero};
    ptrdiff_t i = 0;
    __builtin_memset(sum, 0, sizeof sum);
    for (int c = 0; c < EXP_CHAINS; c++) below[c] = zero;
    for (; i + STEP <= n; i += STEP) {
        folded[0] = folded[1] = zero;
        _Pragma("GCC unroll 1") for (ptrdiff_t at = i; at < i + STEP; at += EXP_CHAINS * WIDTH)
            UNROLLED for (int k = 0; k < EXP_CHAINS; k++)
                add_below(x + at + k * WIDTH, shift, out ? out + at + k * WIDTH : 0, WIDTH, &folded[k % 2], &below[k]);
        for (int k = 0; k < 2; k++) sum[k] = add_wide(sum[k], folded[k]);
    }
    folded[0] = folded[1] = zero;
    for (; i + EXP_CHAINS * WIDTH <= n; i += EXP_CHAINS * WIDTH)
        UNROLLED for (int k = 0; k < EXP_CHAINS; k++)
            add_below(x + i + k * WIDTH, shift, out ? out + i + k * WIDTH : 0, WIDTH, &folded[k % 2], &below[k]);
    for (; i + WIDTH <= n; i += WIDTH) add_below(x + i, shift, out ? out + i : 0, WIDTH, &folded[0], &below[0]);
    if (i < n) add_below(x + n - WIDTH, shift, out ? out + n - WIDTH : 0, n - i, &folded[0], &below[0]);
    for (int k = 0; k < 2; k++) sum[k] = add_wide(sum[k], folded[k]);
    for (int c = 1; c < EXP_CHAINS; c++) below[0] = V(add)(below[0], below[c]);
    *ones = (double)n - (double)sum_of_lanes(below[0]);
    return sum_of_sums(sum[0]) + sum_of_sums(sum[1]);
}

static inline vector rescaled_vector(vector v, vector factor, vector floor, int promised)
{
    return V(mul)(promised ? KEEP_WHERE(AT_LEAST(v, floor), v) : v, factor);
}

/* Stored exponentials become results; as promised 0 where they would be subnormal. */
static inline void rescaled(real* out, ptrdiff_t n, real factor, real floor, int promised)
{
    const vector f = V(set1)(factor), least_one = V(set1)(floor);
    const vector last = rescaled_vector(V(loadu)(out + n - WIDTH), f, least_one, promised);
    ptrdiff_t i = 0;
    for (; i + STEP <= n; i += STEP)
        UNROLLED for (int c = 0; c < CHAINS; c++)
            V(storeu)(out + i + c * WIDTH, rescaled_vector(V(loadu)(out + i + c * WIDTH), f, least_one, promised));
    for (; i + WIDTH <= n; i += WIDTH) V(storeu)(out + i, rescaled_vector(V(loadu)(out + i), f, least_one, promised));
    V(storeu)(out + n - WIDTH, last);
}

/* out = (x - max) - log. */
static inline void shifted_twice(const real* x, ptrdiff_t n, real max, real log, real* out)
{
    const vector shift = V(set1)(max), log_total = V(set1)(log);
    ptrdiff_t i = 0;
    for (; i + STEP <= n; i += STEP)
        UNROLLED for (int c = 0; c < CHAINS; c++)
            V(storeu)(out + i + c * WIDTH, V(sub)(V(sub)(V(loadu)(x + i + c * WIDTH), shift), log_total));
    for (; i < n; i += WIDTH)
        V(storeu)(out + least(i, n - WIDTH), V(sub)(V(sub)(V(loadu)(x + least(i, n - WIDTH)), shift), log_total));
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
static inline void scaled_copy(const real* x, ptrdiff_t n, real factor, int is_copy, int streams, real* out)
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

/* log(1 + rest). */
static inline double log_of(double rest, int promised)
{
    double total = 1 + rest, lost = promised ? rest - (total - 1) : 0;
    return logarithm(D(set1)(total))[0] + lost;
}

/* Of a stored row of exponentials its gradient: that of the target's own as promised from those of the others. */
static inline void gradient_of_row(ptrdiff_t n, long long target, double rest, double share, int promised, real* out)
{
    double total = 1 + rest, factor = share / total, own = out[target];
    double entry = promised ? -((1 - own) + rest) * factor : own * factor - share;
    rescaled(out, n, (real)factor, (real)(total * LEAST_NORMAL), promised);
    out[target] = (real)(promised && entry > -LEAST_NORMAL ? 0 : entry);
}

/* One row after the other. */
static inline __attribute__((always_inline)) void row_by_row(const real* x, ptrdiff_t n_rows, ptrdiff_t n, enum result result,
                                                              int promised, real* out)
{
    const double n_kept = result == GRADIENT ? (double)check_targets(n_rows, n) : 1;
    double losses = 0;
    for (ptrdiff_t row = 0; row < n_rows; row++, x += n, out += result == LSE ? 0 : n) {
        if (result == GRADIENT && targets[row] == IGNORED) {
            __builtin_memset(out, 0, (size_t)n * sizeof(real));
            continue;
        }
        real max = largest(x, n), *stored = result == SOFTMAX || result == GRADIENT ? out : 0;
        double ones = 0, rest;
        if (promised) rest = sum_as_promised(x, n, max, stored, &ones) + (ones - 1);
        else rest = sum_of_exponentials(x, n, max, stored) - 1;
        if (result == LSE) out[row] = (real)(promised ? max + log_of(rest, 1) : max + (1 + rest));
        if (result == SOFTMAX) rescaled(out, n, (real)(1 / (1 + rest)), (real)((1 + rest) * LEAST_NORMAL), promised);
        if (result == LOG_SOFTMAX) shifted_twice(x, n, max, (real)log_of(rest, promised), out);
        if (result == GRADIENT) {
            losses += (max - x[targets[row]]) + log_of(rest, promised);
            gradient_of_row(n, targets[row], rest, 1 / n_kept, promised, out);
        }
    }
    mean_loss = losses / n_kept;
}

static inline __attribute__((always_inline)) void rows(const real* x, ptrdiff_t n_rows, ptrdiff_t n, enum result result, int promised,
                                                        real* out)
{
    if (n < MOST_SIDE_BY_SIDE) side_by_side(x, n_rows, n, result, promised, out);
    else row_by_row(x, n_rows, n, result, promised, out);
}

#define FOR_EACH_ROW for (const real* end = x + n_rows * n; x < end; x += n, out += n)

void read_once(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    for (ptrdiff_t row = 0; row < n_rows; row++) out[row] = largest(x + row * n, n);
}

void copy(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    scaled_copy(x, n_rows * n, 1, 1, 0, out);
}

void copy_streaming(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    scaled_copy(x, n_rows * n, 1, 1, 1, out);
    _mm_sfence();
}

/* A copy past the caches and, in turn with it by pieces, the arithmetic of as many elements in L1, as promised; what is copied next is fetched
   meanwhile. Neither needs the other: how much of them overlaps by itself, and no bound from below. */
#define PIECE ((ptrdiff_t)(8192 / sizeof(real)))
#define FETCHED_AHEAD 32768      /* bytes */
static _Thread_local real piece[PIECE], softmax_of_piece[PIECE];

void copy_beside_arithmetic(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    for (ptrdiff_t i = 0; i < PIECE; i++) piece[i] = x[i % (n_rows * n)];
    for (ptrdiff_t at = 0; at < n_rows * n; at += PIECE) {
        ptrdiff_t count = least(PIECE, n_rows * n - at);
        for (ptrdiff_t i = 0; i < count; i += WIDTH) __builtin_prefetch((const char*)(x + at + i) + FETCHED_AHEAD);
        row_by_row(piece, 1, count, SOFTMAX, 1, softmax_of_piece);
        scaled_copy(x + at, count, 1, 1, 1, out + at);
    }
    _mm_sfence();
}

void read_twice_write_once(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    FOR_EACH_ROW scaled_copy(x, n, largest(x, n), 0, 0, out);
}

void read_twice_write_once_streaming(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    FOR_EACH_ROW scaled_copy(x, n, largest(x, n), 0, 1, out);
    _mm_sfence();
}

void max_and_sum(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    rows(x, n_rows, n, LSE, 0, out);
}

void max_and_sum_as_promised(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    rows(x, n_rows, n, LSE, 1, out);
}

void store_and_rescale(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    rows(x, n_rows, n, SOFTMAX, 0, out);
}

void store_and_rescale_as_promised(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    rows(x, n_rows, n, SOFTMAX, 1, out);
}

void log_of_softmax(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    rows(x, n_rows, n, LOG_SOFTMAX, 0, out);
}

void log_of_softmax_as_promised(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    rows(x, n_rows, n, LOG_SOFTMAX, 1, out);
}

void loss_and_gradient(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    rows(x, n_rows, n, GRADIENT, 0, out);
}

void loss_and_gradient_as_promised(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    rows(x, n_rows, n, GRADIENT, 1, out);
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

void strided_log_of_softmax(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    for (ptrdiff_t row = 0; row < n_rows; row++) log_of_softmax(every_other(x + 2 * row * n, n), 1, n, out + row * n);
}

void strided_log_of_softmax_as_promised(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    for (ptrdiff_t row = 0; row < n_rows; row++) log_of_softmax_as_promised(every_other(x + 2 * row * n, n), 1, n, out + row * n);
}

/* Of each row's own loss. */
void strided_loss_and_gradient(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    const long long* classes = targets;
    for (ptrdiff_t row = 0; row < n_rows; row++, targets++) loss_and_gradient(every_other(x + 2 * row * n, n), 1, n, out + row * n);
    targets = classes;
}

void strided_loss_and_gradient_as_promised(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    const long long* classes = targets;
    for (ptrdiff_t row = 0; row < n_rows; row++, targets++)
        loss_and_gradient_as_promised(every_other(x + 2 * row * n, n), 1, n, out + row * n);
    targets = classes;
}

void columns_max_and_sum(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    columns(x, n_rows, n, LSE, 0, out);
}

void columns_store_and_rescale(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    columns(x, n_rows, n, SOFTMAX, 0, out);
}

void columns_max_and_sum_as_promised(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    columns(x, n_rows, n, LSE, 1, out);
}

void columns_store_and_rescale_as_promised(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    columns(x, n_rows, n, SOFTMAX, 1, out);
}

void columns_log_of_softmax(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    columns(x, n_rows, n, LOG_SOFTMAX, 0, out);
}

void columns_log_of_softmax_as_promised(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    columns(x, n_rows, n, LOG_SOFTMAX, 1, out);
}

typedef void loop(const real* x, ptrdiff_t n_rows, ptrdiff_t n, real* out);

/* So that Python's call, of about a microsecond, does not count. */
void repeat(loop* function, ptrdiff_t times, const real* x, const long long* classes, ptrdiff_t n_rows, ptrdiff_t n, real* out)
{
    targets = classes;
    while (times-- > 0) function(x, n_rows, n, out);
}
