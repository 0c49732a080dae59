# logcumsumexp: the logsumexp of every prefix of a row. Each has a maximum of its own, hence an own `rest`; to scale the sum at every new
# maximum would round it each time. The sum of the others is kept instead relative to a `reference`, which changes only where the
# maximum has left it far behind, and is scaled to the maximum where a result is made. The exponentials vectorise over the chunk;
# what must go in order, the maxima and the sums, does so without them. In float64 all are pairs, so no gap is lost (CONTRACT: gap).

cdef extern from *:
    """
    #define SCAN_ELEMENTS 512
    #define SCAN_REACH 512.0        /* 2^85 exp(reach) times any number of elements is finite */
    /* Rows that do not lie along memory are worked on together, for they share its cache lines. */
    #define SCAN_ROWS 16
    """
    const int SCAN_ELEMENTS, SCAN_ROWS
    const double SCAN_REACH

cdef struct RowScan:         # how far a row has come
    double max
    double reference
    Pair others              # 2^85 times the sum of exp(x - reference) without the maximum's own element

cdef struct Scan:            # some elements of one row or of several
    double x[512]
    double max[512]          # the largest so far
    double lesser[512]       # of the element and the maximum before it: the one that joins the others
    double reference[512]
    double high[512]         # the terms, then their sums, then the results
    double low[512]
    RowScan rows[512]


