# The kernel along the row: one row after the other, lanes along the row.
#
# A row is cut into blocks of BLOCK elements, each of which gives a RowState; a row longer than a block is their merger, so
# that memory is read once for the sum and blocks may be shared out to threads. A block is walked in chunks: memory that is
# one unit-stride run is used where it lies, anything else is gathered into scratch, a stretch of up to a block at once.

cdef extern from *:
    """
    #define CHUNK 4096
    #define BLOCK_F32 65536
    #define BLOCK_F64 32768
    """
    const Py_ssize_t CHUNK, BLOCK_F32, BLOCK_F64

cdef struct Row:
    Py_ssize_t index
    const char* x
    const char* where
    const char* factor
    char* out
    Py_ssize_t gathered      # the start of the stretch that lies in x_scratch, -1 for none
    char* x_scratch
    char* slope_scratch      # of the softcap, for the elements in x_scratch
    char* out_scratch        # job.kept elements
    char* pull_scratch       # CHUNK elements


cdef inline Py_ssize_t block_length(const real* like) noexcept nogil:
    if real is float:
        return BLOCK_F32
    else:
        return BLOCK_F64


cdef inline Row open_row(const Job* job, Py_ssize_t index, char* scratch, const real* like) noexcept nogil:
    cdef Row row
    row.index = index
    row.x = job.x.data + offset_of(&job.layout.batch, job.x.batch_stride, index)
    row.where = NULL
    row.factor = NULL
    row.out = NULL
    if job.where.data != NULL:
        row.where = job.where.data + offset_of(&job.layout.batch, job.where.batch_stride, index)
    if job.factor.data != NULL:
        row.factor = job.factor.data + offset_of(&job.layout.batch, job.factor.batch_stride, index)
    if job.out.data != NULL:
        row.out = job.out.data + offset_of(&job.layout.batch, job.out.batch_stride, index)
    row.gathered = -1
    row.out_scratch = scratch
    row.pull_scratch = scratch + job.kept * sizeof(real)
    row.x_scratch = row.pull_scratch + CHUNK * sizeof(real)
    row.slope_scratch = row.x_scratch + job.stretch * sizeof(real)
    return row


cdef inline Py_ssize_t row_scratch(const Job* job, const real* like) noexcept nogil:
    """Bytes that open_row shares out; none where rows are read and written where they lie. Where results are put off: for the
    exponentials of two rows."""
    if puts_off(job):
        return 2 * padded(job.layout.row.size, like) * <Py_ssize_t>sizeof(real)
    if is_direct(job) and not has_probabilities(job) and not job.streams and (job.out.data == NULL or job.out.contiguous_row):
        return 0
    return (job.kept + CHUNK + (2 if job.softcap > 0 else 1) * job.stretch) * <Py_ssize_t>sizeof(real)


cdef inline bint is_direct(const Job* job) noexcept nogil:
    """Whether rows are worked on where they lie."""
    return job.x.contiguous_row and job.where.data == NULL and job.softcap == 0


cdef inline Cap cap_of(const Job* job, const real* like) noexcept nogil:
    """The softcap, no smaller than what the type holds: logits are 0 below. Beyond 1e39 no float32 is steep."""
    cdef double softcap = pick(job.softcap > 4 * smallest(like), job.softcap, 4 * smallest(like))
    cdef Cap cap
    cap.inverse = 1 / softcap
    if real is float:
        softcap = pick(softcap < 1e39, softcap, 1e39)
    cap.quarter = 0.25 * softcap
    cap.steepness = -TWO_LOG2_E / softcap
    return cap


cdef void gather_stretch(const Job* job, Row* row, Py_ssize_t start, Py_ssize_t count, const real* like) noexcept nogil:
    cdef real* scratch = <real*>row.x_scratch
    cdef const real* x = scratch
    cdef Py_ssize_t at = 0
    if job.x.contiguous_row and row.where == NULL:
        x = <const real*>row.x + start
    else:
        gather(&job.x, &job.layout.row, row.x, start, count, scratch, 1)
    if row.where != NULL:
        fill_masked(&job.where, &job.layout.row, row.where, start, count, real_of(-INF_F64, like), scratch, 1)
    while job.softcap > 0 and at < count:
        run_cap(x + at, least(CHUNK, count - at), cap_of(job, like), scratch + at, <real*>row.slope_scratch + at)
        at += CHUNK
    row.gathered = start


