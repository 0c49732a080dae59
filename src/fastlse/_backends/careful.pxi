# logsumexp where the kernels' one rounding of x - max is too much.
#
# The kernels' rest errs by up to mean |x - max| ulp of itself. Where max is near 0, or -log(1 + rest), that is more than the
# contract leaves for max + log(1 + rest). Such rows, known by `finish` and rare, are added up once more with the differences
# and the exponentials in twice the working precision: float32 in float64, float64 in pairs.

cdef inline Pair exp_pair(Pair d) noexcept nogil:
    """2^85 exp(d) as a pair.

    Domain: d.high <= 0, finite, |d.low| at most an ulp of it.
    Result: 0 below the cutoff of exp_scaled_f64.
    Max error: 0.15 ulp of the high part.
    Source: exp_scaled_f64, the argument's and the last additions' roundings kept.
    """
    cdef double magic = 6755399441055744.0 + 1023 + SCALE_BITS_F64
    cdef double t = d.high * LOG2_E_F64 + magic
    cdef double k = t - magic
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


cdef inline void add_careful(Pair* rest, real x, double max) noexcept nogil:
    """Add 2^85 exp(x - max)."""
    cdef Pair e
    if real is float:
        # in float64 the difference of two float32 numbers is as good as exact
        add_to(rest, exp_scaled_f64(<double>x - max))
    else:
        e = exp_pair(two_sum(x, -max))
        add_to(rest, e.high)
        rest.low += e.low


cdef RowState careful_state(const Job* job, Py_ssize_t index, double max, const real* like) noexcept nogil:
    """The state of a row whose maximum is known and finite."""
    cdef real piece[256]
    cdef RowState state
    cdef Pair rest
    cdef const char* x = job.x.data + offset_of(&job.layout.batch, job.x.batch_stride, index)
    cdef const char* mask = NULL
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t count, i
    cdef bint left_out = False
    if job.where.data != NULL:
        mask = job.where.data + offset_of(&job.layout.batch, job.where.batch_stride, index)
    rest.high = 0
    rest.low = 0
    while at < job.layout.row.size:
        count = least(256, job.layout.row.size - at)
        gather(&job.x, &job.layout.row, x, at, count, piece, 1)
        if mask != NULL:
            fill_masked(&job.where, &job.layout.row, mask, at, count, real_of(-INF_F64, like), piece, 1)
        for i in range(count):
            if piece[i] == max and not left_out:
                left_out = True
            elif piece[i] != -INF_F64:
                add_careful(&rest, piece[i], max)
        at += count
    rest = fast_two_sum(rest.high, rest.low)
    state.max = max
    state.high = rest.high * unscale(<const double*>NULL)
    state.low = rest.low * unscale(<const double*>NULL)
    return state


cdef inline bint any_doubtful(const Ends* ends, int count, Py_ssize_t n, double* doubtful) noexcept nogil:
    """Flag the rows whose logsumexp may err by more than the contract allows."""
    cdef double log_n = log_pair(<double>n, 0).high
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
        # log(rest) from below: an exponent and a mantissa, read as one number, are a chord of the logarithm
        log_rest = from_bits((bits_of(ends.high[lane]) >> 12) | <uint64_t>0x4330000000000000) - 4503599627370496.0
        log_rest = 0.6931471805599453 * (log_rest * (1.0 / 1099511627776.0) - 1023)
        # weighted by exp(x - max), the mean of |x - max| is at most log(n / rest)
        error = ends.high[lane] / ends.total[lane] * (log_n - log_rest + 1)
        # an ulp of max where it cancels, else two of the result, in units of half the machine epsilon
        allowed = pick(result < fabs(ends.max[lane]), 2 * power_below(ends.max[lane]), 4 * power_below(result))
        # at max = 0 the contract allows for the differences; NaN and infinities compare false
        doubtful[lane] = pick((error > allowed) & (ends.max[lane] != 0) & (fabs(ends.max[lane]) < INF_F64), 1.0, 0.0)
        any |= doubtful[lane] != 0
    return any


cdef inline double power_below(double x) noexcept nogil:
    """The largest power of two that is no larger than |x|."""
    return from_bits(bits_of(x) & <uint64_t>0x7ff0000000000000)


cdef void refine_lse(const Job* job, Ends* ends, Py_ssize_t first, int count, const real* like) noexcept nogil:
    """Compute the doubtful rows' logsumexp again, and keep the better state where states are asked for."""
    cdef Ends refined
    cdef double doubtful[64]
    cdef int lane
    if not any_doubtful(<const Ends*>ends, count, job.layout.row.size, doubtful):
        return
    for lane in range(count):
        if doubtful[lane] != 0:
            set_state(&refined, 0, careful_state(job, first + lane, ends.max[lane], like))
            finish_totals(&refined, 1, like)
            finish_lse(&refined, 1, like)
            ends.value[lane] = refined.value[0]
            if job.mode == STATE:
                set_state(ends, lane, get_state(<const Ends*>&refined, 0))
