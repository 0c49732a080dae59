# logsumexp where the kernels' one rounding of x - max is too much.
#
# The kernels' rest errs by up to mean |x - max| ulp of itself. Where max is near 0, or -log(1 + rest), that is more than the
# contract leaves for max + log(1 + rest). Such rows, known by `finish` and rare, are added up once more with the differences
# and the exponentials in twice the working precision: float32 in float64, float64 in pairs.

cdef extern from *:
    """
    #define CAREFUL_PIECE 256      /* elements whose exponentials are taken at once */
    /* Elements of a row that is added up carefully at once, for to find out costs more. */
    #define FEW_F32 4
    #define FEW_F64 3
    """
    const int CAREFUL_PIECE
    const Py_ssize_t FEW_F32, FEW_F64

cdef struct Doubtful:        # rows to be added up again
    int count
    int lane[64]
    const char* x[64]
    const char* mask[64]     # where there is a mask


cdef inline Pair exp_pair(Pair d) noexcept nogil:
    """2^85 exp(d) as a pair.

    Domain: d.high <= 0, finite, |d.low| at most an ulp of it.
    Result: 0 below the cutoff of exp_scaled_f64.
    Max error: 0.15 ulp of the high part.
    Source: exp_scaled_f64, the argument's and the last additions' roundings kept.
    """
    cdef double t = d.high * LOG2_E_F64 + EXP_MAGIC_F64
    cdef double k = t - EXP_MAGIC_F64
    # k LOG_2_HIGH_F64 is exact, and so is the first difference; r is a pair
    cdef double reduced = d.high - k * LOG_2_HIGH_F64
    cdef double correction = -k * LOG_2_LOW_F64
    cdef Pair r = two_sum(reduced, correction)
    r.low = r.low + d.low
    cdef double q = EXP_C11_F64
    q = fma_f64(q, r.high, EXP_C10_F64)
    q = fma_f64(q, r.high, EXP_C9_F64)
    q = fma_f64(q, r.high, EXP_C8_F64)
    q = fma_f64(q, r.high, EXP_C7_F64)
    q = fma_f64(q, r.high, EXP_C6_F64)
    q = fma_f64(q, r.high, EXP_C5_F64)
    q = fma_f64(q, r.high, EXP_C4_F64)
    q = fma_f64(q, r.high, EXP_C3_F64)
    q = fma_f64(q, r.high, EXP_C2_F64)
    # exp(r + r.low) = 1 + r + (r^2 q + r.low exp(r))
    cdef double curved = r.high * r.high * q
    cdef Pair result = two_sum(1, r.high)
    result = fast_two_sum(result.high, result.low + (curved + r.low * (result.high + curved)))
    cdef double power = power_of_two_f64(t)
    result.high = 0 if d.high < EXP_CUTOFF_F64 else result.high * power
    result.low = 0 if d.high < EXP_CUTOFF_F64 else result.low * power
    return result


cdef struct CarefulExponential:
    double d                 # x - max, rounded
    Pair e                   # 2^85 exp(x - max); that of -inf is nothing


cdef inline CarefulExponential careful_exponential(real x, double max) noexcept nogil:
    cdef CarefulExponential result
    cdef Pair difference
    if real is float:
        # in float64 the difference of two float32 numbers is as good as exact
        result.d = <double>x - max
        result.e.high = pick(result.d == -INF_F64, 0.0, exp_scaled_f64(result.d))
        result.e.low = 0
    else:
        difference = two_sum(x, -max)
        result.d = difference.high
        result.e = exp_pair(difference)
    return result


cdef inline void careful_exponentials(const real* x, const double* max, Py_ssize_t count, double* d, double* high,
                                      double* low) noexcept nogil:
    cdef CarefulExponential exponential
    cdef Py_ssize_t i
    for i in range(count):
        exponential = careful_exponential(x[i], max[i])
        d[i] = exponential.d
        high[i] = exponential.e.high
        low[i] = exponential.e.low


