# The kernel along rows that fit into L1: one step for a batch of rows before the next step, since a row's maximum, its
# exponentials, their sum and its results wait for each other, and rows do not (ADR 0008).
#
# A row's exponentials lie in scratch, filled up to whole groups with the zeros that scratch begins with: nothing else is written
# there. So do its elements, if they are not one run in memory.

cdef extern from *:
    """
    /* Bytes of a batch's exponentials, and where what they are taken from and where results go come from beyond the caches: those have to
       be in L1 beside them. */
    #define SHORT_BATCH_BYTES 12288
    #define FETCHED_BATCH_BYTES 8192
    /* Class probabilities come from there, too: in batches of longer rows than this they take room, of shorter ones it is worth
       more to have many. */
    #define ROW_OF_PROBABILITIES 256
    /* Up to here a row's maximum is found again among its differences from it, register by register; float64 of 300 elements would be
       9 to 14 % slower so. */
    #define SHORTER_ROW 128
    """
    const Py_ssize_t SHORT_BATCH_BYTES, FETCHED_BATCH_BYTES, ROW_OF_PROBABILITIES, SHORTER_ROW

cdef struct ShortBatch:
    int count
    Py_ssize_t n             # the elements of a row
    const void* x[64]        # each row's, as one run; NULL for an ignored row
    void* out[64]            # where its results go
    void* e                  # where the first row's exponentials lie
    Py_ssize_t step          # from there to the next row's, in elements: n filled up to whole groups
    double max[64]
    int position[64]         # where the maximum first stands, -1 for nowhere


cdef inline Py_ssize_t padded(Py_ssize_t n, const real* like) noexcept nogil:
    """n filled up to whole groups."""
    cdef Py_ssize_t lanes = 64 if real is float else 32
    return (n + lanes - 1) // lanes * lanes


