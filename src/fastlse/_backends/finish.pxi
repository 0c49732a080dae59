# From a row's maximum and rest (the sum of exponentials without the maximum's own) to what is returned and what is written.
# Everything here is in float64, as pairs where that is the working precision, so that a row is rounded once. The loops run
# over the lanes of a tile and vectorise; a row alone is one lane.

cdef extern from *:
    """
    /* A hair above the smallest normal number: products of two roundings stay normal. */
    #define SMALLEST_F32 (0x1p-126 * (1 + 0x1p-20))
    #define SMALLEST_F64 (0x1p-1022 * (1 + 0x1p-49))
    #define NAN_F64 (INF_F64 - INF_F64)
    /* What a floor is at least: never so low, with great weights, that what exp_scaled makes of -inf passes. Variables: for maxima. */
    FASTLSE_HIDDEN double LEAST_FLOOR_F32 = 2 * SMALLEST_F32;
    FASTLSE_HIDDEN double LEAST_FLOOR_F64 = 2 * SMALLEST_F64;
    /* x, or 0 below `smallest`; NaN for NaN. By bits, for a choice between doubles that become floats GCC makes between these, of masks
       that it packs first. */
    static inline double normal_or_zero(double x, double smallest) {
        return from_bits(bits_of(x) & -(uint64_t)!(fabs(x) < smallest)); }
    """
    const double SMALLEST_F32, SMALLEST_F64, NAN_F64
    double LEAST_FLOOR_F32, LEAST_FLOOR_F64
    double normal_or_zero(double, double) noexcept nogil

cdef struct RowState:    # mergeable: the sum of exponentials is (1 + high + low) exp(max)
    double max
    double high
    double low

cdef struct LossSums:    # many sums side by side, for one would be a chain of dependent additions
    double high[64]
    double low[64]
    int next                 # to which the next row's loss is added: every row has its place, whatever rows a batch holds

cdef struct Ends:        # one entry for each lane
    # given: the row's state, and of a loss the target's class and logit, the weights (0 kept: the row is ignored)
    double max[64]
    double high[64]
    double low[64]
    Py_ssize_t target[64]
    double logit[64]
    double class_weight[64]      # of the target; 0 beside class probabilities, which are all pulls
    double deficit[64]           # the sum of pull (max - x), where a pull is a class weight (label smoothing) or a class probability
    double mass[64]              # the sum of the pulls; the target's own and those of the other classes
    double own[64]
    double others[64]
    double row_weight[64]
    double kept[64]
    # from these
    double total[64]             # 1 + rest
    double inverse[64]           # 1 / (1 + rest), where rows are written
    double log_high[64]          # log(1 + rest)
    double log_low[64]
    double value[64]             # the row's own result: logsumexp or loss
    # how a row of exp_scaled values e becomes a row of results: (e if e >= floor else 0) unscale scale - offset weight
    double shift[64]
    double log_total[64]
    double scale[64]
    double floor[64]             # NaN: nothing passes
    double offset[64]
    double target_entry[64]      # written over the entry of target; target -1: none


cdef inline bint is_infinite(double x) noexcept nogil:
    return fabs(x) == INF_F64


cdef inline double finite_or_zero(double x) noexcept nogil:
    return 0 if fabs(x) == INF_F64 else x


cdef inline double settle(Pair sum) noexcept nogil:
    """A pair as one number; beside an infinite sum the low part is no number."""
    return sum.high if sum.high - sum.high != 0 else sum.high + sum.low


cdef inline void add_to(Pair* sum, double term) noexcept nogil:
    cdef Pair step = two_sum(sum.high, term)
    sum.high = step.high
    sum.low += step.low


cdef inline double smallest(const real* like) noexcept nogil:
    if real is float:
        return SMALLEST_F32
    else:
        return SMALLEST_F64


cdef inline double least_floor(const real* like) noexcept nogil:
    if real is float:
        return LEAST_FLOOR_F32
    else:
        return LEAST_FLOOR_F64