cdef inline void add_carefully(const double* d, const double* high, const double* low, Py_ssize_t piece, int count, double* left_out,
                               double* rest_high, double* rest_low) noexcept nogil:
    """Add exponentials to the rests of `count` rows, side by side; but the first maximum's own, which left_out counts."""
    cdef double own, term, term_low, sum, from_term
    cdef Py_ssize_t i, at
    cdef int row
    for i in range(piece):
        for row in range(count):
            at = i * count + row
            own = pick(d[at] == 0, 1 - left_out[row], 0.0)
            left_out[row] += own
            term = pick(own > 0, 0.0, high[at])
            term_low = pick(own > 0, 0.0, low[at])
            # two_sum, spelt out so that the loop over rows stays one loop
            sum = rest_high[row] + term
            from_term = sum - rest_high[row]
            rest_low[row] += ((rest_high[row] - (sum - from_term)) + (term - from_term)) + term_low
            rest_high[row] = sum


cdef void careful_rests(const Job* job, const Doubtful* rows, Ends* refined, const real* like) noexcept nogil:
    """The rests of rows whose maxima are known and finite. A few elements of all rows at once, element i of row k at i count + k."""
    cdef real x[CAREFUL_PIECE]
    cdef double max[CAREFUL_PIECE]
    cdef double d[CAREFUL_PIECE]
    cdef double high[CAREFUL_PIECE]
    cdef double low[CAREFUL_PIECE]
    cdef double left_out[64]
    cdef double rest_high[64]
    cdef double rest_low[64]
    cdef Pair rest
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t piece, i
    cdef int count = rows.count
    cdef int row
    for row in range(count):
        rest_high[row] = 0
        rest_low[row] = 0
        left_out[row] = 0
    while at < job.layout.row.size:
        piece = least(CAREFUL_PIECE // count, job.layout.row.size - at)
        for row in range(count):
            gather(&job.x, &job.layout.row, rows.x[row], at, piece, x + row, count)
            if job.where.data != NULL:
                fill_masked(&job.where, &job.layout.row, rows.mask[row], at, piece, real_of(-INF_F64, like), x + row, count)
        for i in range(piece):
            for row in range(count):
                max[i * count + row] = refined.max[row]
        careful_exponentials(<const real*>x, <const double*>max, count * piece, d, high, low)
        add_carefully(<const double*>d, <const double*>high, <const double*>low, piece, count, left_out, rest_high, rest_low)
        at += piece
    for row in range(count):
        rest = fast_two_sum(rest_high[row], rest_low[row])
        refined.high[row] = rest.high * unscale(<const double*>NULL)
        refined.low[row] = rest.low * unscale(<const double*>NULL)


cdef inline double log2_below(double x) noexcept nogil:
    """No more than the base-2 logarithm: an exponent and a mantissa, read as one number, are a chord of it."""
    cdef double both = from_bits((bits_of(x) >> 12) | <uint64_t>0x4330000000000000) - 4503599627370496.0
    return both * (1.0 / 1099511627776.0) - 1023


cdef inline double log_above(double x) noexcept nogil:
    """No less than the logarithm of a normal number, by up to 0.03."""
    cdef double mantissa = from_bits((bits_of(x) & <uint64_t>0x000fffffffffffff) | <uint64_t>0x3ff0000000000000)
    # log2(1 + f) - f is at most (1 / log(2) - 1) f (1 - f)
    return 0.6931471805599453 * (log2_below(x) + 0.4427 * (mantissa - 1) * (2 - mantissa))


cdef inline bint is_few(Py_ssize_t n, const real* like) noexcept nogil:
    """Whether logsumexp of so many elements is always added up carefully."""
    if real is float:
        return n <= FEW_F32
    else:
        return n <= FEW_F64


cdef inline bint any_doubtful(const Ends* ends, int count, Py_ssize_t n, double* doubtful, const real* like) noexcept nogil:
    """Flag the rows whose logsumexp may err by more than the contract allows."""
    if is_few(n, like):
        return any_finite(ends, count, doubtful)
    return any_inaccurate(ends, count, n, doubtful)


cdef inline bint any_finite(const Ends* ends, int count, double* flag) noexcept nogil:
    cdef int any = 0
    cdef int lane
    for lane in range(count):
        flag[lane] = pick(fabs(ends.max[lane]) < INF_F64, 1.0, 0.0)
        any |= flag[lane] != 0
    return any


cdef inline bint any_inaccurate(const Ends* ends, int count, Py_ssize_t n, double* doubtful) noexcept nogil:
    cdef double log_n = log_above(<double>n)
    cdef double log_rest, error, allowed, result
    cdef double safe = 2 * power_below(0.25 * (log_n + 1))
    cdef int any = 0
    cdef int lane
    # `error` below is never more than log_n + 1, so that a large result needs no closer look
    for lane in range(count):
        result = fabs(ends.value[lane])
        any |= (result < safe) | ((result < fabs(ends.max[lane])) & (result < 2 * safe))
    if not any:
        return False
    any = 0
    for lane in range(count):
        result = fabs(ends.value[lane])
        log_rest = 0.6931471805599453 * log2_below(ends.high[lane])
        # weighted by exp(x - max), the mean of |x - max| is at most log(n / rest)
        error = ends.high[lane] * (log_n - log_rest + 1)
        # an ulp of max where it cancels, else two of the result, in units of half the machine epsilon
        allowed = pick(result < fabs(ends.max[lane]), 2 * power_below(ends.max[lane]), 4 * power_below(result))
        # at max = 0 the contract allows for the differences; NaN and infinities compare false
        doubtful[lane] = pick((error > allowed * ends.total[lane]) & (ends.max[lane] != 0) & (fabs(ends.max[lane]) < INF_F64), 1.0, 0.0)
        any |= doubtful[lane] != 0
    return any


cdef inline double power_below(double x) noexcept nogil:
    """The largest power of two that is no larger than |x|."""
    return from_bits(bits_of(x) & <uint64_t>0x7ff0000000000000)


cdef inline void list_doubtful(const double* doubtful, int count, Doubtful* rows) noexcept nogil:
    """The lanes that are flagged, without a branch that depends on which."""
    cdef int n_rows = 0
    cdef int lane
    for lane in range(count):
        rows.lane[n_rows] = lane
        n_rows += doubtful[lane] > 0
    rows.count = n_rows


cdef void refine_rows(const Job* job, const Doubtful* rows, Ends* ends, const real* like) noexcept nogil:
    """Compute these rows' logsumexp again, and keep the better state where states are asked for."""
    cdef Ends refined
    cdef int k
    for k in range(rows.count):
        refined.max[k] = ends.max[rows.lane[k]]
    careful_rests(job, rows, &refined, like)
    finish_totals(&refined, rows.count, like)
    finish_lse(&refined, rows.count, like)
    for k in range(rows.count):
        ends.value[rows.lane[k]] = refined.value[k]
        if job.mode == STATE:
            set_state(ends, rows.lane[k], get_state(<const Ends*>&refined, k))


cdef void refine_lse(const Job* job, Ends* ends, Py_ssize_t first, int count, const real* like) noexcept nogil:
    """Compute the logsumexp of the doubtful ones among rows first .. first + count again."""
    cdef Doubtful rows
    cdef double doubtful[64]
    cdef int k
    if not any_doubtful(<const Ends*>ends, count, job.layout.row.size, doubtful, like):
        return
    list_doubtful(<const double*>doubtful, count, &rows)
    for k in range(rows.count):
        rows.x[k] = job.x.data + offset_of(&job.layout.batch, job.x.batch_stride, first + rows.lane[k])
        if job.where.data != NULL:
            rows.mask[k] = job.where.data + offset_of(&job.layout.batch, job.where.batch_stride, first + rows.lane[k])
    refine_rows(job, <const Doubtful*>&rows, ends, like)