cdef inline Py_ssize_t short_batch(const Job* job, bint fetched, const real* like) noexcept nogil:
    """How many rows make a batch. fetched: results go where no cache holds them."""
    cdef Py_ssize_t lanes = 64 if real is float else 32
    cdef Py_ssize_t row_bytes = padded(job.layout.row.size, like) * <Py_ssize_t>sizeof(real)
    cdef Py_ssize_t fetched_bytes = FETCHED_BATCH_BYTES
    cdef Py_ssize_t rows
    if has_probabilities(job) and job.layout.row.size > ROW_OF_PROBABILITIES:
        fetched_bytes = fetched_bytes * 2 // 3
    rows = fetched_bytes // row_bytes if fetched else SHORT_BATCH_BYTES // row_bytes + 1
    return least(lanes, rows // 8 * 8) if rows > 8 else rows + (rows == 0)


cdef inline Py_ssize_t short_scratch(const Job* job, const real* like) noexcept nogil:
    """Bytes that open_short_row shares out: for the exponentials and, where they are asked for, elements, slopes and a row of pulls."""
    cdef Py_ssize_t n_rows = job.batch_rows
    if job.softcap > 0 or has_probabilities(job):
        n_rows = 3 * job.batch_rows + 1
    elif job.where.data != NULL or not job.x.contiguous_row:
        n_rows = 2 * job.batch_rows
    return n_rows * padded(job.layout.row.size, like) * <Py_ssize_t>sizeof(real)


cdef inline Row open_short_row(const Job* job, Py_ssize_t first, int lane, char* scratch, const real* like) noexcept nogil:
    """A row of a batch. Its exponentials belong to out_scratch."""
    cdef Py_ssize_t size = padded(job.layout.row.size, like) * <Py_ssize_t>sizeof(real)
    cdef Row row = open_row(job, first + lane, scratch, like)
    row.out_scratch = scratch + lane * size
    row.x_scratch = scratch + (job.batch_rows + lane) * size
    row.slope_scratch = scratch + (2 * job.batch_rows + lane) * size
    row.pull_scratch = scratch + 3 * job.batch_rows * size
    return row


cdef inline void best_of_columns(const real* x, Py_ssize_t n, real* best) noexcept nogil:
    """The largest number of each of 8 columns of a row, NaN skipped."""
    cdef real so_far[8]
    cdef real of_step[8]
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t at
    cdef int j
    for j in range(8):
        so_far[j] = real_of(-INF_F64, x)
    while i + 32 <= n:
        for j in range(8):
            of_step[j] = larger(larger(x[i + j], x[i + 8 + j]), larger(x[i + 16 + j], x[i + 24 + j]))
        for j in range(8):
            so_far[j] = larger(of_step[j], so_far[j])
        i += 32
    while i < n:
        at = least(i, n - 8)               # overlaps the step before: a maximum does not mind
        for j in range(8):
            so_far[j] = larger(x[at + j], so_far[j])
        i += 8
    for j in range(8):
        best[j] = so_far[j]


cdef void short_maxima(ShortBatch* batch, const real* like) noexcept nogil:
    cdef real best[64 * 8]
    cdef real max[64]
    cdef int lane
    for lane in range(batch.count):
        if batch.x[lane] != NULL:
            best_of_columns(<const real*>batch.x[lane], batch.n, best + 8 * lane)
    largest_of_eights(<const real*>best, batch.count, max)
    for lane in range(batch.count):
        batch.max[lane] = max[lane]
    for lane in range(batch.count):
        if batch.x[lane] == NULL:
            batch.max[lane] = 0


cdef inline real max_of_groups(const real* x, Py_ssize_t n, real* step) noexcept nogil:
    """The largest number of a row, NaN skipped, and minus the beginning of the first group that holds it; -inf for none."""
    cdef int lanes = 64 if real is float else 32
    cdef int width = 16 if real is float else 8
    cdef real best[16]             # of each position in a quarter, and minus where the group begins in which it stands first
    cdef real stood[16]
    cdef real of_group[16]
    cdef real latest[16]
    cdef real largest
    cdef real base
    cdef Py_ssize_t at
    cdef Py_ssize_t i = 0
    cdef int j
    for j in range(width):
        best[j] = real_of(-INF_F64, x)
        stood[j] = real_of(-INF_F64, x)
    while i < n:
        at = least(i, n - lanes)           # overlaps the group before: a maximum does not mind
        base = -<real>at
        for j in range(width):
            of_group[j] = larger(larger(x[at + j], x[at + width + j]), larger(x[at + 2 * width + j], x[at + 3 * width + j]))
        for j in range(width):
            latest[j] = pick(of_group[j] > best[j], base, stood[j])
            best[j] = larger(of_group[j], best[j])
        for j in range(width):
            stood[j] = latest[j]
        i += lanes
    largest = largest_of(<const real*>best)
    for j in range(width):
        latest[j] = pick(best[j] == largest, stood[j], real_of(-INF_F64, x))
    step[0] = largest_of(<const real*>latest)
    return largest


cdef inline int place_in_group(const real* x, real largest, real step) noexcept nogil:
    """Where the largest number of a row first stands, from what max_of_groups tells; -1 for nowhere."""
    cdef int lanes = 64 if real is float else 32
    cdef int at = <int>-step if step != real_of(-INF_F64, x) else -1
    return at + first_of(x + at, lanes, largest) if at >= 0 else -1


cdef void longer_maxima(ShortBatch* batch, const real* like) noexcept nogil:
    """The maxima, and where they first stand."""
    cdef real step[64]
    cdef int lane
    for lane in range(batch.count):
        batch.max[lane] = 0
        if batch.x[lane] != NULL:
            batch.max[lane] = max_of_groups(<const real*>batch.x[lane], batch.n, &step[lane])
    for lane in range(batch.count):          # which waits for the maximum, and another row's need not
        batch.position[lane] = -1
        if batch.x[lane] != NULL:
            batch.position[lane] = place_in_group(<const real*>batch.x[lane], real_of(batch.max[lane], like), step[lane])


cdef inline void prefetch_run(const char* run, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t at = 0
    while at < size:
        PREFETCH(run + at)
        at += 64


cdef inline uint64_t exp_and_find(const real* x, Py_ssize_t n, real shift, real* e) noexcept nogil:
    """exp_scaled(x - shift) of up to 64 elements, and a bit for each that is the shift itself. One register after the other: the
    constants stay in those that are left."""
    cdef int width = REGISTER_BYTES // sizeof(real)
    cdef real d[16]
    cdef real value[16]
    cdef uint64_t found = 0
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t at
    cdef int j
    while i < n:
        at = least(i, n - width)           # overlaps the step before
        for j in range(width):
            d[j] = x[at + j] - shift
        found |= zeros_of(<const real*>d, width) << at
        exp_of_lanes(<const real*>d, width, value)
        for j in range(width):
            e[at + j] = value[j]
        i += width
    return found


cdef inline int exp_and_place(const real* x, Py_ssize_t n, real shift, real* e) noexcept nogil:
    """exp_and_find for any number of elements; where the first of them stands that is the shift itself, -1 for nowhere."""
    cdef Py_ssize_t width = REGISTER_BYTES // sizeof(real)
    cdef Py_ssize_t i = 0
    cdef int place = -1
    cdef uint64_t found
    while i < n:
        i = least(i, n - width)            # overlaps the step before
        found = exp_and_find(x + i, least(64, n - i), shift, e + i)
        if place < 0 and found != 0:
            place = <int>i + lowest_bit(found)
        i += 64
    return place


cdef inline void exponentials_of_batch(const Job* job, ShortBatch* batch, bint few, const real* like) noexcept nogil:
    """The exponentials, and where the maximum first stands: 0 is in its place, for it stays out of the sum. few, a literal: there are
    up to 64."""
    cdef Py_ssize_t n = batch.n
    cdef real* e = <real*>batch.e
    cdef const real* x
    cdef real shift
    cdef int lane
    for lane in range(batch.count):
        batch.position[lane] = -1
        x = <const real*>batch.x[lane]
        if x != NULL:
            if job.exp_ahead != 0:
                prefetch_run(<const char*>x + job.exp_ahead, n * sizeof(real))
            if job.out_ahead != 0:
                prefetch_run(<const char*>batch.out[lane], n * sizeof(real))
            shift = real_of(finite_or_zero(batch.max[lane]), like)
            batch.position[lane] = lowest_bit(exp_and_find(x, n, shift, e)) if few else exp_and_place(x, n, shift, e)
            if batch.position[lane] >= 0:
                e[batch.position[lane]] = 0
        e += batch.step


cdef void few_exponentials(const Job* job, ShortBatch* batch, const real* like) noexcept nogil:
    exponentials_of_batch(job, batch, True, like)


cdef void short_exponentials(const Job* job, ShortBatch* batch, const real* like) noexcept nogil:
    exponentials_of_batch(job, batch, False, like)


cdef inline Py_ssize_t fetched_early(const Job* job, Py_ssize_t n) noexcept nogil:
    """Where the next rows are fetched while results are written, a quarter of a longer row is while exponentials are taken: how many
    elements. Then memory is as busy in the one as in the other."""
    return n // 64 * 16 if job.write_ahead != 0 and n > SHORTER_ROW else 0


cdef void longer_exponentials(const Job* job, ShortBatch* batch, const real* like) noexcept nogil:
    """The same where it is known where the maxima stand."""
    cdef real* e = <real*>batch.e
    cdef const real* x
    cdef const real* results = NULL
    cdef real shift
    cdef Py_ssize_t early = fetched_early(job, batch.n)
    cdef int lane
    for lane in range(batch.count):
        x = <const real*>batch.x[lane]
        if x != NULL:
            if job.out_ahead != 0:
                results = <const real*>batch.out[lane]
            shift = real_of(finite_or_zero(batch.max[lane]), like)
            if early > 0:
                run_exp(x, early, shift, job.write_ahead, results, e)
            run_exp(x + early, batch.n - early, shift, job.exp_ahead, results + early if results != NULL else NULL, e + early)
            if batch.position[lane] >= 0:
                e[batch.position[lane]] = 0
        e += batch.step


cdef inline Pair total_of_run(const real* e, Py_ssize_t n, bint few, const real* like) noexcept nogil:
    """total of n terms, whole groups. few, a literal: one."""
    cdef int lanes = 64 if real is float else 32
    cdef real folded[16]
    cdef Sum sum
    cdef Pair result
    cdef int j
    if real is float and few:
        for j in range(16):
            folded[j] = (e[j] + e[16 + j]) + (e[32 + j] + e[48 + j])
        result.high = sum_of_16_floats(<const float*>folded)
        result.low = 0
        return result
    set_group(e, &sum)
    if not few:
        add_groups(e + lanes, n - lanes, &sum)
    return total(&sum, like)


cdef inline void states_of_batch(const Job* job, ShortBatch* batch, Ends* ends, bint few, const real* like) noexcept nogil:
    """Each row's maximum and rest, and the maximum's own exponential in its place. few, a literal: a row is one group."""
    cdef real one = scaled_one(like)
    cdef real* e = <real*>batch.e
    cdef int unusual = 0
    cdef Pair rest
    cdef int lane
    for lane in range(batch.count):
        rest = total_of_run(<const real*>e, batch.step, few, like)
        ends.high[lane] = rest.high * unscale(like)
        ends.low[lane] = rest.low * unscale(like)
        if batch.position[lane] >= 0:
            e[batch.position[lane]] = one
        e += batch.step
    for lane in range(batch.count):
        ends.max[lane] = batch.max[lane]
        unusual |= batch.max[lane] == INF_F64
    for lane in range(batch.count if unusual or job.mode == LOSS else 0):
        if batch.x[lane] == NULL:
            ends.high[lane] = 0
            ends.low[lane] = 0
        elif batch.max[lane] == INF_F64:
            # the sum is no number there; all that counts is whether the row holds a NaN
            ends.high[lane] = NAN_F64 if run_has_nan(<const real*>batch.x[lane], batch.n) else 0
            ends.low[lane] = 0


cdef void states_of_one_group(const Job* job, ShortBatch* batch, Ends* ends, const real* like) noexcept nogil:
    states_of_batch(job, batch, ends, True, like)


cdef void states_of_groups(const Job* job, ShortBatch* batch, Ends* ends, const real* like) noexcept nogil:
    states_of_batch(job, batch, ends, False, like)


cdef void write_logs(const Job* job, ShortBatch* batch, const Ends* ends, const real* like) noexcept nogil:
    cdef int width = 16 if real is float else 8
    cdef const real* x
    cdef real* out
    cdef real shift, log_total
    cdef Py_ssize_t early = fetched_early(job, batch.n)
    cdef int lane
    for lane in range(batch.count):
        x = <const real*>batch.x[lane]
        out = <real*>batch.out[lane]
        shift = real_of(ends.shift[lane], like)
        log_total = real_of(ends.log_total[lane], like)
        if job.streams:
            run_log_past(x, batch.n, shift, log_total, out)
            continue
        if early > 0:
            run_log(x, early, shift, log_total, width, <const real*>NULL, out)
        run_log(x + early, batch.n - early, shift, log_total, width, further(x + early, job.write_ahead), out + early)


cdef inline void write_scaled(const Job* job, ShortBatch* batch, const Ends* ends, bint pulled, const real* like) noexcept nogil:
    """From the exponentials. pulled, a literal: the classes draw, too."""
    cdef const real* e = <const real*>batch.e
    cdef const real* x
    cdef real* out
    cdef real scale, floor
    cdef Py_ssize_t early = fetched_early(job, batch.n)
    cdef int lane
    for lane in range(batch.count):
        out = <real*>batch.out[lane]
        x = <const real*>batch.x[lane]
        scale = real_of(ends.scale[lane], like)
        floor = real_of(ends.floor[lane], like)
        if x == NULL:
            memset(out, 0, batch.n * sizeof(real))
        elif pulled:
            run_scale_minus(e, batch.n, scale, floor, real_of(ends.offset[lane], like), <const real*>job.weight,
                            further(x, job.write_ahead), out)
        elif job.streams:
            scale_around_target(e, batch.n, scale, floor, ends.target[lane], real_of(ends.target_entry[lane], like), out)
        else:
            if early > 0:
                run_scale(e, early, scale, floor, <const real*>NULL, out)
            run_scale(e + early, batch.n - early, scale, floor, further(x + early, job.write_ahead), out + early)
        e += batch.step
    for lane in range(batch.count if job.mode == LOSS and not job.streams else 0):
        if ends.target[lane] >= 0:
            (<real*>batch.out[lane])[ends.target[lane]] = real_of(ends.target_entry[lane], like)


cdef void write_products(const Job* job, ShortBatch* batch, const Ends* ends, const real* like) noexcept nogil:
    write_scaled(job, batch, ends, False, like)


cdef void write_products_less_pulls(const Job* job, ShortBatch* batch, const Ends* ends, const real* like) noexcept nogil:
    write_scaled(job, batch, ends, True, like)


cdef inline void write_rows_one_by_one(const Job* job, Row* rows, int count, const Ends* ends, const real* like) noexcept nogil:
    cdef int lane
    for lane in range(count):
        if job.mode == LOSS and ends.kept[lane] == 0:
            write_zeros(job, &rows[lane], like)
        else:
            write_row(job, &rows[lane], ends, lane, 0, job.layout.row.size, <const real*>rows[lane].out_scratch, ends.max[lane], like)


cdef inline bint results_are_runs(const Job* job) noexcept nogil:
    """Whether results are runs in memory, and what else writing them takes is the same for all rows."""
    return job.out.contiguous_row and job.where.data == NULL and job.softcap == 0 and job.factor.data == NULL


cdef inline void open_runs(const Job* job, const Operand* operand, Py_ssize_t first, int count, char** run) noexcept nogil:
    """Where the rows begin."""
    cdef Py_ssize_t stride = operand.batch_stride[0]
    cdef int lane
    if job.layout.batch.count == 1:
        for lane in range(count):
            run[lane] = operand.data + (first + lane) * stride
    else:
        for lane in range(count):
            run[lane] = operand.data + offset_of(&job.layout.batch, operand.batch_stride, first + lane)


cdef inline void short_losses(const Job* job, ShortBatch* batch, Ends* ends, Row* rows, const real* like) noexcept nogil:
    """What a loss takes beside the exponentials."""
    cdef int lane
    for lane in range(batch.count):
        if ends.target[lane] >= 0:
            ends.logit[lane] = (<const real*>batch.x[lane])[ends.target[lane]]
    for lane in range(batch.count if has_pulls(job) else 0):
        if batch.x[lane] != NULL:
            sum_pulls(job, &rows[lane], ends, lane, batch.max[lane], batch.position[lane], like)


cdef void process_short_rows(const Job* job, Py_ssize_t first, int count, char* scratch, LossSums* sums, const real* like) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t n = job.layout.row.size
    cdef bint direct = is_direct(job)
    cdef bint writes_runs = job.out.data == NULL or results_are_runs(job)
    cdef ShortBatch batch
    cdef Ends ends
    cdef Row rows[64]
    cdef int lane
    # functions of their own, called by their address: in one function with others their loops run out of registers
    cdef void (*find_maxima)(ShortBatch*, const real*) noexcept nogil
    cdef void (*take_exponentials)(const Job*, ShortBatch*, const real*) noexcept nogil
    cdef void (*add_up)(const Job*, ShortBatch*, Ends*, const real*) noexcept nogil
    cdef void (*write)(const Job*, ShortBatch*, const Ends*, const real*) noexcept nogil
    find_maxima = short_maxima if n <= SHORTER_ROW else longer_maxima
    if n <= 64:
        take_exponentials = few_exponentials
    else:
        take_exponentials = short_exponentials if n <= SHORTER_ROW else longer_exponentials
    add_up = states_of_one_group if n <= lanes else states_of_groups
    write = write_logs if job.mode == LOG_SOFTMAX else (write_products_less_pulls if has_pulls(job) else write_products)
    batch.count = count
    batch.n = n
    batch.e = scratch
    batch.step = padded(n, like)
    for lane in range(0 if direct and writes_runs and not has_pulls(job) else count):
        rows[lane] = open_short_row(job, first, lane, scratch, like)
    if direct:
        open_runs(job, &job.x, first, count, <char**>batch.x)
    else:
        for lane in range(count):
            batch.x[lane] = fetch(job, &rows[lane], 0, n, like)
    if job.out.data != NULL:
        open_runs(job, &job.out, first, count, <char**>batch.out)
    if job.mode == LOSS:
        open_losses(job, &ends, first, count, like)
        for lane in range(count):
            if ends.kept[lane] == 0:
                batch.x[lane] = NULL
    find_maxima(&batch, like)
    take_exponentials(job, &batch, like)
    if job.mode == LOSS:
        short_losses(job, &batch, &ends, rows, like)
    add_up(job, &batch, &ends, like)
    finish(job, &ends, count, like)
    if job.lse != NULL:
        refine_lse(job, &ends, first, count, like)
    store_values(job, <const Ends*>&ends, first, count, sums, like)
    if job.out.data != NULL and writes_runs:
        write(job, &batch, <const Ends*>&ends, like)
    elif job.out.data != NULL:
        write_rows_one_by_one(job, rows, count, <const Ends*>&ends, like)
