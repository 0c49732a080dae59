# The backend's functions over raw memory: those of numpy.py, for float32 and float64 in every layout.
#
# In reading order: simd_math (one element), registers (what crosses lanes), sums (the order of summation), lanes (one contiguous run)
# and maxima, layout (strides), job (what is asked for), finish (a row's last steps), careful (rows that need more digits), past_caches
# (results that L3 does not hold), rows, short_rows and tiles (the kernels), few, few_classes and few_losses (tiles of few elements),
# bands (tiles side by side), weighted (logsumexp with factors), describe (from arrays to a job and a kernel), and here: who does it.
# After that small_calls and loss_calls (the fast lane), states (from and to mergeable states), segments (ragged rows), scan
# (cumulative), log_space (elementwise).

cimport numpy as cnp
from cython.parallel cimport prange, threadid
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from numpy import float32, float64

include "simd_math.pxi"
include "registers.pxi"
include "sums.pxi"
include "maxima.pxi"
include "lanes.pxi"
include "layout.pxi"
include "job.pxi"
include "finish.pxi"
include "careful.pxi"
include "past_caches.pxi"
include "rows.pxi"
include "short_rows.pxi"
include "tile_lanes.pxi"
include "tiles.pxi"
include "few.pxi"
include "few_classes.pxi"
include "few_losses.pxi"
include "bands.pxi"
include "weighted.pxi"
include "describe.pxi"

cnp.import_array()

cdef extern from *:
    """
    #include "cpu.h"
    #if defined(__AVX512F__)
      #define FASTLSE_RUNS_HERE fastlse_has_avx512()
    #elif defined(__AVX2__)
      #define FASTLSE_RUNS_HERE fastlse_has_avx2()
    #else
      #define FASTLSE_RUNS_HERE 1
    #endif
    /* Whoever imports this module by hand on another machine gets an error, and not an illegal instruction: ask before
       Cython's own start-up code, which is compiled for the same machine. */
    static PyObject* fastlse_start(PyModuleDef* definition) {
        if (!FASTLSE_RUNS_HERE) {
            PyErr_Format(PyExc_ImportError, "%s was compiled for instructions that this machine does not have", definition->m_name);
            return NULL; }
        return PyModuleDef_Init(definition); }
    #define PyModuleDef_Init fastlse_start

    #if !defined(FASTLSE_FLAGS)
      #define FASTLSE_FLAGS "unknown"
    #endif
    """
    const char* FASTLSE_FLAGS

FLAGS = FASTLSE_FLAGS.decode()


cdef extern from *:
    """
    /* What a thread has to do: tasks next .. stop, which others may take, too. One cache line. */
    typedef struct { Py_ssize_t next, stop; char alone[64 - 2 * sizeof(Py_ssize_t)]; } Share;
    #if defined(_MSC_VER) && !defined(__clang__)
      #include <intrin.h>
      #define take_next(next) ((Py_ssize_t)_InterlockedExchangeAdd64((__int64*)(next), 1))
    #else
      #define take_next(next) __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)
    #endif
    """
    ctypedef struct Share:
        Py_ssize_t next
        Py_ssize_t stop
    Py_ssize_t take_next(Py_ssize_t* next) noexcept nogil


