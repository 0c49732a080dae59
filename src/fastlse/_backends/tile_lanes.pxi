# Work on LANES numbers that belong to LANES rows: lanes.pxi turned by 90 degrees, for tiles.pxi. Sums are kept as parts: for each
# of the positions of sums.pxi a row of LANES doubles (float64: the low parts in the rows from 8 on).

cdef inline void lane_exp(const real* x, const real* shift, real* e) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef real d[16]
    cdef real value[16]
    cdef int at = 0
    cdef int j
    if real is double:            # which needs no steps, and is 5 % faster without (float64, ten classes)
        for j in range(lanes):
            e[j] = exp_scaled(x[j] - shift[j])
        return
    while at < lanes:
        for j in range(16):
            d[j] = x[at + j] - shift[at + j]
        exp_of_lanes(<const real*>d, 16, value)
        for j in range(16):
            e[at + j] = value[j]
        at += 16


cdef inline void lane_copy(const real* source, real* to) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef int lane
    for lane in range(lanes):
        to[lane] = source[lane]


cdef inline void lane_copy_some(const real* source, int count, real* to) noexcept nogil:
    """lane_copy of the first `count` lanes."""
    cdef int lanes = 64 if real is float else 32
    cdef int at = 0
    cdef int lane
    if count == lanes:
        lane_copy(source, to)
        return
    while at + 8 <= count:
        for lane in range(8):
            to[at + lane] = source[at + lane]
        at += 8
    for lane in range(at, count):
        to[lane] = source[lane]


cdef inline void lane_deficit(const real* x, const real* max, real weight, real* term) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef int lane
    for lane in range(lanes):
        term[lane] = deficit_of(x[lane], max[lane], weight)


cdef inline void lane_pull_deficit(const real* x, const real* max, const real* pull, real* term) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef int lane
    for lane in range(lanes):
        term[lane] = deficit_of(x[lane], max[lane], pull[lane])


cdef inline void lane_pulls(real* pull, real weight, double smoothing, double share) noexcept nogil:
    """run_pulls for the lanes of one class."""
    cdef int lanes = 64 if real is float else 32
    cdef real kept = real_of(1 - smoothing, pull)
    cdef real each = real_of(share, pull)
    cdef int lane
    for lane in range(lanes):
        pull[lane] = smoothed(pull[lane], kept, each) * weight


cdef inline void lane_exp_pair(const real* x, const real* y, const real* shift, real* e_x, real* e_y) noexcept nogil:
    """Two rows at once: the exponential is a long chain of dependent operations, and more at once do not fit into registers."""
    cdef int lanes = 64 if real is float else 32
    cdef real d[32]
    cdef real value[32]
    cdef int at = 0
    cdef int j
    if real is double:
        for j in range(lanes):
            e_x[j] = exp_scaled(x[j] - shift[j])
            e_y[j] = exp_scaled(y[j] - shift[j])
        return
    while at < lanes:
        for j in range(16):
            d[j] = x[at + j] - shift[at + j]
            d[16 + j] = y[at + j] - shift[at + j]
        exp_of_lanes(<const real*>d, 32, value)
        for j in range(16):
            e_x[at + j] = value[j]
            e_y[at + j] = value[16 + j]
        at += 16


cdef inline void lane_exps(const char* rows, Py_ssize_t step, int count, const real* shift, real[4][64] e) noexcept nogil:
    """Up to four rows, `step` bytes apart."""
    cdef int q = 0
    while q + 2 <= count:
        lane_exp_pair(<const real*>(rows + q * step), <const real*>(rows + (q + 1) * step), shift, e[q], e[q + 1])
        q += 2
    if q < count:
        lane_exp(<const real*>(rows + q * step), shift, e[q])


cdef inline void lane_drop(real* e, const real* position, real at) noexcept nogil:
    """0 in the lanes whose maximum stands here."""
    cdef int lanes = 64 if real is float else 32
    cdef int lane
    for lane in range(lanes):
        e[lane] = 0 if position[lane] == at else e[lane]