cdef inline void scan_maxima(Scan* scan, RowScan* row, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """The maxima, each element's lesser, and the references. After a NaN the maximum is NaN."""
    cdef double max = row.max
    cdef double reference = row.reference
    cdef double x
    cdef Py_ssize_t i
    for i in range(start, stop):
        x = scan.x[i]
        scan.lesser[i] = x
        if not x <= max and max == max:
            scan.lesser[i] = max
            if x < INF_F64 and (max == -INF_F64 or x - reference > SCAN_REACH):
                reference = x
            max = x
        scan.max[i] = max
        scan.reference[i] = reference
    row.max = max


cdef inline void scan_terms(Scan* scan, Py_ssize_t count, const real* like) noexcept nogil:
    """2^85 exp(lesser - reference)."""
    cdef Pair e
    cdef Py_ssize_t i
    for i in range(count):
        if real is float:
            scan.high[i] = exp_scaled_f64(scan.lesser[i] - scan.reference[i])
        else:
            e = exp_pair(two_sum(scan.lesser[i], -scan.reference[i]))
            scan.high[i] = e.high
            scan.low[i] = e.low


cdef inline Pair rescaled(Pair sum, double before, double reference) noexcept nogil:
    """A sum relative to another reference."""
    cdef Pair factor = exp_pair(two_sum(before, -reference))
    cdef Pair result
    result.high = sum.high * factor.high
    result.low = fma_f64(sum.high, factor.high, -result.high) + (sum.high * factor.low + sum.low * factor.high)
    # one scale comes off last, for the factor alone may be subnormal
    result.high = result.high * UNSCALE_F64
    result.low = result.low * UNSCALE_F64
    return result


cdef inline void scan_sums(Scan* scan, RowScan* row, Py_ssize_t start, Py_ssize_t stop, const real* like) noexcept nogil:
    cdef Pair sum = row.others
    cdef double reference = row.reference
    cdef Py_ssize_t i
    for i in range(start, stop):
        if scan.reference[i] != reference:
            if sum.high != 0:
                sum = rescaled(sum, reference, scan.reference[i])
            reference = scan.reference[i]
        if real is float:
            sum.high = sum.high + scan.high[i]
        else:
            add_to(&sum, scan.high[i])
            sum.low = sum.low + scan.low[i]
            scan.low[i] = sum.low
        scan.high[i] = sum.high
    row.others = sum
    row.reference = reference


cdef inline void scan_results(Scan* scan, Py_ssize_t count, const real* like) noexcept nogil:
    """max + log(1 + rest), rest = others exp(reference - max)."""
    cdef Pair factor, rest, sum, logarithm
    cdef double total
    cdef Py_ssize_t i
    for i in range(count):
        if real is float:
            rest.high = scan.high[i] * exp_scaled_f64(scan.reference[i] - scan.max[i]) * (UNSCALE_F64 * UNSCALE_F64)
            total = 1 + rest.high
            logarithm.high = log_f32(total) + (rest.high - (total - 1))
            scan.high[i] = scan.max[i] if is_infinite(scan.max[i]) else scan.max[i] + logarithm.high
        else:
            factor = exp_pair(two_sum(scan.reference[i], -scan.max[i]))
            rest.high = scan.high[i] * factor.high
            rest.low = fma_f64(scan.high[i], factor.high, -rest.high) + (scan.high[i] * factor.low + scan.low[i] * factor.high)
            sum = two_sum(1, rest.high * (UNSCALE_F64 * UNSCALE_F64))
            sum.low = sum.low + rest.low * (UNSCALE_F64 * UNSCALE_F64)
            logarithm = log_pair(sum.high, sum.low / sum.high)
            sum = two_sum(scan.max[i], logarithm.high)
            scan.high[i] = scan.max[i] if is_infinite(scan.max[i]) else sum.high + (sum.low + logarithm.low)


cdef inline void scan_read(const Job* job, Py_ssize_t row, Py_ssize_t at, Py_ssize_t count, double* to, const real* like) noexcept nogil:
    cdef real piece[512]
    cdef Py_ssize_t i
    gather(&job.x, &job.layout.row, job.x.data + offset_of(&job.layout.batch, job.x.batch_stride, row), at, count, piece, 1)
    for i in range(count):
        to[i] = piece[i]


cdef inline void scan_write(const Job* job, Py_ssize_t row, Py_ssize_t at, Py_ssize_t count, const double* result, bint exclusive,
                            const real* like) noexcept nogil:
    """Results at .. at + count; exclusive: each one place on, behind a first -inf."""
    cdef real piece[512]
    cdef char* out = job.out.data + offset_of(&job.layout.batch, job.out.batch_stride, row)
    cdef Py_ssize_t i
    for i in range(count):
        piece[i] = real_of(result[i], like)
    if not exclusive:
        scatter(<const real*>piece, 1, &job.out, &job.layout.row, out, at, count)
        return
    scatter(<const real*>piece, 1, &job.out, &job.layout.row, out, at + 1, least(count, job.layout.row.size - at - 1))
    if at == 0:
        piece[0] = real_of(-INF_F64, like)
        scatter(<const real*>piece, 1, &job.out, &job.layout.row, out, 0, 1)


cdef void scan_rows(const Job* job, Py_ssize_t first, Py_ssize_t count, Py_ssize_t width, bint exclusive, Scan* scan,
                    const real* like) noexcept nogil:
    """A few rows together, `width` elements of each at a time."""
    cdef Py_ssize_t n = job.layout.row.size
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t columns, k
    for k in range(count):
        scan.rows[k].max = -INF_F64
        scan.rows[k].reference = 0
        scan.rows[k].others.high = 0
        scan.rows[k].others.low = 0
    while at < n:
        columns = least(width, n - at)
        for k in range(count):
            scan_read(job, first + k, at, columns, scan.x + k * columns, like)
            scan_maxima(scan, &scan.rows[k], k * columns, (k + 1) * columns)
        scan_terms(scan, count * columns, like)
        for k in range(count):
            scan_sums(scan, &scan.rows[k], k * columns, (k + 1) * columns, like)
        scan_results(scan, count * columns, like)
        for k in range(count):
            scan_write(job, first + k, at, columns, scan.high + k * columns, exclusive, like)
        at += columns


cdef void run_scan(const Job* job, bint exclusive, Scan* scans, int n_threads, const real* like) noexcept nogil:
    cdef Py_ssize_t n_rows = job.layout.batch.size
    cdef Py_ssize_t together = 1 if job.x.contiguous_row else SCAN_ROWS
    cdef Py_ssize_t width = SCAN_ELEMENTS // together
    cdef Py_ssize_t task
    if job.layout.row.size <= SCAN_ELEMENTS:
        width = job.layout.row.size
        together = SCAN_ELEMENTS // width
    if n_threads == 1:
        for task in range((n_rows + together - 1) // together):
            scan_rows(job, task * together, least(together, n_rows - task * together), width, exclusive, scans, like)
    else:
        for task in prange((n_rows + together - 1) // together, schedule="dynamic", num_threads=n_threads):
            scan_rows(job, task * together, least(together, n_rows - task * together), width, exclusive, scans + threadid(), like)


# ---- the backend's function (see _scans.py) ----

def logcumsumexp(cnp.ndarray x, cnp.ndarray out, bint exclusive, int n_threads):
    cdef Job job
    cdef Scan* scans = <Scan*>calloc(n_threads, sizeof(Scan))
    if scans == NULL:
        raise MemoryError(f"scratch of {n_threads} x {sizeof(Scan)} bytes")
    describe(&job, LSE, x, 1, out, None)
    with nogil:
        if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32:
            run_scan(&job, exclusive, scans, n_threads, <const float*>NULL)
        else:
            run_scan(&job, exclusive, scans, n_threads, <const double*>NULL)
    free(scans)
