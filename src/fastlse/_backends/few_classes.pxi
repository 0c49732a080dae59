# Rows of few elements, side by side as in tiles.pxi: what is done there step by step for all lanes is done here for as many lanes as
# registers hold, from x to the sums and from exponentials to results (few_losses.pxi: a loss's part). What lies between, chains of
# operations that wait for each other, takes all of a tile's lanes at once (ADR 0023). It serves what has no mask. The numbers are those
# of tiles.pxi, in the same order, and a tile with a row whose maximum is infinite is left to it (ADRs 0015, 0016, 0018).

cdef extern from *:
    """
    #define APART_BYTES 4096       /* of a larger tile the results take the place, so that it stays in L1 with its rows */
    """
    const Py_ssize_t APART_BYTES

cdef enum:
    FEW_STEP = 16              # lanes at once: with 8 the chain of dependent operations counts, 32 do not stay in registers

cdef enum:                     # how many elements a function is for: 2, 3, or
    ANY_NUMBER = 0
    A_DOZEN = 12               # up to, and more than 3 (of float64 2)
    MORE = 13                  # than that

cdef struct FewLanes:          # where a tile's lanes lie, from the first of the FEW_STEP that are worked on
    const char* rows           # element i of the first is at rows + i step
    Py_ssize_t step
    const void* max            # each lane's
    const void* position
    const void* pull           # of class probabilities: element i's of the lanes at pull + i LANES
    const void* slope          # of the softcap likewise; NULL: none
    void* results              # NULL: none
    Py_ssize_t results_step    # in elements
    LossOptions options

cdef struct FewTotals:         # of each lane: rest, and what totals_of_lanes makes of it
    double high[64]
    double low[64]
    double total[64]
    double inverse[64]
    double log_high[64]
    double log_low[64]


cdef inline void next_lanes(FewLanes* step, const real* like) noexcept nogil:
    step.rows += FEW_STEP * sizeof(real)
    step.max = <const real*>step.max + FEW_STEP
    step.position = <const real*>step.position + FEW_STEP
    step.results = <real*>step.results + FEW_STEP if step.results != NULL else NULL
    step.pull = <const real*>step.pull + FEW_STEP
    step.slope = <const real*>step.slope + FEW_STEP if step.slope != NULL else NULL


cdef inline bint serves_few_classes(const Job* job, const real* like) noexcept nogil:
    """Whether this kernel serves rows that are worked on side by side."""
    cdef Py_ssize_t most = 128
    if job.out.data != NULL and job.out.contiguous_lanes:
        most = 64 if real is float else 32         # lines of the results, so far apart, would not stay in L1 from step to step
    return (1 < job.layout.row.size <= most and job.where.data == NULL and not job.few
            and (job.mode == LOSS or job.out.data == NULL or job.lse == NULL))


cdef inline bint is_a_dozen(int few, Py_ssize_t n) noexcept nogil:
    """Whether there are so few elements that none of the four positions of a sum has more than three, and that it is less work to ask
    each whether it is the target than to fetch the target. few: a literal, what is known of n."""
    return n <= A_DOZEN if few == ANY_NUMBER else few <= A_DOZEN


cdef inline void exponentials_of_element(const FewLanes* step, Py_ssize_t i, const real* here, bint keeps, real* e, const real* place,
                                         real* logit, real* e_target, const real* like) noexcept nogil:
    """Those of element i of each lane, 0 for a maximum's own. here: i, a number for each lane, which costs less to count up than to make
    of i. keeps: they are stored in the results, with the maximum's. The logits and, if they are stored, exponentials of the elements at
    `place` are picked, unless that is NULL."""
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
            logit[j] = pick(place[j] == here[j], x[j], logit[j])
    exp_of_lanes(<const real*>d, FEW_STEP, value)
    if keeps:
        for j in range(FEW_STEP):
            to[j] = value[j]
    if keeps and place != NULL:
        for j in range(FEW_STEP):
            e_target[j] = pick(place[j] == here[j], value[j], e_target[j])
    for j in range(FEW_STEP):
        e[j] = pick(position[j] == here[j], <real>0, value[j])


