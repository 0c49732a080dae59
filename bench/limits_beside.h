/* limits.c for rows side by side: a vector holds an element of each of WIDTH rows. Short rows are transposed into a tile of SIDE rows
   and back; columns are read where they lie, whole lines of memory at a time. */

/* Short rows, of less than MOST_SIDE_BY_SIDE elements: element i of row r is at tile[i][r]. limits.py says how many (SIDE). */
typedef real tile_of_rows[MOST_SIDE_BY_SIDE][SIDE];
typedef real four __attribute__((vector_size(4 * sizeof(real))));

/* to[c * to_stride + r] = from[r * from_stride + c], for r and c below 4. */
static inline void transpose(const real* from, ptrdiff_t from_stride, real* to, ptrdiff_t to_stride)
{
    four a, b, c, d;
    __builtin_memcpy(&a, from, sizeof a);
    __builtin_memcpy(&b, from + from_stride, sizeof a);
    __builtin_memcpy(&c, from + 2 * from_stride, sizeof a);
    __builtin_memcpy(&d, from + 3 * from_stride, sizeof a);
    four p = __builtin_shufflevector(a, b, 0, 4, 1, 5), q = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    four r = __builtin_shufflevector(a, b, 2, 6, 3, 7), s = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    a = __builtin_shufflevector(p, q, 0, 1, 4, 5);
    b = __builtin_shufflevector(p, q, 2, 3, 6, 7);
    c = __builtin_shufflevector(r, s, 0, 1, 4, 5);
    d = __builtin_shufflevector(r, s, 2, 3, 6, 7);
    __builtin_memcpy(to, &a, sizeof a);
    __builtin_memcpy(to + to_stride, &b, sizeof a);
    __builtin_memcpy(to + 2 * to_stride, &c, sizeof a);
    __builtin_memcpy(to + 3 * to_stride, &d, sizeof a);
}

/* For a literal n the compiler knows how to shuffle. */
static inline void few_in(const real* x, ptrdiff_t n, tile_of_rows tile)
{
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t r = 0; r < SIDE; r++) tile[i][r] = x[r * n + i];
}

static inline void few_out(tile_of_rows tile, ptrdiff_t n, real* out)
{
    for (ptrdiff_t r = 0; r < SIDE; r++)
        for (ptrdiff_t i = 0; i < n; i++) out[r * n + i] = tile[i][r];
}

static void tile_in(const real* x, ptrdiff_t n, tile_of_rows tile)
{
    if (n == 2) { few_in(x, 2, tile); return; }
    if (n == 3) { few_in(x, 3, tile); return; }
    for (ptrdiff_t r = 0; r < SIDE; r += 4)
        for (ptrdiff_t i = 0; i < n; i += 4) {
            ptrdiff_t at = i < n - 4 ? i : n - 4;
            transpose(x + r * n + at, n, &tile[at][r], SIDE);
        }
}

static void tile_out(tile_of_rows tile, ptrdiff_t n, real* out)
{
    if (n == 2) { few_out(tile, 2, out); return; }
    if (n == 3) { few_out(tile, 3, out); return; }
    for (ptrdiff_t r = 0; r < SIDE; r += 4)
        for (ptrdiff_t i = 0; i < n; i += 4) {
            ptrdiff_t at = i < n - 4 ? i : n - 4;
            transpose(&tile[at][r], SIDE, out + r * n + at, n);
        }
}

/* Registers at once, so that one's chain of dependent operations hides behind the others'. */
#define BESIDE (EXP_CHAINS < 4 && BITS == 32 ? 2 : 4)

static inline void largest_beside(tile_of_rows tile, ptrdiff_t n, ptrdiff_t r, vector* max)
{
    UNROLLED for (int k = 0; k < BESIDE; k++) max[k] = V(loadu)(&tile[0][r + k * WIDTH]);
    for (ptrdiff_t i = 1; i < n; i++)
        UNROLLED for (int k = 0; k < BESIDE; k++) max[k] = V(max)(max[k], V(loadu)(&tile[i][r + k * WIDTH]));
}

/* The sums of exp(x - max) of BESIDE WIDTH rows; the exponentials are stored where `stores` is true. */
static inline void sums_beside(tile_of_rows tile, ptrdiff_t n, ptrdiff_t r, const vector* max, int stores, vector* sum)
{
    UNROLLED for (int k = 0; k < BESIDE; k++) sum[k] = V(set1)(0);
    for (ptrdiff_t i = 0; i < n; i++)
        UNROLLED for (int k = 0; k < BESIDE; k++) {
            vector e = exponential(V(sub)(V(loadu)(&tile[i][r + k * WIDTH]), max[k]));
            if (stores) V(storeu)(&tile[i][r + k * WIDTH], e);
            sum[k] = V(add)(sum[k], e);
        }
}

