# A loss's part of few_classes.pxi: the losses of a tile's rows and their gradients, with every option.

cdef enum LossKind:            # what draws the classes
    TARGETS                    # pulls_targets_only
    SMOOTHED                   # label smoothing; a z-loss goes here, too
    PROBABILITIES

cdef struct FewRows:           # as in LossRow, for each lane; of kept alone if has_no_weights
    double class_weight[64]
    double row_weight[64]
    double kept[64]
    double deficit[64]
    double own[64]             # beside class probabilities
    double others[64]


cdef inline void open_rows(const Job* job, Py_ssize_t first, LossKind kind, bint alike, FewRows* rows, real* place,
                           const real* like) noexcept nogil:
    """open_losses for a tile's rows: their weights, and their targets' places, -1 for none."""
    cdef int lanes = 64 if real is float else 32
    cdef const int64_t* target = job.target + first
    cdef const real* weight = <const real*>job.weight
    cdef int64_t ignored = job.ignore_index
    cdef real of_class[64]
    cdef Py_ssize_t i
    cdef int j
    if kind != PROBABILITIES:
        for j in range(lanes):         # through 32 bits: what becomes of 64 themselves is no single instruction
            place[j] = <real><int>(-1 if target[j] == ignored else target[j])
        for j in range(lanes):
            rows.kept[j] = 0 if target[j] == ignored else 1
    if alike:
        return
    if job.sample_weight.f32 != NULL:
        for j in range(lanes):
            rows.row_weight[j] = job.sample_weight.f32[first + j]
    else:
        for j in range(lanes):
            rows.row_weight[j] = weight_at(job.sample_weight, first + j)
    if kind == PROBABILITIES:
        for j in range(lanes):
            rows.class_weight[j] = 0
    else:
        for j in range(lanes):
            rows.row_weight[j] = pick(rows.kept[j] != 0, rows.row_weight[j], 0.0)
        for j in range(lanes):
            place[j] = pick(rows.row_weight[j] != 0, place[j], <real>-1)
        for j in range(lanes):
            of_class[j] = 1
        for i in range(job.layout.row.size if weight != NULL else 0):
            for j in range(lanes):
                of_class[j] = pick(place[j] == <real>i, weight[i], of_class[j])
        for j in range(lanes):
            rows.class_weight[j] = of_class[j]
    for j in range(lanes):
        rows.kept[j] = pick(rows.row_weight[j] != 0, 1.0, 0.0)


cdef inline void settle_few(const double* high, const double* low, double* total) noexcept nogil:
    cdef Pair sum
    cdef int j
    for j in range(FEW_STEP):
        sum.high = high[j]
        sum.low = low[j]
        total[j] = settle(sum)


cdef inline void pulls_of_step(const Job* job, const FewLanes* step, LossKind kind, int lane, FewRows* rows,
                               const real* like) noexcept nogil:
    """sum_pulls for the lanes from `lane` on."""
    cdef real own[FEW_STEP]
    cdef double high[FEW_STEP]
    cdef double low[FEW_STEP]
    cdef int j
    if kind == SMOOTHED and job.smoothing == 0:
        for j in range(FEW_STEP):
            rows.deficit[lane + j] = 0
        return
    other_sums(job, step, DEFICITS, high, low, <real*>NULL, like)
    settle_few(<const double*>high, <const double*>low, rows.deficit + lane)
    if kind == PROBABILITIES:
        for j in range(FEW_STEP):
            own[j] = 0
        other_sums(job, step, PULLS, high, low, own, like)
        settle_few(<const double*>high, <const double*>low, rows.others + lane)
        for j in range(FEW_STEP):
            rows.own[lane + j] = own[j]


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


cdef inline void finish_losses_of_lanes(const Job* job, const FewLanes* tile, LossKind kind, bint alike, const FewRows* rows,
                                        const FewTotals* totals, const real* logit, double* loss) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef LossOptions options = tile.options
    cdef double weight_total = job.weight_total
    cdef const real* max = <const real*>tile.max
    cdef double value
    cdef int j
    for j in range(lanes):
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
    cdef real here[FEW_STEP]
    cdef Py_ssize_t n = job.layout.row.size
    cdef Py_ssize_t i
    cdef int j
    for j in range(FEW_STEP):
        here[j] = 0
    # a loop for each, for GCC takes no test out of them
    if kind == PROBABILITIES:
        for i in range(n):
            for j in range(FEW_STEP):
                to[j] = pick(asks and place[j] == here[j], entry[j], product_of(to[j], factor[j], floor[j]) - offset[j] * pull[j])
            for j in range(FEW_STEP):
                here[j] += 1
            to += step.results_step
            pull += lanes
    elif kind == SMOOTHED and job.smoothing > 0:
        for i in range(n):
            weight_here = weight[i] if weight != NULL else 1
            for j in range(FEW_STEP):       # with the next in one it does not vectorise
                to[j] = product_of(to[j], factor[j], floor[j]) - offset[j] * weight_here
            for j in range(FEW_STEP):
                to[j] = pick(asks and place[j] == here[j], entry[j], to[j])
            for j in range(FEW_STEP):
                here[j] += 1
            to += step.results_step
    else:
        for i in range(n):
            for j in range(FEW_STEP):
                to[j] = pick(asks and place[j] == here[j], entry[j], product_of(to[j], factor[j], floor[j]))
            for j in range(FEW_STEP):
                here[j] += 1
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