cdef inline void terms_of_element(const Job* job, const FewLanes* step, Py_ssize_t i, Terms terms, real* term, real* own,
                                  const real* like) noexcept nogil:
    """Those of element i of each lane for sums of other things than exponentials. Of class probabilities the maximum's own is picked, and
    its term 0."""
    cdef int lanes = 64 if real is float else 32
    cdef const real* max = <const real*>step.max
    cdef const real* position = <const real*>step.position
    cdef const real* pull = <const real*>step.pull + i * lanes
    cdef const real* x = <const real*>(step.rows + i * step.step)
    cdef const real* weight = <const real*>job.weight
    cdef real weight_here
    cdef int j
    if terms == PULLS:
        for j in range(FEW_STEP):
            own[j] = pick(position[j] == <real>i, pull[j], own[j])
        for j in range(FEW_STEP):
            term[j] = pick(position[j] == <real>i, <real>0, pull[j])
    elif has_probabilities(job):
        for j in range(FEW_STEP):
            term[j] = deficit_of(x[j], max[j], pull[j])
    elif weight != NULL:
        weight_here = weight[i]
        for j in range(FEW_STEP):
            term[j] = deficit_of(x[j], max[j], weight_here)
    else:
        for j in range(FEW_STEP):
            term[j] = max[j] - x[j]


cdef inline void sums_one_by_one(const Job* job, const FewLanes* step, Terms terms, bint keeps, double* high, double* low,
                                 const real* place, real* logit, real* e_target, const real* like) noexcept nogil:
    """exponential_sums or other_sums of a dozen: the sums of the four positions grow one by one."""
    cdef real e[FEW_STEP]
    cdef real here[FEW_STEP]
    cdef real sum[4][FEW_STEP]
    cdef Pair total
    cdef Py_ssize_t i
    cdef int j, k
    for k in range(4):
        for j in range(FEW_STEP):
            sum[k][j] = 0
    for j in range(FEW_STEP):
        here[j] = 0
    for i in range(job.layout.row.size):
        k = i & 3
        if terms == EXPONENTIALS:
            exponentials_of_element(step, i, <const real*>here, keeps, e, place, logit, e_target, like)
        else:
            terms_of_element(job, step, i, terms, e, logit, like)
        for j in range(FEW_STEP):
            here[j] += 1
        for j in range(FEW_STEP):
            sum[k][j] += e[j]
    for j in range(FEW_STEP):
        total = total_of_four(sum[0][j], sum[1][j], sum[2][j], sum[3][j])
        high[j] = total.high
        low[j] = total.low


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


