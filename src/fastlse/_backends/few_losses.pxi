# A loss's part of few_classes.pxi: the losses of FEW_STEP rows and their gradients, with every option.

cdef enum LossKind:            # what draws the classes
    TARGETS                    # pulls_targets_only
    SMOOTHED                   # label smoothing; a z-loss goes here, too
    PROBABILITIES

cdef struct FewRows:           # as in LossRow, for each lane; of kept alone if has_no_weights
    double class_weight[FEW_STEP]
    double row_weight[FEW_STEP]
    double kept[FEW_STEP]
    double deficit[FEW_STEP]
    double own[FEW_STEP]       # beside class probabilities
    double others[FEW_STEP]


cdef inline void open_rows(const Job* job, Py_ssize_t first, LossKind kind, bint alike, FewRows* rows, real* place,
                           const real* like) noexcept nogil:
    """open_losses for FEW_STEP rows: their weights, and their targets' places, -1 for none."""
    cdef const int64_t* target = job.target + first
    cdef const real* weight = <const real*>job.weight
    cdef int64_t ignored = job.ignore_index
    cdef real of_class[FEW_STEP]
    cdef Py_ssize_t i
    cdef int j
    if kind != PROBABILITIES:
        for j in range(FEW_STEP):      # through 32 bits: what becomes of 64 themselves is no single instruction
            place[j] = <real><int>(-1 if target[j] == ignored else target[j])
        for j in range(FEW_STEP):
            rows.kept[j] = 0 if target[j] == ignored else 1
    if alike:
        return
    if job.sample_weight.f32 != NULL:
        for j in range(FEW_STEP):
            rows.row_weight[j] = job.sample_weight.f32[first + j]
    else:
        for j in range(FEW_STEP):
            rows.row_weight[j] = weight_at(job.sample_weight, first + j)
    if kind == PROBABILITIES:
        for j in range(FEW_STEP):
            rows.class_weight[j] = 0
    else:
        for j in range(FEW_STEP):
            rows.row_weight[j] = pick(rows.kept[j] != 0, rows.row_weight[j], 0.0)
        for j in range(FEW_STEP):
            place[j] = pick(rows.row_weight[j] != 0, place[j], <real>-1)
        for j in range(FEW_STEP):
            of_class[j] = 1
        for i in range(job.layout.row.size if weight != NULL else 0):
            for j in range(FEW_STEP):
                of_class[j] = pick(place[j] == <real>i, weight[i], of_class[j])
        for j in range(FEW_STEP):
            rows.class_weight[j] = of_class[j]
    for j in range(FEW_STEP):
        rows.kept[j] = pick(rows.row_weight[j] != 0, 1.0, 0.0)


cdef inline void settle_few(const double* high, const double* low, double* total) noexcept nogil:
    cdef Pair sum
    cdef int j
    for j in range(FEW_STEP):
        sum.high = high[j]
        sum.low = low[j]
        total[j] = settle(sum)


cdef inline void pulls_of_step(const Job* job, const FewLanes* step, LossKind kind, FewRows* rows, const real* like) noexcept nogil:
    """sum_pulls for the lanes."""
    cdef real own[FEW_STEP]
    cdef double high[FEW_STEP]
    cdef double low[FEW_STEP]
    cdef int j
    if kind == SMOOTHED and job.smoothing == 0:
        for j in range(FEW_STEP):
            rows.deficit[j] = 0
        return
    other_sums(job, step, DEFICITS, high, low, <real*>NULL, like)
    settle_few(<const double*>high, <const double*>low, rows.deficit)
    if kind == PROBABILITIES:
        for j in range(FEW_STEP):
            own[j] = 0
        other_sums(job, step, PULLS, high, low, own, like)
        settle_few(<const double*>high, <const double*>low, rows.others)
        for j in range(FEW_STEP):
            rows.own[j] = own[j]


cdef inline LossRow few_row(const FewRows* rows, LossKind kind, bint alike, double weight_total, double max, int j) noexcept nogil:
    cdef LossRow row
    row.max = max
    row.class_weight = 1 if alike else rows.class_weight[j]
    row.row_weight = 1 if alike else rows.row_weight[j]
    row.kept = rows.kept[j]
    row.deficit = rows.deficit[j]
    if kind == PROBABILITIES:
        row.own = rows.own[j]
        row.others = rows.others[j]
        row.mass = row.others + row.own
    else:
        row.own = row.class_weight
        row.others = weight_total - row.class_weight
        row.mass = weight_total
    return row


cdef inline Total few_total(const FewTotals* totals, int j, const real* like) noexcept nogil:
    cdef Total total
    total.value = totals.total[j]
    total.inverse = 1 / totals.total[j] if real is float else totals.inverse[j]
    total.log.high = totals.log_high[j]
    total.log.low = totals.log_low[j]
    return total


