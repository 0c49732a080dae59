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
    #define PIECE 1024       /* elements whose exponentials stay in L1 until they are added up */
    """
    const int PIECE
    void PREFETCH(const void*) noexcept nogil


cdef inline real larger(real a, real b) noexcept nogil:
    """The larger of two numbers; b where either is NaN. One instruction, unlike fmax."""
    return a if a > b else b


cdef inline real pick(bint condition, real a, real b) noexcept nogil:
    """a or b: both are at hand, so this is a blend and no branch."""
    return a if condition else b


cdef inline void prefetch_group(const char* group) noexcept nogil:
    """Fetch LANES neighbours: where what follows on them lies pages away, hardware does not."""
    cdef int line
    for line in range(4):
        PREFETCH(group + 64 * line)


cdef inline bint run_has_nan(const real* x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef int found = 0
    for i in range(n):
        found |= x[i] != x[i]
    return found


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


cdef inline void exp_step(const real* x, real shift, int count, real* e) noexcept nogil:
    """exp_scaled(x - shift) of `count` elements, a literal; through `value`, so that nobody asks whether e overlaps x."""
    cdef real value[32]
    cdef int j
    for j in range(count):
        value[j] = exp_scaled(x[j] - shift)
    for j in range(count):
        e[j] = value[j]


cdef inline void run_exp(const real* x, Py_ssize_t n, real shift, Py_ssize_t ahead, real* e) noexcept nogil:
    """exp_scaled(x - shift); e is x or apart from it. What lies `ahead` bytes further on is fetched on the way, unless that is 0."""
    cdef int width = 16 if real is float else 8
    cdef real rest[16]
    cdef Py_ssize_t i = 0
    cdef int j
    while i + 2 * width <= n:
        if ahead != 0:
            PREFETCH(<const char*>(x + i) + ahead)
            PREFETCH(<const char*>(x + i) + ahead + 64)
        exp_step(x + i, shift, 2 * width, e + i)
        i += 2 * width
    if e != x and n >= width:
        # the last steps overlap the one before
        while n - i > width // 2:
            exp_step(x + least(i, n - width), shift, width, e + least(i, n - width))
            i += width
        if i < n:
            exp_step(x + n - width // 2, shift, width // 2, e + n - width // 2)
        return
    while i < n:
        for j in range(width):
            rest[j] = shift
        memcpy(rest, x + i, least(width, n - i) * sizeof(real))
        exp_step(<const real*>rest, shift, width, rest)
        memcpy(e + i, rest, least(width, n - i) * sizeof(real))
        i += width


cdef inline void add_groups(const real* e, Py_ssize_t n, Sum* sum) noexcept nogil:
    """Add the whole groups among n terms. Nothing else may point to the sum, or it does not stay in registers."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t i = 0
    while i + lanes <= n:
        add_group(e + i, sum)
        i += lanes


