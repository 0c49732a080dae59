# Rows of few elements, side by side as in tiles.pxi: what is done there step by step for all lanes is done here from x to the results for
# as many lanes as registers hold. It serves what has no mask: logsumexp and states, softmax and log-softmax alone, and losses of up to five
# classes where every row that is kept counts 1. The numbers are those of tiles.pxi, in the same order, and a tile with a row whose
# maximum is infinite is left to it (ADR 0015).

cdef enum:
    FEW_STEP = 16              # lanes at once: with 8 the chain of dependent operations counts, 32 do not stay in registers

cdef struct FewLanes:          # FEW_STEP lanes of a tile
    const char* rows           # element i of the first is at rows + i step
    Py_ssize_t step
    const void* max            # each lane's
    const void* position
    void* results              # NULL: none
    Py_ssize_t results_step    # in elements


cdef inline bint serves_few_classes(const Job* job, const real* like) noexcept nogil:
    """Whether this kernel serves rows that are worked on side by side."""
    cdef Py_ssize_t most = SHORT_SUM if real is float else 32        # float32: 20 to 33 elements are as fast in tiles.pxi, or faster
    if not 1 < job.layout.row.size <= most or job.where.data != NULL or job.few:
        return False
    if job.mode == LOSS:
        # of more classes not before weights, smoothing and probabilities are served, too: an option costs at most 1.3 times the plain
        # call at ten classes, which is 1.4 times as fast here
        return counts_rows_alike(job) and job.softcap == 0 and job.layout.row.size <= 5
    return job.out.data == NULL or job.lse == NULL


cdef inline void exponentials_of_element(const FewLanes* step, Py_ssize_t i, bint keeps, real* e, const real* place, real* logit,
                                         const real* like) noexcept nogil:
    """Those of element i of each lane, nothing for a maximum's own. keeps: they are stored in the results, with the maximum's. The logits
    of the elements at `place` are picked, unless that is NULL."""
    cdef real nothing = exp_scaled(real_of(-INF_F64, like))
    cdef const real* max = <const real*>step.max
    cdef const real* position = <const real*>step.position
    cdef const real* x = <const real*>(step.rows + i * step.step)
    cdef real* to = <real*>step.results + i * step.results_step
    cdef real d[FEW_STEP]
    cdef real value[FEW_STEP]
    cdef int j
    for j in range(FEW_STEP):
        d[j] = x[j] - max[j]
    if place != NULL:
        for j in range(FEW_STEP):
            logit[j] = pick(place[j] == <real>i, x[j], logit[j])
    exp_of_lanes(<const real*>d, FEW_STEP, value)
    if keeps:
        for j in range(FEW_STEP):
            to[j] = value[j]
    for j in range(FEW_STEP):
        e[j] = pick(position[j] == <real>i, nothing, value[j])


cdef inline void short_rests(const FewLanes* step, Py_ssize_t n, bint keeps, double* high, double* low, const real* place, real* logit,
                             const real* like) noexcept nogil:
    """rests_of_step for so few elements that no position has four: the sums of the four positions grow one by one."""
    cdef real e[FEW_STEP]
    cdef real sum[4][FEW_STEP]
    cdef Pair rest
    cdef Py_ssize_t i
    cdef int j, k
    for k in range(4):
        for j in range(FEW_STEP):
            sum[k][j] = 0
    for i in range(n):
        k = i & 3
        exponentials_of_element(step, i, keeps, e, place, logit, like)
        for j in range(FEW_STEP):
            sum[k][j] += e[j]
    for j in range(FEW_STEP):
        rest = total_of_four(sum[0][j], sum[1][j], sum[2][j], sum[3][j])
        rest = rest_of(rest.high, rest.low, like)
        high[j] = rest.high
        low[j] = rest.low


cdef inline void fold_positions(double[16][FEW_STEP] part, double[8][FEW_STEP] part_low, int half, const real* like) noexcept nogil:
    """One level of the tree: position k + half is added to position k."""
    cdef Pair sum
    cdef int j, k
    for k in range(half):
        for j in range(FEW_STEP):
            if real is float:
                part[k][j] += part[k + half][j]
            else:
                sum = two_sum(part[k][j], part[k + half][j])
                part_low[k][j] = (part_low[k][j] + part_low[k + half][j]) + sum.low
                part[k][j] = sum.high


