# The binary loss of logits and its gradient. With a = |z|, e = exp(-a), A = pos_weight y and B = 1 - y,
#
#     loss = A softplus(-z) + B softplus(z) = (A + B) log(1 + e) + a C
#     grad = B expit(z) - A expit(-z)       = sign(z) (C - D e) / (1 + e)
#
# where C is the label's weight that the logit speaks against and D the other: (C, D) = (B, A) for z >= 0, else (A, B). Targets of
# 0 and 1 make one of A and B, hence of C and D, an exact zero, and nothing cancels.

cdef struct Step:      # what gradients are multiplied by, 1 / divisor
    double high
    double low
    double divisor


cdef inline Step step_of(double divisor, const real* like) noexcept nogil:
    """1 / divisor as a number of the working precision and what that lacks."""
    cdef Step step
    step.divisor = divisor
    step.high = real_of(1 / divisor, like)
    if real is float:
        step.low = 1 / divisor - step.high
    else:
        step.low = fma(-divisor, step.high, 1) / divisor
    return step


cdef inline void binary_element(real z, real y, real weight, real pos_weight, Step step, bint weighted, bint want_grad,
                                real* loss, real* grad) noexcept nogil:
    cdef real a = magnitude(z)
    cdef real e_scaled = exp_scaled(-a)
    cdef real e = noticeable(e_scaled)
    cdef real total = <real>1 + e
    cdef real missing, slope
    cdef real for_one = pos_weight * y if weighted else y
    cdef real for_zero = <real>1 - y
    cdef real against = pick(z < 0, for_one, for_zero)
    cdef real along = pick(z < 0, for_zero, for_one)
    # an infinite logit that its target agrees with costs nothing
    cdef real distance = pick(against == 0, <real>0, a * against)
    # one division for 1 / (2 + e) and step / (1 + e)
    cdef real inverse = <real>1 / (total * (<real>2 + e))
    cdef real log_scaled = log1p_scaled(e_scaled, e, total * inverse)
    if weighted:
        log_scaled = product(log_scaled, (for_one + for_zero) * weight)
        distance = distance * weight
    loss[0] = fma_of(log_scaled, unscale_of(z), distance)
    if weighted:
        loss[0] = pick(weight == 0, <real>0, loss[0])
    if want_grad:
        # step / (1 + e) to half an ulp, by a Newton step that knows what `step` and `total` were rounded by: the number of
        # elements that a mean divides by costs no accuracy
        inverse = inverse * <real>step.high * (<real>2 + e)
        missing = fma_of(-total, inverse, <real>step.high) + fma_of((total - <real>1) - e, inverse, <real>step.low)
        inverse = fma_of(missing, inverse * <real>step.divisor, inverse)
        slope = fma_of(-along, e_scaled, against * scale_of(z))
        if weighted:
            slope = product(slope, weight)
        slope = product(product(slope, inverse), pick(z < 0, -unscale_of(z), unscale_of(z)))
        grad[0] = pick(weight == 0, <real>0, slope) if weighted else slope


cdef inline void binary_group(const real* z, const real* y, const real* weight, const real* pos_weight, Step step,
                              bint weighted, bint want_grad, real* loss, real* grad) noexcept nogil:
    """LANES elements; the results overlap nothing. Not `weighted`: both weights are ones and are not read."""
    cdef int lanes = 64 if real is float else 32
    cdef int lane
    for lane in range(lanes):
        binary_element(z[lane], y[lane], weight[lane] if weighted else <real>1, pos_weight[lane] if weighted else <real>1, step,
                       weighted, want_grad, &loss[lane], &grad[lane])


cdef inline void any_binary_group(const real* z, const real* y, const real* weight, const real* pos_weight, Step step,
                                  bint want_grad, real* loss, real* grad) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef real ones[64]
    cdef int lane
    if weight == NULL and pos_weight == NULL:
        if want_grad:
            binary_group(z, y, NULL, NULL, step, False, True, loss, grad)
        else:
            binary_group(z, y, NULL, NULL, step, False, False, loss, grad)
        return
    for lane in range(lanes):
        ones[lane] = 1
    if weight == NULL:
        weight = ones
    if pos_weight == NULL:
        pos_weight = ones
    binary_group(z, y, weight, pos_weight, step, True, True, loss, grad)


cdef inline void add_loss_group(const real* loss, Sum* sum) noexcept nogil:
    """add_group, of float32 without a rounding in working precision: a mean has no more error than its terms."""
    cdef int j
    if real is float:
        for j in range(16):
            sum.part[j] += (<double>loss[j] + <double>loss[16 + j]) + (<double>loss[32 + j] + <double>loss[48 + j])
    else:
        add_group(loss, sum)


cdef inline void fill_tail(const real* source, Py_ssize_t count, real* to) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef int lane
    for lane in range(lanes):
        to[lane] = 0
    memcpy(to, source, count * sizeof(real))


cdef inline void binary_run(const real* z, const real* y, const real* weight, const real* pos_weight, double divisor,
                            real* loss, real* grad, Py_ssize_t count, Sum* sum) noexcept nogil:
    """One contiguous run; loss and grad may be NULL, grad may be z. The losses are added to `sum`."""
    cdef int lanes = 64 if real is float else 32
    cdef real tail[4][64]
    cdef real losses[64]
    cdef real grads[64]
    cdef Step step = step_of(divisor, z)
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t left
    cdef int lane
    while at + lanes <= count:
        any_binary_group(z + at, y + at, weight + at if weight != NULL else NULL, pos_weight + at if pos_weight != NULL else NULL,
                         step, grad != NULL, losses, grads)
        if loss != NULL:
            memcpy(loss + at, losses, lanes * sizeof(real))
        if grad != NULL:
            memcpy(grad + at, grads, lanes * sizeof(real))
        add_loss_group(losses, sum)
        at += lanes
    left = count - at
    if left > 0:
        fill_tail(z + at, left, tail[0])
        fill_tail(y + at, left, tail[1])
        if weight != NULL:
            fill_tail(weight + at, left, tail[2])
        if pos_weight != NULL:
            fill_tail(pos_weight + at, left, tail[3])
        any_binary_group(<const real*>tail[0], <const real*>tail[1], <const real*>tail[2] if weight != NULL else NULL,
                         <const real*>tail[3] if pos_weight != NULL else NULL, step, grad != NULL, losses, grads)
        for lane in range(<int>left, lanes):
            losses[lane] = 0
        if loss != NULL:
            memcpy(loss + at, losses, left * sizeof(real))
        if grad != NULL:
            memcpy(grad + at, grads, left * sizeof(real))
        add_loss_group(losses, sum)
