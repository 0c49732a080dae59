# One sweep over the elements of arrays of one shape: what expit, log_expit, softplus and the binary loss have in common. An array
# that is one C-contiguous run is used where it lies, any other goes through a scratch of SWEEP_PIECE elements.

cdef extern from *:
    """
    #define SWEEP_PIECE 512
    """
    const Py_ssize_t SWEEP_PIECE

cdef extern from "numpy/arrayobject.h":
    object PyArray_Scalar(void* value, cnp.dtype dtype, object base)

cdef enum Role:
    LOGITS        # what is read
    TARGET
    WEIGHT
    POS_WEIGHT
    LOSSES        # what is written, from here on
    RESULT        # the function's value, or the gradient
    N_ROLES

cdef struct Sweep:
    Function function
    Axes axes
    Operand operand[6]     # by Role; data NULL: not given
    bint flat[6]           # one run, in the order of the sweep
    bint all_flat
    double divisor


cdef void run_piece(const Sweep* sweep, char** at, Py_ssize_t count, Sum* sum, const real* like) noexcept nogil:
    if sweep.function == BINARY:
        binary_run(<const real*>at[<int>LOGITS], <const real*>at[<int>TARGET], <const real*>at[<int>WEIGHT],
                   <const real*>at[<int>POS_WEIGHT], sweep.divisor, <real*>at[<int>LOSSES], <real*>at[<int>RESULT], count, sum)
    else:
        elementwise_run(sweep.function, <const real*>at[<int>LOGITS], <real*>at[<int>RESULT], count)


cdef void sweep_scattered(const Sweep* sweep, Py_ssize_t start, Py_ssize_t stop, Sum* sum, const real* like) noexcept nogil:
    cdef real scratch[6][512]
    cdef char* at[6]
    cdef Py_ssize_t count
    cdef int role
    while start < stop:
        count = least(SWEEP_PIECE, stop - start)
        for role in range(<int>N_ROLES):
            at[role] = NULL
            if sweep.operand[role].data != NULL:
                if sweep.flat[role]:
                    at[role] = sweep.operand[role].data + start * <Py_ssize_t>sizeof(real)
                    continue
                at[role] = <char*>scratch[role]
                if role < <int>LOSSES:
                    gather(&sweep.operand[role], &sweep.axes, sweep.operand[role].data, start, count, scratch[role], 1)
        run_piece(sweep, at, count, sum, like)
        for role in range(<int>LOSSES, <int>N_ROLES):
            if at[role] == <char*>scratch[role]:
                scatter(<const real*>scratch[role], 1, &sweep.operand[role], &sweep.axes, sweep.operand[role].data, start, count)
        start += count


cdef void sweep_unit(const Sweep* sweep, Py_ssize_t unit, double* unit_sums, const real* like) noexcept nogil:
    """The elements of one task."""
    cdef Py_ssize_t start = unit * UNIT_ELEMENTS
    cdef Py_ssize_t stop = least(sweep.axes.size, start + UNIT_ELEMENTS)
    cdef char* at[6]
    cdef int role
    cdef Sum sum
    clear(&sum)
    if sweep.all_flat:
        for role in range(<int>N_ROLES):
            at[role] = NULL
            if sweep.operand[role].data != NULL:
                at[role] = sweep.operand[role].data + start * <Py_ssize_t>sizeof(real)
        run_piece(sweep, at, stop - start, &sum, like)
    else:
        sweep_scattered(sweep, start, stop, &sum, like)
    unit_sums[unit] = settled_total(&sum, like)


cdef double run_sweep(const Sweep* sweep, int n_threads, const real* like) except? -1:
    """Do it; the sum of the losses, whatever the number of threads in the same order."""
    cdef Py_ssize_t n_units = (sweep.axes.size + UNIT_ELEMENTS - 1) // UNIT_ELEMENTS
    cdef Py_ssize_t unit
    cdef double only_sum = 0
    cdef double* unit_sums = &only_sum
    cdef Pair sum
    if n_units > 1:
        unit_sums = <double*>calloc(n_units, sizeof(double))
        if unit_sums == NULL:
            raise MemoryError(f"the sums of {n_units} blocks")
    if sweep.axes.size < NOGIL_ELEMENTS:
        for unit in range(n_units):
            sweep_unit(sweep, unit, unit_sums, like)
    elif n_threads == 1:
        with nogil:
            for unit in range(n_units):
                sweep_unit(sweep, unit, unit_sums, like)
    else:
        for unit in prange(n_units, schedule="dynamic", num_threads=n_threads, nogil=True):
            sweep_unit(sweep, unit, unit_sums, like)
    sum.high = 0
    sum.low = 0
    for unit in range(n_units):
        add_to(&sum, unit_sums[unit])
    if n_units > 1:
        free(unit_sums)
    return settle(sum)


