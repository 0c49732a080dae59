# The backend's functions over raw memory: the normalised problem of numpy.py, described to the kernels as a Job.
#
# Reading order: simd_math (one element), lanes (one contiguous run), layout (strides), finish (one row's last steps),
# rows and tiles (the two kernels), then this file: what is asked for, which kernel does it, who does it.

cimport numpy as cnp
from cython.parallel cimport prange, threadid
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from numpy import float32, float64

include "simd_math.pxi"
include "lanes.pxi"
include "layout.pxi"

cdef enum Mode:
    LSE
    SOFTMAX
    LOG_SOFTMAX
    LOSS

cdef struct Job:
    Mode mode
    Layout layout
    Operand x
    Operand out            # the rows of results: softmax, log-softmax or gradient
    Operand where
    Operand factor         # b of logsumexp
    void* lse              # one number for each row, in x's type, as is `loss`; NULL for neither
    # losses only
    void* loss
    const int64_t* target
    const void* weight
    const double* sample_weight
    int64_t ignore_index
    double smoothing
    double weight_total    # the sum of the class weights
    double grad_scale
    # how it is carried out
    bint across            # tiles.pxi, not rows.pxi
    Py_ssize_t n_blocks
    Py_ssize_t unit_rows   # the rows that one task takes
    Py_ssize_t states_at   # where the block states begin in a thread's scratch
    Py_ssize_t scratch_size

include "finish.pxi"
include "rows.pxi"
include "tiles.pxi"
include "weighted.pxi"

cnp.import_array()

cdef extern from *:
    """
    #if !defined(FASTLSE_FLAGS)
      #define FASTLSE_FLAGS "unknown"
    #endif
    """
    const char* FASTLSE_FLAGS

FLAGS = FASTLSE_FLAGS.decode()

cdef extern from *:
    """
    /* Measured: below SHORT_ROW elements a tile beats a padded group, once it has a few rows to fill its lanes. */
    #define SHORT_ROW 64
    #define FEW_ROWS 8
    #define UNIT_ELEMENTS 65536
    /* Calls of fewer elements take less time than letting go of the GIL is worth. */
    #define NOGIL_ELEMENTS 8192
    """
    const Py_ssize_t SHORT_ROW, FEW_ROWS, UNIT_ELEMENTS, NOGIL_ELEMENTS


