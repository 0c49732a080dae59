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


cdef inline bint run_has_nan(const real* x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef int found = 0
    for i in range(n):
        found |= x[i] != x[i]
    return found


cdef inline void prefetch_group(const char* address) noexcept nogil:
    PREFETCH(address)
    PREFETCH(address + 64)
    PREFETCH(address + 128)
    PREFETCH(address + 192)


cdef inline void add_exp_group(const real* x, real shift, Sum* sum) noexcept nogil:
    """add_group of exp_scaled(x - shift), its four quarters side by side so that no exponential leaves its register."""
    cdef int j
    if real is float:
        for j in range(16):
            sum.part[j] += ((exp_scaled(x[j] - shift) + exp_scaled(x[16 + j] - shift))
                            + (exp_scaled(x[32 + j] - shift) + exp_scaled(x[48 + j] - shift)))
    else:
        for j in range(8):
            add_pair(&sum.part[j], &sum.part[8 + j],
                     (exp_scaled(x[j] - shift) + exp_scaled(x[8 + j] - shift))
                     + (exp_scaled(x[16 + j] - shift) + exp_scaled(x[24 + j] - shift)))


cdef inline void store_exp_group(const real* x, real shift, real* e_out, real* e) noexcept nogil:
    """exp_scaled(x - shift) of a group to e_out; through e, which cannot overlap x, so that working in place vectorises."""
    cdef int lanes = 64 if real is float else 32
    cdef int lane
    for lane in range(lanes):
        e[lane] = exp_scaled(x[lane] - shift)
    for lane in range(lanes):
        e_out[lane] = e[lane]


cdef inline real only_below(real limit, int lane, real e) noexcept nogil:
    """e in the lanes below limit, else nothing at all."""
    return pick(<real>lane < limit, e, <real>0)


cdef inline void add_exp_tail(const real* x, Py_ssize_t count, real shift, Py_ssize_t skip, real* e_out, Sum* sum) noexcept nogil:
    """add_exp_group for the `count` elements after the last whole group: through the same body, filled up."""
    cdef int lanes = 64 if real is float else 32
    cdef real group[64]
    cdef real e[64]
    cdef real limit = <real>count
    cdef int lane, j
    for lane in range(lanes):
        group[lane] = real_of(-INF_F64, x)
    memcpy(group, x, count * sizeof(real))
    if e_out != NULL:
        for lane in range(lanes):
            e[lane] = only_below(limit, lane, exp_scaled(group[lane] - shift))
        memcpy(e_out, e, count * sizeof(real))
        if 0 <= skip < count:
            e[skip] = exp_scaled(real_of(-INF_F64, x))
        add_group(<const real*>e, sum)
        return
    if 0 <= skip < count:
        group[skip] = real_of(-INF_F64, x)
    if real is float:
        for j in range(16):
            sum.part[j] += ((only_below(limit, j, exp_scaled(group[j] - shift))
                             + only_below(limit, 16 + j, exp_scaled(group[16 + j] - shift)))
                            + (only_below(limit, 32 + j, exp_scaled(group[32 + j] - shift))
                               + only_below(limit, 48 + j, exp_scaled(group[48 + j] - shift))))
    else:
        for j in range(8):
            add_pair(&sum.part[j], &sum.part[8 + j],
                     (only_below(limit, j, exp_scaled(group[j] - shift))
                      + only_below(limit, 8 + j, exp_scaled(group[8 + j] - shift)))
                     + (only_below(limit, 16 + j, exp_scaled(group[16 + j] - shift))
                        + only_below(limit, 24 + j, exp_scaled(group[24 + j] - shift))))


cdef inline void add_exp_short(const real* x, Py_ssize_t count, real shift, Py_ssize_t skip, real* e_out, Sum* sum) noexcept nogil:
    """add_exp_group for a whole row of up to SHORT_SUM elements."""
    cdef real group[16]
    cdef real e[16]
    cdef int lane
    for lane in range(16):
        group[lane] = x[lane] if lane < count else real_of(-INF_F64, x)
    for lane in range(16):
        e[lane] = exp_scaled(group[lane] - shift)
    for lane in range(<int>count):
        if e_out != NULL:
            e_out[lane] = e[lane]
    if 0 <= skip < count:
        e[skip] = exp_scaled(real_of(-INF_F64, x))
    for lane in range(<int>count, 16):
        e[lane] = 0
    add_short(<const real*>e, sum)


cdef void add_exp_groups(const real* x, Py_ssize_t n, const real* stand_in, Py_ssize_t replaced, real shift, Py_ssize_t ahead,
                         Sum* sum) noexcept nogil:
    """add_exp_group for n elements, a whole number of groups; stand_in for the group at `replaced`.

    Not inline, as its sibling: in a function of its own the constants stay in registers (AVX2, float32: 0.37 -> 0.32 ns).
    """
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t i = 0
    cdef Sum local = sum[0]        # which nothing else can point to
    # chosen by address: to cut the loop in two there would be a misprediction for each row
    while i < n:
        if ahead != 0:
            prefetch_group(<const char*>(x + i) + ahead)
        add_exp_group(stand_in if i == replaced else x + i, shift, &local)
        i += lanes
    sum[0] = local


cdef void store_exp_groups(const real* x, Py_ssize_t n, const real* stand_in, Py_ssize_t replaced, real shift, Py_ssize_t ahead,
                           real* e_out, Sum* sum) noexcept nogil:
    """add_exp_groups that stores the exponentials, too: at e_out, which may be x."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t i = 0
    cdef real e[64]
    cdef Sum local = sum[0]
    while i < n:
        if ahead != 0:
            prefetch_group(<const char*>(x + i) + ahead)
        store_exp_group(stand_in if i == replaced else x + i, shift, e_out + i, e)
        add_group(<const real*>e, &local)
        i += lanes
    sum[0] = local


cdef inline void run_sum_exp(const real* x, Py_ssize_t n, real shift, Py_ssize_t skip, bint short_row, real* e_out,
                             Py_ssize_t ahead, Sum* sum) noexcept nogil:
    """Add exp_scaled(x - shift) of all elements, x[skip] as if it were -inf; store all of them in e_out unless that is NULL.

    e_out may be x. What lies `ahead` bytes further on is fetched on the way, unless that is 0. Runs are joined by calls in
    order, every run but a row's last a multiple of LANES long.
    """
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t whole = n - n % lanes
    cdef Py_ssize_t skipped = skip - skip % lanes if 0 <= skip < whole else -1
    cdef int lane
    cdef real stand_in[64]         # for the group with the element to leave out
    if short_row:
        add_exp_short(x, n, shift, skip, e_out, sum)
        return
    if skipped >= 0:
        for lane in range(lanes):
            stand_in[lane] = x[skipped + lane]
        stand_in[skip - skipped] = real_of(-INF_F64, x)
    if e_out == NULL:
        add_exp_groups(x, whole, <const real*>stand_in, skipped, shift, ahead, sum)
    else:
        store_exp_groups(x, whole, <const real*>stand_in, skipped, shift, ahead, e_out, sum)
        if skipped >= 0:
            e_out[skip] = exp_scaled(real_of(0, x))
    if whole < n:
        add_exp_tail(x + whole, n - whole, shift, skip - whole, e_out + whole if e_out != NULL else NULL, sum)


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


cdef inline void run_sum_deficit(const real* x, Py_ssize_t n, real shift, const real* weight, bint short_row,
                                 Sum* sum) noexcept nogil:
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
        if short_row:
            add_short(<const real*>term, sum)
        else:
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