cdef double run_sweep_for(const Sweep* sweep, cnp.ndarray x, int n_threads) except? -1:
    if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32:
        return run_sweep(sweep, n_threads, <const float*>NULL)
    return run_sweep(sweep, n_threads, <const double*>NULL)


cdef void describe_sweep(Sweep* sweep, Function function, tuple arrays):
    """The arrays by Role, None for one not given; all of one shape."""
    cdef Operand* operands[6]
    cdef cnp.ndarray x = arrays[<int>LOGITS]
    cdef int n_operands = 0
    cdef int axis, role
    memset(sweep, 0, sizeof(Sweep))
    sweep.function = function
    sweep.axes.count = cnp.PyArray_NDIM(x)
    for axis in range(sweep.axes.count):
        sweep.axes.length[axis] = cnp.PyArray_DIM(x, axis)
    sweep.all_flat = True
    for role in range(<int>N_ROLES):
        if arrays[role] is not None:
            operands[n_operands] = &sweep.operand[role]
            n_operands += 1
            describe_operand(&sweep.operand[role], arrays[role], 0, sweep.axes.count)
            sweep.flat[role] = cnp.PyArray_IS_C_CONTIGUOUS(arrays[role]) and sweep.operand[role].addressable
            sweep.all_flat &= sweep.flat[role]
    coalesce(&sweep.axes, operands, n_operands, True)


cdef void plain_sweep(Sweep* sweep, Function function, cnp.ndarray x) noexcept:
    """A sweep over C-contiguous arrays; only what such a one reads is set."""
    cdef int role
    sweep.function = function
    sweep.axes.size = cnp.PyArray_SIZE(x)
    sweep.all_flat = True
    for role in range(<int>N_ROLES):
        sweep.operand[role].data = NULL
    sweep.operand[<int>LOGITS].data = cnp.PyArray_BYTES(x)


cdef Function function_named(str name) except *:
    if name == "expit":
        return EXPIT
    if name == "log_expit":
        return LOG_EXPIT
    return SOFTPLUS


# ---- the backend's functions (see _logistic.py) ----

def elementwise(str name, cnp.ndarray x, cnp.ndarray out, int n_threads):
    cdef Sweep sweep
    describe_sweep(&sweep, function_named(name), (x, None, None, None, None, out))
    run_sweep_for(&sweep, x, n_threads)


def elementwise_plain(str name, x, out, resolve):
    cdef Sweep sweep
    cdef cnp.ndarray result
    cdef double scalar
    cdef int n_threads = 1
    if isinstance(x, float) and out is None:
        scalar = x
        elementwise_run(function_named(name), &scalar, &scalar, 1)
        return PyArray_Scalar(&scalar, cnp.PyArray_DescrFromType(cnp.NPY_DOUBLE), None)
    if not is_plain(x) or cnp.PyArray_NDIM(x) == 0:
        return None
    result = rows_out(out, x)
    if result is None:
        return None
    plain_sweep(&sweep, function_named(name), x)
    sweep.operand[<int>RESULT].data = cnp.PyArray_BYTES(result)
    if sweep.axes.size >= 2 * UNIT_ELEMENTS:
        n_threads = resolve(None, sweep.axes.size)
    run_sweep_for(&sweep, x, n_threads)
    return result


def binary_cross_entropy(cnp.ndarray logits, cnp.ndarray target, loss, grad, weight, pos_weight, double divisor, int n_threads):
    cdef Sweep sweep
    describe_sweep(&sweep, BINARY, (logits, target, weight, pos_weight, loss, grad))
    sweep.divisor = divisor
    return run_sweep_for(&sweep, logits, n_threads)


def binary_cross_entropy_plain(logits, target, bint want_grad, out, resolve):
    cdef Sweep sweep
    cdef cnp.ndarray grad = None
    cdef int n_threads = 1
    if not (is_plain(logits) and is_plain(target) and cnp.PyArray_TYPE(target) == cnp.PyArray_TYPE(logits)
            and has_axes(target, logits, cnp.PyArray_NDIM(logits)) and 0 < cnp.PyArray_NDIM(logits)
            and 0 < cnp.PyArray_SIZE(logits)):
        return None
    plain_sweep(&sweep, BINARY, logits)
    sweep.operand[<int>TARGET].data = cnp.PyArray_BYTES(target)
    sweep.divisor = sweep.axes.size
    if want_grad:
        grad = rows_out(out, logits)
        if grad is None or (out is not None and not is_apart(grad, target)):
            return None
        sweep.operand[<int>RESULT].data = cnp.PyArray_BYTES(grad)
    if sweep.axes.size >= 2 * UNIT_ELEMENTS:
        n_threads = resolve(None, sweep.axes.size)
    return scalar_of(run_sweep_for(&sweep, logits, n_threads) / sweep.axes.size, logits), grad
