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


cdef inline real smaller(real a, real b) noexcept nogil:
    """As larger."""
    return a if a < b else b


cdef inline real pick(bint condition, real a, real b) noexcept nogil:
    """a or b: both are at hand, so this is a blend and no branch."""
    return a if condition else b


cdef inline void prefetch_group(const char* group) noexcept nogil:
    """Fetch LANES neighbours: where what follows on them lies pages away, hardware does not."""
    cdef int line
    for line in range(4):
        PREFETCH(group + 64 * line)


cdef inline const real* further(const real* run, Py_ssize_t ahead) noexcept nogil:
    """What lies `ahead` bytes further on, NULL for 0."""
    return <const real*>(<const char*>run + ahead) if ahead != 0 else NULL


cdef inline void prefetch_step(const char* step, int size) noexcept nogil:
    """The lines of `size` bytes, a literal."""
    cdef int at = 0
    while at < size:
        PREFETCH(step + at)
        at += 64


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
        group[lane] -= shift
    exp_of_lanes(<const real*>group, 16, e)
    for lane in range(<int>count):
        if e_out != NULL:
            e_out[lane] = e[lane]
    if 0 <= skip < count:
        e[skip] = 0
    for lane in range(<int>count, 16):
        e[lane] = 0
    add_short(<const real*>e, sum)


cdef inline void exp_step(const real* x, real shift, int count, real* e) noexcept nogil:
    """exp_scaled(x - shift) of `count` elements, a literal; through `value`, so that nobody asks whether e overlaps x."""
    cdef real d[16]
    cdef real value[16]
    cdef int j
    for j in range(count):
        d[j] = x[j] - shift
    exp_of_lanes(<const real*>d, count, value)
    for j in range(count):
        e[j] = value[j]


cdef inline void run_exp(const real* x, Py_ssize_t n, real shift, Py_ssize_t ahead, const real* results, real* e) noexcept nogil:
    """exp_scaled(x - shift); e is x or apart from it. What lies `ahead` bytes further on is fetched on the way, unless that is 0,
    and so is where results will be written, unless that is NULL."""
    cdef int width = 16 if real is float else 8
    cdef real rest[16]
    cdef Py_ssize_t i = 0
    cdef int j
    while i + 16 <= n:         # two registers' worth of float32 and four of float64 leave some for the constants
        if ahead != 0:
            PREFETCH(<const char*>(x + i) + ahead)
        if ahead != 0 and real is double:
            PREFETCH(<const char*>(x + i) + ahead + 64)
        if results != NULL:
            PREFETCH(results + i)
        if results != NULL and real is double:
            PREFETCH(results + i + 8)
        exp_step(x + i, shift, 16, e + i)
        i += 16
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


cdef inline void exp_and_add(const real* x, Py_ssize_t n, real shift, Py_ssize_t ahead, const real* results, real* e_out,
                             Sum* sum) noexcept nogil:
    """run_exp and run_sum of whole groups in one loop, where there are registers for the constants and the sums. e_out may be NULL."""
    cdef int lanes = 64 if real is float else 32
    cdef real e[64]
    cdef Sum local = sum[0]
    cdef Py_ssize_t i = 0
    cdef int j
    while i < n:
        if ahead != 0:
            prefetch_group(<const char*>(x + i) + ahead)
        if results != NULL:
            prefetch_group(<const char*>(results + i))
        exp_step(x + i, shift, 16, e)
        exp_step(x + i + 16, shift, 16, e + 16)
        if real is float:
            exp_step(x + i + 32, shift, 16, e + 32)
            exp_step(x + i + 48, shift, 16, e + 48)
        add_group(<const real*>e, &local)
        if e_out != NULL:
            for j in range(lanes):
                e_out[i + j] = e[j]
        i += lanes
    sum[0] = local


cdef inline Py_ssize_t groups_to_fuse(Py_ssize_t n, Py_ssize_t skip, const real* like) noexcept nogil:
    """How many of n elements are whole groups before the one that holds element `skip`, if there is one."""
    cdef Py_ssize_t lanes = 64 if real is float else 32
    if REGISTER_BYTES < 64 or real is double:
        return 0
    if 0 <= skip < n:
        n = skip
    return n - n % lanes


