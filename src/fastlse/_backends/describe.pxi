# From arrays to a Job, and the choice of the kernel that does it.

cdef extern from *:
    """
    /* Below so many elements tiles serve, once a few rows fill the lanes; float64 changes over at half of it. AVX2, ns an
       element of logsumexp, tiles against rows: float32 0.74 to 2.37 at 65 elements, 0.79 to 1.06 at 200; float64 2.26 to
       3.25 at 65, 2.48 to 1.87 at 200. */
    #define SHORT_ROW 256
    #define FEW_ROWS 8
    #define UNIT_ELEMENTS 65536
    #define BATCH_BYTES 65536
    /* Hardware does not prefetch over the end of a page, which for short rows is every other row. */
    #define PREFETCH_BYTES 786432
    #define PREFETCH_ROW_BYTES 262144
    /* Calls of fewer elements take less time than letting go of the GIL is worth. */
    #define NOGIL_ELEMENTS 2048
    """
    const Py_ssize_t SHORT_ROW, FEW_ROWS, UNIT_ELEMENTS, BATCH_BYTES, PREFETCH_BYTES, PREFETCH_ROW_BYTES, NOGIL_ELEMENTS


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


cdef void choose_kernel(Job* job, const real* like) noexcept nogil:
    """Both kernels give the same bits: this is a matter of speed alone."""
    cdef int lanes = 64 if real is float else 32
    cdef const Layout* layout = &job.layout
    cdef Py_ssize_t n = layout.row.size
    cdef Py_ssize_t innermost = layout.batch.length[layout.batch.count - 1] if layout.batch.count > 0 else 1
    cdef Py_ssize_t short_row = SHORT_ROW if real is float else SHORT_ROW // 2
    job.across = layout.batch.size >= FEW_ROWS and (
        n < short_row or (job.x.contiguous_lanes and not job.x.contiguous_row and innermost >= lanes // 4))
    job.ahead = 0
    if (job.x.contiguous_row and layout.batch.count == 1 and n * <Py_ssize_t>sizeof(real) <= PREFETCH_ROW_BYTES
            and n * layout.batch.size * <Py_ssize_t>sizeof(real) >= PREFETCH_BYTES):
        job.ahead = job.x.batch_stride[0]
    job.n_blocks = (n + block_length(like) - 1) // block_length(like)
    job.unit_rows = UNIT_ELEMENTS // n if n < UNIT_ELEMENTS else 1
    if job.across:
        job.unit_rows = (job.unit_rows // lanes) * lanes if job.unit_rows >= lanes else lanes
        job.states_at = tile_scratch(n, like)
        job.scratch_size = job.states_at + job.n_blocks * lanes * sizeof(RowState)
    else:
        job.batch_rows = 1
        if job.out.data == NULL or job.out.contiguous_row:
            job.batch_rows = least(lanes, least(job.unit_rows, BATCH_BYTES // (n * <Py_ssize_t>sizeof(real)) + 1))
        job.states_at = 2 * CHUNK * sizeof(real)
        job.scratch_size = job.states_at + job.n_blocks * sizeof(RowState)
    job.scratch_size = (job.scratch_size + 127) // 64 * 64      # whole cache lines, and room to align the first