cdef inline const real* fetch(const Job* job, Row* row, Py_ssize_t start, Py_ssize_t count, const real* like) noexcept nogil:
    """Elements start .. start + count of the row as one run, capped; what the mask leaves out is -inf."""
    cdef Py_ssize_t first = start - start % job.stretch
    if is_direct(job):
        return <const real*>row.x + start
    if row.gathered != first:
        gather_stretch(job, row, first, least(job.stretch, job.layout.row.size - first), like)
    return <const real*>row.x_scratch + (start - first)


cdef inline double element(const Job* job, Row* row, Py_ssize_t index, const real* like) noexcept nogil:
    """One element, capped."""
    if job.softcap > 0:
        return fetch(job, row, index, 1, like)[0]
    return load(row.x + offset_of(&job.layout.row, job.x.row_stride, index), job.x.swapped, like)


cdef inline const real* fetch_pulls(const Job* job, Row* row, Py_ssize_t start, Py_ssize_t count, const real* like) noexcept nogil:
    """What draws classes start .. start + count; NULL for ones."""
    cdef const real* weight = <const real*>job.weight
    cdef real* pull = <real*>row.pull_scratch
    weight = weight + start if weight != NULL else NULL
    if not has_probabilities(job):
        return weight
    if job.factor.contiguous_row and weight == NULL and job.smoothing == 0:
        return <const real*>row.factor + start
    gather(&job.factor, &job.layout.row, row.factor, start, count, pull, 1)
    run_pulls(pull, count, weight, job.smoothing, job.smoothing / job.layout.row.size)
    return pull


cdef inline Py_ssize_t block_max(const Job* job, Row* row, Py_ssize_t start, Py_ssize_t stop, RowState* state,
                                 const real* like) noexcept nogil:
    """Set the block's maximum (and the whole state if that is +inf); return where it first stands, -1 for nowhere."""
    cdef real largest = real_of(-INF_F64, like)
    cdef real of_chunk
    cdef const real* x
    cdef Py_ssize_t position = -1
    cdef Py_ssize_t piece = stop - start if is_direct(job) else CHUNK
    cdef Py_ssize_t at = start
    cdef Py_ssize_t count, in_chunk
    while at < stop:
        count = least(piece, stop - at)
        x = fetch(job, row, at, count, like)
        of_chunk = run_max(x, count, &in_chunk)
        if of_chunk > largest:
            largest = of_chunk
            position = at + in_chunk
        at += count
    state.max = largest
    return position


cdef inline const real* results_to_fetch(const Job* job, const Row* row, Py_ssize_t at, const real* e_out, const real* like) noexcept nogil:
    """What results to fetch while exponentials are taken from element `at` on, NULL for none. Log-softmax stores nothing in them then,
    but will soon write them, unless there are many blocks."""
    if job.out_ahead == 0:
        return NULL
    if job.mode == LOG_SOFTMAX:
        return <const real*>row.out + at if job.n_blocks == 1 else NULL
    return further(e_out + at, job.out_ahead) if e_out != NULL else NULL


cdef inline void block_sum(const Job* job, Row* row, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t position, real* e_out,
                           RowState* state, Unwritten* before, const real* like) noexcept nogil:
    """Set the block's rest, given its maximum; store the exponentials at e_out + index unless that is NULL. The row before is
    written on the way, unless that is NULL."""
    cdef Sum sum
    cdef Pair rest
    cdef const real* x
    cdef real shift = real_of(finite_or_zero(state.max), like)
    cdef bint has_nan = False
    cdef Py_ssize_t piece = CHUNK if before == NULL else PAST_PIECE // <Py_ssize_t>sizeof(real)
    cdef Py_ssize_t at = start
    cdef Py_ssize_t count
    clear(&sum)
    while at < stop:
        count = least(piece, stop - at)
        x = fetch(job, row, at, count, like)
        if state.max == INF_F64:
            has_nan = has_nan or run_has_nan(x, count)
        run_sum_exp(x, count, shift, position - at, stop - start <= SHORT_SUM, e_out + at if e_out != NULL else NULL,
                    job.exp_ahead, results_to_fetch(job, row, at, e_out, like), &sum)
        at += count
        if before != NULL:
            write_until(job, before, at, like)
    rest = total(&sum, like)
    state.high = rest.high * unscale(like)
    state.low = rest.low * unscale(like)
    if state.max == INF_F64:
        # the sum is no number there; all that counts is whether the row holds a NaN
        state.high = INF_F64 - INF_F64 if has_nan else 0
        state.low = 0


