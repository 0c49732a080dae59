# Ragged rows: the last axis of x is cut at indptr[0] <= indptr[1] <= ..., and each segment is a row of its own length. Every other axis
# is a batch, so that a segment is a problem as any other, done by the kernel that suits it.

cdef inline bint open_segment(const Job* whole, Job* job, const int64_t* indptr, Py_ssize_t index, const real* like) noexcept nogil:
    """Point `job`, a copy of `whole`, at one segment; False for an empty one."""
    cdef Py_ssize_t n = indptr[index + 1] - indptr[index]
    cdef Py_ssize_t at = indptr[index]
    if n == 0:
        return False
    job.layout.row.size = n
    job.layout.row.length[0] = n
    job.x.data = whole.x.data + at * run_stride(&whole.layout.row, whole.x.row_stride)
    if whole.out.data != NULL:
        job.out.data = whole.out.data + at * run_stride(&whole.layout.row, whole.out.row_stride)
    if whole.lse != NULL:
        job.lse = <char*>whole.lse + index * whole.layout.batch.size * sizeof(real)
    choose_kernel(job, like)
    job.ahead = 0
    return True


cdef void process_segments(const Job* whole, const int64_t* indptr, Py_ssize_t first, Py_ssize_t stop, char* scratch,
                           const real* like) noexcept nogil:
    cdef Job job = whole[0]
    cdef Py_ssize_t index, unit
    for index in range(first, stop):
        if open_segment(whole, &job, indptr, index, like):
            for unit in range((job.layout.batch.size + job.unit_rows - 1) // job.unit_rows):
                process_unit(<const Job*>&job, unit, scratch, 1, NULL, like)


cdef Py_ssize_t most_scratch(const Job* whole, const int64_t* indptr, Py_ssize_t n_segments, const real* like) noexcept nogil:
    cdef Job job = whole[0]
    cdef Py_ssize_t most = 64
    cdef Py_ssize_t index
    for index in range(n_segments):
        if open_segment(whole, &job, indptr, index, like) and job.scratch_size > most:
            most = job.scratch_size
    return most


cdef void long_segments(const Job* whole, const int64_t* indptr, Py_ssize_t n_segments, int n_threads, const real* like) except *:
    """One after the other, the threads sharing each."""
    cdef Job job = whole[0]
    cdef Py_ssize_t index
    for index in range(n_segments):
        if open_segment(whole, &job, indptr, index, like):
            run(&job, n_threads, like)


cdef void run_segments(const Job* whole, const int64_t* indptr, Py_ssize_t n_segments, int n_threads, const real* like) except *:
    cdef Py_ssize_t n_elements = (indptr[n_segments] - indptr[0]) * whole.layout.batch.size
    cdef Py_ssize_t per_task, n_tasks, task, scratch_size
    cdef char* allocated
    cdef char* scratch
    if n_threads > 1 and n_elements // n_segments > 4 * UNIT_ELEMENTS:
        long_segments(whole, indptr, n_segments, n_threads, like)
        return
    per_task = UNIT_ELEMENTS // (n_elements // n_segments + 1) + 1
    n_tasks = (n_segments + per_task - 1) // per_task
    scratch_size = most_scratch(whole, indptr, n_segments, like)
    allocated = <char*>calloc(n_threads * scratch_size + 64, 1)
    if allocated == NULL:
        raise MemoryError(f"scratch of {n_threads} x {scratch_size} bytes")
    scratch = <char*>((<uintptr_t>allocated + 63) & ~<uintptr_t>63)
    if n_threads == 1:
        with nogil:
            process_segments(whole, indptr, 0, n_segments, scratch, like)
    else:
        for task in prange(n_tasks, schedule="dynamic", num_threads=n_threads, nogil=True):
            process_segments(whole, indptr, task * per_task, least(n_segments, (task + 1) * per_task),
                             scratch + threadid() * scratch_size, like)
    free(allocated)


cdef run_segments_for(Job* job, cnp.ndarray x, cnp.ndarray indptr, int n_threads):
    cdef const int64_t* starts = <const int64_t*>cnp.PyArray_DATA(indptr)
    cdef Py_ssize_t n_segments = cnp.PyArray_SIZE(indptr) - 1
    if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32:
        run_segments(job, starts, n_segments, n_threads, <const float*>NULL)
    else:
        run_segments(job, starts, n_segments, n_threads, <const double*>NULL)


# ---- the backend's functions (see _segments.py) ----

def segment_logsumexp(cnp.ndarray x, cnp.ndarray indptr, cnp.ndarray lse, int n_threads):
    cdef Job job
    describe(&job, LSE, x, 1, None, None)
    job.lse = cnp.PyArray_DATA(lse)
    run_segments_for(&job, x, indptr, n_threads)


def segment_softmax(cnp.ndarray x, cnp.ndarray indptr, cnp.ndarray out, int n_threads):
    cdef Job job
    describe(&job, SOFTMAX, x, 1, out, None)
    run_segments_for(&job, x, indptr, n_threads)