cdef RowState merge_states(const RowState* states, Py_ssize_t stride, Py_ssize_t count) noexcept nogil:
    """The state of a row from the states of its blocks, in their order."""
    cdef RowState merged = states[0]
    cdef Pair rest
    cdef Pair term
    cdef double factor
    cdef Py_ssize_t b, largest = 0
    cdef const RowState* block
    for b in range(1, count):
        if states[b * stride].max > merged.max:
            merged.max = states[b * stride].max
            largest = b
    rest.high = states[largest * stride].high
    rest.low = states[largest * stride].low
    for b in range(count):
        if b == largest:
            continue
        block = &states[b * stride]
        # the block's maximum stands for 1 exp(block.max - max); beside an infinite one only a NaN counts
        factor = exp_scaled_f64(block.max - merged.max)
        if is_infinite(block.max) or is_infinite(merged.max):
            factor = 0
        term = two_sum(1, block.high)
        # the scale comes off last, for the factor alone may be subnormal
        add_to(&rest, (term.high + (term.low + block.low)) * factor * UNSCALE_F64)
    rest = fast_two_sum(rest.high, rest.low)
    merged.high = rest.high
    merged.low = rest.low
    return merged


cdef inline void set_state(Ends* ends, int lane, RowState state) noexcept nogil:
    ends.max[lane] = state.max
    ends.high[lane] = state.high
    ends.low[lane] = state.low


cdef inline RowState get_state(const Ends* ends, int lane) noexcept nogil:
    cdef RowState state
    state.max = ends.max[lane]
    state.high = ends.high[lane]
    state.low = ends.low[lane]
    return state


cdef struct Total:           # 1 + rest
    double value
    double inverse
    Pair log


cdef inline Total total_of_f32(double rest) noexcept nogil:
    """For float32, which float64 holds without pairs; the inverse is for whoever wants it."""
    cdef Total total
    total.value = 1 + rest
    total.inverse = 0
    # beside a large total what 1 + rest was rounded by is nothing, beside a total near 1 it goes straight to the logarithm; where rest
    # is no number it makes the sum NaN
    total.log.high = log_f32(total.value) + (rest - (total.value - 1))
    total.log.low = 0
    return total


cdef inline Total total_of_f64(double high, double low) noexcept nogil:
    """1 + rest is a pair, for confident rows live in its low part."""
    cdef Total total
    cdef Pair sum = two_sum(1, high)
    cdef double inverse
    sum.low = sum.low + low
    inverse = 1 / sum.high
    total.value = sum.high
    total.log = log_pair(sum.high, sum.low * inverse)
    # one Newton step on the rounded reciprocal takes in the low part
    total.inverse = inverse + inverse * (fma_f64(-sum.high, inverse, 1) - sum.low * inverse)
    return total


cdef inline void finish_totals_f32(Ends* ends, int count) noexcept nogil:
    cdef Total total
    cdef int lane
    for lane in range(count):
        total = total_of_f32(ends.high[lane])
        ends.log_high[lane] = total.log.high
        ends.log_low[lane] = 0
        ends.total[lane] = total.value


cdef inline void finish_totals_f64(Ends* ends, int count) noexcept nogil:
    cdef Total total
    cdef int lane
    for lane in range(count):
        total = total_of_f64(ends.high[lane], ends.low[lane])
        ends.total[lane] = total.value
        ends.inverse[lane] = total.inverse
        ends.log_high[lane] = total.log.high
        ends.log_low[lane] = total.log.low


cdef inline Total total_alone(double high, double low, const real* like) noexcept nogil:
    """The total and its inverse alone, all that softmax takes: the same as from total_of_f32 and total_of_f64."""
    cdef Total total
    cdef Pair sum = two_sum(1, high)
    cdef double inverse = 1 / sum.high
    if real is double:
        inverse = inverse + inverse * (fma_f64(-sum.high, inverse, 1) - (sum.low + low) * inverse)
    total.value = sum.high
    total.inverse = inverse
    total.log.high = 0
    total.log.low = 0
    return total