cdef inline void finish_losses_of_step(const Job* job, const FewLanes* step, LossKind kind, bint alike, const FewRows* rows,
                                       const FewTotals* totals, const real* logit, double* loss) noexcept nogil:
    cdef LossOptions options = step.options
    cdef double weight_total = job.weight_total
    cdef const real* max = <const real*>step.max
    cdef double value
    cdef int j
    for j in range(FEW_STEP):
        value = likelihood_of(max[j], logit[j], totals.log_high[j], totals.log_low[j], logit)
        if kind != TARGETS:
            loss[j] = loss_of(options, few_row(rows, kind, alike, weight_total, max[j], j), few_total(totals, j, logit), value)
        elif alike:
            loss[j] = pick(rows.kept[j] != 0, value, 0.0)
        else:
            value = weighted_likelihood(rows.class_weight[j], value, totals.log_high[j], max[j])
            loss[j] = pick(rows.kept[j] != 0, rows.row_weight[j] * value, 0.0)


cdef inline void write_gradients_of_step(const Job* job, const FewLanes* step, LossKind kind, bint asks, const real* place,
                                         const real* factor, const real* floor, const real* offset, const real* entry) noexcept nogil:
    """From the stored exponentials. asks, a literal: each element whether it is the target (is_a_dozen)."""
    cdef int lanes = 64 if real is float else 32
    cdef const real* weight = <const real*>job.weight
    cdef const real* pull = <const real*>step.pull
    cdef const real* slope = <const real*>step.slope
    cdef real* to = <real*>step.results
    cdef real weight_here
    cdef Py_ssize_t n = job.layout.row.size
    cdef Py_ssize_t i
    cdef int j
    # a loop for each, for GCC takes no test out of them
    if kind == PROBABILITIES:
        for i in range(n):
            for j in range(FEW_STEP):
                to[j] = pick(asks and place[j] == <real>i, entry[j], product_of(to[j], factor[j], floor[j]) - offset[j] * pull[j])
            to += step.results_step
            pull += lanes
    elif kind == SMOOTHED and job.smoothing > 0:
        for i in range(n):
            weight_here = weight[i] if weight != NULL else 1
            for j in range(FEW_STEP):       # with the next in one it does not vectorise
                to[j] = product_of(to[j], factor[j], floor[j]) - offset[j] * weight_here
            for j in range(FEW_STEP):
                to[j] = pick(asks and place[j] == <real>i, entry[j], to[j])
            to += step.results_step
    else:
        for i in range(n):
            for j in range(FEW_STEP):
                to[j] = pick(asks and place[j] == <real>i, entry[j], product_of(to[j], factor[j], floor[j]))
            to += step.results_step
    to = <real*>step.results
    for j in range(0 if asks else FEW_STEP):
        if place[j] >= 0:                   # an ignored row has none
            to[<Py_ssize_t>place[j] * step.results_step + j] = entry[j]
    for i in range(n if slope != NULL else 0):
        for j in range(FEW_STEP):
            to[j] = through_cap(to[j], larger(slope[j], <real>0))       # as in lane_slope
        slope += lanes
        to += step.results_step


cdef inline void gradients_of_step(const Job* job, const FewLanes* step, int few, LossKind kind, bint alike, const FewRows* rows,
                                   const FewTotals* totals, const real* place, const real* e_target) noexcept nogil:
    cdef LossOptions options = step.options
    cdef double weight_total = job.weight_total
    cdef double least_product = smallest(place) / unscale(place)
    cdef double e_unscale = unscale(place)
    cdef const real* max = <const real*>step.max
    cdef double height[FEW_STEP]
    cdef real scale[FEW_STEP]
    cdef real floor[FEW_STEP]
    cdef real offset[FEW_STEP]
    cdef real entry[FEW_STEP]
    cdef Early early
    cdef Gradient gradient
    cdef Total total
    cdef Py_ssize_t i
    cdef int j
    if kind == TARGETS and alike:
        least_product = least_product / fabs(options.grad_scale)
    elif kind == TARGETS:
        for j in range(FEW_STEP):
            height[j] = options.grad_scale * rows.row_weight[j] * rows.class_weight[j]
    for j in range(FEW_STEP):
        total = few_total(totals, j, place)
        if kind != TARGETS:
            gradient = gradient_of(options, few_row(rows, kind, alike, weight_total, max[j], j), total, totals.high[j], totals.low[j],
                                   1 if kind == PROBABILITIES else e_target[j] * e_unscale, False, 0, place)
        elif alike:
            gradient = gradient_of_target(total, totals.high[j], totals.low[j], e_target[j] * e_unscale, options.grad_scale, least_product,
                                          False, 0, place)
        else:
            gradient = gradient_of_target(total, totals.high[j], totals.low[j], e_target[j] * e_unscale, height[j],
                                          least_product / fabs(height[j]), False, 0, place)
        scale[j] = real_of(gradient.scale, place)
        floor[j] = real_of(gradient.floor, place)
        entry[j] = real_of(gradient.entry, place)
        offset[j] = real_of(gradient.offset, place)
    for j in range(FEW_STEP):           # an ignored row is zero, and has no entry
        scale[j] = pick(place[j] < 0, <real>0, scale[j])
        offset[j] = pick(place[j] < 0, <real>0, offset[j])
    factors_of(FEW_STEP, scale, floor, &early)
    for i in range(job.layout.row.size if early.some else 0):
        scale_early(0, FEW_STEP, <const Early*>&early, <real*>step.results + i * step.results_step)
    if is_a_dozen(few, job.layout.row.size):
        write_gradients_of_step(job, step, kind, True, place, <const real*>scale, <const real*>floor, <const real*>offset,
                                <const real*>entry)
    else:
        write_gradients_of_step(job, step, kind, False, place, <const real*>scale, <const real*>floor, <const real*>offset,
                                <const real*>entry)


