# Ragged rows: the last axis of x is cut at indptr[0] <= indptr[1] <= ..., and each segment is a row of its own length. Every other axis
# is a batch, so that a segment is a problem as any other, done by the kernel that suits it. Short segments without a batch are
# sorted by their length, within a task, and those of one length are a tile.

cdef extern from *:
    """
    #define SHORT_SEGMENT 64
    """
    const Py_ssize_t SHORT_SEGMENT

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
    job.exp_ahead = 0
    job.write_ahead = 0
    return True


cdef inline void process_alone(const Job* whole, Job* job, const int64_t* indptr, Py_ssize_t index, char* scratch,
                               const real* like) noexcept nogil:
    cdef Py_ssize_t unit
    if open_segment(whole, job, indptr, index, like):
        if job.short_rows:       # which count on zeros where other segments have left something
            memset(scratch, 0, least(job.batch_rows, job.layout.batch.size) * padded(job.layout.row.size, like) * sizeof(real))
        for unit in range((job.layout.batch.size + job.unit_rows - 1) // job.unit_rows):
            process_unit(<const Job*>job, unit, scratch, 1, NULL, like)


cdef void process_side_by_side(const Job* whole, Job* job, const int64_t* indptr, const Py_ssize_t* index, int count, char* scratch,
                               const real* like) noexcept nogil:
    """process_tile for segments of one length, wherever they lie."""
    cdef int lanes = 64 if real is float else 32
    cdef Tile tile
    cdef Ends ends
    cdef Doubtful rows
    cdef double doubtful[64]
    cdef int lane
    open_tile(job, &tile, 0, count, scratch, False, like)
    for lane in range(count):
        tile.x_offset[lane] = indptr[index[lane]] * run_stride(&whole.layout.row, whole.x.row_stride)
        tile.out_offset[lane] = indptr[index[lane]] * run_stride(&whole.layout.row, whole.out.row_stride)
    if job.out.data == NULL and is_few(job.layout.row.size, like):
        careful_tile(job, &tile, &ends, like)
    else:
        tile_states(job, &tile, scratch, tile.out_scratch if job.out.data != NULL else NULL, lanes * sizeof(real), &ends, like)
    finish(job, &ends, lanes, like)
    if job.out.data != NULL:
        write_tile(job, &tile, <const Ends*>&ends, tile.out_scratch, lanes * sizeof(real), <const RowState*>NULL, like)
        return
    if not is_few(job.layout.row.size, like) and any_doubtful(<const Ends*>&ends, count, job.layout.row.size, doubtful, like):
        list_doubtful(<const double*>doubtful, count, &rows)
        for lane in range(rows.count):
            rows.x[lane] = whole.x.data + tile.x_offset[rows.lane[lane]]
        refine_rows(job, <const Doubtful*>&rows, &ends, like)
    for lane in range(count):
        (<real*>whole.lse)[index[lane]] = real_of(ends.value[lane], like)


cdef void process_short(const Job* whole, const int64_t* indptr, Py_ssize_t first, Py_ssize_t stop, Py_ssize_t* order, char* scratch,
                        const real* like) noexcept nogil:
    """The segments of up to SHORT_SEGMENT elements, sorted by their length."""
    cdef int lanes = 64 if real is float else 32
    cdef Job job = whole[0]          # for tiles
    cdef Job alone = whole[0]
    cdef Py_ssize_t begin[66]        # where the segments of each length begin in `order`
    cdef Py_ssize_t n, index, at, end
    for n in range(66):
        begin[n] = 0
    for index in range(first, stop):
        n = indptr[index + 1] - indptr[index]
        if n <= SHORT_SEGMENT:
            begin[n + 1] += 1
    for n in range(65):
        begin[n + 1] += begin[n]
    for index in range(first, stop):
        n = indptr[index + 1] - indptr[index]
        if n <= SHORT_SEGMENT:
            order[begin[n]] = index
            begin[n] += 1
    # each beginning has moved to the next one's place
    job.layout.batch.count = 2       # not at one distance
    job.layout.batch.length[0] = 1
    job.layout.batch.length[1] = 1
    job.x.contiguous_lanes = False
    job.out.contiguous_lanes = False
    for n in range(1, SHORT_SEGMENT + 1):
        at = begin[n - 1]
        end = begin[n]
        if at == end:
            continue
        job.layout.row.size = n
        job.layout.row.length[0] = n
        job.n_blocks = 1
        job.across = True
        while end - at >= lanes // 4:
            process_side_by_side(whole, &job, indptr, order + at, <int>least(lanes, end - at), scratch, like)
            at += lanes
        while at < end:              # too few to fill a tile
            process_alone(whole, &alone, indptr, order[at], scratch, like)
            at += 1


cdef void process_task(const Job* whole, const int64_t* indptr, Py_ssize_t first, Py_ssize_t stop, char* scratch,
                       Py_ssize_t order_at, bint sorts, const real* like) noexcept nogil:
    cdef Job job = whole[0]
    cdef Py_ssize_t index
    if sorts:
        process_short(whole, indptr, first, stop, <Py_ssize_t*>(scratch + order_at), scratch, like)
    for index in range(first, stop):
        if not sorts or indptr[index + 1] - indptr[index] > SHORT_SEGMENT:
            process_alone(whole, &job, indptr, index, scratch, like)


cdef Py_ssize_t most_scratch(const Job* whole, const int64_t* indptr, Py_ssize_t n_segments, const real* like) noexcept nogil:
    cdef Job job = whole[0]
    cdef Py_ssize_t most = tile_scratch(whole, SHORT_SEGMENT, like)
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
    cdef Py_ssize_t per_task, n_tasks, task, scratch_size, order_at
    cdef bint sorts = whole.layout.batch.size == 1
    cdef char* allocated
    cdef char* scratch
    if n_threads > 1 and n_elements // n_segments > 4 * UNIT_ELEMENTS:
        long_segments(whole, indptr, n_segments, n_threads, like)
        return
    per_task = least(UNIT_ELEMENTS, 4 * UNIT_ELEMENTS // (n_elements // n_segments + 1) + 1)
    n_tasks = (n_segments + per_task - 1) // per_task
    order_at = (most_scratch(whole, indptr, n_segments, like) + 63) // 64 * 64
    scratch_size = order_at + (per_task * sizeof(Py_ssize_t) + 63) // 64 * 64
    allocated = <char*>calloc(n_threads * scratch_size + 64, 1)
    if allocated == NULL:
        raise MemoryError(f"scratch of {n_threads} x {scratch_size} bytes")
    scratch = <char*>((<uintptr_t>allocated + 63) & ~<uintptr_t>63)
    if n_threads == 1:
        with nogil:
            for task in range(n_tasks):
                process_task(whole, indptr, task * per_task, least(n_segments, (task + 1) * per_task), scratch, order_at, sorts, like)
    else:
        for task in prange(n_tasks, schedule="dynamic", num_threads=n_threads, nogil=True):
            process_task(whole, indptr, task * per_task, least(n_segments, (task + 1) * per_task),
                         scratch + threadid() * scratch_size, order_at, sorts, like)
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