cdef inline void finish_scales(Ends* ends, int count, const real* like) noexcept nogil:
    cdef Total total
    cdef int lane
    for lane in range(count):
        total = total_alone(ends.high[lane], ends.low[lane], like)
        ends.total[lane] = total.value
        ends.inverse[lane] = total.inverse
        ends.log_high[lane] = 0


cdef inline void finish_totals(Ends* ends, int count, const real* like) noexcept nogil:
    if real is float:
        finish_totals_f32(ends, count)
    else:
        finish_totals_f64(ends, count)


cdef inline void finish_inverse(Ends* ends, int count, const real* like) noexcept nogil:
    """1 / total where rows are written; for float64 it is there already."""
    cdef int lane
    if real is float:
        for lane in range(count):
            ends.inverse[lane] = 1 / ends.total[lane]


cdef inline void finish_lse(Ends* ends, int count, const real* like) noexcept nogil:
    cdef Pair sum
    cdef int lane
    if real is float:
        for lane in range(count):
            ends.value[lane] = ends.max[lane] if is_infinite(ends.max[lane]) else ends.max[lane] + ends.log_high[lane]
            ends.value[lane] += 0 * ends.high[lane]      # NaN beside an infinite maximum
    else:
        for lane in range(count):
            sum = two_sum(ends.max[lane], ends.log_high[lane])
            ends.value[lane] = sum.high if is_infinite(ends.max[lane]) else sum.high + (sum.low + ends.log_low[lane])


cdef inline void finish_softmax(Ends* ends, int count, const real* like) noexcept nogil:
    """NaN everywhere for a row whose maximum is infinite or that holds a NaN."""
    cdef double not_a_number
    cdef int lane
    for lane in range(count):
        not_a_number = ends.max[lane] - ends.max[lane]
        ends.shift[lane] = finite_or_zero(ends.max[lane])
        ends.scale[lane] = ends.inverse[lane] + not_a_number
        ends.floor[lane] = ends.total[lane] * (smallest(like) / unscale(like)) + not_a_number
        ends.offset[lane] = 0
        ends.target[lane] = -1


cdef inline void finish_log_softmax(Ends* ends, int count) noexcept nogil:
    """As in finish_softmax."""
    cdef int lane
    for lane in range(count):
        ends.shift[lane] = finite_or_zero(ends.max[lane])
        ends.log_total[lane] = ends.log_high[lane] + (ends.max[lane] - ends.max[lane])


cdef inline void clear_losses_of(Ends* ends, int start, int stop) noexcept nogil:
    """Lanes without a row."""
    cdef int lane
    for lane in range(start, stop):
        ends.target[lane] = -1
        ends.kept[lane] = 0
        ends.logit[lane] = 0
        ends.row_weight[lane] = 0
        ends.class_weight[lane] = 0
        ends.deficit[lane] = 0
        ends.mass[lane] = 0
        ends.own[lane] = 0
        ends.others[lane] = 0


cdef void open_losses(const Job* job, Ends* ends, Py_ssize_t first, int count, const real* like) noexcept nogil:
    """What a loss needs to know of `count` rows, the logits apart: those are 0."""
    cdef const real* weight = <const real*>job.weight
    cdef const int64_t* target = job.target + first if job.target != NULL else NULL
    cdef int lane
    if counts_rows_alike(job):           # whose weights nobody reads
        for lane in range(count):
            ends.logit[lane] = 0
            ends.target[lane] = -1 if target[lane] == job.ignore_index else target[lane]
            ends.kept[lane] = 0 if target[lane] == job.ignore_index else 1
        return
    for lane in range(count):
        ends.logit[lane] = 0
        ends.target[lane] = -1
        ends.row_weight[lane] = 1
        ends.class_weight[lane] = 1
    if are_given(job.sample_weight):
        for lane in range(count):
            ends.row_weight[lane] = weight_at(job.sample_weight, first + lane)
    if target != NULL:
        for lane in range(count):
            ends.row_weight[lane] = 0 if target[lane] == job.ignore_index else ends.row_weight[lane]
            ends.target[lane] = -1 if ends.row_weight[lane] == 0 else target[lane]
    for lane in range(count):
        ends.kept[lane] = 0 if ends.row_weight[lane] == 0 else 1
    if weight != NULL and target != NULL:
        for lane in range(count):
            if ends.target[lane] >= 0:
                ends.class_weight[lane] = weight[ends.target[lane]]
    if pulls_targets_only(job):
        return
    for lane in range(count):
        ends.deficit[lane] = 0
        ends.mass[lane] = job.weight_total
        ends.own[lane] = ends.class_weight[lane]
        ends.others[lane] = job.weight_total - ends.class_weight[lane]
    if has_probabilities(job):
        for lane in range(count):
            ends.class_weight[lane] = 0