/* log(x) of doubles no less than 1: the result is accurate enough for floats, or for doubles. */
typedef unsigned long long words __attribute__((vector_size(BYTES)));
#define LOG_TERMS (BITS == 32 ? 5 : 9)

static inline doubles logarithm(doubles x)
{
    const words half = (words){0} + 0x3fe6a09e667f3bcdull;             /* the bits of sqrt(1/2), so that m is from there on */
    words above = (words)x - half;
    doubles k = (doubles)((above >> 52) | ((words){0} + 0x4330000000000000ull)) - 0x1p52;
    doubles m = (doubles)((words)x - (above & ((words){0} + 0xfff0000000000000ull)));
    doubles s = (m - 1) / (m + 1), square = s * s;
    doubles p = (doubles){0} + 1.0 / (2 * LOG_TERMS + 1);
    UNROLLED for (int term = LOG_TERMS - 1; term > 0; term--) p = p * square + 1.0 / (2 * term + 1);
    return k * 0x1.62e42fefa39efp-1 + 2 * (s + s * square * p);
}

#if BITS == 32
  #if defined(__AVX512F__)
    #define NARROW(s) _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps((s).lower)), _mm512_cvtpd_ps((s).upper), 1)
  #else
    #define NARROW(s) _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps((s).lower)), _mm256_cvtpd_ps((s).upper), 1)
  #endif
static inline sums widened(vector v)
{
    return (sums){LOWER_HALF(v), UPPER_HALF(v)};
}

static inline sums logarithms(sums total)
{
    return (sums){logarithm(total.lower), logarithm(total.upper)};
}

static inline sums plus(sums a, sums b)
{
    return (sums){ADD_WIDE(a.lower, b.lower), ADD_WIDE(a.upper, b.upper)};
}
#else
  #define NARROW(s) V(add)((s).lower, (s).upper)
static inline sums widened(vector v)
{
    return (sums){V(set1)(0), v};
}

static inline sums logarithms(sums total)
{
    return widened(logarithm(NARROW(total)));
}

static inline sums plus(sums a, sums b)
{
    sums sum = add_wide(a, b.upper);
    return (sums){V(add)(sum.lower, b.lower), sum.upper};
}
#endif

/* log(1 + rest), of which 1 + rest alone would lose what a confident row is about. */
static inline sums logarithms_as_promised(sums rest, sums total)
{
    sums log = logarithms(total);
  #if BITS == 32
    log.lower += rest.lower - (total.lower - 1);
    log.upper += rest.upper - (total.upper - 1);
  #else
    log.upper += NARROW(rest) - (NARROW(total) - 1);
  #endif
    return log;
}

/* As promised: fours of exponentials in twice the working precision, without the maximum's own 1. */
static inline void rests_beside(tile_of_rows tile, ptrdiff_t n, ptrdiff_t r, const vector* max, int stores, sums* rest)
{
    const vector zero = V(set1)(0), one = V(set1)(1);
    vector below[BESIDE], four[BESIDE];
    UNROLLED for (int k = 0; k < BESIDE; k++) {
        rest[k] = widened(zero);
        below[k] = zero;
    }
    for (ptrdiff_t start = 0; start < n; start += 4) {
        UNROLLED for (int k = 0; k < BESIDE; k++) four[k] = zero;
        for (ptrdiff_t i = start; i < least(start + 4, n); i++)
            UNROLLED for (int k = 0; k < BESIDE; k++) {
                vector d = V(sub)(V(loadu)(&tile[i][r + k * WIDTH]), max[k]);
                vector e = any_exponential(d);
                if (stores) V(storeu)(&tile[i][r + k * WIDTH], e);
                below[k] = V(add)(below[k], KEEP_WHERE(BELOW(d, zero), one));
                four[k] = V(add)(four[k], KEEP_WHERE(BELOW(d, zero), e));
            }
        UNROLLED for (int k = 0; k < BESIDE; k++) rest[k] = add_wide(rest[k], four[k]);
    }
    UNROLLED for (int k = 0; k < BESIDE; k++) rest[k] = add_wide(rest[k], V(sub)(V(set1)((real)(n - 1)), below[k]));
}