cdef void process_unit(const Job* job, Py_ssize_t unit, char* scratch, int n_threads, Pair* loss_sums, const real* like) noexcept nogil:
    """The rows of one unit; n_threads > 1: one row, whose blocks they share."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t row = unit * job.unit_rows
    cdef Py_ssize_t stop = least(job.layout.batch.size, row + job.unit_rows)
    cdef LossSums sums
    cdef int count
    clear_losses(&sums)
    while row < stop:
        if job.across:
            count = <int>least(lanes, stop - row)
            if job.few:
                process_few(job, row, count, scratch, &sums, like)
            if job.few_classes:
                process_few_classes(job, row, count, scratch, &sums, like)
            elif not job.few or job.out.data != NULL:
                process_tile(job, row, count, scratch, &sums, like)
        elif job.short_rows:
            count = <int>least(job.batch_rows, stop - row)
            process_short_rows(job, row, count, scratch, &sums, like)
        else:
            count = <int>least(job.batch_rows, stop - row)
            process_rows(job, row, count, scratch, n_threads, &sums, like)
        row += count
    if loss_sums != NULL:
        loss_sums[unit] = sum_of_losses(<const LossSums*>&sums)


cdef void process_units(const Job* job, Py_ssize_t first, Py_ssize_t count, char* scratch, int n_threads, Pair* loss_sums,
                        const real* like) noexcept nogil:
    """What one task takes: up to `count` units, those that can be as one band."""
    cdef Py_ssize_t stop = least(job.layout.batch.size, (first + count) * job.unit_rows)
    cdef Py_ssize_t unit = first
    cdef Py_ssize_t n_rows
    if job.in_bands:
        n_rows = rows_for_band(job, first * job.unit_rows, stop, like)
        if n_rows > 0 and process_band(job, first * job.unit_rows, n_rows, scratch + job.band_at,
                                       loss_sums + first if loss_sums != NULL else NULL, like):
            unit += (n_rows + job.unit_rows - 1) // job.unit_rows
    while unit * job.unit_rows < stop:
        process_unit(job, unit, scratch, n_threads, loss_sums, like)
        unit += 1


cdef void do_tasks(const Job* job, Py_ssize_t n_tasks, Py_ssize_t in_task, char* scratch, int n_threads, Pair* loss_sums,
                   const real* like) noexcept nogil:
    """All tasks, one after the other."""
    cdef Py_ssize_t task
    for task in range(n_tasks):
        process_units(job, task * in_task, in_task, scratch, n_threads, loss_sums, like)
    write_last(job, scratch, like)


cdef void take_tasks(const Job* job, Share* shares, int n_shares, int own, Py_ssize_t in_task, char* scratch, Pair* loss_sums,
                     const real* like) noexcept nogil:
    """The tasks of one's own share, and then what is left of the others'."""
    cdef Share* share
    cdef Py_ssize_t task
    cdef int k
    for k in range(n_shares):
        share = &shares[(own + k) % n_shares]
        task = take_next(&share.next)
        while task < share.stop:
            process_units(job, task * in_task, in_task, scratch, 1, loss_sums, like)
            task = take_next(&share.next)
    write_last(job, scratch, like)


cdef inline void share_out(Py_ssize_t n_tasks, Share* shares, int n_shares) noexcept nogil:
    """Neighbours for each thread, the same ones in every call: they lie in its processor's own cache, perhaps."""
    cdef int k
    for k in range(n_shares):
        shares[k].next = n_tasks * k // n_shares
        shares[k].stop = n_tasks * (k + 1) // n_shares


cdef inline Py_ssize_t units_of_task(const Job* job, Py_ssize_t n_units, int n_threads) noexcept nogil:
    """How many units a task takes: UNIT_ELEMENTS together, for every new task is a jump in memory, but eight tasks for each thread."""
    cdef Py_ssize_t most = UNIT_ELEMENTS // (job.unit_rows * job.layout.row.size)
    cdef Py_ssize_t share = n_units // (8 * n_threads)
    return least(most, share) if most > 1 and share > 1 else 1


