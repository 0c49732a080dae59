# The kernel across problems: LANES rows side by side, lane l working on row l. It serves short rows, loaded as a tile of
# n x LANES numbers, and rows that are neighbours in memory (axis 0 of a C-ordered array), read where they lie.
#
# A row's numbers are added up in the order of sums.pxi, so both kernels give the same bits.

cdef extern from *:
    """
    #define TILE_BYTES 131072      /* a tile up to this size is gathered once and stays in L2 */
    #define PREFETCH_TILE_BYTES 16384
    #define TILE_STEP 256          /* bytes from an element of LANES rows to the next, in scratch */
    """
    const Py_ssize_t TILE_BYTES, PREFETCH_TILE_BYTES, TILE_STEP

cdef struct Tile:
    Py_ssize_t first             # the row of lane 0
    int count                    # rows; the lanes behind them hold arbitrary finite numbers
    bint resident                # the whole tile fits into x_scratch
    bint gathered                # ... and is there
    bint x_adjacent              # the rows are neighbours in memory
    bint out_adjacent
    char* x_scratch              # the tile, or one group of it
    char* out_scratch
    char* slope_scratch          # of the softcap, for x_scratch
    char* pull_scratch           # what draws the classes, where it differs from row to row
    char* parts                  # the sums: 16 x LANES doubles
    Py_ssize_t x_offset[64]
    Py_ssize_t where_offset[64]
    Py_ssize_t out_offset[64]


cdef inline void lane_offsets(const Axes* batch, const Py_ssize_t* stride, Py_ssize_t first, int count,
                              Py_ssize_t* offset) noexcept nogil:
    cdef Py_ssize_t at = first * stride[0]
    cdef Py_ssize_t innermost, place
    cdef int lane
    if batch.count <= 1:
        for lane in range(count):
            offset[lane] = at
            at += stride[0]
        return
    innermost = batch.length[batch.count - 1]
    place = first % innermost
    at = offset_of(batch, stride, first)
    for lane in range(count):
        if place == innermost:         # not for every lane: divisions
            place = 0
            at = offset_of(batch, stride, first + lane)
        offset[lane] = at
        at += stride[batch.count - 1]
        place += 1


cdef inline bint is_matrix(const Job* job, const Operand* operand) noexcept nogil:
    """Whether rows of contiguous numbers lie at one distance."""
    return operand.contiguous_row and job.layout.batch.count <= 1


cdef inline bint adjacent(const Job* job, const Operand* operand, Py_ssize_t first, int count) noexcept nogil:
    """Whether these rows are one run in memory, element by element."""
    cdef const Axes* batch = &job.layout.batch
    cdef Py_ssize_t innermost = batch.length[batch.count - 1] if batch.count > 0 else 1
    return operand.contiguous_lanes and first % innermost + count <= innermost


cdef inline bint has_runs(const Job* job, const Operand* operand) noexcept nogil:
    """Whether rows are neighbours in memory, so many at a time that copying runs of them pays."""
    cdef const Axes* batch = &job.layout.batch
    return operand.contiguous_lanes and batch.count > 0 and batch.length[batch.count - 1] >= 8


cdef inline int neighbours_from(const Job* job, Py_ssize_t row, int count, bint begins) noexcept nogil:
    """How many of `count` rows are one run in memory where rows may be. begins: the first is known to be the first of a run."""
    cdef Py_ssize_t innermost = job.layout.batch.length[job.layout.batch.count - 1]
    return <int>least(count, innermost if begins else innermost - row % innermost)