cdef void run_sum_exp(const real* x, Py_ssize_t n, real shift, Py_ssize_t skip, bint short_row, real* e_out,
                      Py_ssize_t ahead, const real* results, Sum* sum) noexcept nogil:
    """Add exp_scaled(x - shift) of all elements, x[skip] as if it were -inf; store all of them in e_out unless that is NULL.

    e_out may be x. ahead, results: as run_exp. Runs are joined by calls in order, every run but a row's last a multiple of LANES long.
    The exponentials of a piece first and then their sum: without the sums there are registers for the constants (ADR 0008).
    """
    cdef real in_scratch[PIECE]
    cdef const real* results_here
    cdef real* e
    cdef Py_ssize_t count
    cdef Py_ssize_t i = 0
    if short_row:
        add_exp_short(x, n, shift, skip, e_out, sum)
        return
    while i < n:
        e = <real*>in_scratch if e_out == NULL else e_out + i
        results_here = results + i if results != NULL else NULL
        count = groups_to_fuse(n - i, skip - i, x)
        if count > 0:
            if e_out == NULL:
                exp_and_add(x + i, count, shift, ahead, results_here, <real*>NULL, sum)
            else:
                exp_and_add(x + i, count, shift, ahead, results_here, e, sum)
            i += count
            continue
        count = least(64 if REGISTER_BYTES == 64 and real is float else PIECE, n - i)
        run_exp(x + i, count, shift, ahead, results_here, e)
        if i <= skip < i + count:
            e[skip - i] = 0
        run_sum(<const real*>e, count, sum)
        if i <= skip < i + count and e_out != NULL:
            e[skip - i] = scaled_one(x)
        i += count


cdef inline real deficit_of(real x, real shift, real pull) noexcept nogil:
    """pull (shift - x); what draws nothing lacks nothing, even at -inf."""
    return pick(pull == 0, <real>0, pull * (shift - x))


cdef inline void add_deficits(const real* x, real shift, Sum* sum) noexcept nogil:
    """Add shift - x of LANES elements."""
    cdef int j
    if real is float:
        for j in range(16):
            sum.part[j] += ((shift - x[j]) + (shift - x[16 + j])) + ((shift - x[32 + j]) + (shift - x[48 + j]))
    else:
        for j in range(8):
            add_pair(&sum.part[j], &sum.part[8 + j], ((shift - x[j]) + (shift - x[8 + j])) + ((shift - x[16 + j]) + (shift - x[24 + j])))


cdef inline void add_pulled_deficits(const real* x, real shift, const real* pull, Sum* sum) noexcept nogil:
    """Add pull (shift - x) of LANES elements."""
    cdef int j
    if real is float:
        for j in range(16):
            sum.part[j] += ((deficit_of(x[j], shift, pull[j]) + deficit_of(x[16 + j], shift, pull[16 + j]))
                            + (deficit_of(x[32 + j], shift, pull[32 + j]) + deficit_of(x[48 + j], shift, pull[48 + j])))
    else:
        for j in range(8):
            add_pair(&sum.part[j], &sum.part[8 + j],
                     (deficit_of(x[j], shift, pull[j]) + deficit_of(x[8 + j], shift, pull[8 + j]))
                     + (deficit_of(x[16 + j], shift, pull[16 + j]) + deficit_of(x[24 + j], shift, pull[24 + j])))


cdef inline void add_last_pulls(const real* x, int n, real shift, const real* pull, bint short_row, Sum* deficit, Sum* mass) noexcept nogil:
    """run_sum_pulls for less than LANES elements, zeros in the place of those that are missing."""
    cdef int lanes = 64 if real is float else 32
    cdef real term[64]
    cdef real drawn[64]
    cdef int lane
    for lane in range(lanes):
        term[lane] = 0
        drawn[lane] = 0
    for lane in range(n):
        drawn[lane] = pull[lane] if pull != NULL else 1
    for lane in range(n):
        term[lane] = deficit_of(x[lane], shift, drawn[lane])
    if short_row:
        add_short(<const real*>term, deficit)
        add_short(<const real*>drawn, mass)
    else:
        add_group(<const real*>term, deficit)
        add_group(<const real*>drawn, mass)


