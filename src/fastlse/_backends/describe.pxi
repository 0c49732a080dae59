# From arrays to a Job, and the choice of the kernel that does it.

cdef extern from *:
    """
    #define FEW_ROWS 8
    /* Shorter rows than this go through tiles: those that are one run in memory, without options that work on all of their elements,
       and others. AVX2, ns an element, tiles against rows: gradient float32 1.25 to 1.30 in cache and 1.45 to 1.56 out of it at 20
       elements, 1.15 to 1.08 and 1.47 to 1.40 at 24; float64 in cache 1.99 to 1.85 at 32, 2.01 to 2.30 at 33, 1.98 to 1.97 at 40,
       softmax out of it 2.63 to 1.80 at 24, 2.62 to 1.69 at 28. Label smoothing of 40 float32 1.81 to 2.05, class probabilities 2.86
       to 2.88. */
    #define PLAIN_TILE_ROW_F32 24
    #define PLAIN_TILE_ROW_F64 28
    #define TILE_ROW 40
    /* Longer rows than this would leave no room in L1 for a second one. */
    #define LONG_ROW 2560
    #define UNIT_ELEMENTS 65536
    /* Where no losses are added up a unit may be less, so that threads end together. */
    #define SMALL_UNIT_ELEMENTS 16384
    #define BATCH_BYTES 65536
    /* Hardware does not prefetch over the end of a page, which for short rows is every other row. */
    #define PREFETCH_BYTES 786432
    #define PREFETCH_ROW_BYTES 262144
    #define OUT_AHEAD 4096
    /* Shorter rows are not written past the caches: their ends share lines with others. */
    #define STREAM_ROW 512
    /* Calls of fewer elements take less time than letting go of the GIL is worth. */
    #define NOGIL_ELEMENTS 2048
    """
    const Py_ssize_t FEW_ROWS, PLAIN_TILE_ROW_F32, PLAIN_TILE_ROW_F64, TILE_ROW, LONG_ROW, UNIT_ELEMENTS, SMALL_UNIT_ELEMENTS
    const Py_ssize_t STREAM_ROW
    const Py_ssize_t BATCH_BYTES, PREFETCH_BYTES, PREFETCH_ROW_BYTES, OUT_AHEAD, NOGIL_ELEMENTS


cdef extern from "cpu.h":
    Py_ssize_t fastlse_cached_bytes() noexcept nogil

cdef Py_ssize_t cached_bytes = fastlse_cached_bytes()


def stream_from(Py_ssize_t n_bytes):
    """From how many bytes of logits and results on results go past the caches, from now on; what it was. All give the same bits."""
    global cached_bytes
    cdef Py_ssize_t before = cached_bytes
    cached_bytes = n_bytes
    return before


cdef void describe_operand(Operand* operand, cnp.ndarray array, int n_batch, int n_row):
    cdef int axis
    operand.data = cnp.PyArray_BYTES(array)
    operand.addressable = cnp.PyArray_ISALIGNED(array) and cnp.PyArray_ISNOTSWAPPED(array)
    operand.swapped = not cnp.PyArray_ISNOTSWAPPED(array)
    for axis in range(n_batch):
        operand.batch_stride[axis] = cnp.PyArray_STRIDE(array, axis)
    for axis in range(n_row):
        operand.row_stride[axis] = cnp.PyArray_STRIDE(array, n_batch + axis)


cdef void note_contiguity(Operand* operand, const Layout* layout, Py_ssize_t itemsize) noexcept nogil:
    cdef int n_row = layout.row.count
    cdef int n_batch = layout.batch.count
    operand.contiguous_row = operand.addressable and (n_row == 0 or (n_row == 1 and operand.row_stride[0] == itemsize))
    operand.contiguous_lanes = (operand.addressable and n_row <= 1
                                and (n_batch == 0 or operand.batch_stride[n_batch - 1] == itemsize))


cdef void describe(Job* job, Mode mode, cnp.ndarray x, int n_reduced, object out, object where, object factor=None):
    """Everything that the arrays say; what else the mode needs is for the caller to set."""
    cdef Operand* operands[4]
    cdef int n_operands = 1
    cdef int n_batch = cnp.PyArray_NDIM(x) - n_reduced
    cdef int axis, k
    memset(job, 0, sizeof(Job))
    job.mode = mode
    job.stretch = CHUNK
    job.kept = CHUNK
    job.layout.batch.count = n_batch
    job.layout.row.count = n_reduced
    for axis in range(n_batch):
        job.layout.batch.length[axis] = cnp.PyArray_DIM(x, axis)
    for axis in range(n_reduced):
        job.layout.row.length[axis] = cnp.PyArray_DIM(x, n_batch + axis)
    operands[0] = &job.x
    describe_operand(&job.x, x, n_batch, n_reduced)
    if out is not None:
        operands[n_operands] = &job.out
        describe_operand(&job.out, out, n_batch, n_reduced)
        n_operands += 1
    if where is not None:
        operands[n_operands] = &job.where
        describe_operand(&job.where, where, n_batch, n_reduced)
        n_operands += 1
    if factor is not None:
        operands[n_operands] = &job.factor
        describe_operand(&job.factor, factor, n_batch, n_reduced)
        n_operands += 1
    coalesce(&job.layout.batch, operands, n_operands, False)
    coalesce(&job.layout.row, operands, n_operands, True)
    for k in range(n_operands):
        note_contiguity(operands[k], &job.layout, cnp.PyArray_ITEMSIZE(x))


cdef bint outgrows_cache(const Job* job, const real* like) noexcept nogil:
    return job.layout.row.size * job.layout.batch.size * <Py_ssize_t>sizeof(real) >= PREFETCH_BYTES