cdef inline Py_ssize_t find(const Job* job, Row* row, double value, const real* like) noexcept nogil:
    """Where in a row of many blocks a value first stands, -1 for nowhere."""
    cdef const real* x
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t count, i
    while at < job.layout.row.size:
        count = least(CHUNK, job.layout.row.size - at)
        x = fetch(job, row, at, count, like)
        for i in range(count):
            if x[i] == value:
                return at + i
        at += count
    return -1


cdef inline void sum_pulls(const Job* job, Row* row, Ends* ends, int lane, double max, Py_ssize_t position,
                           const real* like) noexcept nogil:
    """What a loss needs of the pulls, given the row's maximum and where it stands (-1: nowhere, or not known)."""
    cdef Sum deficit, others
    cdef const real* x
    cdef const real* pull
    cdef Py_ssize_t n = job.layout.row.size
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t count, own_at
    if not has_pulls(job):
        return
    if has_probabilities(job):
        ends.own[lane] = 0
    clear(&deficit)
    clear(&others)
    while at < n:
        count = least(CHUNK, n - at)
        x = fetch(job, row, at, count, like)
        pull = fetch_pulls(job, row, at, count, like)
        own_at = position - at if has_probabilities(job) and at <= position < at + count else -1
        if own_at >= 0:
            ends.own[lane] = pull[own_at]
        if pull == NULL:
            run_sum_deficits(x, count, real_of(max, like), n <= SHORT_SUM, &deficit)
        else:
            run_sum_pulls(x, count, real_of(max, like), pull, own_at, n <= SHORT_SUM, job.ahead if has_probabilities(job) else 0,
                          &deficit, &others)
        at += count
    ends.deficit[lane] = settled_total(&deficit, like)
    if has_probabilities(job):
        # the maximum's entry of the gradient is written as a target's: of a confident row p - q is mostly cancelled
        ends.others[lane] = settled_total(&others, like)
        ends.mass[lane] = ends.others[lane] + ends.own[lane]
        ends.target[lane] = position
        ends.logit[lane] = max


cdef inline double share_of_block(double block_max, double max) noexcept nogil:
    """exp(block_max - max), with which a block's exponentials become the row's; 0 where neither has any."""
    cdef Pair share
    if is_infinite(block_max) or is_infinite(max):
        return 0
    share = exp_pair(two_sum(block_max, -max))
    return (share.high + share.low) * UNSCALE_F64