cdef inline void gradients_of_lanes(const Job* job, const FewLanes* tile, int few, LossKind kind, bint alike, const FewRows* rows,
                                    const FewTotals* totals, const real* place, const real* e_target) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef LossOptions options = tile.options
    cdef double weight_total = job.weight_total
    cdef double least_product = smallest(place) / unscale(place)
    cdef double e_unscale = unscale(place)
    cdef const real* max = <const real*>tile.max
    cdef FewLanes step = tile[0]
    cdef double height[64]
    cdef real scale[64]
    cdef real floor[64]
    cdef real offset[64]
    cdef real entry[64]
    cdef Early early
    cdef Gradient gradient
    cdef Total total
    cdef Py_ssize_t i
    cdef int j
    if kind == TARGETS and alike:
        least_product = least_product / fabs(options.grad_scale)
    elif kind == TARGETS:
        for j in range(lanes):
            height[j] = options.grad_scale * rows.row_weight[j] * rows.class_weight[j]
    for j in range(lanes):
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
    for j in range(lanes):              # an ignored row is zero, and has no entry
        scale[j] = pick(place[j] < 0, <real>0, scale[j])
        offset[j] = pick(place[j] < 0, <real>0, offset[j])
    factors_of(lanes, scale, floor, &early)
    for i in range(job.layout.row.size if early.some else 0):
        scale_early(0, lanes, <const Early*>&early, <real*>tile.results + i * tile.results_step)
    j = 0
    while j < lanes:
        if is_a_dozen(few, job.layout.row.size):
            write_gradients_of_step(job, <const FewLanes*>&step, kind, True, place + j, <const real*>scale + j, <const real*>floor + j,
                                    <const real*>offset + j, <const real*>entry + j)
        else:
            write_gradients_of_step(job, <const FewLanes*>&step, kind, False, place + j, <const real*>scale + j, <const real*>floor + j,
                                    <const real*>offset + j, <const real*>entry + j)
        next_lanes(&step, place)
        j += FEW_STEP


cdef inline void losses_of_lanes(const Job* job, const FewLanes* tile, Py_ssize_t first, int few, LossKind kind, bint alike, double* loss,
                                 const real* like) noexcept nogil:
    """The losses and, unless there are no results, their gradients. few, kind and alike (has_no_weights): literals."""
    cdef int lanes = 64 if real is float else 32
    cdef bint keeps = tile.results != NULL
    cdef const real* max = <const real*>tile.max
    cdef const real* position = <const real*>tile.position
    cdef FewLanes step = tile[0]           # in registers
    cdef FewRows rows
    cdef FewTotals totals
    cdef real place[64]
    cdef real logit[64]
    cdef real e_target[64]
    cdef int lane
    open_rows(job, first, kind, alike, &rows, place, like)
    for lane in range(lanes):
        logit[lane] = 0
        e_target[lane] = 0
    lane = 0
    while lane < lanes:
        if kind != TARGETS:
            pulls_of_step(job, <const FewLanes*>&step, kind, lane, &rows, like)       # before the exponentials may overwrite x
        if kind == PROBABILITIES:
            rests_of_step(job, <const FewLanes*>&step, few, keeps, totals.high + lane, totals.low + lane, <const real*>NULL, <real*>NULL,
                          <real*>NULL, like)
        else:
            rests_of_step(job, <const FewLanes*>&step, few, keeps, totals.high + lane, totals.low + lane, <const real*>place + lane,
                          logit + lane, e_target + lane, like)
        next_lanes(&step, like)
        lane += FEW_STEP
    if kind == PROBABILITIES:           # the maximum's entry is written as a target's
        for lane in range(lanes):
            logit[lane] = max[lane]
            place[lane] = position[lane]
        for lane in range(lanes):
            place[lane] = pick(rows.kept[lane] != 0, place[lane], <real>-1)
    totals_of_lanes(&totals, like)
    finish_losses_of_lanes(job, tile, kind, alike, <const FewRows*>&rows, <const FewTotals*>&totals, <const real*>logit, loss)
    if keeps:
        gradients_of_lanes(job, tile, few, kind, alike, <const FewRows*>&rows, <const FewTotals*>&totals, <const real*>place,
                           <const real*>e_target)


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