cdef struct LossOptions:     # of a job: as its fields they might change at every store
    double pull_scale        # what the pulls count: the classes' weights share the smoothing, probabilities have it in them
    double smoothing
    double z_loss
    double grad_scale

cdef struct LossRow:         # as in Ends
    double max
    double class_weight
    double row_weight
    double kept
    double deficit
    double mass
    double own
    double others


cdef inline LossOptions loss_options(const Job* job) noexcept nogil:
    cdef LossOptions options
    options.pull_scale = 1 if has_probabilities(job) else job.smoothing / job.layout.row.size
    options.smoothing = job.smoothing
    options.z_loss = job.z_loss
    options.grad_scale = job.grad_scale
    return options


cdef inline LossRow loss_row(const Ends* ends, int lane) noexcept nogil:
    cdef LossRow row
    row.max = ends.max[lane]
    row.class_weight = ends.class_weight[lane]
    row.row_weight = ends.row_weight[lane]
    row.kept = ends.kept[lane]
    row.deficit = ends.deficit[lane]
    row.mass = ends.mass[lane]
    row.own = ends.own[lane]
    row.others = ends.others[lane]
    return row


cdef inline Total loss_total(const Ends* ends, int lane) noexcept nogil:
    cdef Total total
    total.value = ends.total[lane]
    total.inverse = ends.inverse[lane]
    total.log.high = ends.log_high[lane]
    total.log.low = ends.log_low[lane]
    return total


cdef inline double likelihood_of(double max, double logit, double log_high, double log_low, const real* like) noexcept nogil:
    """lse - x_t = (max - x_t) + log(1 + rest), two numbers no less than zero."""
    cdef Pair gap, sum
    if real is float:         # which float64 adds for float32 without pairs
        return (max - logit) + log_high
    else:
        gap = two_sum(max, -logit)
        sum = two_sum(gap.high, log_high)
        return pick(is_infinite(logit), sum.high, sum.high + (sum.low + (gap.low + log_low)))


cdef inline void finish_likelihoods(Ends* ends, int count, const real* like) noexcept nogil:
    cdef int lane
    for lane in range(count):
        ends.value[lane] = likelihood_of(ends.max[lane], ends.logit[lane], ends.log_high[lane], ends.log_low[lane], like)


cdef inline double weighted_likelihood(double class_weight, double likelihood, double log_high, double max) noexcept nogil:
    """A weight of 0 drops the class, even where its logit is -inf; NaN for a row without a finite maximum."""
    return class_weight * (pick(class_weight == 0, log_high, likelihood) + (max - max))


cdef inline double loss_of(LossOptions options, LossRow row, Total total, double likelihood) noexcept nogil:
    """loss = row_weight [(1 - eps) w_t (lse - x_t) + scale (sum of pull (lse - x)) + z lse^2], lse - x = (max - x) + log(1 + rest)."""
    cdef double log_sum = row.max + (total.log.high + total.log.low)
    # where they have nothing to say these terms are exact zeros
    cdef double spread = options.pull_scale * (row.deficit + row.mass * (total.log.high + total.log.low))
    cdef double loss = weighted_likelihood(row.class_weight, likelihood, total.log.high, row.max)
    loss = (1 - options.smoothing) * loss + spread + options.z_loss * log_sum * log_sum
    return pick(row.kept != 0, row.row_weight * loss, 0.0)


