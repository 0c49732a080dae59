# The maximum of one contiguous run and where it first stands, without a branch that depends on the values.

cdef inline void best_of_group(const real* x, real* best) noexcept nogil:
    """best[j] = the largest of itself and elements j, j + width, ... of a group; width is LANES / 4.

    A NaN hides the element that it is compared with first: in its row the maximum does not matter any more.
    """
    cdef int width = 16 if real is float else 8
    cdef int j
    for j in range(width):
        best[j] = larger(larger(larger(x[j], x[width + j]), larger(x[2 * width + j], x[3 * width + j])), best[j])


cdef inline real run_max(const real* x, Py_ssize_t n, Py_ssize_t* position) noexcept nogil:
    """The largest number of a run, NaN skipped (it comes back through the sum), and where it first stands; -inf for none."""
    cdef int lanes = 64 if real is float else 32
    cdef int width = 16 if real is float else 8
    cdef real best[16]             # of each position in a quarter, and the stretch in which it stood first
    cdef real stretch[16]
    cdef real of_stretch[16]
    cdef real latest[16]
    cdef real largest = real_of(-INF_F64, x)
    cdef real now
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t at, stop
    cdef int j
    position[0] = 0
    if n < lanes:
        for i in range(n):
            if x[i] > largest:
                largest = x[i]
                position[0] = i
        return largest
    for j in range(width):
        best[j] = largest
        stretch[j] = 0
    while i < n:
        stop = least(n, i + 4 * lanes)
        for j in range(width):
            of_stretch[j] = real_of(-INF_F64, x)
        at = i
        while at + lanes <= stop:
            best_of_group(x + at, of_stretch)
            at += lanes
        if at < stop:
            best_of_group(x + n - lanes, of_stretch)      # overlaps the group before: a maximum does not mind
        now = <real>i
        for j in range(width):
            latest[j] = pick(of_stretch[j] > best[j], now, stretch[j])
            best[j] = larger(of_stretch[j], best[j])
        for j in range(width):
            stretch[j] = latest[j]
        i = stop
    largest = largest_of(<const real*>best)
    for j in range(width):
        latest[j] = pick(best[j] == largest, -stretch[j], -<real>n)
    at = <Py_ssize_t>-largest_of(<const real*>latest)
    if at < n:
        position[0] = at + first_equal(x + at, least(n - at, 4 * lanes), largest)
    return largest


cdef inline Py_ssize_t first_equal(const real* x, Py_ssize_t n, real value) noexcept nogil:
    """The first position of a value that the run is known to hold. Without a branch that depends on where."""
    cdef int lanes = 64 if real is float else 32
    cdef int width = 16 if real is float else 8
    cdef real last[16]       # minus the first position, so that it is a maximum
    cdef real result = real_of(-INF_F64, x)
    cdef const real* group
    cdef real base
    cdef Py_ssize_t i = 0
    cdef int j
    while i < n and n < lanes:
        if x[i] == value:
            return i
        i += 1
    for j in range(width):
        last[j] = result
    while i < n:
        i = least(i, n - lanes)
        group = x + i
        base = -<real>i
        for j in range(width):
            last[j] = larger(larger(larger(pick(group[j] == value, base - j, real_of(-INF_F64, x)),
                                           pick(group[width + j] == value, base - width - j, real_of(-INF_F64, x))),
                                    larger(pick(group[2 * width + j] == value, base - 2 * width - j, real_of(-INF_F64, x)),
                                           pick(group[3 * width + j] == value, base - 3 * width - j, real_of(-INF_F64, x)))),
                             last[j])
        i += lanes
    return <Py_ssize_t>-largest_of(<const real*>last)
