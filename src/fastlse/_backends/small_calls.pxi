# The fast lane of plain calls, which saves them the checks in Python: rows of float32 or float64 in C order. Small ones go straight
# from the array to the kernel along the row, larger ones by the way of choose_kernel. None sends the caller the general way, which
# also raises what is to be raised. loss_calls.pxi is the losses' lane; sweeps.pxi has lanes of its own by the same checks.

cdef extern from *:
    """
    /* Rows of at least so many elements, or a few shorter ones, are less than double when filled up to whole groups. */
    #define SMALL_ROW 17
    #define SMALL_SCRATCH (2 * NOGIL_ELEMENTS * 8)
    """
    const int SMALL_ROW, SMALL_SCRATCH


cdef void plain_job(Job* job, Mode mode) noexcept:
    """A job without options; plain_layout sets what this leaves alone."""
    job.mode = mode
    job.out.data = NULL
    job.out.contiguous_row = False
    job.out.contiguous_lanes = False
    job.where.data = NULL
    job.factor.data = NULL
    job.lse = NULL
    job.loss = NULL
    job.target = NULL
    job.weight = NULL
    job.sample_weight.f32 = NULL
    job.sample_weight.f64 = NULL
    job.ignore_index = -1
    job.smoothing = 0
    job.z_loss = 0
    job.softcap = 0
    job.needs_x = False
    job.few = False
    job.few_classes = False
    job.ahead = 0
    job.exp_ahead = 0
    job.write_ahead = 0
    job.out_ahead = 0
    job.n_blocks = 1
    job.stretch = CHUNK
    job.kept = CHUNK
    job.streams = False
    job.states_at = 0


cdef void plain_layout(Job* job, cnp.ndarray x, Py_ssize_t n_rows, Py_ssize_t n) noexcept:
    """C-contiguous rows; only what such a job reads is set."""
    job.layout.batch.count = 1
    job.layout.batch.size = n_rows
    job.layout.batch.length[0] = n_rows
    job.layout.row.count = 1
    job.layout.row.size = n
    job.layout.row.length[0] = n
    job.x.data = cnp.PyArray_BYTES(x)
    job.x.addressable = True
    job.x.swapped = False
    job.x.contiguous_row = True
    job.x.contiguous_lanes = False
    job.x.batch_stride[0] = n * cnp.PyArray_ITEMSIZE(x)
    job.x.row_stride[0] = cnp.PyArray_ITEMSIZE(x)


cdef inline bint is_plain(object a):
    return (cnp.PyArray_CheckExact(a) and cnp.PyArray_ISCARRAY_RO(a)
            and (cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32 or cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT64))


cdef inline bint is_small(Py_ssize_t n_rows, Py_ssize_t n):
    """Worth the fast lane, and no case for tiles."""
    return 0 < n_rows * n < NOGIL_ELEMENTS and (n_rows < FEW_ROWS or n >= SMALL_ROW)


cdef void run_small(Job* job, cnp.ndarray x, Pair* loss_sum) noexcept:
    cdef char scratch[SMALL_SCRATCH]
    job.across = False
    job.short_rows = job.layout.row.size > SHORT_SUM
    job.unit_rows = job.layout.batch.size
    # as short_batch: what L1 holds
    job.batch_rows = least(job.unit_rows, 32)
    if job.short_rows:
        memset(scratch, 0, job.batch_rows * padded(job.layout.row.size, <const float*>NULL) * cnp.PyArray_ITEMSIZE(x))
    if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32:
        process_unit(job, 0, scratch, 1, loss_sum, <const float*>NULL)
    else:
        process_unit(job, 0, scratch, 1, loss_sum, <const double*>NULL)


cdef bint plain_rows(object a, object axis, Py_ssize_t* n_rows, Py_ssize_t* n):
    """Whether the fast lane serves an array's rows along an axis; how many there are, and of how many elements."""
    cdef int last
    if not is_plain(a):
        return False
    last = cnp.PyArray_NDIM(a) - 1
    if last < 0 or cnp.PyArray_SIZE(a) == 0:
        return False
    n[0] = cnp.PyArray_DIM(a, last)
    if axis is None:
        n[0] = cnp.PyArray_SIZE(a)
    elif type(axis) is not int or (axis != -1 and axis != last):
        return False
    n_rows[0] = cnp.PyArray_SIZE(a) // n[0]
    return True


cdef bint has_axes(cnp.ndarray b, cnp.ndarray a, int ndim):
    """Whether b's shape is the first `ndim` axes of a's."""
    cdef int i
    if cnp.PyArray_NDIM(b) != ndim:
        return False
    for i in range(ndim):
        if cnp.PyArray_DIM(b, i) != cnp.PyArray_DIM(a, i):
            return False
    return True


cdef bint takes(object out, cnp.ndarray a, int ndim):
    """Whether plain memory can take a result of the type of `a` and the shape of its first `ndim` axes."""
    return (cnp.PyArray_CheckExact(out) and cnp.PyArray_ISCARRAY(out) and cnp.PyArray_TYPE(out) == cnp.PyArray_TYPE(a)
            and has_axes(out, a, ndim))


