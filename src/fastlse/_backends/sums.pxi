# The order of summation. It is part of the source, and a function of a row's values alone: element i belongs to lane i % LANES;
# a group folds its four quarters into one, (q0 + q1) + (q2 + q3); the folded groups are added up in twice the working
# precision, one sum for each position in a quarter; `total` adds these up as a tree. A row of up to SHORT_SUM elements has
# quarters of 4, so that ten classes make 4 such sums and not 10. tile_lanes.pxi adds in the same order.

cdef extern from *:
    """
    #define SHORT_SUM 16
    #define INF_F64 __builtin_inf()
    #if defined(_MSC_VER)
    #undef INF_F64
    #define INF_F64 ((double)INFINITY)
    #endif
    """
    const double INF_F64
    const Py_ssize_t SHORT_SUM

cdef struct Sum:
    # float32: 16 sums in float64; float64: the high parts of 8 sums, then their low parts
    double part[16]


cdef inline real real_of(double value, const real* like) noexcept nogil:
    return <real>value


cdef inline double unscale(const real* like) noexcept nogil:
    """What takes the scale of exp_scaled off again."""
    if real is float:
        return UNSCALE_F32
    else:
        return UNSCALE_F64


cdef inline real scaled_one(const real* like) noexcept nogil:
    """exp_scaled(0), which no compiler computes beforehand."""
    return real_of(1 / unscale(like), like)


cdef inline void clear(Sum* sum) noexcept nogil:
    cdef int j
    for j in range(16):
        sum.part[j] = 0


cdef inline void add_short(const real* terms, Sum* sum) noexcept nogil:
    """Add the SHORT_SUM terms of a short row to an empty sum, zeros in the place of those it has not."""
    cdef int j
    for j in range(4):
        sum.part[j] = (terms[j] + terms[4 + j]) + (terms[8 + j] + terms[12 + j])


cdef inline void set_group(const real* terms, Sum* sum) noexcept nogil:
    """add_group to an empty sum."""
    cdef int j
    if real is float:
        for j in range(16):
            sum.part[j] = (terms[j] + terms[16 + j]) + (terms[32 + j] + terms[48 + j])
    else:
        for j in range(8):
            sum.part[j] = (terms[j] + terms[8 + j]) + (terms[16 + j] + terms[24 + j])
        for j in range(8):
            sum.part[8 + j] = 0


cdef inline void add_group(const real* terms, Sum* sum) noexcept nogil:
    """Add LANES terms."""
    cdef int j
    if real is float:
        for j in range(16):
            sum.part[j] += (terms[j] + terms[16 + j]) + (terms[32 + j] + terms[48 + j])
    else:
        for j in range(8):
            add_pair(&sum.part[j], &sum.part[8 + j], (terms[j] + terms[8 + j]) + (terms[16 + j] + terms[24 + j]))


cdef inline void add_pair(double* high, double* low, double term) noexcept nogil:
    """Add a term to the unevaluated sum high + low (Knuth's two_sum)."""
    cdef double sum = high[0] + term
    cdef double from_term = sum - high[0]
    low[0] += (high[0] - (sum - from_term)) + (term - from_term)
    high[0] = sum


cdef inline Pair total(const Sum* sum, const real* like) noexcept nogil:
    """The sum of all terms: a tree over the positions, each level adding the upper half to the lower."""
    cdef Pair result
    if real is float:
        result.high = sum_of_16(sum.part)
        result.low = 0
    else:
        result.high = sum_of_8_pairs(sum.part, &result.low)
        result = fast_two_sum(result.high, result.low)
    return result


cdef inline double settled_total(const Sum* sum, const real* like) noexcept nogil:
    """The sum as one number, for terms that may be infinite: beside those a low part is no number."""
    cdef Pair pair = total(sum, like)
    cdef double plain = pair.high + pair.low
    cdef int j
    if plain - plain == 0:
        return plain
    plain = 0
    for j in range(16 if real is float else 8):
        plain += sum.part[j]
    return plain
