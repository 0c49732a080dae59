# The losses' fast lane: small_calls.pxi with a loss's targets, weights and options. What is not of the types that the kernels work
# on, or not right, goes the general way.

from cpython.float cimport PyFloat_AS_DOUBLE

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object, int* overflow) except? -1


cdef bint as_int64(object value, int64_t* number) except -1:
    cdef int overflow = 0
    if type(value) is not int:
        return False
    number[0] = PyLong_AsLongLongAndOverflow(value, &overflow)
    return overflow == 0


cdef bint as_double(object value, double* number) except -1:
    cdef int64_t integer = 0
    if isinstance(value, float):
        number[0] = PyFloat_AS_DOUBLE(value)
        return True
    if not as_int64(value, &integer):
        return False
    number[0] = integer
    return True


cdef bint set_options(Job* job, object ignore_index, object label_smoothing, object z_loss, object softcap) except -1:
    """The scalar options, if they are what _targets.as_options takes."""
    if not (as_int64(ignore_index, &job.ignore_index) and as_double(label_smoothing, &job.smoothing)
            and as_double(z_loss, &job.z_loss)):
        return False
    if softcap is not None and not (as_double(softcap, &job.softcap) and 0 < job.softcap < INF_F64):
        return False
    return 0 <= job.smoothing <= 1 and 0 <= job.z_loss < INF_F64


cdef bint set_target(Job* job, object target, cnp.ndarray logits):
    """Class indices, or class probabilities in the logits' type."""
    cdef int ndim = cnp.PyArray_NDIM(logits)
    if ndim < 2 or not (cnp.PyArray_CheckExact(target) and cnp.PyArray_ISCARRAY_RO(target)):
        return False
    if cnp.PyArray_TYPE(target) == cnp.NPY_INT64 and has_axes(target, logits, ndim - 1):
        job.target = <const int64_t*>cnp.PyArray_DATA(target)
        return True
    job.factor.data = cnp.PyArray_BYTES(target)
    return cnp.PyArray_TYPE(target) == cnp.PyArray_TYPE(logits) and has_axes(target, logits, ndim) and job.ignore_index < 0


cdef bint set_weights(Job* job, object weight, object sample_weight, cnp.ndarray logits):
    """The classes' weights in the logits' type."""
    cdef int last = cnp.PyArray_NDIM(logits) - 1
    if weight is not None:
        if not (is_plain(weight) and cnp.PyArray_TYPE(weight) == cnp.PyArray_TYPE(logits) and cnp.PyArray_NDIM(weight) == 1
                and cnp.PyArray_DIM(weight, 0) == cnp.PyArray_DIM(logits, last)):
            return False
        job.weight = cnp.PyArray_DATA(weight)
    if sample_weight is not None:
        if not (is_plain(sample_weight) and has_axes(sample_weight, logits, last)):
            return False
        job.sample_weight = weights_of(sample_weight)
    return True


cdef double kept_of(const Job* job, Py_ssize_t n_rows, Py_ssize_t n, Weights weights) noexcept nogil:
    """What the mean divides by; NaN if a target is no class."""
    if job.target == NULL:
        return n_rows
    return kept_weight(job.target, n_rows, n, weights, job.sample_weight, job.ignore_index)


cdef cnp.ndarray gradient_out(object out, cnp.ndarray logits, object target, object weight, object sample_weight):
    """rows_out, apart from everything else that a loss reads."""
    cdef cnp.ndarray grad = rows_out(out, logits)
    if grad is None or out is None:
        return grad
    if not is_apart(grad, target) or (weight is not None and not is_apart(grad, weight)):
        return None
    return grad if sample_weight is None or is_apart(grad, sample_weight) else None


def cross_entropy_rows(logits, target, weight, axis, sample_weight, ignore_index, reduction, label_smoothing, z_loss, softcap,
                       bint want_grad, out, n_threads, resolve):
    cdef Job job
    cdef cnp.ndarray grad = None
    cdef cnp.ndarray losses = None
    cdef Weights weights
    cdef Py_ssize_t n_rows, n
    cdef double divisor, loss_sum
    cdef bint mean
    if axis is None or type(reduction) is not str or not plain_rows(logits, axis, &n_rows, &n):
        return None
    mean = reduction == "mean"
    plain_job(&job, LOSS)
    if not (set_options(&job, ignore_index, label_smoothing, z_loss, softcap) and set_target(&job, target, logits)
            and set_weights(&job, weight, sample_weight, logits) and (mean or reduction == "sum" or reduction == "none")):
        return None
    weights = weights_of(weight)
    if n_rows < NOGIL_ELEMENTS:
        divisor = kept_of(&job, n_rows, n, weights)
    else:
        with nogil:
            divisor = kept_of(&job, n_rows, n, weights)
    if divisor != divisor:
        return None
    if want_grad:
        grad = gradient_out(out, logits, target, weight, sample_weight)
        if grad is None:
            return None
    if not mean:
        divisor = 1
        if reduction == "none":
            losses = cnp.PyArray_SimpleNew(cnp.PyArray_NDIM(logits) - 1, cnp.PyArray_DIMS(logits), cnp.PyArray_TYPE(logits))
            job.loss = cnp.PyArray_DATA(losses)
    job.weight_total = total_weight(weights, n)
    job.grad_scale = 1 / divisor if divisor != 0 else 0
    loss_sum = run_plain(&job, logits, grad, n_rows, n, n_threads, resolve)
    return losses if losses is not None else scalar_of(loss_sum / divisor, logits), grad
