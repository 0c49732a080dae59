# Tiles side by side, for long rows that are neighbours in memory: axis 0 of a C-ordered matrix, or the rows of one in Fortran order.
# A tile alone walks down its columns, a few cache lines of every page it meets, and a store waits for each. A band goes over whole
# lines of up to BAND_TILES tiles, class by class, and computes what tiles.pxi does, in the same order of summation.

cdef extern from *:
    """
    #define BAND_TILES 16
    #define BAND_ROW 96            /* shorter rows are tiles that stay in L1 */
    """
    const int BAND_TILES
    const Py_ssize_t BAND_ROW

cdef struct Band:
    Py_ssize_t first             # the row of the first tile's lane 0
    Py_ssize_t n_rows
    int n_tiles                  # of LANES rows each; the last may overlap the one before, whose losses and results those rows then are
    const char* x                # class 0 of the first row
    char* out
    Py_ssize_t x_step            # bytes to the next class
    Py_ssize_t out_step
    # for each tile: the sums, 16 x LANES doubles; then a number for each lane
    char* parts
    char* max
    char* position
    char* scale                  # when a tile is finished the factor; of log-softmax log_total
    char* floor
    char* entry
    Py_ssize_t* target


cdef inline bint serves_bands(const Job* job, const real* like) noexcept nogil:
    """Whether tiles may go side by side: plain neighbours, nothing that differs from class to class."""
    if not job.across or job.layout.row.size < BAND_ROW or job.n_blocks > 1 or job.needs_x:
        return False
    if job.layout.batch.count != 1 or job.where.data != NULL or job.softcap > 0 or has_pulls(job):
        return False
    return job.x.contiguous_lanes and (job.out.data == NULL or job.out.contiguous_lanes)


cdef inline Py_ssize_t band_scratch(int n_tiles, const real* like) noexcept nogil:
    """Bytes that open_band shares out."""
    cdef Py_ssize_t lanes = 64 if real is float else 32
    return n_tiles * lanes * (16 * sizeof(double) + 5 * sizeof(real) + sizeof(Py_ssize_t))


cdef inline Band open_band(const Job* job, Py_ssize_t first, Py_ssize_t n_rows, char* scratch, const real* like) noexcept nogil:
    cdef Py_ssize_t lanes = 64 if real is float else 32
    cdef Py_ssize_t n_tiles = (n_rows + lanes - 1) // lanes
    cdef Py_ssize_t numbers = n_tiles * lanes * sizeof(real)
    cdef Band band
    band.first = first
    band.n_rows = n_rows
    band.n_tiles = <int>n_tiles
    band.x = job.x.data + first * <Py_ssize_t>sizeof(real)
    band.x_step = run_stride(&job.layout.row, job.x.row_stride)
    band.out = NULL
    band.out_step = 0
    if job.out.data != NULL:
        band.out = job.out.data + first * <Py_ssize_t>sizeof(real)
        band.out_step = run_stride(&job.layout.row, job.out.row_stride)
    band.parts = scratch
    band.target = <Py_ssize_t*>(scratch + n_tiles * lanes * 16 * sizeof(double))
    band.max = <char*>(band.target + n_tiles * lanes)
    band.position = band.max + numbers
    band.scale = band.position + numbers
    band.floor = band.scale + numbers
    band.entry = band.floor + numbers
    return band


cdef inline Py_ssize_t row_of_tile(const Band* band, int tile, const real* like) noexcept nogil:
    """Which of the band's rows a tile begins with."""
    cdef Py_ssize_t lanes = 64 if real is float else 32
    return least(tile * lanes, band.n_rows - lanes)