cdef inline void open_tile(const Job* job, Tile* tile, Py_ssize_t first, int count, char* scratch, bint asks_elements,
                           const real* like) noexcept nogil:
    """asks_elements: whether somebody will ask for a single element of x."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t tile_rows
    cdef bint regular
    tile.first = first
    tile.count = count
    tile.resident = job.layout.row.size * lanes * <Py_ssize_t>sizeof(real) <= TILE_BYTES
    tile.gathered = False
    tile.x_adjacent = adjacent(job, &job.x, first, count) and job.where.data == NULL and count == lanes and job.softcap == 0
    tile.out_adjacent = job.out.data != NULL and adjacent(job, &job.out, first, count) and count == lanes
    tile_rows = job.layout.row.size if tile.resident else lanes
    tile.parts = scratch
    tile.x_scratch = scratch + 16 * lanes * sizeof(double)
    tile.out_scratch = tile.x_scratch + tile_rows * lanes * sizeof(real)
    tile.slope_scratch = tile.out_scratch + tile_rows * lanes * sizeof(real)
    tile.pull_scratch = tile.slope_scratch + tile_rows * lanes * sizeof(real)
    # the first lane's offset says all where rows lie at one distance
    regular = not asks_elements and job.where.data == NULL
    lane_offsets(&job.layout.batch, job.x.batch_stride, first,
                 1 if regular and (tile.x_adjacent or is_matrix(job, &job.x)) else count, tile.x_offset)
    if job.where.data != NULL:
        lane_offsets(&job.layout.batch, job.where.batch_stride, first, count, tile.where_offset)
    if job.out.data != NULL:
        lane_offsets(&job.layout.batch, job.out.batch_stride, first,
                     1 if tile.out_adjacent or is_matrix(job, &job.out) else count, tile.out_offset)


cdef inline Py_ssize_t tile_scratch(const Job* job, Py_ssize_t n, const real* like) noexcept nogil:
    """Bytes that open_tile shares out."""
    cdef int n_tiles = 4 if job.softcap > 0 or has_probabilities(job) else 2
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t tile_rows = n if n * lanes * <Py_ssize_t>sizeof(real) <= TILE_BYTES else lanes
    return 16 * lanes * sizeof(double) + n_tiles * tile_rows * lanes * sizeof(real)


cdef inline void prefetch_rows(const Operand* operand, const char* row, int lanes) noexcept nogil:
    """Fetch LANES rows before they are wanted: hardware stops at the end of every page."""
    cdef Py_ssize_t size = lanes * operand.batch_stride[0]
    cdef Py_ssize_t at = 0
    if 0 < size <= PREFETCH_TILE_BYTES:
        while at < size:
            PREFETCH(row + at)
            at += 64


cdef inline void prefetch_next_rows(const Operand* operand, const char* row, int lanes) noexcept nogil:
    prefetch_rows(operand, row + lanes * operand.batch_stride[0], lanes)


cdef void gather_runs(const Job* job, const Operand* operand, const Py_ssize_t* offset, const Tile* tile, Py_ssize_t start,
                      Py_ssize_t count, real* to) noexcept nogil:
    """gather_lanes of rows that are neighbours in memory, run by run."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t step = run_stride(&job.layout.row, operand.row_stride)
    cdef const char* neighbours
    cdef Py_ssize_t i
    cdef int run
    cdef int lane = 0
    while lane < tile.count:
        run = neighbours_from(job, tile.first + lane, tile.count - lane, lane > 0)
        neighbours = operand.data + offset[lane] + start * step
        for i in range(count):
            lane_copy_some(<const real*>(neighbours + i * step), run, to + i * lanes + lane)
        lane += run