cdef void write_row(const Job* job, Row* row, const Ends* ends, int lane, Py_ssize_t start, Py_ssize_t stop, const real* kept,
                    double block_max, const real* like) noexcept nogil:
    """Write elements start .. stop of the results, which belong to one block. kept: the row's exponentials of x - block_max, in
    scratch or where the results go, or NULL to compute them again."""
    cdef int lanes = 64 if real is float else 32
    cdef double share = 1 if job.n_blocks == 1 else share_of_block(block_max, ends.max[lane])
    cdef real shift = real_of(ends.shift[lane] if job.mode == LOG_SOFTMAX else finite_or_zero(block_max), like)
    cdef real log_total = real_of(ends.log_total[lane], like)
    cdef real scale = real_of(ends.scale[lane] * share, like)
    cdef real floor = real_of(ends.floor[lane] / share, like)
    cdef real offset = real_of(ends.offset[lane], like)
    cdef real masked = real_of(-INF_F64 if job.mode == LOG_SOFTMAX else 0, like)
    cdef const real* e
    cdef const real* next_x
    cdef const real* slope = NULL
    cdef real* to
    cdef real entry
    cdef Py_ssize_t target = ends.target[lane]
    cdef Py_ssize_t at = start
    cdef Py_ssize_t count
    while at < stop:
        count = least(CHUNK, stop - at)
        to = <real*>row.out + at if job.out.contiguous_row else <real*>row.out_scratch
        next_x = further(<const real*>row.x + at, job.write_ahead)
        if job.mode == LOG_SOFTMAX and job.streams:
            run_log_past(fetch(job, row, at, count, like), count, shift, log_total, to)
        elif job.mode == LOG_SOFTMAX:
            run_log(fetch(job, row, at, count, like), count, shift, log_total, lanes, next_x, to)
        else:
            if kept == NULL and not job.streams:
                run_exp(fetch(job, row, at, count, like), count, shift, 0, <const real*>NULL, to)
            e = kept + at if kept != NULL else to
            if job.softcap > 0:
                slope = <const real*>row.slope_scratch + (fetch(job, row, at, count, like) - <const real*>row.x_scratch)
            entry = real_of(ends.target_entry[lane], like)
            if has_pulls(job):
                run_scale_minus(e, count, scale, floor, offset, fetch_pulls(job, row, at, count, like), next_x, to)
                if job.softcap > 0:
                    run_slope(to, slope, count)
            elif job.softcap > 0:
                run_scale_capped(e, count, scale, floor, slope, to)
            elif job.streams:
                run_exp_past(fetch(job, row, at, count, like), count, shift, scale, floor, to)
            else:
                run_scale(e, count, scale, floor, next_x, to)
            if at <= target < at + count:
                to[target - at] = through_cap(entry, slope[target - at]) if job.softcap > 0 else entry
        if row.where != NULL:
            fill_masked(&job.where, &job.layout.row, row.where, at, count, masked, to, 1)
        if not job.out.contiguous_row:
            scatter(<const real*>to, 1, &job.out, &job.layout.row, row.out, at, count)
        at += count


cdef void write_zeros(const Job* job, Row* row, const real* like) noexcept nogil:
    cdef real* zeros = <real*>row.out_scratch
    cdef Py_ssize_t n = job.layout.row.size
    cdef Py_ssize_t at = 0
    if job.out.contiguous_row:
        memset(row.out, 0, n * sizeof(real))
        return
    memset(zeros, 0, least(CHUNK, n) * sizeof(real))
    while at < n:
        scatter(<const real*>zeros, 1, &job.out, &job.layout.row, row.out, at, least(CHUNK, n - at))
        at += CHUNK


cdef inline real* keep_at(const Job* job, const Row* row, const real* like) noexcept nogil:
    """Where the exponentials may be stored until they are scaled; NULL: nowhere, they are computed again."""
    if row.out == NULL or job.mode == LOG_SOFTMAX or job.needs_x:
        return NULL
    if job.softcap > 0 and job.n_blocks > 1 and job.out.data == job.x.data:     # whose slopes are computed again
        return NULL
    if job.streams:
        return <real*>row.out_scratch if puts_off(job) else NULL
    if job.n_blocks > 1 and has_pulls(job):        # whose sum is taken when the row's maximum is known
        return NULL
    if job.out.contiguous_row:
        return <real*>row.out
    return <real*>row.out_scratch if job.layout.row.size <= CHUNK else NULL


cdef inline RowState block_state(const Job* job, Py_ssize_t index, Py_ssize_t block, char* scratch, const real* like) noexcept nogil:
    """The state of one block of many."""
    cdef Row row = open_row(job, index, scratch, like)
    cdef RowState state
    cdef Py_ssize_t start = block * block_length(like)
    cdef Py_ssize_t stop = least(job.layout.row.size, start + block_length(like))
    cdef Py_ssize_t position = block_max(job, &row, start, stop, &state, like)
    block_sum(job, &row, start, stop, position, keep_at(job, <const Row*>&row, like), &state, NULL, like)
    return state


cdef void store_block_state(const Job* job, Py_ssize_t index, Py_ssize_t block, char* scratch, RowState* states,
                            const real* like) noexcept nogil:
    states[block] = block_state(job, index, block, scratch, like)


cdef void write_block(const Job* job, Py_ssize_t index, Py_ssize_t block, char* scratch, const Ends* ends, int lane,
                      const RowState* states, const real* like) noexcept nogil:
    cdef Row row = open_row(job, index, scratch, like)
    cdef Py_ssize_t start = block * block_length(like)
    cdef Py_ssize_t stop = least(job.layout.row.size, start + block_length(like))
    write_row(job, &row, ends, lane, start, stop, keep_at(job, <const Row*>&row, like), states[block].max, like)
    if job.streams:
        stream_end()