cdef Py_ssize_t tile_row(const Job* job, const real* like) noexcept nogil:
    """From how many elements on rows no longer go through tiles."""
    cdef Py_ssize_t lanes = 64 if real is float else 32
    if not is_direct(job) or has_pulls(job) or (job.out.data != NULL and not job.out.contiguous_row):
        return TILE_ROW
    if job.layout.batch.size < lanes:
        return SHORT_SUM + 1           # a tile would be empty for the most part
    if job.out.data != NULL and outgrows_cache(job, like):
        return PLAIN_TILE_ROW_F32      # float64, too: memory is what counts (ADR 0021)
    return PLAIN_TILE_ROW_F32 if real is float else PLAIN_TILE_ROW_F64


cdef bint serves_across(const Job* job, const real* like) noexcept nogil:
    """Whether the kernel across problems is the faster one: for short rows, and for rows that are neighbours in memory."""
    cdef Py_ssize_t lanes = 64 if real is float else 32
    cdef const Axes* batch = &job.layout.batch
    cdef Py_ssize_t innermost = batch.length[batch.count - 1] if batch.count > 0 else 1
    if batch.size < FEW_ROWS:
        return False
    if (job.softcap > 0 or has_probabilities(job)) and job.layout.row.size > TILE_BYTES // TILE_STEP:
        return False           # their tiles are whole ones
    if job.layout.row.size < tile_row(job, like):
        return True
    return job.x.contiguous_lanes and not job.x.contiguous_row and innermost >= lanes // 4


cdef Py_ssize_t fetch_distance(const Job* job, const real* like) noexcept nogil:
    """How many bytes further on what comes next lies: the next block, the next row, the next batch of rows."""
    cdef Py_ssize_t row_bytes = job.layout.row.size * <Py_ssize_t>sizeof(real)
    if not job.x.contiguous_row:
        return 0
    if job.n_blocks > 1:
        return block_length(like) * <Py_ssize_t>sizeof(real)
    if job.layout.batch.count != 1 or row_bytes > PREFETCH_ROW_BYTES or not outgrows_cache(job, like):
        return 0
    return job.x.batch_stride[0] * (job.batch_rows if job.short_rows else 1)


cdef inline bint streams_results(const Job* job, const real* like) noexcept nogil:
    """Whether results go past the caches: those of plain rows that no cache holds, with what they are computed from."""
    cdef Py_ssize_t n = job.layout.row.size
    if not STREAMS or job.across or n < STREAM_ROW or 2 * n * job.layout.batch.size * <Py_ssize_t>sizeof(real) < cached_bytes:
        return False
    return job.out.contiguous_row and job.out.data != job.x.data and is_direct(job) and not has_pulls(job)


cdef inline bint fetches_while_writing(const Job* job, const real* like) noexcept nogil:
    """Whether what comes next is fetched while results are written, since their own lines are while exponentials are taken. Those of
    float64 take so long that both fit in."""
    return real is float and job.n_blocks == 1 and job.out.contiguous_row and job.softcap == 0 and not job.streams


cdef void choose_kernel(Job* job, const real* like) noexcept nogil:
    """All kernels give the same bits: this is a matter of speed alone."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t n = job.layout.row.size
    job.across = serves_across(job, like)
    job.few = job.across and is_few(n, like) and job.lse != NULL
    job.few_classes = job.across and serves_few_classes(job, like)
    job.n_blocks = (n + block_length(like) - 1) // block_length(like)
    job.streams = streams_results(job, like)
    job.short_rows = not job.across and SHORT_SUM < n <= LONG_ROW and not (job.streams and real is double)
    job.stretch = CHUNK
    job.kept = CHUNK
    job.unit_rows = UNIT_ELEMENTS // n if n < UNIT_ELEMENTS else 1
    if job.mode != LOSS and n <= LONG_ROW:
        job.unit_rows = SMALL_UNIT_ELEMENTS // n
    job.in_bands = serves_bands(job, like)
    if job.across:
        job.unit_rows = (job.unit_rows // lanes) * lanes if job.unit_rows >= lanes and not job.in_bands else lanes
        job.states_at = tile_scratch(job, n, like)
        job.scratch_size = job.states_at + job.n_blocks * lanes * sizeof(RowState)
    elif job.short_rows:
        job.batch_rows = least(job.layout.batch.size, short_batch(job, job.out.data != NULL and outgrows_cache(job, like), like))
        if job.mode != LOSS:
            job.unit_rows = (job.unit_rows + job.batch_rows - 1) // job.batch_rows * job.batch_rows
        job.scratch_size = short_scratch(job, like)
    else:
        job.batch_rows = 1
        # a long row's results are scaled while L1, or L2, has them, before the next row's take their place
        if (job.out.data == NULL or (job.out.contiguous_row and n <= SHORT_SUM)) and job.softcap == 0:
            job.batch_rows = least(lanes, least(job.unit_rows, BATCH_BYTES // (n * <Py_ssize_t>sizeof(real)) + 1))
        if n > CHUNK and not is_direct(job):
            job.stretch = least(padded(n, like), block_length(like))
        job.states_at = row_scratch(job, like)
        job.unwritten_at = job.states_at + job.n_blocks * sizeof(RowState)
        job.scratch_size = job.unwritten_at + sizeof(Unwritten)
    job.scratch_size = (job.scratch_size + 127) // 64 * 64      # whole cache lines, and room to align the first
    job.ahead = fetch_distance(job, like)
    job.write_ahead = job.ahead if fetches_while_writing(job, like) else 0
    job.exp_ahead = job.ahead - job.write_ahead
    job.out_ahead = 0
    if job.out.contiguous_row and outgrows_cache(job, like) and not job.streams:
        job.out_ahead = OUT_AHEAD if job.n_blocks == 1 else block_length(like) * <Py_ssize_t>sizeof(real)