cdef inline void run_sum(const real* e, Py_ssize_t n, Sum* sum) noexcept nogil:
    """Add a run of terms, zeros in the place of those that its last group has not."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t rest = n % lanes
    cdef real group[64]
    cdef Sum local = sum[0]
    add_groups(e, n, &local)
    if rest > 0:
        memset(group, 0, lanes * sizeof(real))
        memcpy(group, e + n - rest, rest * sizeof(real))
        add_group(<const real*>group, &local)
    sum[0] = local


cdef void run_sum_exp(const real* x, Py_ssize_t n, real shift, Py_ssize_t skip, bint short_row, real* e_out,
                      Py_ssize_t ahead, Sum* sum) noexcept nogil:
    """Add exp_scaled(x - shift) of all elements, x[skip] as if it were -inf; store all of them in e_out unless that is NULL.

    e_out may be x. Runs are joined by calls in order, every run but a row's last a multiple of LANES long. The exponentials of a
    piece first and then their sum: without the sums there are registers for the constants (ADR 0008).
    """
    cdef real in_scratch[PIECE]
    cdef real* e
    cdef Py_ssize_t count
    cdef Py_ssize_t i = 0
    if short_row:
        add_exp_short(x, n, shift, skip, e_out, sum)
        return
    while i < n:
        count = least(PIECE, n - i)
        e = <real*>in_scratch if e_out == NULL else e_out + i
        run_exp(x + i, count, shift, ahead, e)
        if i <= skip < i + count:
            e[skip - i] = exp_scaled(real_of(-INF_F64, x))
        run_sum(<const real*>e, count, sum)
        if i <= skip < i + count and e_out != NULL:
            e[skip - i] = exp_scaled(real_of(0, x))
        i += count


cdef inline real deficit_of(real x, real shift, real pull) noexcept nogil:
    """pull (shift - x); what draws nothing lacks nothing, even at -inf."""
    return pick(pull == 0, <real>0, pull * (shift - x))


cdef inline void add_terms(const real* term, bint short_row, Sum* sum) noexcept nogil:
    if short_row:
        add_short(term, sum)
    else:
        add_group(term, sum)


cdef inline void run_sum_pulls(const real* x, Py_ssize_t n, real shift, const real* pull, Py_ssize_t skip, bint short_row,
                               Py_ssize_t ahead, Sum* deficit, Sum* mass) noexcept nogil:
    """Add pull * (shift - x) to the deficit, and the pulls to the mass, pull[skip] as if it were 0; pull NULL stands for ones,
    which nobody adds up. The pulls `ahead` bytes further on are fetched, unless that is 0."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t whole = n - n % lanes
    cdef Py_ssize_t skipped = skip - skip % lanes if 0 <= skip < whole else -1
    cdef const real* group
    cdef real stand_in[64]
    cdef real term[64]
    cdef Sum lack = deficit[0]         # which nothing else can point to
    cdef Sum others = mass[0]
    cdef Py_ssize_t i = 0
    cdef int lane
    if skipped >= 0:
        memcpy(stand_in, pull + skipped, lanes * sizeof(real))
        stand_in[skip - skipped] = 0
    while i < whole:
        if pull == NULL:
            for lane in range(lanes):
                term[lane] = shift - x[i + lane]
        else:
            group = <const real*>stand_in if i == skipped else pull + i
            if ahead != 0:
                prefetch_group(<const char*>(pull + i) + ahead)
            for lane in range(lanes):
                term[lane] = deficit_of(x[i + lane], shift, group[lane])
            add_group(group, &others)
        add_group(<const real*>term, &lack)
        i += lanes
    if i < n:
        for lane in range(lanes):
            term[lane] = 0
            stand_in[lane] = 0
        for lane in range(<int>(n - i)):
            stand_in[lane] = pull[i + lane] if pull != NULL else 1
        if skip >= whole:
            stand_in[skip - whole] = 0
        for lane in range(<int>(n - i)):
            term[lane] = deficit_of(x[i + lane], shift, stand_in[lane])
        add_terms(<const real*>term, short_row, &lack)
        add_terms(<const real*>stand_in, short_row, &others)
    deficit[0] = lack
    mass[0] = others


cdef enum:
    CAP_STEP = 16        # elements that are capped in one step


cdef inline void open_caps(const real* x, Cap cap, real* difference_4, real* above_4, real* below) noexcept nogil:
    cdef int j
    for j in range(CAP_STEP):
        open_cap(x[j], cap, &difference_4[j], &above_4[j], &below[j])


cdef inline void close_caps(const real* x, Cap cap, const real* difference_4, const real* above_4, const real* below,
                            real* y, real* slope) noexcept nogil:
    cdef real capped_x[CAP_STEP]
    cdef real its_slope[CAP_STEP]
    cdef int j
    for j in range(CAP_STEP):
        close_cap(x[j], cap, difference_4[j], above_4[j], below[j], &capped_x[j], &its_slope[j])
    for j in range(CAP_STEP):       # one loop for both would ask whether they overlap
        y[j] = capped_x[j]
    for j in range(CAP_STEP):
        slope[j] = its_slope[j]