/* As promised for logsumexp near 0: the differences and exponentials of float32 in doubles, of those that are not the maximum. */
#define MOST_CAREFUL (BITS == 32 ? 4 : 0)

#if BITS == 32
static inline void careful_rests_beside(tile_of_rows tile, ptrdiff_t n, ptrdiff_t r, const vector* max, sums* rest)
{
    for (int k = 0; k < BESIDE; k++, r += WIDTH) {
        vector best = V(loadu)(&tile[0][r]);
        sums shift = widened(max[k]);
        rest[k] = widened(V(set1)(0));
        for (ptrdiff_t i = 1; i < n; i++) {
            vector x = V(loadu)(&tile[i][r]);
            sums other = widened(V(min)(best, x));
            best = V(max)(best, x);
            rest[k].lower += exponential_of_doubles(D(max)(D(set1)(-708.0), other.lower - shift.lower));
            rest[k].upper += exponential_of_doubles(D(max)(D(set1)(-708.0), other.upper - shift.upper));
        }
    }
}
#else
static inline void careful_rests_beside(tile_of_rows tile, ptrdiff_t n, ptrdiff_t r, const vector* max, sums* rest)
{
    rests_beside(tile, n, r, max, 0, rest);
}
#endif

/* What a loop leaves: logsumexps, softmax, log-softmax, or the gradient of the mean loss, and the loss. */
enum result { LSE, SOFTMAX, LOG_SOFTMAX, GRADIENT };
static _Thread_local double mean_loss;
#define IGNORED -100
#define LEAST_NORMAL ((real)(BITS == 32 ? 0x1p-126 : 0x1p-1022))

/* Of the targets: their classes (-1: ignored) and, for the rows of a tile, logits and entries of the gradient. */
typedef struct { _Alignas(64) real place[SIDE], logit[SIDE], entry[SIDE]; } tile_of_targets;

/* How many rows are not ignored. Nothing is written before every target was seen to be a class. */
static ptrdiff_t check_targets(ptrdiff_t n_rows, ptrdiff_t n)
{
    long long n_wrong = 0, n_kept = 0;
    for (ptrdiff_t row = 0; row < n_rows; row++) {
        n_kept += targets[row] != IGNORED;
        n_wrong += (targets[row] != IGNORED) & ((targets[row] < 0) | (targets[row] >= n));
    }
    if (n_wrong) __builtin_trap();
    return n_kept;
}

/* Few classes are asked one by one, all rows at once; among more, each row goes to its own. */
static inline int asks_each(ptrdiff_t n)
{
    return n <= (BITS == 32 ? 12 : 3);
}

static inline void open_targets(const real* x, ptrdiff_t row, ptrdiff_t n, tile_of_rows tile, tile_of_targets* of)
{
    for (ptrdiff_t r = 0; r < SIDE; r++) of->place[r] = (real)(int)(targets[row + r] == IGNORED ? -1 : targets[row + r]);
    for (ptrdiff_t r = 0; r < SIDE && !asks_each(n); r++)
        of->logit[r] = of->place[r] < 0 ? 0 : x[(row + r) * n + targets[row + r]];
    for (ptrdiff_t r = 0; r < SIDE && asks_each(n); r += WIDTH) {
        vector logit = V(loadu)(&tile[0][r]), place = V(loadu)(of->place + r);
        for (ptrdiff_t i = 1; i < n; i++) logit = WHERE(EQUAL(place, V(set1)((real)i)), V(loadu)(&tile[i][r]), logit);
        V(storeu)(of->logit + r, logit);
    }
}

/* The exponential of the target, picked from those that are stored where that is less work. */
static inline vector own_exponential(tile_of_rows tile, ptrdiff_t n, ptrdiff_t r, vector place, vector logit, vector max)
{
    if (n > 4) return any_exponential(V(sub)(logit, max));
    vector own = V(loadu)(&tile[0][r]);
    for (ptrdiff_t i = 1; i < n; i++) own = WHERE(EQUAL(place, V(set1)((real)i)), V(loadu)(&tile[i][r]), own);
    return own;
}

/* -(1 - p) of a target: the others' exponentials, which for a confident row are all that counts. */
static inline vector entry_as_promised(sums rest, vector own, vector factor)
{
    vector entry = V(sub)(V(set1)(0), V(mul)(NARROW(add_wide(rest, V(sub)(V(set1)(1), own))), factor));
    return KEEP_WHERE(AT_LEAST(V(set1)(-LEAST_NORMAL), entry), entry);
}