cdef inline void lane_keep_and_drop(real* e, const real* position, real at, real* kept) noexcept nogil:
    """Copy to `kept`, then lane_drop."""
    cdef int lanes = 64 if real is float else 32
    cdef int lane
    for lane in range(lanes):
        kept[lane] = e[lane]
        e[lane] = 0 if position[lane] == at else e[lane]


cdef inline void lane_fold_quarters(real[4][64] quarter, int quarters) noexcept nogil:
    """(q0 + q1) + (q2 + q3) into the first, what is missing being zero."""
    cdef int lanes = 64 if real is float else 32
    cdef int lane
    if quarters > 1:
        for lane in range(lanes):
            quarter[0][lane] += quarter[1][lane]
    if quarters == 3:
        for lane in range(lanes):
            quarter[0][lane] += quarter[2][lane]
    if quarters == 4:
        for lane in range(lanes):
            quarter[0][lane] += quarter[2][lane] + quarter[3][lane]


cdef inline void lane_set(const real* term, double* parts, int j) noexcept nogil:
    """The first terms for position j."""
    cdef int lanes = 64 if real is float else 32
    cdef int lane
    for lane in range(lanes):
        parts[j * lanes + lane] = term[lane]
        if real is double:
            parts[(8 + j) * lanes + lane] = 0


cdef inline void lane_add(const real* term, double* parts, int j) noexcept nogil:
    """add_group of sums.pxi for position j, one sum for each lane."""
    cdef int lanes = 64 if real is float else 32
    cdef double* high = parts + j * lanes
    cdef double* low = parts + (8 + j) * lanes
    cdef double sum, from_term
    cdef int lane
    if real is float:
        for lane in range(lanes):
            high[lane] += term[lane]
    else:
        for lane in range(lanes):
            sum = high[lane] + term[lane]
            from_term = sum - high[lane]
            low[lane] += (high[lane] - (sum - from_term)) + (term[lane] - from_term)
            high[lane] = sum


cdef inline void lane_fold(double* parts, int half, int used, const real* like) noexcept nogil:
    """One level of the tree: add position j + half to position j. `half` must be a literal, or nothing vectorises."""
    cdef int lanes = 64 if real is float else 32
    cdef double* high
    cdef double* low
    cdef double sum, from_second
    cdef int j, lane
    cdef int upper = half * lanes
    for j in range(used - half if used - half < half else half):
        high = parts + j * lanes
        if real is float:
            for lane in range(lanes):
                high[lane] += high[upper + lane]
        else:
            low = high + 8 * lanes
            for lane in range(lanes):
                sum = high[lane] + high[upper + lane]
                from_second = sum - high[lane]
                low[lane] = (low[lane] + low[upper + lane]) + ((high[lane] - (sum - from_second)) + (high[upper + lane] - from_second))
                high[lane] = sum


cdef inline void lane_total(double* parts, int used, const real* like) noexcept nogil:
    """total of sums.pxi: the tree over the positions, into position 0. Positions from `used` on are zero: skipped."""
    if real is float:
        lane_fold(parts, 8, used, like)
    lane_fold(parts, 4, used, like)
    lane_fold(parts, 2, used, like)
    lane_fold(parts, 1, used, like)


cdef inline Pair total_of_four(real a, real b, real c, real d) noexcept nogil:
    """total of the four sums of a short row."""
    cdef double first, second, first_low, second_low, from_term
    cdef Pair sum
    if real is float:
        sum.high = (<double>a + <double>c) + (<double>b + <double>d)
        sum.low = 0
    else:
        first = a + c
        from_term = first - a
        first_low = (a - (first - from_term)) + (c - from_term)
        second = b + d
        from_term = second - b
        second_low = (b - (second - from_term)) + (d - from_term)
        sum.high = first + second
        from_term = sum.high - first
        sum.low = (first_low + second_low) + ((first - (sum.high - from_term)) + (second - from_term))
    return sum