cdef inline void finish_loss(const Job* job, Ends* ends, int count, const real* like) noexcept nogil:
    cdef LossOptions options = loss_options(job)
    cdef int lane
    finish_likelihoods(ends, count, like)
    for lane in range(count):
        ends.value[lane] = loss_of(options, loss_row(<const Ends*>ends, lane), loss_total(<const Ends*>ends, lane), ends.value[lane])


cdef inline void finish_target_exponentials(const Job* job, Ends* ends, int count, const real* like) noexcept nogil:
    """exp(x_t - max), in the place of what will be written there; of class probabilities the own class is the maximum's."""
    cdef real d[16]
    cdef real e[16]
    cdef int at = 0
    cdef int lane
    if has_probabilities(job):
        for lane in range(count):
            ends.target_entry[lane] = 1
        return
    while at < count:          # the lanes' function, as for the elements, 16 at a time
        for lane in range(16):
            d[lane] = real_of(ends.logit[at + lane], like) - real_of(ends.shift[at + lane], like) if at + lane < count else 0
        exp_of_lanes(<const real*>d, 16, e)
        for lane in range(16):
            ends.target_entry[at + lane] = e[lane] * unscale(like)
        at += 16


cdef struct Gradient:        # as in Ends
    double scale
    double floor
    double offset
    double entry


cdef inline bint is_zero(const Ends* ends, int lane) noexcept nogil:
    """Whether a row's gradient is: an ignored one, and one of nothing but -inf."""
    return (ends.kept[lane] == 0) | ((ends.max[lane] == -INF_F64) & (ends.high[lane] < 1))


cdef inline Gradient gradient_of(LossOptions options, LossRow row, Total total, double high, double low, double e_target,
                                 bint zero, double not_a_number, const real* like) noexcept nogil:
    """d loss / d x_c = row_scale [(A + z') p_c - (1 - eps) w_t (c == t) - scale pull_c], A = (1 - eps) w_t + scale mass, z' = 2 z lse."""
    cdef Gradient gradient
    cdef double row_scale = row.row_weight * options.grad_scale
    cdef double mass = (1 - options.smoothing) * row.class_weight + options.pull_scale * row.mass
    cdef double steepness = 2 * options.z_loss * (row.max + (total.log.high + total.log.low))       # z lse^2
    cdef double height = mass + steepness
    # p_t - 1 = -(sum of the others' probabilities), which for a confident row is far below an ulp of 1
    cdef double others_share = (((1 - e_target) + high) + low) * total.inverse
    cdef double own_share = e_target * total.inverse
    cdef double others_pull = options.pull_scale * row.others
    cdef double own = (1 - options.smoothing) * row.class_weight + options.pull_scale * row.own
    # mass p - own, or the same by the others: where most of the pull is theirs, that would cancel
    cdef double entry = pick(fabs(own) < fabs(others_pull), mass * own_share - own, others_pull - mass * others_share)
    cdef double floor = total.value * (smallest(like) / unscale(like)) / fabs(row_scale * height)
    entry = row_scale * (entry + steepness * own_share)
    entry = normal_or_zero(entry, smallest(like)) + not_a_number
    gradient.entry = pick(zero, 0.0, entry)
    gradient.scale = pick(zero, 0.0, total.inverse * (row_scale * height) + not_a_number)
    gradient.floor = pick(zero, NAN_F64, larger(floor, least_floor(like)))
    gradient.offset = pick(zero, 0.0, row_scale * options.pull_scale)
    return gradient


