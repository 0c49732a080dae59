# Results that go past the caches (streams_results): whole lines by non-temporal stores, a row's ends by plain ones.
#
# Memory is slow to write, and the processor waits for it where it has nothing else to do. So a row's results are put off and written
# while the next row's exponentials are taken, a piece of the one after a piece of the other. A row of many blocks, whose exponentials
# nobody keeps, is read again and its exponentials are taken again in one loop with the stores.

cdef extern from *:
    """
    #define PAST_AHEAD 4096       /* bytes from where exponentials are taken again to what is fetched */
    #define PAST_PIECE 2048       /* bytes of a row that are written at once: about what may wait for memory while nobody waits for it */
    """
    const int PAST_AHEAD, PAST_PIECE

cdef struct Unwritten:            # a row whose results were put off
    const void* source            # its exponentials in scratch, or of log-softmax its elements; NULL: there is no such row
    void* to
    Py_ssize_t done               # so many are written
    double shift                  # from here on as in Ends
    double log_total
    double scale
    double floor
    double target_entry
    Py_ssize_t target


cdef inline Py_ssize_t before_line(const real* to, Py_ssize_t n) noexcept nogil:
    """How many of n elements lie before the first cache line that begins among them."""
    return least(n, (-<Py_ssize_t><uintptr_t>to & 63) // <Py_ssize_t>sizeof(real))


cdef inline void run_scale_past(const real* e, Py_ssize_t n, real scale, real floor, real* to) noexcept nogil:
    """run_scale, whole lines of the results past the caches; `to` is apart from e."""
    cdef int width = 16 if real is float else 8
    cdef real factor = factor_of(scale)
    cdef real line[16]
    cdef Py_ssize_t i = before_line(to, n)
    run_scale(e, i, scale, floor, <const real*>NULL, to)
    while i + width <= n and not is_tiny(scale):
        products(e + i, width, factor, floor, <real*>line)
        stream_line(to + i, line)
        i += width
    run_scale(e + i, n - i, scale, floor, <const real*>NULL, to + i)


cdef inline void run_exp_past(const real* x, Py_ssize_t n, real shift, real scale, real floor, real* to) noexcept nogil:
    """run_exp and run_scale_past in one loop: memory is read and written beside the arithmetic. `to` is apart from x."""
    cdef int width = 16 if real is float else 8
    cdef real factor = factor_of(scale)
    cdef real line[16]
    cdef real e[16]
    cdef Py_ssize_t i = before_line(to, n)
    run_exp(x, i, shift, 0, <const real*>NULL, to)
    run_scale(to, i, scale, floor, <const real*>NULL, to)
    while i + width <= n and not is_tiny(scale):
        PREFETCH(<const char*>(x + i) + PAST_AHEAD)
        exp_step(x + i, shift, width, e)
        products(<const real*>e, width, factor, floor, <real*>line)
        stream_line(to + i, line)
        i += width
    run_exp(x + i, n - i, shift, 0, <const real*>NULL, to + i)
    run_scale(to + i, n - i, scale, floor, <const real*>NULL, to + i)


cdef inline void run_log_past(const real* x, Py_ssize_t n, real shift, real log_total, real* out) noexcept nogil:
    """run_log, whole lines of the results past the caches; out is apart from x."""
    cdef int width = 16 if real is float else 8
    cdef real line[16]
    cdef Py_ssize_t i = before_line(out, n)
    cdef int j
    run_log(x, i, shift, log_total, width, <const real*>NULL, out)
    while i + width <= n:
        for j in range(width):
            line[j] = (x[i + j] - shift) - log_total
        stream_line(out + i, line)
        i += width
    run_log(x + i, n - i, shift, log_total, width, <const real*>NULL, out + i)


cdef inline bint puts_off(const Job* job) noexcept nogil:
    """Whether results are written while the next row's exponentials are taken."""
    return job.streams and job.n_blocks == 1 and not job.short_rows


cdef inline void scale_around_target(const real* e, Py_ssize_t n, real scale, real floor, Py_ssize_t target, real entry,
                                     real* to) noexcept nogil:
    """run_scale_past with the entry of a target, if that is one of the n, put into its line before the line is written: afterwards it
    would have to be read."""
    cdef Py_ssize_t width = 16 if real is float else 8
    cdef real line[16]
    cdef Py_ssize_t head = before_line(to, n)
    cdef Py_ssize_t at = target - (target - head) % width if target >= head else 0
    if target < head or target >= n or at + width > n or is_tiny(scale):
        run_scale_past(e, n, scale, floor, to)
        if 0 <= target < n:
            to[target] = entry
        return
    run_scale_past(e, at, scale, floor, to)
    products(e + at, <int>width, factor_of(scale), floor, <real*>line)
    line[target - at] = entry
    stream_line(to + at, line)
    run_scale_past(e + at + width, n - at - width, scale, floor, to + at + width)


cdef void write_until(const Job* job, Unwritten* row, Py_ssize_t stop, const real* like) noexcept nogil:
    """Write results that were put off up to element `stop`, or up to the line that holds it."""
    cdef real* to = <real*>row.to + row.done
    cdef const real* source = <const real*>row.source + row.done
    cdef Py_ssize_t count
    if row.source == NULL:
        return
    if stop < job.layout.row.size:
        stop -= (<Py_ssize_t><uintptr_t>(<real*>row.to + stop) & 63) // <Py_ssize_t>sizeof(real)
    count = stop - row.done
    if count <= 0:
        return
    if job.mode == LOG_SOFTMAX:
        run_log_past(source, count, real_of(row.shift, like), real_of(row.log_total, like), to)
    else:
        scale_around_target(source, count, real_of(row.scale, like), real_of(row.floor, like), row.target - row.done,
                            real_of(row.target_entry, like), to)
    row.done = stop
    if stop == job.layout.row.size:
        row.source = NULL


cdef inline void write_last(const Job* job, char* scratch, const real* like) noexcept nogil:
    """What a thread has put off when nothing else is left to do."""
    if puts_off(job):
        write_until(job, <Unwritten*>(scratch + job.unwritten_at), job.layout.row.size, like)
    if job.streams:
        stream_end()


cdef inline Unwritten put_off(const Job* job, const Ends* ends, int lane, const real* x, const real* kept, real* to) noexcept nogil:
    """The results of a row whose last steps are done."""
    cdef Unwritten row
    row.source = x if job.mode == LOG_SOFTMAX else kept
    row.to = to
    row.done = 0
    row.shift = ends.shift[lane]
    row.log_total = ends.log_total[lane]
    row.scale = ends.scale[lane]
    row.floor = ends.floor[lane]
    row.target_entry = ends.target_entry[lane]
    row.target = ends.target[lane] if job.mode == LOSS else -1
    return row