cdef void band_maxima(const Job* job, const Band* band, const real* like) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef real* max = <real*>band.max
    cdef real* position = <real*>band.position
    cdef Py_ssize_t n = job.layout.row.size
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t count
    cdef const real* rows
    cdef int tile, lane
    for lane in range(band.n_tiles * lanes):
        max[lane] = real_of(-INF_F64, like)
        position[lane] = -1
    while at < n:
        count = least(8, n - at)         # while a strip keeps its maxima in registers
        for tile in range(band.n_tiles):
            rows = <const real*>(band.x + at * band.x_step) + row_of_tile(band, tile, like)
            lane = tile * lanes
            strip_max(<const char*>rows, band.x_step, count, <real>at, max + lane, position + lane)
            lane += lanes // 2
            strip_max(<const char*>(rows + lanes // 2), band.x_step, count, <real>at, max + lane, position + lane)
        at += count


cdef inline void lane_exp_but(const real* x, const real* shift, const real* position, real at, real* e) noexcept nogil:
    """lane_exp, but 0 where a lane's maximum stands."""
    cdef int lanes = 64 if real is float else 32
    cdef int width = 16 if real is float else 8
    cdef real d[16]
    cdef real value[16]
    cdef int from_lane = 0
    cdef int j
    while from_lane < lanes:
        for j in range(width):
            d[j] = x[from_lane + j] - shift[from_lane + j]
        exp_of_lanes(<const real*>d, width, value)
        for j in range(width):
            e[from_lane + j] = pick(position[from_lane + j] == at, <real>0, value[j])
        from_lane += width


cdef inline void lane_exp_pair_but(const real* x, const real* y, const real* shift, const real* position, real at_x, real at_y,
                                   real* e_x, real* e_y) noexcept nogil:
    """lane_exp_but of two classes."""
    cdef int lanes = 64 if real is float else 32
    cdef int width = 16 if real is float else 8
    cdef real d[32]
    cdef real value[32]
    cdef int from_lane = 0
    cdef int j
    while from_lane < lanes:
        for j in range(width):
            d[j] = x[from_lane + j] - shift[from_lane + j]
            d[width + j] = y[from_lane + j] - shift[from_lane + j]
        exp_of_lanes(<const real*>d, 2 * width, value)
        for j in range(width):
            e_x[from_lane + j] = pick(position[from_lane + j] == at_x, <real>0, value[j])
            e_y[from_lane + j] = pick(position[from_lane + j] == at_y, <real>0, value[width + j])
        from_lane += width


cdef inline real* result_of_band(const Band* band, Py_ssize_t at, int tile, const real* like) noexcept nogil:
    """Where a tile's results for class `at` lie."""
    return <real*>(band.out + at * band.out_step) + row_of_tile(band, tile, like)


cdef inline void band_exponentials(const Band* band, int tile, Py_ssize_t at, int quarters, real** e) noexcept nogil:
    """Those of class `at` and of the next quarters' of its group, into e[0] and on; 0 for a maximum's own."""
    cdef int lanes = 64 if real is float else 32
    cdef int width = 16 if real is float else 8
    cdef const real* max = <const real*>band.max + tile * lanes
    cdef const real* position = <const real*>band.position + tile * lanes
    cdef const char* rows = band.x + at * band.x_step + row_of_tile(band, tile, <const real*>max) * <Py_ssize_t>sizeof(real)
    cdef Py_ssize_t step = width * band.x_step
    cdef int q = 0
    while q + 2 <= quarters:
        lane_exp_pair_but(<const real*>(rows + q * step), <const real*>(rows + (q + 1) * step), max, position,
                          <real>(at + q * width), <real>(at + (q + 1) * width), e[q], e[q + 1])
        q += 2
    if q < quarters:
        lane_exp_but(<const real*>(rows + q * step), max, position, <real>(at + q * width), e[q])


cdef inline void fold_of_band(real** quarter, int quarters, real* term) noexcept nogil:
    """(q0 + q1) + (q2 + q3), what is missing being zero."""
    cdef int lanes = 64 if real is float else 32
    cdef const real* a = quarter[0]
    cdef const real* b = quarter[1]
    cdef const real* c = quarter[2]
    cdef const real* d = quarter[3]
    cdef int lane
    if quarters == 4:
        for lane in range(lanes):
            term[lane] = (a[lane] + b[lane]) + (c[lane] + d[lane])
        return
    lane_copy(a, term)
    if quarters > 1:
        for lane in range(lanes):
            term[lane] += b[lane]
    if quarters > 2:
        for lane in range(lanes):
            term[lane] += c[lane]


cdef inline void band_sums(const Job* job, const Band* band, bint keep, const real* like) noexcept nogil:
    """The sums of all tiles into their parts; the exponentials to `out` if they are to be kept (a literal)."""
    cdef int lanes = 64 if real is float else 32
    cdef int width = 16 if real is float else 8
    cdef real scratch[4][64]
    cdef real* quarter[4]
    cdef Py_ssize_t n = job.layout.row.size
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t count
    cdef double* parts
    cdef int tile, quarters, j, q
    for q in range(4):
        quarter[q] = scratch[q]
    while at < n:
        count = least(lanes, n - at)
        for j in range(<int>least(width, count)):
            quarters = <int>((count - j + width - 1) // width)
            for tile in range(band.n_tiles):
                parts = <double*>band.parts + tile * lanes * 16
                if keep:
                    for q in range(quarters):
                        quarter[q] = result_of_band(band, at + j + q * width, tile, like)
                band_exponentials(band, tile, at + j, quarters, quarter)
                if keep:
                    fold_of_band(quarter, quarters, scratch[0])
                else:
                    lane_fold_quarters(scratch, quarters)
                if at == 0:
                    lane_set(<const real*>scratch[0], parts, j)
                else:
                    lane_add(<const real*>scratch[0], parts, j)
        at += count


cdef void band_sums_kept(const Job* job, const Band* band, const real* like) noexcept nogil:
    band_sums(job, band, True, like)


cdef void band_sums_only(const Job* job, const Band* band, const real* like) noexcept nogil:
    band_sums(job, band, False, like)


cdef void keep_maxima(const Band* band, const real* like) noexcept nogil:
    """The maxima's own exponentials, which the sums leave out."""
    cdef int lanes = 64 if real is float else 32
    cdef const real* position = <const real*>band.position
    cdef int tile, lane
    for tile in range(band.n_tiles):
        for lane in range(lanes):
            result_of_band(band, <Py_ssize_t>position[tile * lanes + lane], tile, like)[lane] = scaled_one(like)


cdef void band_logits(const Job* job, const Band* band, const real* like) noexcept nogil:
    """The targets' logits, in the place of what will be written there: the exponentials may overwrite them."""
    cdef int lanes = 64 if real is float else 32
    cdef const int64_t* target = job.target + band.first
    cdef real* entry = <real*>band.entry
    cdef Py_ssize_t row
    cdef int tile, lane
    for tile in range(band.n_tiles):
        row = row_of_tile(band, tile, like)
        for lane in range(lanes):
            entry[lane] = 0
            if target[row + lane] != job.ignore_index:
                entry[lane] = (<const real*>(band.x + target[row + lane] * band.x_step))[row + lane]
        entry += lanes


cdef void finish_tile_of_band(const Job* job, const Band* band, int tile, LossSums* sums, const real* like) noexcept nogil:
    """From a tile's sums to its results, and what writing takes."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t first = band.first + row_of_tile(band, tile, like)
    cdef Py_ssize_t at = tile * lanes
    cdef double* parts = <double*>band.parts + at * 16
    cdef int known = <int>(band.first + at - first)         # the tile before has those rows
    cdef Ends ends
    cdef Early early
    cdef Py_ssize_t i
    cdef int lane
    if job.mode == LOSS:
        open_losses(job, &ends, first, lanes, like)
        for lane in range(lanes):
            ends.logit[lane] = (<const real*>band.entry)[at + lane]
    for lane in range(lanes):
        ends.max[lane] = (<const real*>band.max)[at + lane]
    lane_total(parts, 16 if real is float else 8, like)
    set_rests(<const double*>parts, &ends, like)
    finish(job, &ends, lanes, like)
    if job.lse != NULL:
        refine_lse(job, &ends, first, lanes, like)
    clear_losses(sums)
    store_values(job, <const Ends*>&ends, first, lanes, sums, like)
    for lane in range(known):
        sums.high[lane] = 0
        sums.low[lane] = 0
    if job.out.data == NULL:
        return
    for lane in range(lanes):
        (<real*>band.max)[at + lane] = real_of(ends.shift[lane], like)
        (<real*>band.scale)[at + lane] = real_of(ends.log_total[lane] if job.mode == LOG_SOFTMAX else ends.scale[lane], like)
        (<real*>band.floor)[at + lane] = real_of(ends.floor[lane], like)
        (<real*>band.entry)[at + lane] = real_of(ends.target_entry[lane], like)
        band.target[at + lane] = ends.target[lane]
    if job.mode == LOG_SOFTMAX:
        return
    factors_of(lanes, <real*>band.scale + at, <real*>band.floor + at, &early)
    for i in range(job.layout.row.size if early.some else 0):
        scale_early(known, lanes, <const Early*>&early, result_of_band(band, i, tile, like))


cdef inline void write_tile_of_band(const Job* job, const Band* band, Py_ssize_t i, int tile, int known, const real* like) noexcept nogil:
    """Class i of a tile, but for the first `known` lanes, which are written."""
    cdef int lanes = 64 if real is float else 32
    cdef const real* x = <const real*>(band.x + i * band.x_step) + row_of_tile(band, tile, like)
    cdef real* out = result_of_band(band, i, tile, like)
    cdef const real* shift = <const real*>band.max + tile * lanes
    cdef const real* factor = <const real*>band.scale + tile * lanes
    cdef const real* floor = <const real*>band.floor + tile * lanes
    cdef real value[64]
    cdef int lane
    if job.mode == LOG_SOFTMAX:         # the next tile's lines, for nothing else here has asked for those of the results
        prefetch_group(<const char*>(x + lanes))
        prefetch_group(<const char*>(out + lanes))
        lane_log(x, shift, factor, value)
        lane_copy(<const real*>value, out)
    elif known == 0:
        lane_scale(out, factor, floor)
    else:
        for lane in range(known, lanes):
            out[lane] = product_of(out[lane], factor[lane], floor[lane])


cdef void write_band(const Job* job, const Band* band, const real* like) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef int known = <int>(band.n_tiles * lanes - band.n_rows)
    cdef Py_ssize_t i
    cdef int tile, lane
    for i in range(job.layout.row.size):
        for tile in range(band.n_tiles - 1):
            write_tile_of_band(job, band, i, tile, 0, like)
        write_tile_of_band(job, band, i, band.n_tiles - 1, known, like)
    if job.mode != LOSS:
        return
    for tile in range(band.n_tiles):
        for lane in range(lanes):
            i = band.target[tile * lanes + lane]
            if i >= 0:
                result_of_band(band, i, tile, like)[lane] = (<const real*>band.entry)[tile * lanes + lane]


cdef bint process_band(const Job* job, Py_ssize_t first, Py_ssize_t n_rows, char* scratch, Pair* loss_sums,
                       const real* like) noexcept nogil:
    """Tiles side by side, the losses of each into its own sum. False: nothing is done, for there are infinite maxima."""
    cdef int lanes = 64 if real is float else 32
    cdef Band band = open_band(job, first, n_rows, scratch, like)
    cdef bint keep = job.out.data != NULL and job.mode != LOG_SOFTMAX
    cdef LossSums sums
    cdef bint infinite = False
    cdef int tile, lane
    band_maxima(job, <const Band*>&band, like)
    for lane in range(band.n_tiles * lanes):
        infinite |= is_infinite((<real*>band.max)[lane])
    if infinite:
        return False
    if job.target != NULL:
        band_logits(job, <const Band*>&band, like)
    if keep:
        band_sums_kept(job, <const Band*>&band, like)
        keep_maxima(<const Band*>&band, like)
    else:
        band_sums_only(job, <const Band*>&band, like)
    for tile in range(band.n_tiles):
        finish_tile_of_band(job, <const Band*>&band, tile, &sums, like)
        if loss_sums != NULL:
            loss_sums[tile] = sum_of_losses(<const LossSums*>&sums)
    if job.out.data != NULL:
        write_band(job, <const Band*>&band, like)
    return True


cdef inline Py_ssize_t rows_for_band(const Job* job, Py_ssize_t first, Py_ssize_t stop, const real* like) noexcept nogil:
    """How many of rows first .. stop one band takes. In place the last tile may not overlap: it would read results."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t n_rows = stop - first
    if job.out.data == job.x.data:
        n_rows -= n_rows % lanes
    return n_rows if n_rows >= lanes else 0