cdef void scatter_runs(const Job* job, const Tile* tile, Py_ssize_t start, Py_ssize_t count, const real* results) noexcept nogil:
    """gather_runs the other way, to the rows of results."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t step = run_stride(&job.layout.row, job.out.row_stride)
    cdef char* neighbours
    cdef Py_ssize_t i
    cdef int run
    cdef int lane = 0
    while lane < tile.count:
        run = neighbours_from(job, tile.first + lane, tile.count - lane, lane > 0)
        neighbours = job.out.data + tile.out_offset[lane] + start * step
        for i in range(count):
            lane_copy_some(<const real*>(results + i * lanes + lane), run, <real*>(neighbours + i * step))
        lane += run


cdef inline void gather_lanes(const Job* job, const Operand* operand, const Py_ssize_t* offset, const Tile* tile, Py_ssize_t start,
                              Py_ssize_t count, real* to) noexcept nogil:
    """Elements start .. start + count of every row of an operand: element i of lane l at to[i * LANES + l]."""
    cdef int lanes = 64 if real is float else 32
    cdef int lane
    if is_matrix(job, operand):
        transpose_in(<const real*>(operand.data + offset[0]) + start, operand.batch_stride[0] // <Py_ssize_t>sizeof(real),
                     to, tile.count, count)
    elif has_runs(job, operand):
        gather_runs(job, operand, offset, tile, start, count, to)
    else:
        for lane in range(tile.count):
            gather(operand, &job.layout.row, operand.data + offset[lane], start, count, to + lane, lanes)


cdef inline void gather_tile(const Job* job, Tile* tile, Py_ssize_t start, Py_ssize_t count, real* to) noexcept nogil:
    """gather_lanes of x; what the mask leaves out is -inf."""
    cdef int lanes = 64 if real is float else 32
    cdef int lane
    if is_matrix(job, &job.x) and job.where.data == NULL:
        prefetch_next_rows(&job.x, job.x.data + tile.x_offset[0], lanes)
    gather_lanes(job, &job.x, <const Py_ssize_t*>tile.x_offset, <const Tile*>tile, start, count, to)
    if job.where.data != NULL:
        for lane in range(tile.count):
            fill_masked(&job.where, &job.layout.row, job.where.data + tile.where_offset[lane], start, count,
                        real_of(-INF_F64, to), to + lane, lanes)


cdef void cap_tile(const Job* job, Tile* tile, const real* like) noexcept nogil:
    """run_cap of every lane, in place."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t n = job.layout.row.size
    cdef Cap cap = cap_of(job, like)
    cdef real* x = <real*>tile.x_scratch
    cdef real* slope = <real*>tile.slope_scratch
    cdef real magnitude[64]
    cdef bint steep = False
    cdef Py_ssize_t i
    cdef int lane
    for lane in range(lanes):
        magnitude[lane] = 0
    for i in range(n):
        for lane in range(lanes):
            magnitude[lane] = larger(<real>fabs(x[i * lanes + lane]), magnitude[lane])
    for lane in range(lanes):
        steep |= is_steep(magnitude[lane], cap)
    if not steep:
        run_cap_gently(<const real*>x, n * lanes, cap, x, slope)
        return
    for i in range(n):
        lane_cap(x + i * lanes, <const real*>magnitude, cap, slope + i * lanes)


cdef inline const char* tile_rows_at(const Job* job, Tile* tile, Py_ssize_t start, Py_ssize_t count, Py_ssize_t* step,
                                     const real* like) noexcept nogil:
    """Elements start .. start + count of all lanes: address of the first and the distance of the next, in bytes."""
    cdef int lanes = 64 if real is float else 32
    if tile.x_adjacent:
        step[0] = run_stride(&job.layout.row, job.x.row_stride)
        return job.x.data + tile.x_offset[0] + start * step[0]
    step[0] = lanes * sizeof(real)
    if tile.resident:
        if not tile.gathered:
            gather_tile(job, tile, 0, job.layout.row.size, <real*>tile.x_scratch)
            if job.softcap > 0:
                cap_tile(job, tile, like)
            tile.gathered = True
        return tile.x_scratch + start * step[0]
    gather_tile(job, tile, start, count, <real*>tile.x_scratch)
    return tile.x_scratch


cdef inline void strip_max(const char* rows, Py_ssize_t step, Py_ssize_t count, real first, real* largest, real* position) noexcept nogil:
    """tile_max for half of the lanes, few enough for registers. first: the position of the first of `count` elements."""
    cdef int half = 32 if real is float else 16
    cdef const real* x
    cdef real best[32]
    cdef real stood[32]
    cdef real latest[32]
    cdef real now[32]
    cdef Py_ssize_t i
    cdef int lane
    for lane in range(half):
        best[lane] = largest[lane]
        stood[lane] = position[lane]
    for lane in range(half):
        now[lane] = first
    for i in range(count):
        x = <const real*>(rows + i * step)
        # through a local: GCC makes of the blend alone a masked store, and a branch around it
        for lane in range(half):
            latest[lane] = pick(x[lane] > best[lane], now[lane], stood[lane])
            best[lane] = larger(x[lane], best[lane])
        for lane in range(half):
            stood[lane] = latest[lane]
        for lane in range(half):
            now[lane] += 1
    for lane in range(half):
        largest[lane] = best[lane]
        position[lane] = stood[lane]


