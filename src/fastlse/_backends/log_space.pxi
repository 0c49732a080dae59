# log(1 - exp(x)) and log(exp(x) - exp(y)), element by element, in pairs for both types.

cdef inline Pair log_one_minus_exp(Pair d) noexcept nogil:
    """log(1 - exp(d)).

    Domain: d.high <= 0, |d.low| at most an ulp of it; -inf included.
    Result: -inf at 0, NaN above it and for NaN.
    Max error: 0.3 ulp of the high part.
    Source: exp_pair, whose error is relative to exp(d) - 1 where that is small; log_pair.
    """
    cdef Pair e = exp_pair(d)
    cdef Pair difference = two_sum(1, -e.high * UNSCALE_F64)
    difference = fast_two_sum(difference.high, difference.low - e.low * UNSCALE_F64)
    # a subnormal difference is no domain of log_pair: 2^200 times it, and 200 log(2) less
    cdef bint deep = difference.high < 2.0**-800
    cdef double k = pick(deep, -200.0, 0.0)
    cdef double scale = pick(deep, 2.0**200, 1.0)
    cdef Pair result = log_pair(difference.high * scale, difference.low / difference.high)
    cdef double low = result.low
    result = two_sum(k * LOG_2_HIGH_F64, result.high)
    result.low = result.low + (low + k * LOG_2_LOW_F64)
    result.high = pick(d.high == 0, -INF_F64, pick(d.high < 0, result.high, NAN_F64))
    result.low = pick(d.high < 0, result.low, 0.0)
    return result


cdef inline double log_difference(double x, double y) noexcept nogil:
    """log(exp(x) - exp(y))."""
    cdef Pair logarithm = log_one_minus_exp(two_sum(y, -x))
    cdef Pair sum = two_sum(x, logarithm.high)
    cdef double result = sum.high + (sum.low + logarithm.low)
    result = pick(is_infinite(x) | is_infinite(logarithm.high), x + logarithm.high, result)
    return pick((x == y) & (x == -INF_F64), -INF_F64, result)


cdef void log_space_chunk(const Job* job, Py_ssize_t start, Py_ssize_t count, const real* like) noexcept nogil:
    cdef real x[512]
    cdef real y[512]
    cdef real result[512]
    cdef Pair d, logarithm
    cdef Py_ssize_t i
    gather(&job.x, &job.layout.row, job.x.data, start, count, x, 1)
    if job.factor.data != NULL:
        gather(&job.factor, &job.layout.row, job.factor.data, start, count, y, 1)
        for i in range(count):
            result[i] = real_of(log_difference(x[i], y[i]), like)
    else:
        d.low = 0
        for i in range(count):
            d.high = x[i]
            logarithm = log_one_minus_exp(d)
            result[i] = real_of(logarithm.high + logarithm.low, like)
    scatter(<const real*>result, 1, &job.out, &job.layout.row, job.out.data, start, count)


cdef void log_space(const Job* job, int n_threads, const real* like) noexcept nogil:
    cdef Py_ssize_t n = job.layout.row.size
    cdef Py_ssize_t chunk
    if n_threads == 1:
        for chunk in range((n + 511) // 512):
            log_space_chunk(job, chunk * 512, least(512, n - chunk * 512), like)
    else:
        for chunk in prange((n + 511) // 512, schedule="dynamic", chunksize=16, num_threads=n_threads):
            log_space_chunk(job, chunk * 512, least(512, n - chunk * 512), like)


cdef log_space_for(Job* job, cnp.ndarray x, int n_threads):
    with nogil:
        if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32:
            log_space(job, n_threads, <const float*>NULL)
        else:
            log_space(job, n_threads, <const double*>NULL)


# ---- the backend's functions (see _log_space.py) ----

def log1mexp(cnp.ndarray x, cnp.ndarray out, int n_threads):
    cdef Job job
    describe(&job, LSE, x, cnp.PyArray_NDIM(x), out, None)
    log_space_for(&job, x, n_threads)


def logsubexp(cnp.ndarray x, cnp.ndarray y, cnp.ndarray out, int n_threads):
    cdef Job job
    describe(&job, LSE, x, cnp.PyArray_NDIM(x), out, None, y)
    log_space_for(&job, x, n_threads)
