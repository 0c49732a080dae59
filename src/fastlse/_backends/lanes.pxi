# Work on one contiguous run of numbers, lanes along the run. LANES is 64 for float32 and 32 for float64: 256 bytes, 4 AVX-512
# or 8 AVX2 or 16 SSE registers. It is written as a local `cdef int lanes = 64 if real is float else 32`, which reaches the
# compiler as a literal; a group is one step of LANES elements.

cdef extern from *:
    """
    #if defined(__GNUC__)
      #define PREFETCH(address) __builtin_prefetch(address)
    #else
      #define PREFETCH(address) ((void)(address))
    #endif
    """
    void PREFETCH(const void*) noexcept nogil


cdef inline real larger(real a, real b) noexcept nogil:
    """The larger of two numbers; b where either is NaN. One instruction, unlike fmax."""
    return a if a > b else b


cdef inline real pick(bint condition, real a, real b) noexcept nogil:
    """a or b: both are at hand, so this is a blend and no branch."""
    return a if condition else b


cdef inline real run_max(const real* x, Py_ssize_t n) noexcept nogil:
    """The largest number of a run, NaN skipped (it comes back through the sum); -inf for none."""
    cdef int lanes = 64 if real is float else 32
    cdef real best[64]
    cdef real result = real_of(-INF_F64, x)
    cdef Py_ssize_t i = 0
    cdef int lane
    if n < lanes:
        for i in range(n):
            result = larger(x[i], result)
        return result
    for lane in range(lanes):
        best[lane] = result
    while i + lanes <= n:
        for lane in range(lanes):
            best[lane] = larger(x[i + lane], best[lane])
        i += lanes
    if i < n:
        # the last group overlaps the one before: a maximum does not mind
        for lane in range(lanes):
            best[lane] = larger(x[n - lanes + lane], best[lane])
    for lane in range(lanes // 2):
        best[lane] = larger(best[lane], best[lanes // 2 + lane])
    for lane in range(lanes // 4):
        best[lane] = larger(best[lane], best[lanes // 4 + lane])
    for lane in range(lanes // 8):
        best[lane] = larger(best[lane], best[lanes // 8 + lane])
    result = best[0]
    for lane in range(1, lanes // 8):
        result = larger(best[lane], result)
    return result


cdef inline Py_ssize_t run_find(const real* x, Py_ssize_t n, real value) noexcept nogil:
    """The first position of a value that the run is known to hold."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t i = 0
    cdef int lane, found
    while i + lanes <= n:
        found = 0
        for lane in range(lanes):
            found |= x[i + lane] == value
        if found:
            break
        i += lanes
    while i < n - 1 and not x[i] == value:
        i += 1
    return i


cdef inline bint run_has_nan(const real* x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef int found = 0
    for i in range(n):
        found |= x[i] != x[i]
    return found


cdef inline void padded_group(const real* x, int count, real shift, Py_ssize_t skip, real* e_out, Sum* sum) noexcept nogil:
    """A group that is short or holds the element to leave out of the sum: through the same body, padded with -inf."""
    cdef int lanes = 64 if real is float else 32
    cdef real group[64]
    cdef real e[64]
    cdef int lane
    if count < lanes:
        for lane in range(lanes):
            group[lane] = real_of(-INF_F64, x)
        for lane in range(count):
            group[lane] = x[lane]
    else:
        for lane in range(lanes):
            group[lane] = x[lane]
    for lane in range(lanes):
        e[lane] = exp_scaled(group[lane] - shift)
    if e_out != NULL:
        for lane in range(count):
            e_out[lane] = e[lane]
    if 0 <= skip < count:
        e[skip] = 0
    add_group(<const real*>e, sum)


cdef inline void prefetch_group(const char* address) noexcept nogil:
    PREFETCH(address)
    PREFETCH(address + 64)
    PREFETCH(address + 128)
    PREFETCH(address + 192)


cdef inline void full_groups(const real* x, Py_ssize_t n, real shift, real* e_out, Py_ssize_t ahead, Sum* sum) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef real e[64]
    cdef Py_ssize_t i = 0
    cdef int lane
    if e_out == NULL:
        while i < n:
            if ahead != 0:
                prefetch_group(<const char*>(x + i) + ahead)
            for lane in range(lanes):
                e[lane] = exp_scaled(x[i + lane] - shift)
            add_group(<const real*>e, sum)
            i += lanes
    else:
        # through `e`, which cannot overlap x, so that working in place vectorises
        while i < n:
            if ahead != 0:
                prefetch_group(<const char*>(x + i) + ahead)
            for lane in range(lanes):
                e[lane] = exp_scaled(x[i + lane] - shift)
            for lane in range(lanes):
                e_out[i + lane] = e[lane]
            add_group(<const real*>e, sum)
            i += lanes


cdef inline void run_sum_exp(const real* x, Py_ssize_t n, real shift, Py_ssize_t skip, real* e_out, Py_ssize_t ahead,
                             Sum* sum) noexcept nogil:
    """Add exp_scaled(x - shift) of all elements but x[skip]; store all of them in e_out unless that is NULL.

    e_out may be x. What lies `ahead` bytes further on is fetched on the way, unless that is 0. Runs are joined by calls in
    order, every run but a row's last a multiple of LANES long.
    """
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t whole = n - n % lanes
    cdef Py_ssize_t i = 0
    if 0 <= skip < whole:
        i = skip - skip % lanes
        full_groups(x, i, shift, e_out, ahead, sum)
        padded_group(x + i, lanes, shift, skip - i, e_out + i if e_out != NULL else NULL, sum)
        i += lanes
    full_groups(x + i, whole - i, shift, e_out + i if e_out != NULL else NULL, ahead, sum)
    if whole < n:
        padded_group(x + whole, <int>(n - whole), shift, skip - whole, e_out + whole if e_out != NULL else NULL, sum)


cdef inline void run_exp(const real* x, Py_ssize_t n, real shift, real* e_out) noexcept nogil:
    """exp_scaled(x - shift); e_out may be x."""
    cdef int lanes = 64 if real is float else 32
    cdef real e[64]
    cdef Py_ssize_t i = 0
    cdef int lane
    while i + lanes <= n:
        for lane in range(lanes):
            e[lane] = exp_scaled(x[i + lane] - shift)
        for lane in range(lanes):
            e_out[i + lane] = e[lane]
        i += lanes
    while i < n:
        e_out[i] = exp_scaled(x[i] - shift)
        i += 1


cdef inline void run_sum_deficit(const real* x, Py_ssize_t n, real shift, const real* weight, Sum* sum) noexcept nogil:
    """Add weight * (shift - x), which label smoothing needs; weight NULL stands for ones."""
    cdef int lanes = 64 if real is float else 32
    cdef real term[64]
    cdef Py_ssize_t i = 0
    cdef int lane, count
    while i < n:
        count = <int>(n - i) if n - i < lanes else lanes
        if count < lanes:
            for lane in range(lanes):
                term[lane] = 0
        if weight == NULL:
            for lane in range(count):
                term[lane] = shift - x[i + lane]
        else:
            for lane in range(count):
                term[lane] = pick(weight[i + lane] == 0, <real>0, weight[i + lane] * (shift - x[i + lane]))
        add_group(<const real*>term, sum)
        i += lanes


cdef inline real flushed(real e, real floor) noexcept nogil:
    """Zero where the product to come would be subnormal: by comparison, since such a product costs 150 cycles."""
    return e if e >= floor else <real>0


cdef inline void run_scale(real* e, Py_ssize_t n, real scale, real floor) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        e[i] = flushed(e[i], floor) * scale


cdef inline void run_scale_minus(real* e, Py_ssize_t n, real scale, real floor, real offset, const real* weight) noexcept nogil:
    """scale * e - offset * weight; weight NULL stands for ones."""
    cdef Py_ssize_t i
    if weight == NULL:
        for i in range(n):
            e[i] = flushed(e[i], floor) * scale - offset
    else:
        for i in range(n):
            e[i] = flushed(e[i], floor) * scale - offset * weight[i]


cdef inline void run_log(const real* x, Py_ssize_t n, real shift, real log_total, real* out) noexcept nogil:
    """(x - shift) - log_total; out may be x."""
    cdef int lanes = 64 if real is float else 32
    cdef real value[64]
    cdef Py_ssize_t i = 0
    cdef int lane
    while i + lanes <= n:
        for lane in range(lanes):
            value[lane] = (x[i + lane] - shift) - log_total
        for lane in range(lanes):
            out[i + lane] = value[lane]
        i += lanes
    while i < n:
        out[i] = (x[i] - shift) - log_total
        i += 1