cdef inline void tile_max(const Job* job, Tile* tile, Py_ssize_t start, Py_ssize_t stop, real* largest, real* position) noexcept nogil:
    """Each lane's maximum over elements start .. stop, and where it first stands counted from start (-1: nowhere)."""
    cdef int lanes = 64 if real is float else 32
    cdef const char* rows
    cdef Py_ssize_t step, count
    cdef Py_ssize_t at = start
    cdef int lane
    for lane in range(lanes):
        largest[lane] = real_of(-INF_F64, largest)
        position[lane] = -1
    while at < stop:
        count = least(lanes, stop - at)
        rows = tile_rows_at(job, tile, at, count, &step, <const real*>largest)
        strip_max(rows, step, count, <real>(at - start), largest, position)
        strip_max(rows + lanes // 2 * sizeof(real), step, count, <real>(at - start), largest + lanes // 2, position + lanes // 2)
        at += count


cdef inline void tile_nan(const Job* job, Tile* tile, Py_ssize_t start, Py_ssize_t stop, Ends* ends, const real* like) noexcept nogil:
    """For lanes with maximum +inf: NaN as the rest if the row holds a NaN, else 0."""
    cdef int lanes = 64 if real is float else 32
    cdef const real* x
    cdef Py_ssize_t i, step, count
    cdef const char* rows
    cdef Py_ssize_t at = start
    cdef int lane
    for lane in range(lanes):
        if ends.max[lane] == INF_F64:
            ends.high[lane] = 0
            ends.low[lane] = 0
    while at < stop:
        count = least(lanes, stop - at)
        rows = tile_rows_at(job, tile, at, count, &step, like)
        for i in range(count):
            x = <const real*>(rows + i * step)
            for lane in range(lanes):
                if ends.max[lane] == INF_F64 and x[lane] != x[lane]:
                    ends.high[lane] = NAN_F64
        at += count


cdef enum Terms:
    EXPONENTIALS
    DEFICITS
    PULLS


cdef inline void other_term(const Job* job, const Tile* tile, Terms terms, const char* rows, const real* shift, Py_ssize_t i,
                            real* term) noexcept nogil:
    """A term of class i for every lane, for sums of other things than exponentials."""
    cdef int lanes = 64 if real is float else 32
    cdef const real* weight = <const real*>job.weight
    cdef const real* pull = <const real*>tile.pull_scratch + i * lanes
    if terms == PULLS:
        lane_copy(pull, term)
    elif has_probabilities(job):
        lane_pull_deficit(<const real*>rows, shift, pull, term)
    else:
        lane_deficit(<const real*>rows, shift, weight[i] if weight != NULL else 1, term)


cdef inline void tile_sum(const Job* job, Tile* tile, Py_ssize_t start, Py_ssize_t stop, Terms terms, const real* shift,
                          const real* position, char* e_out, Py_ssize_t e_step) noexcept nogil:
    """Each lane's sum over elements start .. stop, into the first row of `parts` (float64: its low part into row 8).

    Either of exp_scaled(x - shift) without the element at `position`; the exponentials of element i then go to
    e_out + i * e_step, unless e_out is NULL. Or of pull (shift - x), or of the pulls.
    """
    cdef int lanes = 64 if real is float else 32
    cdef bint short_row = stop - start <= SHORT_SUM
    cdef int width = 4 if short_row else 16 if real is float else 8
    cdef bint afar = (stop - start) * TILE_STEP > TILE_BYTES       # what the maxima were taken from is not in L2 any more
    cdef double* parts = <double*>tile.parts
    cdef real quarter[4][4][64]      # of a position; a short row's four positions, whose sums meet at the end
    cdef const char* rows
    cdef Py_ssize_t step, count, i
    cdef Py_ssize_t at = start
    cdef int j, k, q, lane, quarters
    while at < stop:
        count = least(lanes, stop - at)
        rows = tile_rows_at(job, tile, at, count, &step, shift)
        for j in range(<int>least(width, count)):
            k = j if short_row else 0
            quarters = <int>((count - j + width - 1) // width)
            if afar and step > TILE_STEP:
                for q in range(quarters):
                    prefetch_group(rows + (lanes + j + q * width) * step)
            if afar and e_out != NULL and e_step > TILE_STEP:
                for q in range(quarters):
                    prefetch_group(e_out + (at + lanes + j + q * width) * e_step)
            if terms == EXPONENTIALS:
                lane_exps(rows + j * step, width * step, quarters, shift, quarter[k])
            for q in range(quarters):
                i = j + q * width
                if terms != EXPONENTIALS:
                    other_term(job, <const Tile*>tile, terms, rows + i * step, shift, at + i, quarter[k][q])
                    continue
                if e_out != NULL:
                    lane_keep_and_drop(quarter[k][q], position, <real>(at + i - start), <real*>(e_out + (at + i) * e_step))
                else:
                    lane_drop(quarter[k][q], position, <real>(at + i - start))
            lane_fold_quarters(quarter[k], quarters)
            if short_row:
                continue
            if at == start:
                lane_set(<const real*>quarter[k][0], parts, j)
            else:
                lane_add(<const real*>quarter[k][0], parts, j)
        at += count
    if short_row:
        for j in range(<int>(stop - start), 4):
            for lane in range(lanes):
                quarter[j][0][lane] = 0
        lane_short_total(<const real*>quarter[0][0], <const real*>quarter[1][0], <const real*>quarter[2][0], <const real*>quarter[3][0],
                         parts)
        return
    lane_total(parts, <int>least(width, stop - start), shift)


cdef inline void settle_parts(const Tile* tile, double* total, const real* like) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef const double* parts = <const double*>tile.parts
    cdef Pair sum
    cdef int lane
    for lane in range(lanes):
        sum.high = parts[lane]
        sum.low = 0 if real is float else parts[8 * lanes + lane]
        total[lane] = settle(sum)


cdef void gather_pulls(const Job* job, Tile* tile, const real* like) noexcept nogil:
    """The class probabilities as a tile of pulls."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t n = job.layout.row.size
    cdef const real* weight = <const real*>job.weight
    cdef real* pull = <real*>tile.pull_scratch
    cdef Py_ssize_t offset[64]
    cdef Py_ssize_t i
    lane_offsets(&job.layout.batch, job.factor.batch_stride, tile.first, tile.count, offset)
    if is_matrix(job, &job.factor):
        prefetch_next_rows(&job.factor, job.factor.data + offset[0], lanes)
    gather_lanes(job, &job.factor, <const Py_ssize_t*>offset, tile, 0, n, pull)
    if weight != NULL or job.smoothing > 0:
        for i in range(n):
            lane_pulls(pull + i * lanes, weight[i] if weight != NULL else 1, job.smoothing, job.smoothing / n)


cdef void tile_pulls(const Job* job, Tile* tile, const real* position, Ends* ends, const real* like) noexcept nogil:
    """sum_pulls for every lane."""
    cdef int lanes = 64 if real is float else 32
    cdef real max[64]
    cdef int chosen[64]
    cdef real* pull = <real*>tile.pull_scratch
    cdef Py_ssize_t at
    cdef int lane
    for lane in range(lanes):
        max[lane] = real_of(ends.max[lane], like)
    if has_probabilities(job):
        gather_pulls(job, tile, like)
        for lane in range(lanes):
            ends.logit[lane] = ends.max[lane]
            chosen[lane] = <int>position[lane]
        for lane in range(tile.count):     # whose pull stays out of the sum, and is not read again; of a row of only -inf none
            ends.target[lane] = chosen[lane] if ends.kept[lane] != 0 else -1
            at = chosen[lane] * lanes + lane if chosen[lane] >= 0 else lane
            ends.own[lane] = pull[at] if chosen[lane] >= 0 else 0
            pull[at] = 0 if chosen[lane] >= 0 else pull[at]
        tile_sum(job, tile, 0, job.layout.row.size, PULLS, <const real*>max, <const real*>NULL, NULL, 0)
        settle_parts(<const Tile*>tile, ends.others, like)
        for lane in range(lanes):
            ends.mass[lane] = ends.others[lane] + ends.own[lane]
    tile_sum(job, tile, 0, job.layout.row.size, DEFICITS, <const real*>max, <const real*>NULL, NULL, 0)
    settle_parts(<const Tile*>tile, ends.deficit, like)


cdef inline Pair rest_of(double high, double low, const real* like) noexcept nogil:
    """A row's rest from its sum."""
    cdef Pair rest
    if real is float:
        rest.high = high * unscale(like)
        rest.low = 0
    else:
        rest = fast_two_sum(high, low)
        rest.high = rest.high * unscale(like)
        rest.low = rest.low * unscale(like)
    return rest


cdef inline void set_rests(const double* parts, Ends* ends, const real* like) noexcept nogil:
    """Each lane's rest from its sum."""
    cdef int lanes = 64 if real is float else 32
    cdef Pair rest
    cdef int lane
    for lane in range(lanes):
        rest = rest_of(parts[lane], 0 if real is float else parts[8 * lanes + lane], like)
        ends.high[lane] = rest.high
        ends.low[lane] = rest.low


cdef inline void tile_state(const Job* job, Tile* tile, Py_ssize_t start, Py_ssize_t stop, char* e_out, Py_ssize_t e_step,
                            Ends* ends, const real* like) noexcept nogil:
    """The state of elements start .. stop for every lane."""
    cdef int lanes = 64 if real is float else 32
    cdef real shift[64]
    cdef real position[64]
    cdef double marker[64]
    cdef int infinite = 0
    cdef int lane
    tile_max(job, tile, start, stop, shift, position)
    for lane in range(lanes):
        ends.max[lane] = shift[lane]
        infinite |= shift[lane] == real_of(INF_F64, like)
        shift[lane] = pick(shift[lane] - shift[lane] == 0, shift[lane], <real>0)       # finite_or_zero without float64
    if has_pulls(job) and job.n_blocks == 1:
        tile_pulls(job, tile, <const real*>position, ends, like)        # before e_out may overwrite x
    if infinite:
        tile_nan(job, tile, start, stop, ends, like)
        for lane in range(lanes):
            marker[lane] = ends.high[lane]
    tile_sum(job, tile, start, stop, EXPONENTIALS, <const real*>shift, <const real*>position, e_out, e_step)
    set_rests(<const double*>tile.parts, ends, like)
    if infinite:
        # the sum is no number there; all that counts is whether the row holds a NaN
        for lane in range(lanes):
            if ends.max[lane] == INF_F64:
                ends.high[lane] = marker[lane]
                ends.low[lane] = 0


cdef inline void write_targets(const Job* job, const Tile* tile, const Ends* ends, real* results, Py_ssize_t lane_step,
                               Py_ssize_t class_step, Py_ssize_t start, Py_ssize_t count) noexcept nogil:
    """The entries of the targets among classes start .. start + count, of lane l and class c at (c - start) class_step + l lane_step."""
    cdef int lanes = 64 if real is float else 32
    cdef real entry[64]
    cdef Py_ssize_t at
    cdef int lane
    for lane in range(lanes):
        entry[lane] = real_of(ends.target_entry[lane], results)
    if job.softcap > 0:
        for lane in range(tile.count):
            if ends.target[lane] >= 0:
                entry[lane] = through_cap(entry[lane], (<const real*>tile.slope_scratch)[ends.target[lane] * lanes + lane])
    for lane in range(tile.count):
        at = ends.target[lane] - start
        if 0 <= at < count:      # start is no less than 0, and so an ignored row's -1 is not among them
            results[at * class_step + lane * lane_step] = entry[lane]


cdef inline void close_tile(const Job* job, const Tile* tile, const Ends* ends, real* results, Py_ssize_t step,
                            Py_ssize_t start, Py_ssize_t count, bint sets_targets) noexcept nogil:
    """What is left to do for elements start .. start + count: masked entries, the targets' own if asked for, the way to `out`."""
    cdef int lanes = 64 if real is float else 32
    cdef real masked = real_of(-INF_F64 if job.mode == LOG_SOFTMAX else 0, results)
    cdef real* rows
    cdef Py_ssize_t row_stride
    cdef int lane
    if job.where.data != NULL:
        for lane in range(tile.count):
            fill_masked(&job.where, &job.layout.row, job.where.data + tile.where_offset[lane], start, count, masked, results + lane, step)
    if is_matrix(job, &job.out) and not tile.out_adjacent:
        rows = <real*>(job.out.data + tile.out_offset[0]) + start
        row_stride = job.out.batch_stride[0] // <Py_ssize_t>sizeof(real)
        transpose_out(<const real*>results, rows, row_stride, tile.count, count)
        if sets_targets:       # after the transpose, which would wait for single elements on their way to memory
            write_targets(job, tile, ends, rows, row_stride, 1, start, count)
        return
    if sets_targets:
        write_targets(job, tile, ends, results, 1, step, start, count)
    if tile.out_adjacent:
        return
    if has_runs(job, &job.out):
        scatter_runs(job, tile, start, count, <const real*>results)
        return
    for lane in range(tile.count):
        scatter(<const real*>results + lane, lanes, &job.out, &job.layout.row, job.out.data + tile.out_offset[lane], start, count)


cdef void write_tile(const Job* job, Tile* tile, const Ends* ends, char* kept, Py_ssize_t kept_step, const RowState* states,
                     const real* like) noexcept nogil:
    """Write all results. kept: the stored exponentials (they may lie in `out`), or NULL to compute them again, block by block."""
    cdef int lanes = 64 if real is float else 32
    cdef real shift[64]
    cdef real log_total[64]
    cdef real scale[64]
    cdef real floor[64]
    cdef real offset[64]
    cdef real value[64]
    cdef real* e
    cdef Early early
    cdef const real* weight = <const real*>job.weight
    cdef real* results = <real*>tile.out_scratch
    cdef const char* rows = NULL
    cdef Py_ssize_t results_step = lanes
    cdef Py_ssize_t step = 0
    cdef double block_max, share
    cdef bint afar = job.layout.row.size * TILE_STEP > TILE_BYTES
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t count, i
    cdef int lane
    if tile.out_adjacent:
        results = <real*>(job.out.data + tile.out_offset[0])
        results_step = run_stride(&job.layout.row, job.out.row_stride) // <Py_ssize_t>sizeof(real)
    if job.mode == LOG_SOFTMAX or kept == NULL:
        for lane in range(lanes):
            shift[lane] = real_of(ends.shift[lane], like)
    if job.mode == LOG_SOFTMAX:
        for lane in range(lanes):
            log_total[lane] = real_of(ends.log_total[lane], like)
    else:
        for lane in range(lanes):
            scale[lane] = real_of(ends.scale[lane], like)
            floor[lane] = real_of(ends.floor[lane], like)
        factors_of(lanes, scale, floor, &early)
    if has_pulls(job):
        for lane in range(lanes):
            offset[lane] = real_of(ends.offset[lane], like)
    while at < job.layout.row.size:
        count = least(lanes, job.layout.row.size - at)
        if job.n_blocks > 1 and job.mode != LOG_SOFTMAX and at % block_length(like) == 0:
            for lane in range(lanes):
                block_max = states[at // block_length(like) * lanes + lane].max
                share = share_of_block(block_max, ends.max[lane])
                shift[lane] = real_of(finite_or_zero(block_max), like)
                scale[lane] = real_of(ends.scale[lane] * share, like)
                floor[lane] = real_of(ends.floor[lane] / share, like)
            factors_of(lanes, scale, floor, &early)
        if kept == NULL:
            rows = tile_rows_at(job, tile, at, count, &step, like)
        else:
            rows = kept + at * kept_step
            step = kept_step
        if kept != NULL:
            results = <real*>rows      # what was kept lies where the results go
        for i in range(count):
            if afar:
                prefetch_group(rows + (i + 8) * step)
            if job.mode == LOG_SOFTMAX:
                if tile.out_adjacent:
                    prefetch_group(<const char*>(results + (i + 8) * results_step))
                lane_log(<const real*>(rows + i * step), <const real*>shift, <const real*>log_total, value)
                lane_copy(<const real*>value, results + i * results_step)
                continue
            if kept == NULL:
                lane_exp(<const real*>(rows + i * step), <const real*>shift, value)
                e = value
            else:
                e = results + i * results_step
            if early.some:
                scale_early(0, lanes, <const Early*>&early, e)
            if has_probabilities(job):
                lane_scale_minus_pull(e, <const real*>scale, <const real*>floor, <const real*>offset,
                                      <const real*>tile.pull_scratch + (at + i) * lanes)
            elif job.smoothing > 0:
                lane_scale_minus(e, <const real*>scale, <const real*>floor, <const real*>offset, weight[at + i] if weight != NULL else 1)
            else:
                lane_scale(e, <const real*>scale, <const real*>floor)
            if job.softcap > 0:
                lane_slope(e, <const real*>tile.slope_scratch + (at + i) * lanes)
            if kept == NULL:
                lane_copy(<const real*>value, results + i * results_step)
        close_tile(job, <const Tile*>tile, ends, results, results_step, at, count, job.mode == LOSS)
        if tile.out_adjacent and kept == NULL:
            results += count * results_step
        at += count


cdef inline void open_losses_of_tile(const Job* job, Tile* tile, Ends* ends, const real* like) noexcept nogil:
    """What is to know of the tile's losses, the targets' logits included."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t n = job.layout.row.size
    cdef Py_ssize_t stride = run_stride(&job.layout.row, job.x.row_stride)
    cdef real logit[64]
    cdef const char* rows
    cdef Py_ssize_t at, step
    cdef int lane
    open_losses(job, ends, tile.first, tile.count, like)
    clear_losses_of(ends, tile.count, lanes)
    if job.target == NULL:
        return
    if job.softcap > 0:
        rows = tile_rows_at(job, tile, 0, n, &step, like)      # a whole tile
        for lane in range(tile.count):
            if ends.target[lane] >= 0:
                ends.logit[lane] = (<const real*>(rows + ends.target[lane] * step))[lane]
        return
    if job.x.addressable and job.layout.row.count <= 1:
        for lane in range(tile.count):         # without branches: a row without a target reads its first logit
            at = 0 if ends.target[lane] < 0 else ends.target[lane]
            logit[lane] = (<const real*>(job.x.data + tile.x_offset[lane] + stride * at))[0]
        for lane in range(tile.count):
            ends.logit[lane] = logit[lane]
        return
    for lane in range(tile.count):
        if ends.target[lane] >= 0:
            at = offset_of(&job.layout.row, job.x.row_stride, ends.target[lane])
            ends.logit[lane] = load(job.x.data + tile.x_offset[lane] + at, job.x.swapped, like)


cdef inline void tile_states(const Job* job, Tile* tile, char* scratch, char* kept, Py_ssize_t kept_step, Ends* ends,
                             const real* like) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef RowState* states = <RowState*>(scratch + job.states_at)
    cdef Py_ssize_t n = job.layout.row.size
    cdef Py_ssize_t length = block_length(like)
    cdef Py_ssize_t block
    cdef int lane
    if job.n_blocks == 1:
        tile_state(job, tile, 0, n, kept, kept_step, ends, like)
        return
    for block in range(job.n_blocks):
        tile_state(job, tile, block * length, least(n, (block + 1) * length), kept, kept_step, ends, like)
        for lane in range(lanes):
            states[block * lanes + lane] = get_state(<const Ends*>ends, lane)
    for lane in range(lanes):
        set_state(ends, lane, merge_states(<const RowState*>states + lane, lanes, job.n_blocks))
    if has_pulls(job):
        tile_pulls(job, tile, <const real*>NULL, ends, like)      # of class weights: probabilities have whole tiles, of one block


cdef void process_tile(const Job* job, Py_ssize_t first, int count, char* scratch, LossSums* sums, const real* like) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef Tile tile
    cdef Ends ends
    cdef char* kept = NULL
    cdef Py_ssize_t kept_step = lanes * sizeof(real)
    open_tile(job, &tile, first, count, scratch, job.mode == LOSS, like)
    if job.mode == LOSS:
        open_losses_of_tile(job, &tile, &ends, like)
    if job.out.data != NULL and job.mode != LOG_SOFTMAX and job.n_blocks == 1 and not job.needs_x:
        if tile.out_adjacent:
            kept = job.out.data + tile.out_offset[0]
            kept_step = run_stride(&job.layout.row, job.out.row_stride)
        elif tile.resident:
            kept = tile.out_scratch
    if job.out_ahead != 0 and is_matrix(job, &job.out):
        prefetch_rows(&job.out, job.out.data + tile.out_offset[0], lanes)
    tile_states(job, &tile, scratch, kept, kept_step, &ends, like)
    finish(job, &ends, lanes, like)
    if not job.few:          # few.pxi has stored them
        if job.lse != NULL:
            refine_lse(job, &ends, first, count, like)
        store_values(job, <const Ends*>&ends, first, count, sums, like)
    if job.out.data != NULL:
        write_tile(job, &tile, <const Ends*>&ends, kept, kept_step, <const RowState*>(scratch + job.states_at), like)