# ---- describing a problem ----

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
    job.across = layout.batch.size >= FEW_ROWS and (
        n < SHORT_ROW or (job.x.contiguous_lanes and not job.x.contiguous_row and innermost >= lanes // 4))
    job.n_blocks = (n + block_length(like) - 1) // block_length(like)
    job.unit_rows = UNIT_ELEMENTS // n if n < UNIT_ELEMENTS else 1
    if job.across:
        job.unit_rows = (job.unit_rows // lanes) * lanes if job.unit_rows >= lanes else lanes
        job.states_at = tile_scratch(n, like)
        job.scratch_size = job.states_at + job.n_blocks * lanes * sizeof(RowState)
    else:
        job.states_at = 2 * CHUNK * sizeof(real)
        job.scratch_size = job.states_at + job.n_blocks * sizeof(RowState)
    job.scratch_size = (job.scratch_size + 127) // 64 * 64      # whole cache lines, and room to align the first


# ---- carrying it out ----

cdef void process_unit(const Job* job, Py_ssize_t unit, char* scratch, Pair* loss_sums, const real* like) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t row = unit * job.unit_rows
    cdef Py_ssize_t stop = least(job.layout.batch.size, row + job.unit_rows)
    cdef Pair loss_sum
    loss_sum.high = 0
    loss_sum.low = 0
    while row < stop:
        if job.across:
            process_tile(job, row, <int>least(lanes, stop - row), scratch, &loss_sum, like)
            row += lanes
        else:
            process_row(job, row, scratch, &loss_sum, like)
            row += 1
    if loss_sums != NULL:
        loss_sums[unit] = loss_sum


cdef double run(Job* job, int n_threads, const real* like) except? -1:
    """Do the job; the sum of the losses, whatever the number of threads in the same order."""
    cdef Py_ssize_t n_rows = job.layout.batch.size
    cdef Py_ssize_t n_units, unit
    cdef Pair* loss_sums = NULL
    cdef Pair loss_sum
    cdef char* allocated
    cdef char* scratch
    choose_kernel(job, like)
    n_units = (n_rows + job.unit_rows - 1) // job.unit_rows
    cdef bint share_rows = n_threads > 1 and job.n_blocks > 1 and n_rows < 2 * n_threads and not job.across
    if n_units < n_threads and not share_rows:
        n_threads = <int>n_units
    allocated = <char*>calloc(n_threads * job.scratch_size + 64, 1)
    if job.mode == LOSS:
        loss_sums = <Pair*>calloc(n_units, sizeof(Pair))
    if allocated == NULL or (job.mode == LOSS and loss_sums == NULL):
        free(allocated)
        free(loss_sums)
        raise MemoryError(f"scratch of {n_threads} x {job.scratch_size} bytes")
    scratch = <char*>((<uintptr_t>allocated + 63) & ~<uintptr_t>63)

    if n_rows * job.layout.row.size < NOGIL_ELEMENTS:
        for unit in range(n_units):
            process_unit(job, unit, scratch, loss_sums, like)
    elif share_rows:
        with nogil:
            for unit in range(n_units):
                process_long_unit(job, unit, scratch, n_threads, loss_sums, like)
    elif n_threads == 1:
        with nogil:
            for unit in range(n_units):
                process_unit(job, unit, scratch, loss_sums, like)
    else:
        for unit in prange(n_units, schedule="dynamic", num_threads=n_threads, nogil=True):
            process_unit(job, unit, scratch + threadid() * job.scratch_size, loss_sums, like)

    loss_sum.high = 0
    loss_sum.low = 0
    if loss_sums != NULL:
        for unit in range(n_units):
            add_to(&loss_sum, loss_sums[unit].high)
            loss_sum.low += loss_sums[unit].low
    free(allocated)
    free(loss_sums)
    return settle(loss_sum)


cdef void process_long_unit(const Job* job, Py_ssize_t unit, char* scratch, int n_threads, Pair* loss_sums,
                            const real* like) noexcept nogil:
    cdef Pair loss_sum
    loss_sum.high = 0
    loss_sum.low = 0
    process_long_row(job, unit, scratch, n_threads, &loss_sum, like)
    if loss_sums != NULL:
        loss_sums[unit] = loss_sum


cdef double run_for(Job* job, cnp.ndarray x, int n_threads) except? -1:
    if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32:
        return run(job, n_threads, <const float*>NULL)
    return run(job, n_threads, <const double*>NULL)


# ---- the backend's functions (see numpy.py) ----

def logsumexp(cnp.ndarray x, int n_reduced, cnp.ndarray lse, b, sign, where, int n_threads):
    cdef Job job
    cdef void* signs = NULL
    describe(&job, LSE, x, n_reduced, None, where, b)
    job.lse = cnp.PyArray_DATA(lse)
    if b is None and sign is None:
        run_for(&job, x, n_threads)
        return
    if sign is not None:
        signs = cnp.PyArray_DATA(sign)
    with nogil:
        if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32:
            weighted_rows(&job, signs, n_threads, <const float*>NULL)
        else:
            weighted_rows(&job, signs, n_threads, <const double*>NULL)


def softmax(cnp.ndarray x, int n_reduced, cnp.ndarray out, lse, where, int n_threads):
    cdef Job job
    describe(&job, SOFTMAX, x, n_reduced, out, where)
    if lse is not None:
        job.lse = cnp.PyArray_DATA(lse)
    run_for(&job, x, n_threads)


def log_softmax(cnp.ndarray x, int n_reduced, cnp.ndarray out, where, int n_threads):
    cdef Job job
    describe(&job, LOG_SOFTMAX, x, n_reduced, out, where)
    run_for(&job, x, n_threads)


cdef double total_weight(object weight, Py_ssize_t n_classes):
    """The sum of the class weights, n_classes for None."""
    cdef Pair sum
    cdef Py_ssize_t i
    if weight is None:
        return n_classes
    sum.high = 0
    sum.low = 0
    for i in range(n_classes):
        add_to(&sum, class_weight(weight, i))
    return settle(sum)


cdef inline double class_weight(cnp.ndarray weight, Py_ssize_t i):
    if cnp.PyArray_TYPE(weight) == cnp.NPY_FLOAT32:
        return (<const float*>cnp.PyArray_DATA(weight))[i]
    return (<const double*>cnp.PyArray_DATA(weight))[i]


def check_target(cnp.ndarray target, Py_ssize_t n_classes, weight, sample_weight, int64_t ignore_index):
    cdef const int64_t* targets = <const int64_t*>cnp.PyArray_DATA(target)
    cdef const double* row_weights = NULL
    cdef Py_ssize_t n_rows = cnp.PyArray_SIZE(target)
    cdef Py_ssize_t row, kept
    cdef Pair sum
    cdef double row_weight
    if sample_weight is not None:
        row_weights = <const double*>cnp.PyArray_DATA(sample_weight)
    kept = 0
    for row in range(n_rows):
        if not 0 <= targets[row] < n_classes:
            if targets[row] != ignore_index:
                return row, 0.0
        kept += targets[row] != ignore_index
    if weight is None and row_weights == NULL:
        return -1, float(kept)
    sum.high = 0
    sum.low = 0
    for row in range(n_rows):
        if targets[row] == ignore_index:
            continue
        row_weight = row_weights[row] if row_weights != NULL else 1
        if row_weight != 0:
            add_to(&sum, row_weight * (class_weight(weight, targets[row]) if weight is not None else 1))
    return -1, settle(sum)


def cross_entropy(cnp.ndarray logits, cnp.ndarray target, loss, grad, weight, sample_weight, int64_t ignore_index,
                  double label_smoothing, double grad_scale, int n_threads):
    cdef Job job
    describe(&job, LOSS, logits, 1, grad, None)
    job.target = <const int64_t*>cnp.PyArray_DATA(target)
    if loss is not None:
        job.loss = cnp.PyArray_DATA(loss)
    if weight is not None:
        job.weight = cnp.PyArray_DATA(weight)
    if sample_weight is not None:
        job.sample_weight = <const double*>cnp.PyArray_DATA(sample_weight)
    job.ignore_index = ignore_index
    job.smoothing = label_smoothing
    job.weight_total = total_weight(weight, job.layout.row.size)
    job.grad_scale = grad_scale
    return run_for(&job, logits, n_threads)


include "small_calls.pxi"