cdef inline void run_sum_deficits(const real* x, Py_ssize_t n, real shift, bint short_row, Sum* deficit) noexcept nogil:
    """run_sum_pulls where each pull is 1."""
    cdef int lanes = 64 if real is float else 32
    cdef Sum lack = deficit[0]         # which nothing else can point to
    cdef Sum count                     # which nobody asks for
    cdef real group[64]
    cdef Py_ssize_t i = 0
    cdef int j
    if short_row:
        clear(&count)
        add_last_pulls(x, <int>n, shift, <const real*>NULL, True, deficit, &count)
        return
    while i + lanes <= n:
        add_deficits(x + i, shift, &lack)
        i += lanes
    if i < n:
        for j in range(lanes):         # what is missing lacks nothing
            group[j] = shift
        memcpy(group, x + i, (n - i) * sizeof(real))
        add_deficits(<const real*>group, shift, &lack)
    deficit[0] = lack


cdef inline void run_sum_pulls(const real* x, Py_ssize_t n, real shift, const real* pull, Py_ssize_t skip, bint short_row,
                               Py_ssize_t ahead, Sum* deficit, Sum* mass) noexcept nogil:
    """Add pull (shift - x) to the deficit, and the pulls to the mass, pull[skip] as if it were 0. The pulls `ahead` bytes further
    on are fetched, unless that is 0."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t skipped = skip - skip % lanes if 0 <= skip < n else -1
    cdef const real* group
    cdef real stand_in[64]
    cdef Sum lack = deficit[0]         # which nothing else can point to
    cdef Sum others = mass[0]
    cdef Py_ssize_t i = 0
    if skipped >= 0:
        memcpy(stand_in, pull + skipped, least(lanes, n - skipped) * sizeof(real))
        stand_in[skip - skipped] = 0
    while i < n:
        group = <const real*>stand_in if i == skipped else pull + i
        if ahead != 0:
            prefetch_group(<const char*>(pull + i) + ahead)
        if i + lanes > n:
            add_last_pulls(x + i, <int>(n - i), shift, group, short_row, &lack, &others)
            break
        add_pulled_deficits(x + i, shift, group, &lack)
        add_group(group, &others)
        i += lanes
    deficit[0] = lack
    mass[0] = others


cdef enum:
    CAP_STEP = 16        # elements that are capped in one step
    STEEP_PIECE = 256    # elements that are searched for a steep one at once


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


cdef inline void run_cap_gently(const real* x, Py_ssize_t n, Cap cap, real* y, real* slope) noexcept nogil:
    """run_cap by the series."""
    cdef real gentle_x[CAP_STEP]
    cdef real its_slope[CAP_STEP]
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t at
    cdef int j
    while i < n:
        at = i if x == y else least(i, n - CAP_STEP)       # the last step overlaps the one before, unless that is capped already
        for j in range(CAP_STEP):
            cap_gently(x[at + j], cap, &gentle_x[j], &its_slope[j])
        for j in range(CAP_STEP):
            y[at + j] = gentle_x[j]
        for j in range(CAP_STEP):
            slope[at + j] = its_slope[j]
        i += CAP_STEP


cdef inline void run_cap_steeply(const real* x, Py_ssize_t n, Cap cap, real* y, real* slope) noexcept nogil:
    """run_cap for any logits.

    A step's quotients are taken beside the next one's polynomials: the chain from an element to its results is so long that
    the processor runs out of registers before it runs out of work.
    """
    cdef real difference_4[CAP_STEP]
    cdef real above_4[CAP_STEP]
    cdef real below[CAP_STEP]
    cdef real next_difference_4[CAP_STEP]
    cdef real next_above_4[CAP_STEP]
    cdef real next_below[CAP_STEP]
    cdef Py_ssize_t before = 0
    cdef Py_ssize_t i = CAP_STEP
    cdef Py_ssize_t at
    cdef int j
    open_caps(x, cap, difference_4, above_4, below)
    while i < n:
        at = i if x == y else least(i, n - CAP_STEP)
        open_caps(x + at, cap, next_difference_4, next_above_4, next_below)
        close_caps(x + before, cap, difference_4, above_4, below, y + before, slope + before)
        for j in range(CAP_STEP):
            difference_4[j] = next_difference_4[j]
            above_4[j] = next_above_4[j]
            below[j] = next_below[j]
        before = at
        i += CAP_STEP
    close_caps(x + before, cap, difference_4, above_4, below, y + before, slope + before)


cdef inline real largest_magnitude(const real* x, Py_ssize_t n) noexcept nogil:
    """The largest |x|, NaN skipped."""
    cdef int width = 16 if real is float else 8
    cdef real best[16]
    cdef real largest = 0
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t at
    cdef int j
    if n < width:
        for i in range(n):
            largest = larger(<real>fabs(x[i]), largest)
        return largest
    for j in range(width):
        best[j] = 0
    while i < n:
        at = least(i, n - width)       # overlaps the step before: a maximum does not mind
        for j in range(width):
            best[j] = larger(<real>fabs(x[at + j]), best[j])
        i += width
    return largest_of(<const real*>best)


cdef inline bint has_steep(const real* x, Py_ssize_t n, Cap cap) noexcept nogil:
    """Whether any logit is; where many are, one is soon found."""
    cdef Py_ssize_t i = 0
    while i < n:
        if is_steep(largest_magnitude(x + i, least(STEEP_PIECE, n - i)), cap):
            return True
        i += STEEP_PIECE
    return False


cdef inline void run_cap(const real* x, Py_ssize_t n, Cap cap, real* y, real* slope) noexcept nogil:
    """y = softcap tanh(x / softcap), of slope 1 - tanh^2, of a row or CHUNK elements of one: which way to compute them is up to
    all. They lie in scratch, where x may be y and the last step goes beyond n."""
    if n < CAP_STEP and x != y:
        memcpy(y, x, n * sizeof(real))
        x = y
    if has_steep(x, n, cap):
        run_cap_steeply(x, n, cap, y, slope)
    else:
        run_cap_gently(x, n, cap, y, slope)


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
    """Zero where the product to come would be subnormal; NaN counts as below the floor."""
    if real is float:
        return flushed_f32(e, floor)
    else:
        return flushed_f64(e, floor)


cdef inline real product_of(real e, real factor, real floor) noexcept nogil:
    """What the stored exponential e contributes to a result: its scale comes off in the factor (factor_of)."""
    return flushed(e, floor) * factor


cdef inline bint is_tiny(real scale) noexcept nogil:
    """Whether the exponentials' own scale cannot come off in one factor with this one, for that would be subnormal. What passes the floor
    is large then: of it comes off before, whereas beside a large scale it would become subnormal."""
    cdef real magnitude = <real>fabs(scale)
    return (magnitude > 0) & (magnitude < real_of(smallest(&scale) / unscale(&scale), &scale))


cdef inline real factor_of(real scale) noexcept nogil:
    return scale * real_of(unscale(&scale), &scale)


cdef inline real scaled(real e, real scale, real floor) noexcept nogil:
    """product_of for any scale."""
    if is_tiny(scale):
        return product_of(e, real_of(unscale(&e), &e), floor) * scale
    return product_of(e, factor_of(scale), floor)


cdef inline void products(const real* e, int count, real factor, real floor, real* product) noexcept nogil:
    """product_of for `count` numbers, a literal."""
    if real is float:
        products_f32(e, count, factor, floor, product)
    else:
        products_f64(e, count, factor, floor, product)


cdef inline void scale_step(const real* e, int count, real factor, real floor, real* to) noexcept nogil:
    """run_scale of `count` elements, a literal; through `value`, so that nobody asks whether they overlap."""
    cdef real value[16]
    cdef int j
    products(e, count, factor, floor, <real*>value)
    for j in range(count):
        to[j] = value[j]


cdef inline void run_scale(const real* e, Py_ssize_t n, real scale, real floor, const real* next_x, real* to) noexcept nogil:
    """scale * e; `to` is e or apart from it. n elements from next_x on are fetched on the way, unless that is NULL."""
    cdef int width = 16 if real is float else 8
    cdef real factor = factor_of(scale)
    cdef bint in_steps = not is_tiny(scale)
    cdef Py_ssize_t i = 0
    while in_steps and i + width <= n:
        if next_x != NULL:
            PREFETCH(next_x + i)
        scale_step(e + i, width, factor, floor, to + i)
        i += width
    if e == to or n < width or not in_steps:
        for i in range(i, n):
            to[i] = scaled(e[i], scale, floor)
    elif n - i > width // 2:       # overlaps the step before
        scale_step(e + n - width, width, factor, floor, to + n - width)
    elif i < n:
        scale_step(e + n - width // 2, width // 2, factor, floor, to + n - width // 2)


cdef inline void capped_step(const real* e, int count, real factor, real floor, const real* slope, real* to) noexcept nogil:
    """run_scale_capped of `count` elements, as scale_step."""
    cdef real product[16]
    cdef real value[16]
    cdef int j
    products(e, count, factor, floor, <real*>product)
    for j in range(count):
        value[j] = through_cap(product[j], slope[j])
    for j in range(count):
        to[j] = value[j]


cdef inline void run_scale_capped(const real* e, Py_ssize_t n, real scale, real floor, const real* slope, real* to) noexcept nogil:
    """scale * e * slope, the gradient through the cap; `to` is e or apart from it."""
    cdef int width = 16 if real is float else 8
    cdef real factor = factor_of(scale)
    cdef Py_ssize_t i = 0
    if e == to or n < width or is_tiny(scale):
        for i in range(n):
            to[i] = through_cap(scaled(e[i], scale, floor), slope[i])
        return
    while i + width <= n:
        capped_step(e + i, width, factor, floor, slope + i, to + i)
        i += width
    if i < n:       # overlaps the step before
        capped_step(e + n - width, width, factor, floor, slope + n - width, to + n - width)


cdef inline void minus_step(const real* e, int count, real factor, real floor, real offset, const real* weight, real* to) noexcept nogil:
    """run_scale_minus of `count` elements, as scale_step."""
    cdef real product[16]
    cdef real value[16]
    cdef int j
    products(e, count, factor, floor, <real*>product)
    if weight == NULL:
        for j in range(count):
            value[j] = product[j] - offset
    else:
        for j in range(count):
            value[j] = product[j] - offset * weight[j]
    for j in range(count):
        to[j] = value[j]


cdef inline void run_scale_minus(const real* e, Py_ssize_t n, real scale, real floor, real offset, const real* weight,
                                 const real* next_x, real* to) noexcept nogil:
    """scale * e - offset * weight; weight NULL stands for ones. `to` and next_x: as run_scale."""
    cdef int width = 16 if real is float else 8
    cdef real factor = factor_of(scale)
    cdef Py_ssize_t i = 0
    if e == to or n < width or is_tiny(scale):
        for i in range(n):
            to[i] = scaled(e[i], scale, floor) - (offset * weight[i] if weight != NULL else offset)
        return
    while weight == NULL and i + width <= n:
        if next_x != NULL:
            PREFETCH(next_x + i)
        minus_step(e + i, width, factor, floor, offset, <const real*>NULL, to + i)
        i += width
    while i + width <= n:
        if next_x != NULL:
            PREFETCH(next_x + i)
        minus_step(e + i, width, factor, floor, offset, weight + i, to + i)
        i += width
    if i < n:       # overlaps the step before
        i = n - width
        minus_step(e + i, width, factor, floor, offset, weight + i if weight != NULL else NULL, to + i)


cdef inline void log_step(const real* x, int count, real shift, real log_total, real* out) noexcept nogil:
    """run_log of `count` elements, as scale_step."""
    cdef real value[64]
    cdef int j
    for j in range(count):
        value[j] = (x[j] - shift) - log_total
    for j in range(count):
        out[j] = value[j]


cdef inline void run_log(const real* x, Py_ssize_t n, real shift, real log_total, int step, const real* next_x, real* out) noexcept nogil:
    """(x - shift) - log_total; out is x or apart from it. next_x: as run_scale.

    step: a literal, how many elements at once: a quarter of LANES in cache (12 % faster), LANES out of it (5 to 10 %).
    """
    cdef int width = 16 if real is float else 8
    cdef Py_ssize_t i = 0
    if x == out or n < width:
        for i in range(n):
            out[i] = (x[i] - shift) - log_total
        return
    while i + step <= n:
        if next_x != NULL:
            prefetch_step(<const char*>(next_x + i), step * <int>sizeof(real))
        log_step(x + i, step, shift, log_total, out + i)
        i += step
    while i + width <= n:
        log_step(x + i, width, shift, log_total, out + i)
        i += width
    if i < n:       # overlaps the step before
        log_step(x + n - width, width, shift, log_total, out + n - width)