cdef inline void lane_short_total(const real* a, const real* b, const real* c, const real* d, double* parts) noexcept nogil:
    """lane_set and lane_total of the four sums of a short row."""
    cdef int lanes = 64 if real is float else 32
    cdef double* low = parts + 8 * lanes
    cdef Pair sum
    cdef int lane
    for lane in range(lanes):
        sum = total_of_four(a[lane], b[lane], c[lane], d[lane])
        parts[lane] = sum.high
        if real is double:
            low[lane] = sum.low


cdef struct Early:           # what comes off some lanes' exponentials before the factors, which would be subnormal with it: is_tiny
    bint some                # whether there are any
    double factor[64]        # 1 for the others
    double floor[64]


cdef inline void factors_of(int count, real* scale, real* floor, Early* early) noexcept nogil:
    """Scales become factors. Whoever multiplies by them has to ask whether there is something to do early, and then
    nothing is left below the floors."""
    cdef int tiny = 0
    cdef int lane
    for lane in range(count):
        tiny |= is_tiny(scale[lane])
    early.some = tiny != 0
    if not early.some:
        for lane in range(count):
            scale[lane] = factor_of(scale[lane])
        return
    for lane in range(count):
        early.factor[lane] = unscale(scale) if is_tiny(scale[lane]) else 1
        early.floor[lane] = floor[lane]
        scale[lane] = scale[lane] if is_tiny(scale[lane]) else factor_of(scale[lane])
        floor[lane] = 0


cdef inline void scale_early(int start, int stop, const Early* early, real* e) noexcept nogil:
    cdef int lane
    for lane in range(start, stop):
        e[lane] = product_of(e[lane], real_of(early.factor[lane], e), real_of(early.floor[lane], e))


cdef inline void lane_scale(real* e, const real* factor, const real* floor) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef int lane
    for lane in range(lanes):
        e[lane] = product_of(e[lane], factor[lane], floor[lane])


cdef inline void lane_scale_minus(real* e, const real* factor, const real* floor, const real* offset, real weight) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef int lane
    for lane in range(lanes):
        e[lane] = product_of(e[lane], factor[lane], floor[lane]) - offset[lane] * weight


cdef inline void lane_scale_minus_pull(real* e, const real* factor, const real* floor, const real* offset,
                                       const real* pull) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef int lane
    for lane in range(lanes):
        e[lane] = product_of(e[lane], factor[lane], floor[lane]) - offset[lane] * pull[lane]


cdef inline void lane_cap(real* x, const real* magnitude, Cap cap, real* slope) noexcept nogil:
    """run_cap of one class: each lane the way that its row's largest magnitude asks for."""
    cdef int lanes = 64 if real is float else 32
    cdef real gentle_x[CAP_STEP]
    cdef real gentle_slope[CAP_STEP]
    cdef real steep_x[CAP_STEP]
    cdef real steep_slope[CAP_STEP]
    cdef real difference_4[CAP_STEP]
    cdef real above_4[CAP_STEP]
    cdef real below[CAP_STEP]
    cdef int at = 0
    cdef int j
    while at < lanes:
        open_caps(<const real*>x + at, cap, difference_4, above_4, below)
        close_caps(<const real*>x + at, cap, difference_4, above_4, below, steep_x, steep_slope)
        for j in range(CAP_STEP):
            cap_gently(x[at + j], cap, &gentle_x[j], &gentle_slope[j])
        for j in range(CAP_STEP):
            x[at + j] = pick(is_steep(magnitude[at + j], cap), steep_x[j], gentle_x[j])
        for j in range(CAP_STEP):
            slope[at + j] = pick(is_steep(magnitude[at + j], cap), steep_slope[j], gentle_slope[j])
        at += CAP_STEP


cdef inline void lane_slope(real* gradient, const real* slope) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef int lane
    for lane in range(lanes):
        # a NaN's slope is no number either, and would make one of an ignored row's zeros; in a row that is kept all are NaN already
        gradient[lane] = through_cap(gradient[lane], larger(slope[lane], <real>0))


cdef inline void lane_log(const real* x, const real* shift, const real* log_total, real* out) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef int lane
    for lane in range(lanes):
        out[lane] = (x[lane] - shift[lane]) - log_total[lane]