cdef inline void losses_of_kind(const Job* job, const FewLanes* step, Py_ssize_t first, int few, LossKind kind, bint alike, double* loss,
                                const real* like) noexcept nogil:
    """The losses and, unless there are no results, their gradients. few, kind and alike (has_no_weights): literals."""
    cdef bint keeps = step.results != NULL
    cdef const real* max = <const real*>step.max
    cdef const real* position = <const real*>step.position
    cdef FewRows rows
    cdef FewTotals totals
    cdef real place[FEW_STEP]
    cdef real logit[FEW_STEP]
    cdef real e_target[FEW_STEP]
    cdef int j
    open_rows(job, first, kind, alike, &rows, place, like)
    if kind != TARGETS:
        pulls_of_step(job, step, kind, &rows, like)       # before the exponentials may overwrite x
    for j in range(FEW_STEP):
        logit[j] = 0
        e_target[j] = 0
    if kind == PROBABILITIES:           # the maximum's entry is written as a target's
        rests_of_step(job, step, few, keeps, totals.high, totals.low, <const real*>NULL, <real*>NULL, <real*>NULL, like)
        for j in range(FEW_STEP):
            logit[j] = max[j]
            place[j] = position[j]
        for j in range(FEW_STEP):
            place[j] = pick(rows.kept[j] != 0, place[j], <real>-1)
    else:
        rests_of_step(job, step, few, keeps, totals.high, totals.low, <const real*>place, logit, e_target, like)
    totals_of_step(&totals, like)
    finish_losses_of_step(job, step, kind, alike, <const FewRows*>&rows, <const FewTotals*>&totals, <const real*>logit, loss)
    if keeps:
        gradients_of_step(job, step, few, kind, alike, <const FewRows*>&rows, <const FewTotals*>&totals, <const real*>place,
                          <const real*>e_target)


cdef inline void losses_of_lanes(const Job* job, const FewLanes* tile, Py_ssize_t first, int few, LossKind kind, bint alike, double* loss,
                                 const real* like) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef FewLanes step = tile[0]           # in registers
    cdef int lane = 0
    while lane < lanes:
        losses_of_kind(job, &step, first + lane, few, kind, alike, loss + lane, like)
        next_lanes(&step, like)
        lane += FEW_STEP


# Functions of their own, called by their address: in one function with others their loops get slower.

cdef void plain_losses_of_two(const Job* job, const FewLanes* tile, Py_ssize_t first, double* loss, const real* like) noexcept nogil:
    losses_of_lanes(job, tile, first, 2, TARGETS, True, loss, like)


cdef void plain_losses_of_three(const Job* job, const FewLanes* tile, Py_ssize_t first, double* loss, const real* like) noexcept nogil:
    losses_of_lanes(job, tile, first, 3, TARGETS, True, loss, like)


cdef void plain_losses_of_a_dozen(const Job* job, const FewLanes* tile, Py_ssize_t first, double* loss, const real* like) noexcept nogil:
    losses_of_lanes(job, tile, first, A_DOZEN, TARGETS, True, loss, like)


cdef void plain_losses_of_more(const Job* job, const FewLanes* tile, Py_ssize_t first, double* loss, const real* like) noexcept nogil:
    losses_of_lanes(job, tile, first, MORE, TARGETS, True, loss, like)


cdef void weighted_losses(const Job* job, const FewLanes* tile, Py_ssize_t first, double* loss, const real* like) noexcept nogil:
    losses_of_lanes(job, tile, first, ANY_NUMBER, TARGETS, False, loss, like)


cdef void smoothed_losses(const Job* job, const FewLanes* tile, Py_ssize_t first, double* loss, const real* like) noexcept nogil:
    losses_of_lanes(job, tile, first, ANY_NUMBER, SMOOTHED, True, loss, like)


cdef void smoothed_weighted_losses(const Job* job, const FewLanes* tile, Py_ssize_t first, double* loss, const real* like) noexcept nogil:
    losses_of_lanes(job, tile, first, ANY_NUMBER, SMOOTHED, False, loss, like)


cdef void losses_by_probabilities(const Job* job, const FewLanes* tile, Py_ssize_t first, double* loss, const real* like) noexcept nogil:
    losses_of_lanes(job, tile, first, ANY_NUMBER, PROBABILITIES, False, loss, like)