static inline __attribute__((always_inline)) void side_by_side(const real* x, ptrdiff_t n_rows, ptrdiff_t n, enum result result,
                                                                int promised, real* out)
{
    _Alignas(64) static _Thread_local tile_of_rows tile;
    static _Thread_local tile_of_targets of;
    const vector zero = V(set1)(0), one = V(set1)(1), least_normal = V(set1)(LEAST_NORMAL);
    const double n_kept = result == GRADIENT ? (double)check_targets(n_rows, n) : 1;
    const vector share = V(set1)((real)(1 / n_kept));
    sums losses = widened(zero);
    for (ptrdiff_t row = 0; row < n_rows; row += SIDE) {
        tile_in(x + row * n, n, tile);
        if (result == GRADIENT) open_targets(x, row, n, tile, &of);
        vector all_max[BESIDE], all_sums[BESIDE];
        sums all_rests[BESIDE];
        for (ptrdiff_t r = 0; r < SIDE; r += WIDTH) {
            const int k = (int)(r / WIDTH) % BESIDE, stores = result == SOFTMAX || result == GRADIENT;
            if (k == 0) {
                largest_beside(tile, n, r, all_max);
                if (!promised) sums_beside(tile, n, r, all_max, stores, all_sums);
                else if (result == LSE && n <= MOST_CAREFUL) careful_rests_beside(tile, n, r, all_max, all_rests);
                else rests_beside(tile, n, r, all_max, stores, all_rests);
            }
            const vector max = all_max[k];
            sums rest = promised ? all_rests[k] : widened(zero), log = widened(zero);
            sums total = promised ? add_wide(rest, one) : widened(all_sums[k]);
            if (result != SOFTMAX) log = promised ? logarithms_as_promised(rest, total) : logarithms(total);
            if (result == LSE) {
                V(storeu)(out + row + r, promised ? NARROW(plus(widened(max), log)) : V(add)(max, NARROW(log)));
                continue;
            }
            if (result == LOG_SOFTMAX) {
                vector log_total = NARROW(log);
                for (ptrdiff_t i = 0; i < n; i++)
                    V(storeu)(&tile[i][r], V(sub)(V(sub)(V(loadu)(&tile[i][r]), max), log_total));
                continue;
            }
            vector sum = NARROW(total), factor = V(div)(result == GRADIENT ? share : one, sum), floor = V(mul)(sum, least_normal);
            vector place = V(set1)(-1), entry = zero;
            if (result == GRADIENT) {
                vector logit = V(loadu)(of.logit + r), loss;
                place = V(loadu)(of.place + r);
                if (promised) {
                    loss = NARROW(plus(plus(widened(max), widened(V(sub)(zero, logit))), log));
                    losses = add_wide(losses, KEEP_WHERE(AT_LEAST(place, zero), loss));
                    entry = entry_as_promised(rest, own_exponential(tile, n, r, place, logit, max), factor);
                    factor = KEEP_WHERE(AT_LEAST(place, zero), factor);
                } else {
                    losses.upper += widened(V(add)(V(sub)(max, logit), NARROW(log))).upper;
                    entry = V(sub)(V(mul)(exponential(V(sub)(logit, max)), factor), share);
                }
                V(storeu)(of.entry + r, entry);
            }
            for (ptrdiff_t i = 0; i < n; i++) {
                vector v = rescaled_vector(V(loadu)(&tile[i][r]), factor, floor, promised);
                if (result == GRADIENT && asks_each(n)) v = WHERE(EQUAL(place, V(set1)((real)i)), entry, v);
                V(storeu)(&tile[i][r], v);
            }
        }
        if (result != LSE) tile_out(tile, n, out + row * n);
        for (ptrdiff_t r = 0; r < SIDE && result == GRADIENT && !asks_each(n); r++)
            if (of.place[r] >= 0) out[(row + r) * n + targets[row + r]] = of.entry[r];
    }
    mean_loss = sum_of_sums(losses) / n_kept;
}

/* Columns: element i of row r is at x[i * n_rows + r], n a multiple of 4, n_rows one of SIDE. What belongs to a row, a register in the
   loops above, lies in L1 here. */
#define MOST_COLUMNS 4096
static _Thread_local vector max_of[MOST_COLUMNS / sizeof(real)], below_of[MOST_COLUMNS / sizeof(real)];
static _Thread_local vector sum_of[MOST_COLUMNS / sizeof(real)];           /* without promises; with them: */
static _Thread_local sums total_of[MOST_COLUMNS / sizeof(real)];