cdef inline void long_rests(const FewLanes* step, Py_ssize_t n, bint keeps, double* high, double* low, const real* place, real* logit,
                            const real* like) noexcept nogil:
    """rests_of_step for up to a group of elements: position by position, then the tree over them."""
    cdef int width = 4 if n <= SHORT_SUM else 16 if real is float else 8
    cdef double part[16][FEW_STEP]
    cdef double part_low[8][FEW_STEP]
    cdef real e[4][FEW_STEP]
    cdef Pair rest
    cdef int half, j, k, q, quarters
    for k in range(width):
        quarters = <int>((n - k + width - 1) // width)
        for q in range(quarters):
            exponentials_of_element(step, k + q * width, keeps, e[q], place, logit, like)
        if quarters > 1:
            for j in range(FEW_STEP):
                e[0][j] += e[1][j]
        if quarters > 2:
            for j in range(FEW_STEP):
                e[0][j] += e[2][j] + e[3][j] if quarters == 4 else e[2][j]
        for j in range(FEW_STEP):
            part[k][j] = e[0][j]
        if real is double:
            for j in range(FEW_STEP):
                part_low[k][j] = 0
    half = width // 2
    while half > 0:
        fold_positions(part, part_low, half, like)
        half = half // 2
    for j in range(FEW_STEP):
        rest = rest_of(part[0][j], 0 if real is float else part_low[0][j], like)
        high[j] = rest.high
        low[j] = rest.low


cdef inline void rests_of_step(const FewLanes* step, Py_ssize_t n, bint keeps, double* high, double* low, const real* place, real* logit,
                               const real* like) noexcept nogil:
    """Each lane's rest, with what exponentials_of_element does besides."""
    if n <= 12:
        short_rests(step, n, keeps, high, low, place, logit, like)
    else:
        long_rests(step, n, keeps, high, low, place, logit, like)


cdef inline void totals_of_step(const double* high, const double* low, double* total, double* inverse, double* log_high,
                                double* log_low, const real* like) noexcept nogil:
    cdef Total of_lane
    cdef int j
    for j in range(FEW_STEP):
        if real is float:
            of_lane = total_of_f32(high[j])
        else:
            of_lane = total_of_f64(high[j], low[j])
        total[j] = of_lane.value
        inverse[j] = of_lane.inverse
        log_high[j] = of_lane.log.high
        log_low[j] = of_lane.log.low


cdef inline void softmax_of_step(const FewLanes* step, Py_ssize_t n, const real* like) noexcept nogil:
    cdef double high[FEW_STEP]
    cdef double low[FEW_STEP]
    cdef real scale[FEW_STEP]
    cdef real floor[FEW_STEP]
    cdef real* to = <real*>step.results
    cdef Total total
    cdef Py_ssize_t i
    cdef int j
    rests_of_step(step, n, True, high, low, <const real*>NULL, <real*>NULL, like)
    for j in range(FEW_STEP):
        total = total_alone(high[j], low[j], like)
        scale[j] = real_of(total.inverse, like)
        floor[j] = real_of(total.value * (smallest(like) / unscale(like)), like)
    for i in range(n):
        for j in range(FEW_STEP):
            to[j] = scaled(to[j], scale[j], floor[j])
        to += step.results_step


cdef inline void log_softmax_of_step(const FewLanes* step, Py_ssize_t n, const real* like) noexcept nogil:
    cdef double high[FEW_STEP]
    cdef double low[FEW_STEP]
    cdef double total[FEW_STEP]
    cdef double inverse[FEW_STEP]
    cdef double log_high[FEW_STEP]
    cdef double log_low[FEW_STEP]
    cdef real log_total[FEW_STEP]
    cdef const real* max = <const real*>step.max
    cdef const real* x
    cdef real* to = <real*>step.results
    cdef Py_ssize_t i
    cdef int j
    rests_of_step(step, n, False, high, low, <const real*>NULL, <real*>NULL, like)
    totals_of_step(<const double*>high, <const double*>low, total, inverse, log_high, log_low, like)
    for j in range(FEW_STEP):
        log_total[j] = real_of(log_high[j], like)
    for i in range(n):
        x = <const real*>(step.rows + i * step.step)
        for j in range(FEW_STEP):
            to[j] = (x[j] - max[j]) - log_total[j]
        to += step.results_step


cdef inline void losses_of_step(const Job* job, const FewLanes* step, const int64_t* target, double* loss, const real* like) noexcept nogil:
    """The losses and, unless there are no results, their gradients."""
    cdef double least_product = smallest(like) / unscale(like) / fabs(job.grad_scale)
    cdef Py_ssize_t n = job.layout.row.size
    cdef real place[FEW_STEP]
    cdef real logit[FEW_STEP]
    cdef real d[FEW_STEP]
    cdef real e[FEW_STEP]
    cdef double kept[FEW_STEP]
    cdef double high[FEW_STEP]
    cdef double low[FEW_STEP]
    cdef double total[FEW_STEP]
    cdef double inverse[FEW_STEP]
    cdef double log_high[FEW_STEP]
    cdef double log_low[FEW_STEP]
    cdef real scale[FEW_STEP]
    cdef real floor[FEW_STEP]
    cdef real entry[FEW_STEP]
    cdef const real* max = <const real*>step.max
    cdef real* to = <real*>step.results
    cdef Total of_lane
    cdef Gradient gradient
    cdef double value
    cdef Py_ssize_t i
    cdef int j
    for j in range(FEW_STEP):
        place[j] = <real><int>target[j]          # as in lane_places
        logit[j] = 0
    for j in range(FEW_STEP):
        kept[j] = 0 if target[j] == job.ignore_index else 1
    rests_of_step(step, n, to != NULL, high, low, <const real*>place, logit, like)
    if to != NULL:
        for j in range(FEW_STEP):
            d[j] = logit[j] - max[j]
        for j in range(FEW_STEP):
            e[j] = exp_scaled(d[j])
    totals_of_step(<const double*>high, <const double*>low, total, inverse, log_high, log_low, like)
    for j in range(FEW_STEP):
        value = likelihood_of(max[j], logit[j], log_high[j], log_low[j], like)
        loss[j] = pick(kept[j] != 0, value, 0.0)
    if to == NULL:
        return
    for j in range(FEW_STEP):
        of_lane.value = total[j]
        of_lane.inverse = 1 / total[j] if real is float else inverse[j]
        gradient = gradient_of_target(of_lane, high[j], low[j], e[j] * unscale(like), job.grad_scale, least_product, kept[j] == 0, 0, like)
        scale[j] = real_of(gradient.scale, like)
        floor[j] = real_of(gradient.floor, like)
        entry[j] = real_of(gradient.entry, like)
    for i in range(n):
        for j in range(FEW_STEP):
            to[j] = pick(place[j] == <real>i, entry[j], scaled(to[j], scale[j], floor[j]))
        to += step.results_step


cdef void process_few_classes(const Job* job, Py_ssize_t first, int count, char* scratch, LossSums* sums, const real* like) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t n = job.layout.row.size
    cdef Tile tile
    cdef Ends ends
    cdef FewLanes step
    cdef real max[64]
    cdef real position[64]
    cdef real* results = NULL
    cdef bint gives_sums = job.mode == LSE or job.mode == STATE
    cdef int not_finite = 0
    cdef int lane
    if count < lanes:
        process_tile(job, first, count, scratch, sums, like)
        return
    open_tile(job, &tile, first, count, scratch, like)
    if job.out_ahead != 0 and is_matrix(job, &job.out):
        prefetch_rows(&job.out, job.out.data + tile.out_offset[0], lanes)
    tile_max(job, &tile, 0, n, max, position)
    for lane in range(lanes):
        not_finite |= max[lane] - max[lane] != 0
    if not_finite:
        process_tile(job, first, count, scratch, sums, like)
        return
    step.rows = tile_rows_at(job, &tile, 0, n, &step.step, like)
    step.results_step = lanes
    if tile.out_adjacent:
        results = <real*>(job.out.data + tile.out_offset[0])
        step.results_step = run_stride(&job.layout.row, job.out.row_stride) // <Py_ssize_t>sizeof(real)
    elif job.out.data != NULL:
        results = <real*>tile.out_scratch
    lane = 0
    while lane < lanes:
        step.max = max + lane
        step.position = position + lane
        step.results = results + lane if results != NULL else NULL
        if gives_sums:
            rests_of_step(&step, n, False, &ends.high[lane], &ends.low[lane], <const real*>NULL, <real*>NULL, like)
        elif job.mode == SOFTMAX:
            softmax_of_step(&step, n, like)
        elif job.mode == LOG_SOFTMAX:
            log_softmax_of_step(&step, n, like)
        else:
            losses_of_step(job, &step, job.target + first + lane, &ends.value[lane], like)
        step.rows += FEW_STEP * sizeof(real)
        lane += FEW_STEP
    if gives_sums:
        for lane in range(lanes):
            ends.max[lane] = max[lane]
        finish(job, &ends, lanes, like)
        refine_lse(job, &ends, first, count, like)
    if gives_sums or job.mode == LOSS:
        store_values(job, <const Ends*>&ends, first, count, sums, like)
    if results != NULL:
        close_tile(job, <const Tile*>&tile, <const Ends*>&ends, results, step.results_step, 0, n)