cdef inline void finish_gradient(const Job* job, Ends* ends, int count, const real* like) noexcept nogil:
    cdef LossOptions options = loss_options(job)
    cdef Gradient gradient
    cdef int lane
    for lane in range(count):
        ends.shift[lane] = finite_or_zero(ends.max[lane])
    finish_target_exponentials(job, ends, count, like)
    for lane in range(count):
        gradient = gradient_of(options, loss_row(<const Ends*>ends, lane), loss_total(<const Ends*>ends, lane), ends.high[lane],
                               ends.low[lane], ends.target_entry[lane], is_zero(<const Ends*>ends, lane), ends.max[lane] - ends.max[lane],
                               like)
        ends.scale[lane] = gradient.scale
        ends.floor[lane] = gradient.floor
        ends.offset[lane] = gradient.offset
        ends.target_entry[lane] = gradient.entry


cdef inline void finish_target_loss(const Job* job, Ends* ends, int count, const real* like) noexcept nogil:
    """finish_loss where only the targets pull: row_weight w_t (lse - x_t)."""
    cdef double loss
    cdef int lane
    finish_likelihoods(ends, count, like)
    if counts_rows_alike(job):
        for lane in range(count):          # NaN for a row without a finite maximum
            ends.value[lane] = pick(ends.kept[lane] != 0, ends.value[lane] + (ends.max[lane] - ends.max[lane]), 0.0)
        return
    for lane in range(count):
        loss = weighted_likelihood(ends.class_weight[lane], ends.value[lane], ends.log_high[lane], ends.max[lane])
        ends.value[lane] = pick(ends.kept[lane] != 0, ends.row_weight[lane] * loss, 0.0)


cdef inline Gradient gradient_of_target(Total total, double high, double low, double e_target, double height, double floor, bint zero,
                                        double not_a_number, const real* like) noexcept nogil:
    """height (p_c - (c == t)), from the exponential of the target; floor: of a result, height divided out."""
    cdef Gradient gradient
    # p_t - 1 = -(sum of the others' probabilities), which for a confident row is far below an ulp of 1
    cdef double entry = -height * ((((1 - e_target) + high) + low) * total.inverse)
    entry = normal_or_zero(entry, smallest(like)) + not_a_number
    gradient.entry = pick(zero, 0.0, entry)
    gradient.scale = pick(zero, 0.0, total.inverse * height + not_a_number)
    gradient.offset = 0
    gradient.floor = pick(zero, NAN_F64, larger(total.value * floor, least_floor(like)))
    return gradient


cdef inline void target_gradients(const Job* job, Ends* ends, int count, const double* height, int step, const real* like) noexcept nogil:
    """gradient_of_target for every lane; the heights are `step` apart, a literal: 0 for one."""
    cdef double least_product = smallest(like) / unscale(like)
    cdef Gradient gradient
    cdef Total total
    cdef bint zero
    cdef int lane
    if step == 0:
        least_product = least_product / fabs(height[0])
    for lane in range(count):
        ends.shift[lane] = finite_or_zero(ends.max[lane])
    finish_target_exponentials(job, ends, count, like)
    for lane in range(count):
        total.value = ends.total[lane]
        total.inverse = ends.inverse[lane]
        zero = is_zero(<const Ends*>ends, lane)
        gradient = gradient_of_target(total, ends.high[lane], ends.low[lane], ends.target_entry[lane], height[step * lane],
                                      least_product if step == 0 else least_product / fabs(height[step * lane]), zero,
                                      ends.max[lane] - ends.max[lane], like)
        ends.scale[lane] = gradient.scale
        ends.floor[lane] = gradient.floor
        ends.target_entry[lane] = gradient.entry


cdef inline void finish_target_gradient(const Job* job, Ends* ends, int count, const real* like) noexcept nogil:
    """finish_gradient where only the targets pull, height = grad_scale row_weight w_t."""
    cdef double height[64]
    cdef int lane
    if counts_rows_alike(job):
        target_gradients(job, ends, count, &job.grad_scale, 0, like)
        return
    for lane in range(count):
        height[lane] = job.grad_scale * ends.row_weight[lane] * ends.class_weight[lane]
    target_gradients(job, ends, count, <const double*>height, 1, like)