cdef double run(Job* job, int n_threads, const real* like) except? -1:
    """Do the job; the sum of the losses, whatever the number of threads in the same order."""
    cdef Py_ssize_t n_rows = job.layout.batch.size
    cdef Py_ssize_t n_units, unit, n_tasks
    cdef Py_ssize_t in_task
    cdef int own
    cdef Share* shares
    cdef Pair* loss_sums = NULL
    cdef Pair loss_sum
    cdef char* allocated
    cdef char* scratch
    choose_kernel(job, like)
    n_units = (n_rows + job.unit_rows - 1) // job.unit_rows
    cdef bint share_rows = n_threads > 1 and job.n_blocks > 1 and n_rows < 2 * n_threads and not job.across
    if n_units < n_threads and not share_rows:
        n_threads = <int>n_units
    in_task = units_of_task(job, n_units, n_threads)
    if job.in_bands:
        in_task = least(BAND_TILES, (n_units + n_threads - 1) // n_threads)
        job.band_at = job.scratch_size
        job.scratch_size += band_scratch(<int>in_task, like)
    n_tasks = (n_units + in_task - 1) // in_task
    allocated = <char*>calloc(n_threads * (job.scratch_size + sizeof(Share)) + 64, 1)
    if job.mode == LOSS:
        loss_sums = <Pair*>calloc(n_units, sizeof(Pair))
    if allocated == NULL or (job.mode == LOSS and loss_sums == NULL):
        free(allocated)
        free(loss_sums)
        raise MemoryError(f"scratch of {n_threads} x {job.scratch_size} bytes")
    shares = <Share*>((<uintptr_t>allocated + 63) & ~<uintptr_t>63)
    scratch = <char*>(shares + n_threads)

    if n_rows * job.layout.row.size < NOGIL_ELEMENTS:
        do_tasks(job, n_tasks, in_task, scratch, 1, loss_sums, like)
    elif n_threads == 1 or share_rows:
        with nogil:
            do_tasks(job, n_tasks, in_task, scratch, n_threads, loss_sums, like)
    else:
        share_out(n_tasks, shares, n_threads)
        for own in prange(n_threads, schedule="static", chunksize=1, num_threads=n_threads, nogil=True):
            take_tasks(job, shares, n_threads, own, in_task, scratch + threadid() * job.scratch_size, loss_sums, like)

    loss_sum.high = 0
    loss_sum.low = 0
    if loss_sums != NULL:
        for unit in range(n_units):
            add_to(&loss_sum, loss_sums[unit].high)
            loss_sum.low += loss_sums[unit].low
    free(allocated)
    free(loss_sums)
    return settle(loss_sum)


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
        job.needs_x = job.out.data == job.x.data
    run_for(&job, x, n_threads)


def log_softmax(cnp.ndarray x, int n_reduced, cnp.ndarray out, where, int n_threads):
    cdef Job job
    describe(&job, LOG_SOFTMAX, x, n_reduced, out, where)
    run_for(&job, x, n_threads)


cdef Weights weights_of(object weight):
    cdef Weights weights
    weights.f32 = NULL
    weights.f64 = NULL
    if weight is not None and cnp.PyArray_TYPE(weight) == cnp.NPY_FLOAT32:
        weights.f32 = <const float*>cnp.PyArray_DATA(weight)
    elif weight is not None:
        weights.f64 = <const double*>cnp.PyArray_DATA(weight)
    return weights


cdef double total_weight(Weights weights, Py_ssize_t n_classes) noexcept nogil:
    cdef Pair sum
    cdef Py_ssize_t i
    if not are_given(weights):
        return n_classes
    sum.high = 0
    sum.low = 0
    for i in range(n_classes):
        add_to(&sum, weight_at(weights, i))
    return settle(sum)


cdef Py_ssize_t kept_rows(const int64_t* target, Py_ssize_t n_rows, Py_ssize_t n_classes, int64_t ignore_index) noexcept nogil:
    """How many rows are not ignored; -1 if the target of one of them is no class."""
    cdef int64_t n_ignored = 0
    cdef int64_t n_invalid = 0
    cdef int64_t ignored
    cdef Py_ssize_t row
    for row in range(n_rows):
        ignored = target[row] == ignore_index
        n_ignored += ignored
        n_invalid += ((target[row] < 0) | (target[row] >= n_classes)) & (1 - ignored)
    return n_rows - n_ignored if n_invalid == 0 else -1


cdef Py_ssize_t first_invalid(const int64_t* target, Py_ssize_t n_rows, Py_ssize_t n_classes, int64_t ignore_index) noexcept nogil:
    cdef Py_ssize_t row
    for row in range(n_rows):
        if not 0 <= target[row] < n_classes and target[row] != ignore_index:
            return row
    return -1


cdef enum:
    WEIGHTS_AT_ONCE = 256


cdef void weights_of_rows(const int64_t* target, Py_ssize_t first, Py_ssize_t count, Weights weights, Weights sample_weight,
                          int64_t ignore_index, double* weight) noexcept nogil:
    """What rows count, their targets' weights included; 0 for ignored ones."""
    cdef double row_weight
    cdef Py_ssize_t i
    for i in range(count):
        row_weight = weight_at(sample_weight, first + i)
        weight[i] = 0
        if target[first + i] != ignore_index and row_weight != 0:
            weight[i] = row_weight * weight_at(weights, target[first + i])


cdef double kept_weight(const int64_t* target, Py_ssize_t n_rows, Py_ssize_t n_classes, Weights weights, Weights sample_weight,
                        int64_t ignore_index) noexcept nogil:
    """What the mean divides by; NaN if there is a target that is no class."""
    cdef Py_ssize_t row = 0
    cdef Py_ssize_t kept = kept_rows(target, n_rows, n_classes, ignore_index)
    cdef double weight[WEIGHTS_AT_ONCE]
    cdef LossSums sums
    cdef Py_ssize_t count
    if kept < 0:
        return NAN_F64
    if not (are_given(weights) or are_given(sample_weight)):
        return kept
    clear_losses(&sums)
    while row < n_rows:
        count = least(WEIGHTS_AT_ONCE, n_rows - row)
        weights_of_rows(target, row, count, weights, sample_weight, ignore_index, weight)
        add_losses(&sums, <const double*>weight, <int>count, <const double*>NULL)
        row += count
    return settle(sum_of_losses(<const LossSums*>&sums))


def check_target(cnp.ndarray target, Py_ssize_t n_classes, weight, sample_weight, int64_t ignore_index):
    cdef const int64_t* targets = <const int64_t*>cnp.PyArray_DATA(target)
    cdef Py_ssize_t n_rows = cnp.PyArray_SIZE(target)
    cdef Weights weights = weights_of(weight)
    cdef Weights row_weights = weights_of(sample_weight)
    cdef Py_ssize_t invalid
    cdef double kept = 0
    with nogil:
        kept = kept_weight(targets, n_rows, n_classes, weights, row_weights, ignore_index)
        invalid = first_invalid(targets, n_rows, n_classes, ignore_index) if kept != kept else -1
    return invalid, kept


def cross_entropy(cnp.ndarray logits, target, probabilities, loss, grad, weight, sample_weight, int64_t ignore_index,
                  double label_smoothing, double z_loss, double softcap, double grad_scale, int n_threads):
    cdef Job job
    describe(&job, LOSS, logits, 1, grad, None, probabilities)
    if target is not None:
        job.target = <const int64_t*>cnp.PyArray_DATA(target)
    if loss is not None:
        job.loss = cnp.PyArray_DATA(loss)
    if weight is not None:
        job.weight = cnp.PyArray_DATA(weight)
    job.sample_weight = weights_of(sample_weight)
    job.ignore_index = ignore_index
    job.smoothing = label_smoothing
    job.z_loss = z_loss
    job.softcap = softcap
    job.weight_total = total_weight(weights_of(weight), job.layout.row.size)
    job.grad_scale = grad_scale
    return run_for(&job, logits, n_threads)


include "small_calls.pxi"
include "loss_calls.pxi"
include "states.pxi"
include "segments.pxi"
include "scan.pxi"
include "log_space.pxi"
include "elementwise.pxi"
include "binary.pxi"
include "sweeps.pxi"
