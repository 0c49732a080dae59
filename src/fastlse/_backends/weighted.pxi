# logsumexp with factors b: log |sum of b exp(a)| and its sign. In float64 for both types, one element after the other: rare, and
# the factors' range needs care. log|b| belongs to the shift: with j the largest of a + log|b|,
#     result = a_j + log|b_j| + log|1 + sum over i != j of (b_i / b_j) exp(a_i - a_j)|,
# in which no logit is rounded and, for b = 1, nothing differs from the kernels.

from libc.math cimport frexp, ldexp, nearbyint

cdef extern from *:
    """
    #define WEIGHTED_CHUNK 512
    """
    const int WEIGHTED_CHUNK

cdef struct Factored:    # what one sweep over a row finds
    double a             # the largest term b exp(a)
    double b
    Pair log_term        # a + log|b|: a pair, for beside a large a the logarithm may be lost
    Py_ssize_t position  # -1: no finite term
    bint has_nan
    bint has_positive_infinity
    bint has_negative_infinity


cdef inline Pair log_of_positive(double x) noexcept nogil:
    """log(x) as a pair, x a subnormal number or greater."""
    cdef Pair result
    if x == 1:
        result.high = 0
        result.low = 0
    elif x < 2.2250738585072014e-308:
        result = log_pair(x * 18014398509481984.0, 0)
        # 54 log(2), in two parts
        result = fast_two_sum(result.high, result.low - 54 * LOG_2_LOW_F64)
        result.low -= 54 * LOG_2_HIGH_F64
        result = fast_two_sum(result.high, result.low)
    else:
        result = log_pair(x, 0)
    return result


cdef inline double factored_term(double d, double b, double b_largest) noexcept nogil:
    """(b / b_largest) exp(d), of which no factor may be representable though the product is."""
    cdef double ratio = b / b_largest
    cdef double k, r
    cdef int exponent_b, exponent_largest
    if -600 < d < 600 and 1e-270 < fabs(ratio) < 1e270:
        return ratio * (exp_scaled_f64(d) * UNSCALE_F64)
    if d < -4000:
        return 0
    k = nearbyint(d * LOG2_E_F64)
    r = (d - k * LOG_2_HIGH_F64) - k * LOG_2_LOW_F64
    ratio = frexp(b, &exponent_b) / frexp(b_largest, &exponent_largest)
    return ldexp(ratio * (exp_scaled_f64(r) * UNSCALE_F64), <int>k + exponent_b - exponent_largest)


cdef inline void fetch_factored(const Job* job, Py_ssize_t row, Py_ssize_t start, Py_ssize_t count, real* a, real* b) noexcept nogil:
    """A chunk of a and b; masked elements have b = 0."""
    cdef const Layout* layout = &job.layout
    cdef Py_ssize_t i
    gather(&job.x, &layout.row, job.x.data + offset_of(&layout.batch, job.x.batch_stride, row), start, count, a, 1)
    if job.factor.data != NULL:
        gather(&job.factor, &layout.row, job.factor.data + offset_of(&layout.batch, job.factor.batch_stride, row), start, count, b, 1)
    else:
        for i in range(count):
            b[i] = 1
    if job.where.data != NULL:
        fill_masked(&job.where, &layout.row, job.where.data + offset_of(&layout.batch, job.where.batch_stride, row),
                    start, count, <real>0, b, 1)


cdef inline void note_term(Factored* found, double a, double b, Py_ssize_t position) noexcept nogil:
    cdef Pair log_term
    if b == 0:
        return
    if a != a or b != b or (a == -INF_F64 and is_infinite(b)):
        found.has_nan = True
    elif a == INF_F64 or is_infinite(b):
        found.has_positive_infinity = found.has_positive_infinity or b > 0
        found.has_negative_infinity = found.has_negative_infinity or b < 0
    elif a != -INF_F64:
        log_term = two_sum(a, log_of_positive(fabs(b)).high)
        if (found.position < 0 or log_term.high > found.log_term.high
                or (log_term.high == found.log_term.high and log_term.low > found.log_term.low)):
            found.log_term = log_term
            found.a = a
            found.b = b
            found.position = position


cdef inline Pair finish_factored(const Factored* found, Pair rest) noexcept nogil:
    """(result, sign)."""
    cdef Pair result, whole, log_b, log_whole, step, step2
    cdef double not_a_number = INF_F64 - INF_F64
    if found.has_nan or (found.has_positive_infinity and found.has_negative_infinity):
        result.high = not_a_number
        result.low = not_a_number
        return result
    if found.has_positive_infinity or found.has_negative_infinity:
        result.high = INF_F64
        result.low = 1 if found.has_positive_infinity else -1
        return result
    whole = two_sum(1, rest.high)
    whole = fast_two_sum(whole.high, whole.low + rest.low)
    if found.position < 0 or whole.high == 0:
        result.high = -INF_F64
        result.low = 0
        return result
    result.low = 1 if (whole.high > 0) == (found.b > 0) else -1
    if whole.high < 0:
        whole.high = -whole.high
        whole.low = -whole.low
    log_whole = log_pair(whole.high, whole.low / whole.high)
    log_b = log_of_positive(fabs(found.b))
    step = two_sum(found.a, log_b.high)
    step2 = two_sum(step.high, log_whole.high)
    result.high = step2.high + (step2.low + (step.low + (log_b.low + log_whole.low)))
    return result


cdef void weighted_row(const Job* job, Py_ssize_t row, real* sign, const real* like) noexcept nogil:
    cdef real a[512]
    cdef real b[512]
    cdef Factored found
    cdef Pair rest, result
    cdef Py_ssize_t n = job.layout.row.size
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t count, i
    memset(&found, 0, sizeof(Factored))
    found.position = -1
    while at < n:
        count = least(WEIGHTED_CHUNK, n - at)
        fetch_factored(job, row, at, count, a, b)
        for i in range(count):
            note_term(&found, a[i], b[i], at + i)
        at += count
    rest.high = 0
    rest.low = 0
    at = 0
    while at < n and found.position >= 0:
        count = least(WEIGHTED_CHUNK, n - at)
        fetch_factored(job, row, at, count, a, b)
        for i in range(count):
            if b[i] != 0 and at + i != found.position:
                add_to(&rest, factored_term(<double>a[i] - found.a, b[i], found.b))
        at += count
    result = finish_factored(&found, rest)
    if sign != NULL:
        sign[row] = real_of(result.low, like)
    elif result.low < 0:
        result.high = INF_F64 - INF_F64
    (<real*>job.lse)[row] = real_of(result.high, like)


cdef void weighted_rows(const Job* job, void* sign, int n_threads, const real* like) noexcept nogil:
    cdef Py_ssize_t row
    if n_threads == 1:
        for row in range(job.layout.batch.size):
            weighted_row(job, row, <real*>sign, like)
    else:
        for row in prange(job.layout.batch.size, schedule="dynamic", chunksize=64, num_threads=n_threads):
            weighted_row(job, row, <real*>sign, like)