static void largest_of_columns(const real* x, ptrdiff_t n_rows, ptrdiff_t n)
{
    for (ptrdiff_t r = 0; r < n_rows; r += WIDTH) max_of[r / WIDTH] = V(loadu)(x + r);
    for (ptrdiff_t i = 0; i < n; i += 4, x += 4 * n_rows)
        for (ptrdiff_t r = 0; r < n_rows; r += WIDTH) {
            vector a = V(max)(V(loadu)(x + r), V(loadu)(x + r + n_rows));
            vector b = V(max)(V(loadu)(x + r + 2 * n_rows), V(loadu)(x + r + 3 * n_rows));
            max_of[r / WIDTH] = V(max)(max_of[r / WIDTH], V(max)(a, b));
        }
}

static inline void sum_columns(const real* x, ptrdiff_t n_rows, ptrdiff_t n, int stores, int promised, real* out)
{
    const vector zero = V(set1)(0), one = V(set1)(1);
    for (ptrdiff_t r = 0; r < n_rows / WIDTH; r++) {
        total_of[r] = widened(zero);
        sum_of[r] = below_of[r] = zero;
    }
    for (ptrdiff_t i = 0; i < n; i += 4, x += 4 * n_rows, out += stores ? 4 * n_rows : 0)
        for (ptrdiff_t r = 0; r < n_rows; r += WIDTH) {
            vector e[4], max = max_of[r / WIDTH], below = below_of[r / WIDTH];
            UNROLLED for (int k = 0; k < 4; k++) {
                vector d = V(sub)(V(loadu)(x + r + k * n_rows), max);
                e[k] = promised ? any_exponential(d) : exponential(d);
                if (stores) V(storeu)(out + r + k * n_rows, e[k]);
                if (promised) {
                    below = V(add)(below, KEEP_WHERE(BELOW(d, zero), one));
                    e[k] = KEEP_WHERE(BELOW(d, zero), e[k]);
                }
            }
            vector folded = V(add)(V(add)(e[0], e[1]), V(add)(e[2], e[3]));
            if (promised) {
                below_of[r / WIDTH] = below;
                total_of[r / WIDTH] = add_wide(total_of[r / WIDTH], folded);
            } else {
                sum_of[r / WIDTH] = V(add)(sum_of[r / WIDTH], folded);
            }
        }
}

static void columns(const real* x, ptrdiff_t n_rows, ptrdiff_t n, enum result result, int promised, real* out)
{
    const vector one = V(set1)(1), least_normal = V(set1)(LEAST_NORMAL);
    if (n_rows > MOST_COLUMNS) __builtin_trap();
    largest_of_columns(x, n_rows, n);
    if (promised) sum_columns(x, n_rows, n, result == SOFTMAX, 1, out);
    else sum_columns(x, n_rows, n, result == SOFTMAX, 0, out);
    for (ptrdiff_t r = 0; r < n_rows / WIDTH; r++) {
        sums rest = add_wide(total_of[r], V(sub)(V(set1)((real)(n - 1)), below_of[r]));
        sums total = promised ? add_wide(rest, one) : widened(sum_of[r]), log = widened(one);
        if (result != SOFTMAX) log = promised ? logarithms_as_promised(rest, total) : logarithms(total);
        if (result == LSE) V(storeu)(out + r * WIDTH, promised ? NARROW(plus(widened(max_of[r]), log)) : V(add)(max_of[r], NARROW(log)));
        if (result == LOG_SOFTMAX) sum_of[r] = NARROW(log);
        if (result != SOFTMAX) continue;
        below_of[r] = V(mul)(NARROW(total), least_normal);       /* from here on the floor and the factor of the results */
        max_of[r] = V(div)(one, NARROW(total));
    }
    for (ptrdiff_t i = 0; result != LSE && i < n; i++, x += n_rows, out += n_rows)
        for (ptrdiff_t r = 0; r < n_rows; r += WIDTH)
            if (result == SOFTMAX)
                V(storeu)(out + r, rescaled_vector(V(loadu)(out + r), max_of[r / WIDTH], below_of[r / WIDTH], promised));
            else
                V(storeu)(out + r, V(sub)(V(sub)(V(loadu)(x + r), max_of[r / WIDTH]), sum_of[r / WIDTH]));
}
