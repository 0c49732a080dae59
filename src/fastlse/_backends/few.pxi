# logsumexp of rows of so few elements that to find the doubtful ones among them (careful.pxi) takes longer than to add all up
# carefully: a tile's lanes side by side, and only what is not the maximum, with the numbers that careful_rests gets.

cdef inline void lane_others(const real* x, const real* next, const real* position, real at, real* other) noexcept nogil:
    """Element `at` of those that are left without the maximum, from elements `at` and at + 1 of all."""
    cdef int lanes = 64 if real is float else 32
    cdef int lane
    for lane in range(lanes):
        other[lane] = pick(position[lane] <= at, next[lane], x[lane])


cdef inline void lane_add_pairs(const double* high, const double* low, double* sum_high, double* sum_low, const real* like) noexcept nogil:
    """Add as add_carefully does."""
    cdef int lanes = 64 if real is float else 32
    cdef double sum, from_term
    cdef int lane
    for lane in range(lanes):
        sum = sum_high[lane] + high[lane]
        from_term = sum - sum_high[lane]
        sum_low[lane] += ((sum_high[lane] - (sum - from_term)) + (high[lane] - from_term)) + low[lane]
        sum_high[lane] = sum


cdef void careful_tile(const Job* job, Tile* tile, Ends* ends, const real* like) noexcept nogil:
    """The state of every lane."""
    cdef int lanes = 64 if real is float else 32
    cdef real largest[64]
    cdef real position[64]
    cdef real other[64]
    cdef double shift[64]
    cdef double d[64]
    cdef double high[64]
    cdef double low[64]
    cdef double rest_high[64]
    cdef double rest_low[64]
    cdef Py_ssize_t n = job.layout.row.size
    cdef Pair rest
    cdef const char* rows
    cdef const real* first
    cdef Py_ssize_t step, i
    cdef int infinite = 0
    cdef int lane
    tile_max(job, tile, 0, n, largest, position)
    rows = tile_rows_at(job, tile, 0, n, &step, like)
    first = <const real*>rows
    for lane in range(lanes):
        ends.max[lane] = largest[lane]
        infinite |= largest[lane] == real_of(INF_F64, like)
        shift[lane] = finite_or_zero(largest[lane])
        rest_high[lane] = 0
        rest_low[lane] = 0
    for i in range(n - 1):
        lane_others(<const real*>(rows + i * step), <const real*>(rows + (i + 1) * step), <const real*>position, <real>i, other)
        if i == 0:
            careful_exponentials(<const real*>other, <const double*>shift, lanes, d, rest_high, rest_low)
        else:
            careful_exponentials(<const real*>other, <const double*>shift, lanes, d, high, low)
            lane_add_pairs(<const double*>high, <const double*>low, rest_high, rest_low, like)
    for lane in range(lanes):
        # without a maximum the first element is none of the others: its NaN would be lost
        rest_high[lane] += pick((position[lane] < 0) & (first[lane] != first[lane]), NAN_F64, 0.0)
    for lane in range(lanes):
        rest = fast_two_sum(rest_high[lane], rest_low[lane])
        ends.high[lane] = rest.high * unscale(<const double*>NULL)
        ends.low[lane] = rest.low * unscale(<const double*>NULL)
    if infinite:
        tile_nan(job, tile, 0, n, ends, like)


cdef inline bint careful_unordered(const Job* job, Tile* tile, Ends* ends, int n, const real* like) noexcept nogil:
    """careful_tile without asking where the maxima stand: what is not the largest is the smaller one of two. n: a literal, 2, or 3 for
    float32, whose two exponentials have no low parts: their sum is the same in any order. A NaN is another, or the maximum. False, and
    nothing done, where a maximum is not finite."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t step
    cdef const char* rows = tile_rows_at(job, tile, 0, n, &step, like)
    cdef const real* first = <const real*>rows
    cdef const real* second = <const real*>(rows + step)
    cdef const real* third = <const real*>(rows + (n - 1) * step)
    cdef real max[64]
    cdef real other[2][64]
    cdef Pair rest
    cdef int not_finite = 0
    cdef int lane
    for lane in range(lanes):
        max[lane] = larger(second[lane], first[lane])          # of two zeros the first, as in tile_max
        other[0][lane] = smaller(first[lane], second[lane])
        if n == 3:
            other[1][lane] = smaller(max[lane], third[lane])
            max[lane] = larger(third[lane], max[lane])
        not_finite |= max[lane] - max[lane] != 0
    if not_finite:
        return False
    for lane in range(lanes):
        ends.max[lane] = max[lane]
        rest = careful_exponential(other[0][lane], max[lane]).e
        if n == 3:
            rest = two_sum(rest.high, careful_exponential(other[1][lane], max[lane]).e.high)
        ends.high[lane] = rest.high * unscale(<const double*>NULL)
        ends.low[lane] = rest.low * unscale(<const double*>NULL)
    return True


cdef void process_few(const Job* job, Py_ssize_t first, int count, char* scratch, LossSums* sums, const real* like) noexcept nogil:
    """The logsumexp or the states of rows of few elements; where rows are written, too, process_tile does that."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t n = job.layout.row.size
    cdef bint done = False
    cdef Tile tile
    cdef Ends ends
    open_tile(job, &tile, first, count, scratch, False, like)
    if n == 2:
        done = careful_unordered(job, &tile, &ends, 2, like)
    elif n == 3 and real is float:
        done = careful_unordered(job, &tile, &ends, 3, like)
    if not done:
        careful_tile(job, &tile, &ends, like)
    finish_totals(&ends, lanes, like)
    finish_lse(&ends, lanes, like)
    store_values(job, <const Ends*>&ends, first, count, sums, like)
