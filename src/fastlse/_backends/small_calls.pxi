# The fast lane of plain calls: small ones straight from the array to the kernel along the row, larger logsumexp by the way
# of choose_kernel. None sends the caller the general way.

cdef void plain_job(Job* job, Mode mode, cnp.ndarray x, Py_ssize_t n_rows, Py_ssize_t n) noexcept:
    """A job over C-contiguous rows; only what such a job reads is set."""
    job.mode = mode
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
    job.out.data = NULL
    job.where.data = NULL
    job.lse = NULL
    job.loss = NULL
    job.weight = NULL
    job.sample_weight = NULL
    job.smoothing = 0
    job.needs_x = False
    job.ahead = 0
    job.n_blocks = 1
    job.states_at = 0


cdef inline bint is_plain(object a):
    return (cnp.PyArray_CheckExact(a) and cnp.PyArray_ISCARRAY_RO(a)
            and (cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32 or cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT64))


cdef inline bint is_small(Py_ssize_t n_rows, Py_ssize_t n):
    """Worth the fast lane, and no case for tiles."""
    return 0 < n_rows * n < NOGIL_ELEMENTS and (n_rows < FEW_ROWS or n >= SHORT_ROW)


cdef void run_small(Job* job, cnp.ndarray x, Pair* loss_sum) noexcept:
    job.across = False
    job.unit_rows = job.layout.batch.size
    job.batch_rows = least(job.unit_rows, 32)
    if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32:
        process_unit(job, 0, NULL, 1, loss_sum, <const float*>NULL)
    else:
        process_unit(job, 0, NULL, 1, loss_sum, <const double*>NULL)


def logsumexp_rows(a, axis, keepdims, resolve):
    cdef Job job
    cdef double scalar
    cdef cnp.ndarray result = None
    cdef cnp.npy_intp shape[3]
    cdef int ndim, i
    cdef int n_threads = 0         # 0: small
    cdef Py_ssize_t n_rows, n
    if not is_plain(a):
        return None
    ndim = cnp.PyArray_NDIM(a)
    if not 1 <= ndim <= 3 or keepdims is not False:
        return None
    n = cnp.PyArray_DIM(a, ndim - 1)
    n_rows = 1
    if axis is None:
        n = cnp.PyArray_SIZE(a)
    elif type(axis) is int and (axis == -1 or axis == ndim - 1):
        for i in range(ndim - 1):
            shape[i] = cnp.PyArray_DIM(a, i)
            n_rows *= shape[i]
    else:
        return None
    if n_rows * n == 0:
        return None
    if not is_small(n_rows, n):
        n_threads = resolve(None, n_rows * n)
        memset(&job, 0, sizeof(Job))
    plain_job(&job, LSE, a, n_rows, n)
    if axis is None or ndim == 1:
        job.lse = &scalar
    else:
        result = cnp.PyArray_SimpleNew(ndim - 1, shape, cnp.PyArray_TYPE(a))
        job.lse = cnp.PyArray_DATA(result)
    if n_threads == 0:
        run_small(&job, a, NULL)
    else:
        run_for(&job, a, n_threads)
    return result if result is not None else cnp.PyArray_ToScalar(&scalar, a)


def cross_entropy_rows(logits, target, bint want_grad):
    cdef Job job
    cdef Pair loss_sum
    cdef cnp.ndarray grad = None
    cdef const int64_t* targets
    cdef Py_ssize_t n_rows, n, row
    cdef double mean
    if not (is_plain(logits) and cnp.PyArray_NDIM(logits) == 2 and cnp.PyArray_CheckExact(target)
            and cnp.PyArray_ISCARRAY_RO(target) and cnp.PyArray_NDIM(target) == 1 and cnp.PyArray_TYPE(target) == cnp.NPY_INT64):
        return None
    n_rows = cnp.PyArray_DIM(logits, 0)
    n = cnp.PyArray_DIM(logits, 1)
    if cnp.PyArray_DIM(target, 0) != n_rows or not is_small(n_rows, n):
        return None
    targets = <const int64_t*>cnp.PyArray_DATA(target)
    for row in range(n_rows):
        if not 0 <= targets[row] < n:
            return None
    plain_job(&job, LOSS, logits, n_rows, n)
    job.target = targets
    job.ignore_index = -1
    job.weight_total = n
    job.grad_scale = 1.0 / n_rows
    if want_grad:
        grad = cnp.PyArray_SimpleNew(2, cnp.PyArray_DIMS(logits), cnp.PyArray_TYPE(logits))
        job.out = job.x
        job.out.data = cnp.PyArray_BYTES(grad)
    run_small(&job, logits, &loss_sum)
    mean = settle(loss_sum) / n_rows
    if cnp.PyArray_TYPE(logits) == cnp.NPY_FLOAT32:
        return float32(mean), grad
    return float64(mean), grad