cdef bint is_apart(cnp.ndarray a, cnp.ndarray b):
    """Whether two C-contiguous arrays share no memory."""
    return (cnp.PyArray_BYTES(a) + cnp.PyArray_NBYTES(a) <= cnp.PyArray_BYTES(b)
            or cnp.PyArray_BYTES(b) + cnp.PyArray_NBYTES(b) <= cnp.PyArray_BYTES(a))


cdef cnp.ndarray rows_out(object out, cnp.ndarray a):
    """Where rows of results go: a new array, or `out` if it lies on the input or apart from it; else None."""
    if out is None:
        return cnp.PyArray_SimpleNew(cnp.PyArray_NDIM(a), cnp.PyArray_DIMS(a), cnp.PyArray_TYPE(a))
    if takes(out, a, cnp.PyArray_NDIM(a)) and (cnp.PyArray_DATA(out) == cnp.PyArray_DATA(a) or is_apart(out, a)):
        return out
    return None


cdef double run_plain(Job* job, cnp.ndarray a, cnp.ndarray out, Py_ssize_t n_rows, Py_ssize_t n, object n_threads,
                      object resolve) except? -1:
    """Do a job that is set up but for its layout, class probabilities lying as `a` does; the sum of the losses."""
    cdef Pair loss_sum
    cdef int threads = 1
    cdef char* probabilities
    cdef bint small = is_small(n_rows, n) and job.softcap == 0 and job.factor.data == NULL
    if n_threads is not None or not small:
        threads = resolve(n_threads, n_rows * n)
    plain_layout(job, a, n_rows, n)
    if out is not None:
        job.out = job.x
        job.out.data = cnp.PyArray_BYTES(out)
    if job.factor.data != NULL:
        probabilities = job.factor.data
        job.factor = job.x
        job.factor.data = probabilities
    if not small:
        return run_for(job, a, threads)
    run_small(job, a, &loss_sum)
    return settle(loss_sum)


cdef object scalar_of(double value, cnp.ndarray like):
    cdef float rounded
    if cnp.PyArray_TYPE(like) == cnp.NPY_FLOAT32:
        rounded = <float>value
        return cnp.PyArray_ToScalar(&rounded, like)
    return cnp.PyArray_ToScalar(&value, like)


def logsumexp_rows(a, axis, out, n_threads, resolve):
    cdef Job job
    cdef double scalar
    cdef cnp.ndarray result = None
    cdef Py_ssize_t n_rows, n
    cdef int n_kept
    if not plain_rows(a, axis, &n_rows, &n):
        return None
    n_kept = 0 if axis is None else cnp.PyArray_NDIM(a) - 1
    plain_job(&job, LSE)
    if out is not None:
        if not (takes(out, a, n_kept) and is_apart(out, a)):
            return None
        result = out
    elif n_kept > 0:
        result = cnp.PyArray_SimpleNew(n_kept, cnp.PyArray_DIMS(a), cnp.PyArray_TYPE(a))
    job.lse = cnp.PyArray_DATA(result) if result is not None else &scalar
    run_plain(&job, a, None, n_rows, n, n_threads, resolve)
    return result if result is not None else cnp.PyArray_ToScalar(&scalar, a)


cdef object results_rows(Mode mode, object x, object axis, object out, object n_threads, object resolve):
    """softmax or log-softmax."""
    cdef Job job
    cdef cnp.ndarray result
    cdef Py_ssize_t n_rows, n
    if not plain_rows(x, axis, &n_rows, &n):
        return None
    result = rows_out(out, x)
    if result is not None:
        plain_job(&job, mode)
        run_plain(&job, x, result, n_rows, n, n_threads, resolve)
    return result


def logsumexp_and_softmax_rows(x, axis, out, n_threads, resolve):
    cdef Job job
    cdef double scalar
    cdef cnp.ndarray result
    cdef cnp.ndarray lse = None
    cdef Py_ssize_t n_rows, n
    if not plain_rows(x, axis, &n_rows, &n):
        return None
    result = rows_out(out, x)
    if result is None:
        return None
    if axis is not None and cnp.PyArray_NDIM(x) > 1:
        lse = cnp.PyArray_SimpleNew(cnp.PyArray_NDIM(x) - 1, cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x))
    plain_job(&job, SOFTMAX)
    job.lse = cnp.PyArray_DATA(lse) if lse is not None else &scalar
    job.needs_x = cnp.PyArray_DATA(result) == cnp.PyArray_DATA(x)
    run_plain(&job, x, result, n_rows, n, n_threads, resolve)
    return (lse if lse is not None else cnp.PyArray_ToScalar(&scalar, x)), result


def softmax_rows(x, axis, out, n_threads, resolve):
    return results_rows(SOFTMAX, x, axis, out, n_threads, resolve)


def log_softmax_rows(x, axis, out, n_threads, resolve):
    return results_rows(LOG_SOFTMAX, x, axis, out, n_threads, resolve)
