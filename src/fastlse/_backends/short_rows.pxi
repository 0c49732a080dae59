# The kernel along rows that fit into L1: one step for a batch of rows before the next step, since a row's maximum, its
# exponentials, their sum and its results wait for each other, and rows do not (ADR 0008).
#
# A row's exponentials lie in scratch, filled up to whole groups with the zeros that scratch begins with: nothing else is written
# there. So do its elements, if they are not one run in memory.

cdef extern from *:
    """
    /* Bytes of a batch's exponentials. */
    #define SHORT_BATCH_BYTES 16384
    """
    const Py_ssize_t SHORT_BATCH_BYTES


cdef inline Py_ssize_t padded(Py_ssize_t n, const real* like) noexcept nogil:
    """n filled up to whole groups."""
    cdef Py_ssize_t lanes = 64 if real is float else 32
    return (n + lanes - 1) // lanes * lanes


cdef inline Py_ssize_t short_batch(Py_ssize_t n, const real* like) noexcept nogil:
    """How many rows make a batch."""
    cdef Py_ssize_t lanes = 64 if real is float else 32
    return least(lanes, SHORT_BATCH_BYTES // (padded(n, like) * <Py_ssize_t>sizeof(real)) + 1)


cdef inline Py_ssize_t short_scratch(const Job* job, const real* like) noexcept nogil:
    """Bytes that open_short_row shares out: for the exponentials and, where they are asked for, elements, slopes and a row of pulls."""
    cdef Py_ssize_t n_rows = job.batch_rows
    if job.softcap > 0 or has_probabilities(job):
        n_rows = 3 * job.batch_rows + 1
    elif job.where.data != NULL or not job.x.contiguous_row:
        n_rows = 2 * job.batch_rows
    return n_rows * padded(job.layout.row.size, like) * <Py_ssize_t>sizeof(real)


cdef inline Row open_short_row(const Job* job, Py_ssize_t first, int lane, char* scratch, const real* like) noexcept nogil:
    """A row of a batch. Its exponentials belong to out_scratch."""
    cdef Py_ssize_t size = padded(job.layout.row.size, like) * <Py_ssize_t>sizeof(real)
    cdef Row row = open_row(job, first + lane, scratch, like)
    row.out_scratch = scratch + lane * size
    row.x_scratch = scratch + (job.batch_rows + lane) * size
    row.slope_scratch = scratch + (2 * job.batch_rows + lane) * size
    row.pull_scratch = scratch + 3 * job.batch_rows * size
    return row


cdef inline real max_of_steps(const real* x, Py_ssize_t n, int quarters, real* step) noexcept nogil:
    """short_max in steps of `quarters` (a literal) quarters of a group."""
    cdef int width = 16 if real is float else 8
    cdef real best[16]             # of each column of the steps, and minus where the step begins in which it stands first
    cdef real stood[16]
    cdef real of_step[16]
    cdef real latest[16]
    cdef real largest
    cdef real base
    cdef Py_ssize_t at
    cdef Py_ssize_t i = 0
    cdef int j
    for j in range(width):
        best[j] = real_of(-INF_F64, x)
        stood[j] = real_of(-INF_F64, x)
    while i < n:
        at = least(i, n - quarters * width)       # overlaps the step before: a maximum does not mind
        base = -<real>at
        for j in range(width):
            of_step[j] = x[at + j]
            if quarters == 4:
                of_step[j] = larger(larger(x[at + j], x[at + width + j]), larger(x[at + 2 * width + j], x[at + 3 * width + j]))
        for j in range(width):
            latest[j] = pick(of_step[j] > best[j], base, stood[j])
            best[j] = larger(of_step[j], best[j])
        for j in range(width):
            stood[j] = latest[j]
        i += quarters * width
    largest = largest_of(<const real*>best)
    for j in range(width):
        latest[j] = pick(best[j] == largest, stood[j], real_of(-INF_F64, x))
    step[0] = largest_of(<const real*>latest)
    return largest


cdef inline real short_max(const real* x, Py_ssize_t n, real* step) noexcept nogil:
    """The largest number of a row of more than SHORT_SUM elements, NaN skipped, and minus the beginning of the first step of a
    group, or from less than LANES elements of a quarter, that holds it; -inf for none."""
    cdef int lanes = 64 if real is float else 32
    if n < lanes:
        return max_of_steps(x, n, 1, step)
    return max_of_steps(x, n, 4, step)


cdef inline Py_ssize_t place_in_step(const real* x, Py_ssize_t n, real largest, real step) noexcept nogil:
    """Where the largest number of a row first stands, from what short_max tells; -1 for nowhere."""
    cdef int lanes = 64 if real is float else 32
    cdef int width = 16 if real is float else 8
    cdef Py_ssize_t at = <Py_ssize_t>-step
    if step == real_of(-INF_F64, x):
        return -1
    if n < lanes:
        return at + first_of(x + at, width, largest)
    return at + first_of(x + at, 4 * width, largest)


cdef inline void short_maxima(const Job* job, Py_ssize_t first, Row* rows, int count, Ends* ends, Py_ssize_t* position,
                              const real* like) noexcept nogil:
    """What is to know of the rows before the exponentials: maxima, where they stand, what a loss asks for."""
    cdef Py_ssize_t n = job.layout.row.size
    cdef real step[64]
    cdef int lane
    if job.mode == LOSS:
        open_losses(job, ends, first, count, like)
    for lane in range(count):
        if job.mode == LOSS and ends.kept[lane] == 0:
            ends.max[lane] = 0
            continue
        if job.mode == LOSS and ends.target[lane] >= 0:
            ends.logit[lane] = element(job, &rows[lane], ends.target[lane], like)
        ends.max[lane] = short_max(fetch(job, &rows[lane], 0, n, like), n, &step[lane])
    for lane in range(count):          # which waits for the maximum, and another row's need not
        if job.mode == LOSS and ends.kept[lane] == 0:
            continue
        position[lane] = place_in_step(fetch(job, &rows[lane], 0, n, like), n, <real>ends.max[lane], step[lane])
        sum_pulls(job, &rows[lane], ends, lane, ends.max[lane], position[lane], like)


cdef inline void short_exponentials(const Job* job, Row* rows, int count, const Ends* ends, const Py_ssize_t* position,
                                    const real* like) noexcept nogil:
    """The exponentials; 0 in the place of the maximum's own, which stays out of the sum."""
    cdef Py_ssize_t n = job.layout.row.size
    cdef const real* results
    cdef real* e
    cdef int lane
    for lane in range(count):
        if job.mode == LOSS and ends.kept[lane] == 0:
            continue
        e = <real*>rows[lane].out_scratch
        results = <const real*>rows[lane].out if job.out_ahead != 0 else NULL
        run_exp(fetch(job, &rows[lane], 0, n, like), n, real_of(finite_or_zero(ends.max[lane]), like), job.ahead, results, e)
        if position[lane] >= 0:
            e[position[lane]] = 0


cdef inline void short_sums(const Job* job, Row* rows, int count, Ends* ends, const Py_ssize_t* position, const real* like) noexcept nogil:
    """Each row's rest, and the maximum's own exponential in its place."""
    cdef real one = scaled_one(like)
    cdef Py_ssize_t n = job.layout.row.size
    cdef Sum sum
    cdef Pair rest
    cdef real* e
    cdef int lane
    for lane in range(count):
        rest.high = 0
        rest.low = 0
        e = <real*>rows[lane].out_scratch
        if ends.max[lane] == INF_F64:
            # the sum is no number there; all that counts is whether the row holds a NaN
            rest.high = NAN_F64 if run_has_nan(fetch(job, &rows[lane], 0, n, like), n) else 0
        elif job.mode != LOSS or ends.kept[lane] != 0:
            clear(&sum)
            add_groups(<const real*>e, padded(n, like), &sum)
            rest = total(&sum, like)
            rest.high *= unscale(like)
            rest.low *= unscale(like)
            if position[lane] >= 0:
                e[position[lane]] = one
        ends.high[lane] = rest.high
        ends.low[lane] = rest.low


cdef inline void write_short_row(const Job* job, Row* row, const Ends* ends, int lane, const real* like) noexcept nogil:
    """write_row, without the call for the usual: no mask, no softcap, results in one run of memory."""
    cdef int width = 16 if real is float else 8
    cdef const real* e = <const real*>row.out_scratch
    cdef real* to = <real*>row.out
    cdef Py_ssize_t n = job.layout.row.size
    if not job.out.contiguous_row or row.where != NULL or job.softcap > 0:
        write_row(job, row, ends, lane, 0, n, e, ends.max[lane], like)
    elif job.mode == LOG_SOFTMAX:
        run_log(fetch(job, row, 0, n, like), n, real_of(ends.shift[lane], like), real_of(ends.log_total[lane], like), width, to)
    else:
        if has_pulls(job):
            run_scale_minus(e, n, real_of(ends.scale[lane], like), real_of(ends.floor[lane], like), real_of(ends.offset[lane], like),
                            fetch_pulls(job, row, 0, n, like), to)
        else:
            run_scale(e, n, real_of(ends.scale[lane], like), real_of(ends.floor[lane], like), to)
        if ends.target[lane] >= 0:
            to[ends.target[lane]] = real_of(ends.target_entry[lane], like)


cdef void process_short_rows(const Job* job, Py_ssize_t first, int count, char* scratch, LossSums* sums, const real* like) noexcept nogil:
    cdef Ends ends
    cdef Row rows[64]
    cdef Py_ssize_t position[64]
    cdef int lane
    for lane in range(count):
        rows[lane] = open_short_row(job, first, lane, scratch, like)
    short_maxima(job, first, rows, count, &ends, position, like)
    short_exponentials(job, rows, count, <const Ends*>&ends, <const Py_ssize_t*>position, like)
    short_sums(job, rows, count, &ends, <const Py_ssize_t*>position, like)
    finish(job, &ends, count, like)
    if job.lse != NULL:
        refine_lse(job, &ends, first, count, like)
    store_values(job, <const Ends*>&ends, first, count, sums, like)
    if job.out.data == NULL:
        return
    for lane in range(count):
        if job.mode == LOSS and ends.kept[lane] == 0:
            write_zeros(job, &rows[lane], like)
        else:
            write_short_row(job, &rows[lane], <const Ends*>&ends, lane, like)
