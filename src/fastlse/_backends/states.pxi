# Mergeable states: from rows to states, from states to results, and the rows of a softmax or gradient from states that others had
# a part in. An array of states is three rows of float64: maxima, high and low parts of rest (RowState of finish.pxi).

cdef struct States:
    const double* max
    const double* high
    const double* low


cdef inline States states_of(cnp.ndarray states, Py_ssize_t count):
    cdef States parts
    parts.max = <const double*>cnp.PyArray_DATA(states)
    parts.high = parts.max + count
    parts.low = parts.high + count
    return parts


cdef inline Pair divided(Pair sum, double divisor) noexcept nogil:
    """sum / divisor as a pair."""
    cdef Pair quotient
    quotient.high = sum.high / divisor
    quotient.low = (fma_f64(-quotient.high, divisor, sum.high) + sum.low) / divisor
    return quotient


cdef inline void log_of_states(States states, const double* minus, const double* n_terms, double* result, Py_ssize_t count,
                               bint subtracts, bint divides) noexcept nogil:
    """(max - minus) + log((1 + rest) / n_terms). With minus it is a loss: NaN without a finite maximum."""
    cdef Pair sum, logarithm, gap
    cdef Py_ssize_t i
    cdef double max
    for i in range(count):
        max = states.max[i]
        sum = two_sum(1, states.high[i])
        sum.low = sum.low + states.low[i]
        if divides:
            sum = divided(sum, n_terms[i])
        logarithm = log_pair(sum.high, sum.low / sum.high)
        gap = two_sum(max, -(minus[i] if subtracts else 0))
        sum = two_sum(gap.high, logarithm.high)
        result[i] = pick(is_infinite(gap.high), gap.high, sum.high + (sum.low + (gap.low + logarithm.low)))
        if subtracts:
            result[i] += max - max


cdef void write_given(const Job* job, States states, Py_ssize_t first, int count, char* scratch, const real* like) noexcept nogil:
    """process_rows for rows whose states are given: their last steps and the writing."""
    cdef Ends ends
    cdef Row row
    cdef int lane
    if job.mode == LOSS:
        open_losses(job, &ends, first, count, like)
    for lane in range(count):
        ends.max[lane] = states.max[first + lane]
        ends.high[lane] = states.high[first + lane]
        ends.low[lane] = states.low[first + lane]
        if job.mode == LOSS and ends.target[lane] >= 0:
            row = open_row(job, first + lane, scratch, like)
            ends.logit[lane] = element(job, &row, ends.target[lane], like)
    finish(job, &ends, count, like)
    for lane in range(count):
        row = open_row(job, first + lane, scratch, like)
        if job.mode == LOSS and ends.kept[lane] == 0:
            write_zeros(job, &row, like)
        else:
            write_row(job, &row, <const Ends*>&ends, lane, 0, job.layout.row.size, <const real*>NULL, ends.max[lane], like)


cdef void write_all_given(const Job* job, States states, Py_ssize_t batch_rows, Py_ssize_t scratch_size, char* scratch, int n_threads,
                          const real* like) noexcept nogil:
    cdef Py_ssize_t n_rows = job.layout.batch.size
    cdef Py_ssize_t n_tasks = (n_rows + batch_rows - 1) // batch_rows
    cdef Py_ssize_t task
    if n_threads == 1:
        for task in range(n_tasks):
            write_given(job, states, task * batch_rows, <int>least(batch_rows, n_rows - task * batch_rows), scratch, like)
    else:
        for task in prange(n_tasks, schedule="dynamic", num_threads=n_threads):
            write_given(job, states, task * batch_rows, <int>least(batch_rows, n_rows - task * batch_rows),
                        scratch + threadid() * scratch_size, like)


cdef write_from_states(Job* job, cnp.ndarray x, cnp.ndarray states, int n_threads):
    cdef States parts = states_of(states, job.layout.batch.size)
    cdef Py_ssize_t batch_rows = UNIT_ELEMENTS // job.layout.row.size
    cdef Py_ssize_t scratch_size = row_scratch(job, <const double*>NULL)
    cdef char* scratch = <char*>calloc(n_threads, scratch_size)
    if scratch == NULL:
        raise MemoryError(f"scratch of {n_threads} x {scratch_size} bytes")
    job.n_blocks = 1              # whatever its length, for nothing is added up
    batch_rows = 1 if batch_rows < 1 else least(batch_rows, 32)
    with nogil:
        if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32:
            write_all_given(job, parts, batch_rows, scratch_size, scratch, n_threads, <const float*>NULL)
        else:
            write_all_given(job, parts, batch_rows, scratch_size, scratch, n_threads, <const double*>NULL)
    free(scratch)


# ---- the backend's functions (see _states.py) ----

def row_states(cnp.ndarray x, int n_reduced, cnp.ndarray states, where, int n_threads):
    cdef Job job
    describe(&job, STATE, x, n_reduced, None, where)
    job.lse = cnp.PyArray_DATA(states)
    run_for(&job, x, n_threads)


def log_sums(cnp.ndarray states, minus, n_terms, cnp.ndarray result):
    cdef Py_ssize_t count = cnp.PyArray_SIZE(result)
    cdef const double* subtrahends = <const double*>cnp.PyArray_DATA(minus) if minus is not None else NULL
    cdef const double* numbers = <const double*>cnp.PyArray_DATA(n_terms) if n_terms is not None else NULL
    cdef double* results = <double*>cnp.PyArray_DATA(result)
    cdef States parts = states_of(states, count)
    with nogil:
        # with literals: each a loop of its own, that vectorises
        if subtrahends != NULL:
            log_of_states(parts, subtrahends, numbers, results, count, True, False)
        elif numbers != NULL:
            log_of_states(parts, subtrahends, numbers, results, count, False, True)
        else:
            log_of_states(parts, subtrahends, numbers, results, count, False, False)


def softmax_of_states(cnp.ndarray x, int n_reduced, cnp.ndarray states, cnp.ndarray out, int n_threads):
    cdef Job job
    describe(&job, SOFTMAX, x, n_reduced, out, None)
    write_from_states(&job, x, states, n_threads)


def gradient_of_states(cnp.ndarray logits, cnp.ndarray states, cnp.ndarray target, sample_weight, cnp.ndarray grad, int n_threads):
    cdef Job job
    describe(&job, LOSS, logits, 1, grad, None)
    job.target = <const int64_t*>cnp.PyArray_DATA(target)
    job.sample_weight = weights_of(sample_weight)
    job.ignore_index = -2         # -1 is a target elsewhere
    job.weight_total = job.layout.row.size
    job.grad_scale = 1
    write_from_states(&job, logits, states, n_threads)