cdef inline void clear_losses(LossSums* sums) noexcept nogil:
    cdef int lane
    for lane in range(64):
        sums.high[lane] = 0
        sums.low[lane] = 0
    sums.next = 0


cdef inline void add_run_of_losses(double* sum, double* sum_low, const double* value, int count, const real* like) noexcept nogil:
    """Of float32 in float64, of float64 as pairs."""
    cdef double high, from_value
    cdef int i
    if real is float:
        for i in range(count):
            sum[i] += value[i]
        return
    for i in range(count):
        # two_sum, spelt out so that the loop over i stays one loop
        high = sum[i] + value[i]
        from_value = high - sum[i]
        sum_low[i] += (sum[i] - (high - from_value)) + (value[i] - from_value)
        sum[i] = high


cdef inline void add_losses(LossSums* sums, const double* value, int count, const real* like) noexcept nogil:
    cdef int done = 0
    cdef int run
    while done < count:
        run = <int>least(count - done, 64 - sums.next)
        add_run_of_losses(sums.high + sums.next, sums.low + sums.next, value + done, run, like)
        sums.next = (sums.next + run) % 64
        done += run


cdef inline Pair sum_of_losses(const LossSums* sums) noexcept nogil:
    cdef Pair sum
    cdef int lane
    sum.high = 0
    sum.low = 0
    for lane in range(64):
        add_to(&sum, sums.high[lane])
        sum.low += sums.low[lane]
    return sum


cdef inline void store_states(const Job* job, const Ends* ends, Py_ssize_t first, int count, const real* like) noexcept nogil:
    """The rows' states instead of their logsumexp: all maxima, then both parts of rest. A NaN becomes the maximum."""
    cdef double* to = <double*>job.lse + first
    cdef Py_ssize_t n_rows = job.layout.batch.size
    cdef bint alone
    cdef int lane
    for lane in range(count):
        # what float32 cannot hold is what -inf counts (ADR 0003)
        alone = is_infinite(ends.max[lane]) or ends.high[lane] != ends.high[lane] or (real is float and ends.high[lane] < 2.0**-150)
        to[lane] = NAN_F64 if ends.high[lane] != ends.high[lane] else ends.max[lane]
        to[n_rows + lane] = 0 if alone else ends.high[lane]
        to[2 * n_rows + lane] = 0 if alone else ends.low[lane]


cdef inline void store_values(const Job* job, const Ends* ends, Py_ssize_t first, int count, LossSums* sums,
                              const real* like) noexcept nogil:
    """The rows' own results: to the caller's array, and the losses to the sums."""
    cdef real* to = <real*>(job.loss if job.mode == LOSS else job.lse)
    cdef int lane
    if job.mode == STATE:
        store_states(job, ends, first, count, like)
    elif to != NULL:
        for lane in range(count):
            to[first + lane] = real_of(ends.value[lane], like)
    if job.mode == LOSS:
        add_losses(sums, ends.value, count, like)


cdef void finish(const Job* job, Ends* ends, int count, const real* like) noexcept nogil:
    """From states to results: each row's own value, and what writing its row takes."""
    if job.mode == SOFTMAX and (job.lse == NULL or job.few):       # whose logsumexp is known
        finish_scales(ends, count, like)
        finish_softmax(ends, count, like)
        return
    finish_totals(ends, count, like)
    if job.mode == LOG_SOFTMAX:
        finish_log_softmax(ends, count)
        return
    if job.out.data != NULL:
        finish_inverse(ends, count, like)
    if job.mode == LOSS and pulls_targets_only(job):
        finish_target_loss(job, ends, count, like)
        if job.out.data != NULL:
            finish_target_gradient(job, ends, count, like)
    elif job.mode == LOSS:
        finish_loss(job, ends, count, like)
        if job.out.data != NULL:
            finish_gradient(job, ends, count, like)
    else:
        finish_lse(ends, count, like)
        if job.out.data != NULL:
            finish_softmax(ends, count, like)