cdef inline void add_group_of_step(const Job* job, const FewLanes* step, Py_ssize_t start, Py_ssize_t stop, int width, Terms terms,
                                   bint keeps, double[16][FEW_STEP] part, double[8][FEW_STEP] part_low, real* own,
                                   const real* like) noexcept nogil:
    """Add elements start .. stop, up to a group, position by position: (q0 + q1) + (q2 + q3), what is missing being zero."""
    cdef real term[4][FEW_STEP]
    cdef real here[FEW_STEP]
    cdef Pair sum
    cdef int j, k, q, quarters
    for k in range(<int>least(width, stop - start)):
        quarters = <int>((stop - start - k + width - 1) // width)
        for q in range(quarters):
            if terms == EXPONENTIALS:
                for j in range(FEW_STEP):
                    here[j] = <real>(start + k + q * width)
                exponentials_of_element(step, start + k + q * width, <const real*>here, keeps, term[q], <const real*>NULL, <real*>NULL,
                                        <real*>NULL, like)
            else:
                terms_of_element(job, step, start + k + q * width, terms, term[q], own, like)
        if quarters > 1:
            for j in range(FEW_STEP):
                term[0][j] += term[1][j]
        if quarters > 2:
            for j in range(FEW_STEP):
                term[0][j] += term[2][j] + term[3][j] if quarters == 4 else term[2][j]
        if start == 0:
            for j in range(FEW_STEP):
                part[k][j] = term[0][j]
            for j in range(FEW_STEP if real is double else 0):
                part_low[k][j] = 0
        elif real is float:
            for j in range(FEW_STEP):
                part[k][j] += term[0][j]
        else:
            for j in range(FEW_STEP):
                sum = two_sum(part[k][j], term[0][j])
                part_low[k][j] += sum.low
                part[k][j] = sum.high


cdef inline void sums_of_positions(const Job* job, const FewLanes* step, int width, Terms terms, bint keeps, double* high, double* low,
                                   real* own, const real* like) noexcept nogil:
    """sums_by_position for sums of `width` positions, a literal."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t n = job.layout.row.size
    cdef double part[16][FEW_STEP]
    cdef double part_low[8][FEW_STEP]
    cdef Py_ssize_t start = 0
    cdef int half, j
    while start + lanes < n:
        add_group_of_step(job, step, start, start + lanes, width, terms, keeps, part, part_low, own, like)
        start += lanes
    add_group_of_step(job, step, start, n, width, terms, keeps, part, part_low, own, like)
    half = width // 2
    while half > 0:
        fold_positions(part, part_low, half, like)
        half = half // 2
    for j in range(FEW_STEP):
        high[j] = part[0][j]
        low[j] = 0 if real is float else part_low[0][j]


cdef inline void sums_by_position(const Job* job, const FewLanes* step, Terms terms, bint keeps, double* high, double* low, real* own,
                                  const real* like) noexcept nogil:
    """The same of more elements: position by position, then the tree over them."""
    if job.layout.row.size <= SHORT_SUM:
        sums_of_positions(job, step, 4, terms, keeps, high, low, own, like)
    elif real is float:
        sums_of_positions(job, step, 16, terms, keeps, high, low, own, like)
    else:
        sums_of_positions(job, step, 8, terms, keeps, high, low, own, like)


cdef inline void at_places(const char* rows, Py_ssize_t step, const real* place, real* to) noexcept nogil:
    """Each lane's element at its place, some of its own for a place of -1."""
    cdef Py_ssize_t i
    cdef int j
    for j in range(FEW_STEP):
        i = <Py_ssize_t>place[j]
        to[j] = (<const real*>(rows + (0 if i < 0 else i) * step))[j]


cdef inline void exponential_sums(const Job* job, const FewLanes* step, int few, bint keeps, double* high, double* low, const real* place,
                                  real* logit, real* e_target, const real* like) noexcept nogil:
    """Each lane's sum of exponentials, with what exponentials_of_element does besides. few: a literal."""
    if is_a_dozen(few, job.layout.row.size):
        sums_one_by_one(job, step, EXPONENTIALS, keeps, high, low, place, logit, e_target, like)
        return
    if place != NULL:
        at_places(step.rows, step.step, place, logit)         # before the exponentials may overwrite x
    sums_by_position(job, step, EXPONENTIALS, keeps, high, low, <real*>NULL, like)
    if place != NULL and keeps:
        at_places(<const char*>step.results, step.results_step * <Py_ssize_t>sizeof(real), place, e_target)


cdef inline void other_sums(const Job* job, const FewLanes* step, Terms terms, double* high, double* low, real* own,
                            const real* like) noexcept nogil:
    """Each lane's sum of `terms`, a literal."""
    if is_a_dozen(ANY_NUMBER, job.layout.row.size):
        sums_one_by_one(job, step, terms, False, high, low, <const real*>NULL, own, <real*>NULL, like)
    else:
        sums_by_position(job, step, terms, False, high, low, own, like)


cdef inline void copy_element(const FewLanes* step, Py_ssize_t i, real* to) noexcept nogil:
    cdef const real* x = <const real*>(step.rows + i * step.step)
    cdef int j
    for j in range(FEW_STEP):
        to[j] = x[j]


cdef inline void sums_of_others(const FewLanes* step, int n, bint keeps, double* high, double* low, const real* place, real* logit,
                                real* e_target, const real* like) noexcept nogil:
    """exponential_sums of n elements, the literal 2 or 3, by the exponentials of those that are not the maximum: one number, or two in any
    order. The maximum is the first element that equals it, whose position nobody needs. What is picked for a place of none is arbitrary."""
    cdef real one = scaled_one(like)
    cdef const real* max = <const real*>step.max
    cdef real first[FEW_STEP]
    cdef real middle[FEW_STEP]
    cdef real last[FEW_STEP]
    cdef real* to = <real*>step.results
    cdef real d[FEW_STEP]
    cdef real e[2][FEW_STEP]
    cdef real value[3][FEW_STEP]
    cdef Pair total
    cdef int i, j
    copy_element(step, 0, first)           # of a pick among numbers in memory GCC makes masked loads
    copy_element(step, 1, middle)
    copy_element(step, n - 1, last)
    for j in range(FEW_STEP):
        d[j] = pick(first[j] == max[j], middle[j], first[j]) - max[j]
    exp_of_lanes(<const real*>d, FEW_STEP, e[0])
    if n == 3:
        for j in range(FEW_STEP):
            d[j] = pick((first[j] == max[j]) | (middle[j] == max[j]), last[j], middle[j]) - max[j]
        exp_of_lanes(<const real*>d, FEW_STEP, e[1])
    for j in range(FEW_STEP):
        total.high = e[0][j]
        total.low = 0
        if n == 3 and real is float:
            total.high += e[1][j]
        elif n == 3:
            total = two_sum(e[0][j], e[1][j])
        high[j] = total.high
        low[j] = total.low
    if place != NULL:
        for j in range(FEW_STEP):
            logit[j] = pick(place[j] == 0, first[j], pick(place[j] == 1, middle[j], last[j]) if n == 3 else last[j])
    if not keeps:
        return
    for j in range(FEW_STEP):
        value[0][j] = pick(first[j] == max[j], one, e[0][j])
    if n == 3:
        for j in range(FEW_STEP):
            value[1][j] = pick(first[j] == max[j], e[0][j], pick(middle[j] == max[j], one, e[1][j]))
    for j in range(FEW_STEP):
        if n == 2:
            value[1][j] = pick(first[j] == max[j], e[0][j], one)
        else:
            value[2][j] = pick((first[j] == max[j]) | (middle[j] == max[j]), e[1][j], one)
    if place != NULL:
        for j in range(FEW_STEP):
            e_target[j] = pick(place[j] == 0, value[0][j], pick(place[j] == 1, value[1][j], value[2][j]) if n == 3 else value[1][j])
    for i in range(n):
        for j in range(FEW_STEP):
            to[j] = value[i][j]
        to += step.results_step


cdef inline void rests_of_step(const Job* job, const FewLanes* step, int few, bint keeps, double* high, double* low, const real* place,
                               real* logit, real* e_target, const real* like) noexcept nogil:
    """few: a literal."""
    cdef Py_ssize_t n = job.layout.row.size if few == ANY_NUMBER else few
    cdef Pair rest
    cdef int j
    if n == 2:
        sums_of_others(step, 2, keeps, high, low, place, logit, e_target, like)
    elif n == 3:
        sums_of_others(step, 3, keeps, high, low, place, logit, e_target, like)
    else:
        exponential_sums(job, step, few, keeps, high, low, place, logit, e_target, like)
    for j in range(FEW_STEP):
        rest = rest_of(high[j], low[j], like)
        high[j] = rest.high
        low[j] = rest.low


cdef inline void totals_of_lanes(FewTotals* totals, const real* like) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef Total total
    cdef int j
    for j in range(lanes):
        if real is float:
            total = total_of_f32(totals.high[j])
        else:
            total = total_of_f64(totals.high[j], totals.low[j])
        totals.total[j] = total.value
        totals.inverse[j] = total.inverse
        totals.log_high[j] = total.log.high
        totals.log_low[j] = total.log.low


cdef inline void softmax_of_lanes(const Job* job, const FewLanes* tile, const real* like) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef double high[64]
    cdef double low[64]
    cdef real factor[64]
    cdef real floor[64]
    cdef FewLanes step = tile[0]           # in registers
    cdef real* to
    cdef Total total
    cdef Py_ssize_t i
    cdef int lane, j
    lane = 0
    while lane < lanes:
        rests_of_step(job, &step, ANY_NUMBER, True, high + lane, low + lane, <const real*>NULL, <real*>NULL, <real*>NULL, like)
        next_lanes(&step, like)
        lane += FEW_STEP
    for lane in range(lanes):
        total = total_alone(high[lane], low[lane], like)
        factor[lane] = factor_of(real_of(total.inverse, like))
        floor[lane] = real_of(total.value * (smallest(like) / unscale(like)), like)
    lane = 0
    while lane < lanes:
        to = <real*>tile.results + lane
        for i in range(job.layout.row.size):
            for j in range(FEW_STEP):
                to[j] = product_of(to[j], factor[lane + j], floor[lane + j])
            to += tile.results_step
        lane += FEW_STEP


cdef inline void log_softmax_of_lanes(const Job* job, const FewLanes* tile, const real* like) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef FewTotals totals
    cdef real log_total[64]
    cdef FewLanes step = tile[0]
    cdef const real* max
    cdef const real* x
    cdef real* to
    cdef Py_ssize_t i
    cdef int lane, j
    lane = 0
    while lane < lanes:
        rests_of_step(job, &step, ANY_NUMBER, False, totals.high + lane, totals.low + lane, <const real*>NULL, <real*>NULL, <real*>NULL,
                      like)
        next_lanes(&step, like)
        lane += FEW_STEP
    totals_of_lanes(&totals, like)
    for lane in range(lanes):
        log_total[lane] = real_of(totals.log_high[lane], like)
    lane = 0
    while lane < lanes:
        max = <const real*>tile.max + lane
        to = <real*>tile.results + lane
        for i in range(job.layout.row.size):
            x = <const real*>(tile.rows + i * tile.step) + lane
            for j in range(FEW_STEP):
                to[j] = (x[j] - max[j]) - log_total[lane + j]
            to += tile.results_step
        lane += FEW_STEP


cdef inline bint is_finite(const real* x, const real* like) noexcept nogil:
    """Whether LANES numbers are."""
    cdef int lanes = 64 if real is float else 32
    cdef int not_finite = 0
    cdef int lane
    for lane in range(lanes):
        not_finite |= x[lane] - x[lane] != 0
    return not not_finite


cdef inline bint largest_of_few(const char* rows, Py_ssize_t step, int n, real* max) noexcept nogil:
    """maxima_of_few for n elements, a literal."""
    cdef int lanes = 64 if real is float else 32
    cdef const real* first = <const real*>rows
    cdef const real* second = <const real*>(rows + step)
    cdef const real* third = <const real*>(rows + (n - 1) * step)
    cdef int not_finite = 0
    cdef int lane
    for lane in range(lanes):
        max[lane] = larger(second[lane], first[lane])
        if n == 3:
            max[lane] = larger(third[lane], max[lane])
        not_finite |= max[lane] - max[lane] != 0
    return not not_finite


cdef bint maxima_of_few(const Job* job, Tile* tile, const real* like, real* max) noexcept nogil:
    """The maxima of two or three elements without their positions, and whether all are finite."""
    cdef Py_ssize_t step
    cdef const char* rows = tile_rows_at(job, tile, 0, job.layout.row.size, &step, like)
    if job.layout.row.size == 2:
        return largest_of_few(rows, step, 2, max)
    return largest_of_few(rows, step, 3, max)


cdef void process_few_classes(const Job* job, Py_ssize_t first, int count, char* scratch, LossSums* sums, const real* like) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t n = job.layout.row.size
    cdef bint placed = n > 3 or has_probabilities(job)       # otherwise sums_of_others does without positions
    cdef Tile tile
    cdef Ends ends
    cdef FewLanes step
    cdef real max[64]
    cdef real position[64]
    cdef real* results = NULL
    cdef void (*losses_of_tile)(const Job*, const FewLanes*, Py_ssize_t, double*, const real*) noexcept nogil
    cdef bint gives_sums = job.mode == LSE or job.mode == STATE
    cdef bint finite
    cdef int lane
    if count < lanes:
        process_tile(job, first, count, scratch, sums, like)
        return
    open_tile(job, &tile, first, count, scratch, False, like)
    if job.out_ahead != 0 and is_matrix(job, &job.out):
        prefetch_rows(&job.out, job.out.data + tile.out_offset[0], lanes)
    if real is double and n == 3 and job.mode == LOSS:
        placed = True                      # a sixth faster, one by one
    if not placed:
        finite = maxima_of_few(job, &tile, like, max)
    else:
        tile_max(job, &tile, 0, n, max, position)
        finite = is_finite(<const real*>max, like)
    if not finite:
        process_tile(job, first, count, scratch, sums, like)
        return
    step.rows = tile_rows_at(job, &tile, 0, n, &step.step, like)
    step.options = loss_options(job)
    step.pull = tile.pull_scratch
    step.slope = tile.slope_scratch if job.softcap > 0 else NULL
    step.results_step = lanes
    if tile.out_adjacent:
        results = <real*>(job.out.data + tile.out_offset[0])
        step.results_step = run_stride(&job.layout.row, job.out.row_stride) // <Py_ssize_t>sizeof(real)
    elif job.out.data != NULL:
        results = <real*>(tile.out_scratch if tile.x_adjacent or n * TILE_STEP <= APART_BYTES else tile.x_scratch)
    if has_probabilities(job):
        gather_pulls(job, &tile, like)
        losses_of_tile = losses_by_probabilities
    elif not pulls_targets_only(job):
        losses_of_tile = smoothed_losses if has_no_weights(job) else smoothed_weighted_losses
    elif not has_no_weights(job):
        losses_of_tile = weighted_losses
    elif not placed:
        losses_of_tile = plain_losses_of_two if n == 2 else plain_losses_of_three
    else:
        losses_of_tile = plain_losses_of_a_dozen if is_a_dozen(ANY_NUMBER, n) else plain_losses_of_more
    step.max = max
    step.position = position
    step.results = results
    if job.mode == LOSS:
        losses_of_tile(job, &step, first, ends.value, like)
    elif job.mode == SOFTMAX:
        softmax_of_lanes(job, <const FewLanes*>&step, like)
    elif job.mode == LOG_SOFTMAX:
        log_softmax_of_lanes(job, <const FewLanes*>&step, like)
    lane = 0
    while gives_sums and lane < lanes:
        rests_of_step(job, &step, ANY_NUMBER, False, &ends.high[lane], &ends.low[lane], <const real*>NULL, <real*>NULL, <real*>NULL, like)
        next_lanes(&step, like)
        lane += FEW_STEP
    if gives_sums:
        for lane in range(lanes):
            ends.max[lane] = max[lane]
        finish(job, &ends, lanes, like)
        refine_lse(job, &ends, first, count, like)
    if gives_sums or job.mode == LOSS:
        store_values(job, <const Ends*>&ends, first, count, sums, like)
    if results != NULL:
        close_tile(job, <const Tile*>&tile, <const Ends*>&ends, results, step.results_step, 0, n, False)