cdef inline void run_cap(const real* x, Py_ssize_t n, Cap cap, real* y, real* slope) noexcept nogil:
    """y = softcap tanh(x / softcap), of slope 1 - tanh^2. They lie in scratch, where x may be y and the last step goes beyond n.

    A step's quotients are taken beside the next one's polynomials: the chain from an element to its results is so long that
    the processor runs out of registers before it runs out of work.
    """
    cdef real difference_4[CAP_STEP]
    cdef real above_4[CAP_STEP]
    cdef real below[CAP_STEP]
    cdef real next_difference_4[CAP_STEP]
    cdef real next_above_4[CAP_STEP]
    cdef real next_below[CAP_STEP]
    cdef real rest[CAP_STEP]
    cdef Py_ssize_t before = 0
    cdef Py_ssize_t i = CAP_STEP
    cdef Py_ssize_t at
    cdef int j
    if n < CAP_STEP and x != y:
        memset(rest, 0, sizeof(rest))
        memcpy(rest, x, n * sizeof(real))
        open_caps(rest, cap, difference_4, above_4, below)
        close_caps(rest, cap, difference_4, above_4, below, y, slope)
        return
    open_caps(x, cap, difference_4, above_4, below)
    while i < n:
        at = i if x == y else least(i, n - CAP_STEP)       # the last step overlaps the one before, unless that is capped already
        open_caps(x + at, cap, next_difference_4, next_above_4, next_below)
        close_caps(x + before, cap, difference_4, above_4, below, y + before, slope + before)
        for j in range(CAP_STEP):
            difference_4[j] = next_difference_4[j]
            above_4[j] = next_above_4[j]
            below[j] = next_below[j]
        before = at
        i += CAP_STEP
    close_caps(x + before, cap, difference_4, above_4, below, y + before, slope + before)


cdef inline real through_cap(real gradient, real slope) noexcept nogil:
    cdef real product = gradient * slope
    return pick(<real>fabs(product) < real_of(smallest(&slope), &slope), <real>0, product)


cdef inline void run_slope(real* gradient, const real* slope, Py_ssize_t n) noexcept nogil:
    """The gradient through the cap; what would be subnormal is 0."""
    cdef Py_ssize_t i
    for i in range(n):
        gradient[i] = through_cap(gradient[i], slope[i])


cdef inline real smoothed(real probability, real kept, real share) noexcept nogil:
    return kept * probability + share


cdef inline void run_pulls(real* pull, Py_ssize_t n, const real* weight, double smoothing, double share) noexcept nogil:
    """Class probabilities become what draws each class: weight ((1 - smoothing) probability + share); weight NULL stands for ones."""
    cdef real kept = real_of(1 - smoothing, pull)
    cdef real each = real_of(share, pull)
    cdef Py_ssize_t i
    for i in range(n):
        pull[i] = smoothed(pull[i], kept, each)
    if weight != NULL:
        for i in range(n):
            pull[i] *= weight[i]


cdef inline real flushed(real e, real floor) noexcept nogil:
    """Zero where the product to come would be subnormal: by comparison, since such a product costs 150 cycles."""
    return e if e >= floor else <real>0


cdef inline real scaled(real e, real scale, real floor) noexcept nogil:
    """What the stored exponential e contributes to a result: 2^-52 or 2^-85 comes off by itself, for beside it scale may be subnormal."""
    return flushed(e, floor) * real_of(unscale(&e), &e) * scale


cdef inline void run_scale(const real* e, Py_ssize_t n, real scale, real floor, real* to) noexcept nogil:
    """scale * e; `to` is e or apart from it."""
    cdef int width = 16 if real is float else 8
    cdef real value[16]
    cdef Py_ssize_t at
    cdef Py_ssize_t i = 0
    cdef int j
    if e == to or n < width:
        for i in range(n):
            to[i] = scaled(e[i], scale, floor)
        return
    while i < n:
        at = least(i, n - width)
        for j in range(width):
            value[j] = scaled(e[at + j], scale, floor)
        for j in range(width):
            to[at + j] = value[j]
        i += width


cdef inline void run_scale_capped(const real* e, Py_ssize_t n, real scale, real floor, const real* slope, real* to) noexcept nogil:
    """scale * e * slope, the gradient through the cap; `to` is e or apart from it."""
    cdef Py_ssize_t i
    for i in range(n):
        to[i] = through_cap(scaled(e[i], scale, floor), slope[i])


cdef inline void run_scale_minus(const real* e, Py_ssize_t n, real scale, real floor, real offset, const real* weight,
                                 real* to) noexcept nogil:
    """scale * e - offset * weight; weight NULL stands for ones. `to` is e or apart from it."""
    cdef Py_ssize_t i
    if weight == NULL:
        for i in range(n):
            to[i] = scaled(e[i], scale, floor) - offset
    else:
        for i in range(n):
            to[i] = scaled(e[i], scale, floor) - offset * weight[i]


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