cdef inline void states_of_row(const Job* job, Row* row, Ends* ends, int lane, char* scratch, int n_threads, Unwritten* before,
                               const real* like) noexcept nogil:
    """A row's state, its exponentials stored on the way if there is a place for them."""
    cdef RowState* states = <RowState*>(scratch + job.states_at)
    cdef RowState state
    cdef Py_ssize_t n = job.layout.row.size
    cdef Py_ssize_t block, position
    if job.n_blocks == 1:
        position = block_max(job, row, 0, n, &state, like)
        sum_pulls(job, row, ends, lane, state.max, position, like)      # before the exponentials may overwrite x
        block_sum(job, row, 0, n, position, keep_at(job, <const Row*>row, like), &state, before, like)
    else:
        if n_threads > 1:
            for block in prange(job.n_blocks, schedule="dynamic", num_threads=n_threads):
                store_block_state(job, row.index, block, scratch + threadid() * job.scratch_size, states, like)
        else:
            for block in range(job.n_blocks):
                store_block_state(job, row.index, block, scratch, states, like)
        row.gathered = -1            # the blocks had its scratch
        state = merge_states(<const RowState*>states, 1, job.n_blocks)
        sum_pulls(job, row, ends, lane, state.max, find(job, row, state.max, like) if has_probabilities(job) else -1, like)
    set_state(ends, lane, state)


cdef void process_rows(const Job* job, Py_ssize_t first, int count, char* scratch, int n_threads, LossSums* sums,
                       const real* like) noexcept nogil:
    """Rows one after the other, their last steps together. Several threads share the blocks of one long row."""
    cdef Ends ends
    cdef Row row
    cdef const RowState* states = <const RowState*>(scratch + job.states_at)      # of the blocks, of which a row alone has many
    cdef Unwritten* before = <Unwritten*>(scratch + job.unwritten_at) if puts_off(job) else NULL
    cdef Py_ssize_t n = job.layout.row.size
    cdef Py_ssize_t block
    cdef int lane
    if job.mode == LOSS:
        open_losses(job, &ends, first, count, like)
    for lane in range(count):
        row = open_row(job, first + lane, scratch, like)
        if job.mode == LOSS and ends.kept[lane] == 0:
            ends.max[lane] = 0
            ends.high[lane] = 0
            ends.low[lane] = 0
            continue
        if job.mode == LOSS and ends.target[lane] >= 0:
            ends.logit[lane] = element(job, &row, ends.target[lane], like)
        if before != NULL and before.source == row.out_scratch:      # then the other half is free
            row.out_scratch += padded(n, like) * <Py_ssize_t>sizeof(real)
        states_of_row(job, &row, &ends, lane, scratch, n_threads, before, like)
    if count == 1:
        finish(job, &ends, 1, like)
    else:
        finish(job, &ends, count, like)
    if job.lse != NULL:
        refine_lse(job, &ends, first, count, like)
    store_values(job, <const Ends*>&ends, first, count, sums, like)
    if job.out.data == NULL:
        return
    for lane in range(count):
        if count > 1:             # a row alone is open, what was gathered of it at hand
            row = open_row(job, first + lane, scratch, like)
        if job.mode == LOSS and ends.kept[lane] == 0:
            write_zeros(job, &row, like)
        elif before != NULL:
            before[0] = put_off(job, <const Ends*>&ends, lane, <const real*>row.x, <const real*>row.out_scratch, <real*>row.out)
        elif job.n_blocks == 1:
            write_row(job, &row, <const Ends*>&ends, lane, 0, n, keep_at(job, <const Row*>&row, like), ends.max[lane], like)
        elif n_threads > 1:
            for block in prange(job.n_blocks, schedule="dynamic", num_threads=n_threads):
                write_block(job, first, block, scratch + threadid() * job.scratch_size, <const Ends*>&ends, 0, states, like)
        else:
            for block in range(job.n_blocks):
                write_block(job, first + lane, block, scratch, <const Ends*>&ends, lane, states, like)
