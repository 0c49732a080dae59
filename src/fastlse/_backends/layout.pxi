# How rows and their elements lie in memory, and the copies between strided memory and a contiguous scratch.
# Strides are in bytes throughout.

cdef extern from *:
    """
    #define MAX_AXES 64
    static inline float load_f32(const char* p, int swapped) {
        uint32_t u; float x; memcpy(&u, p, 4);
        if (swapped) u = (u >> 24) | ((u >> 8) & 0xff00u) | ((u << 8) & 0xff0000u) | (u << 24);
        memcpy(&x, &u, 4); return x; }
    static inline double load_f64(const char* p, int swapped) {
        uint64_t u; memcpy(&u, p, 8);
        if (swapped) {
            u = ((u & 0x00ff00ff00ff00ffull) << 8) | ((u >> 8) & 0x00ff00ff00ff00ffull);
            u = ((u & 0x0000ffff0000ffffull) << 16) | ((u >> 16) & 0x0000ffff0000ffffull);
            u = (u << 32) | (u >> 32); }
        return from_bits(u); }

    /* A 4 x 4 transpose, strides in elements: to[c * to_stride + r] = from[r * from_stride + c]. With the compilers' vector
       shuffles 0.2 ns an element, without 0.4. */
    #if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)
      typedef float fastlse_4f __attribute__((vector_size(16)));
      typedef double fastlse_4d __attribute__((vector_size(32)));
      #define FASTLSE_TRANSPOSE(type, vector)                                                                    \
        vector a, b, c, d, p, q, r, s;                                                                           \
        memcpy(&a, from, sizeof a); memcpy(&b, from + from_stride, sizeof a);                                    \
        memcpy(&c, from + 2 * from_stride, sizeof a); memcpy(&d, from + 3 * from_stride, sizeof a);              \
        p = __builtin_shufflevector(a, b, 0, 4, 1, 5); q = __builtin_shufflevector(c, d, 0, 4, 1, 5);            \
        r = __builtin_shufflevector(a, b, 2, 6, 3, 7); s = __builtin_shufflevector(c, d, 2, 6, 3, 7);            \
        a = __builtin_shufflevector(p, q, 0, 1, 4, 5); b = __builtin_shufflevector(p, q, 2, 3, 6, 7);            \
        c = __builtin_shufflevector(r, s, 0, 1, 4, 5); d = __builtin_shufflevector(r, s, 2, 3, 6, 7);            \
        memcpy(to, &a, sizeof a); memcpy(to + to_stride, &b, sizeof a);                                          \
        memcpy(to + 2 * to_stride, &c, sizeof a); memcpy(to + 3 * to_stride, &d, sizeof a);
    #else
      #define FASTLSE_TRANSPOSE(type, vector)                                                                    \
        type block[4][4]; int i, j;                                                                              \
        for (i = 0; i < 4; i++) for (j = 0; j < 4; j++) block[j][i] = from[i * from_stride + j];                 \
        for (j = 0; j < 4; j++) memcpy(to + j * to_stride, block[j], sizeof block[j]);
    #endif
    static inline void transpose_4x4_f32(const float* from, Py_ssize_t from_stride, float* to, Py_ssize_t to_stride) {
        FASTLSE_TRANSPOSE(float, fastlse_4f) }
    #if !defined(__AVX2__)
    static inline void transpose_4x4_f64(const double* from, Py_ssize_t from_stride, double* to, Py_ssize_t to_stride) {
        FASTLSE_TRANSPOSE(double, fastlse_4d) }
    /* The same of 8 rows of 4 elements, and of 4 of 8. */
    static inline void transpose_8x4_f32(const float* from, Py_ssize_t from_stride, float* to, Py_ssize_t to_stride) {
        transpose_4x4_f32(from, from_stride, to, to_stride);
        transpose_4x4_f32(from + 4 * from_stride, from_stride, to + 4, to_stride); }
    static inline void transpose_4x8_f32(const float* from, Py_ssize_t from_stride, float* to, Py_ssize_t to_stride) {
        transpose_4x4_f32(from, from_stride, to, to_stride);
        transpose_4x4_f32(from + 4, from_stride, to + 4 * to_stride, to_stride); }
    #else
    /* The halves of AVX2's registers do not mix cheaply: what belongs into the other half is loaded or stored there. */
    static inline void transpose_4x4_f64(const double* from, Py_ssize_t from_stride, double* to, Py_ssize_t to_stride) {
        const double* from_2 = from + 2 * from_stride;
        __m256d a = _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(from)), _mm_loadu_pd(from_2), 1);
        __m256d c = _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(from + 2)), _mm_loadu_pd(from_2 + 2), 1);
        __m256d b, d;
        from += from_stride; from_2 += from_stride;
        b = _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(from)), _mm_loadu_pd(from_2), 1);
        d = _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(from + 2)), _mm_loadu_pd(from_2 + 2), 1);
        _mm256_storeu_pd(to, _mm256_unpacklo_pd(a, b)); _mm256_storeu_pd(to + to_stride, _mm256_unpackhi_pd(a, b));
        to += 2 * to_stride;
        _mm256_storeu_pd(to, _mm256_unpacklo_pd(c, d)); _mm256_storeu_pd(to + to_stride, _mm256_unpackhi_pd(c, d)); }
    static inline __m256 load_halves_f32(const float* lower, const float* upper) {
        return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(lower)), _mm_loadu_ps(upper), 1); }
    static inline void store_halves_f32(float* lower, float* upper, __m256 v) {
        _mm_storeu_ps(lower, _mm256_castps256_ps128(v)); _mm_storeu_ps(upper, _mm256_extractf128_ps(v, 1)); }
    /* The same of 8 rows of 4 elements, and of 4 of 8. */
    static inline void transpose_8x4_f32(const float* from, Py_ssize_t from_stride, float* to, Py_ssize_t to_stride) {
        const float* from_4 = from + 4 * from_stride;
        __m256 a = load_halves_f32(from, from_4);
        __m256 b = load_halves_f32(from + from_stride, from_4 + from_stride);
        __m256 c = load_halves_f32(from + 2 * from_stride, from_4 + 2 * from_stride);
        __m256 d = load_halves_f32(from + 3 * from_stride, from_4 + 3 * from_stride);
        __m256 p = _mm256_unpacklo_ps(a, b), q = _mm256_unpackhi_ps(a, b);
        __m256 r = _mm256_unpacklo_ps(c, d), s = _mm256_unpackhi_ps(c, d);
        _mm256_storeu_ps(to, _mm256_shuffle_ps(p, r, 0x44));
        _mm256_storeu_ps(to + to_stride, _mm256_shuffle_ps(p, r, 0xee));
        _mm256_storeu_ps(to + 2 * to_stride, _mm256_shuffle_ps(q, s, 0x44));
        _mm256_storeu_ps(to + 3 * to_stride, _mm256_shuffle_ps(q, s, 0xee)); }
    static inline void transpose_4x8_f32(const float* from, Py_ssize_t from_stride, float* to, Py_ssize_t to_stride) {
        float* to_4 = to + 4 * to_stride;
        __m256 a = _mm256_loadu_ps(from), b = _mm256_loadu_ps(from + from_stride);
        __m256 c = _mm256_loadu_ps(from + 2 * from_stride), d = _mm256_loadu_ps(from + 3 * from_stride);
        __m256 p = _mm256_unpacklo_ps(a, b), q = _mm256_unpackhi_ps(a, b);
        __m256 r = _mm256_unpacklo_ps(c, d), s = _mm256_unpackhi_ps(c, d);
        store_halves_f32(to, to_4, _mm256_shuffle_ps(p, r, 0x44));
        store_halves_f32(to + to_stride, to_4 + to_stride, _mm256_shuffle_ps(p, r, 0xee));
        store_halves_f32(to + 2 * to_stride, to_4 + 2 * to_stride, _mm256_shuffle_ps(q, s, 0x44));
        store_halves_f32(to + 3 * to_stride, to_4 + 3 * to_stride, _mm256_shuffle_ps(q, s, 0xee)); }
    #endif
    /* Of 16 rows of 4 float32, and of 4 of 16: whole registers of AVX-512, which loads of such can follow at once. */
    #if defined(__AVX512F__)
    #define TRANSPOSE_ROWS_F32 16
    static inline __m512 load_quarters_f32(const float* from, Py_ssize_t step) {
        __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(from));
        v = _mm512_insertf32x4(v, _mm_loadu_ps(from + step), 1);
        v = _mm512_insertf32x4(v, _mm_loadu_ps(from + 2 * step), 2);
        return _mm512_insertf32x4(v, _mm_loadu_ps(from + 3 * step), 3); }
    static inline void store_quarters_f32(float* to, Py_ssize_t step, __m512 v) {
        _mm_storeu_ps(to, _mm512_castps512_ps128(v)); _mm_storeu_ps(to + step, _mm512_extractf32x4_ps(v, 1));
        _mm_storeu_ps(to + 2 * step, _mm512_extractf32x4_ps(v, 2)); _mm_storeu_ps(to + 3 * step, _mm512_extractf32x4_ps(v, 3)); }
    static inline void transpose_16x4_f32(const float* from, Py_ssize_t from_stride, float* to, Py_ssize_t to_stride) {
        __m512 a = load_quarters_f32(from, 4 * from_stride), b = load_quarters_f32(from + from_stride, 4 * from_stride);
        __m512 c = load_quarters_f32(from + 2 * from_stride, 4 * from_stride);
        __m512 d = load_quarters_f32(from + 3 * from_stride, 4 * from_stride);
        __m512 p = _mm512_unpacklo_ps(a, b), q = _mm512_unpackhi_ps(a, b);
        __m512 r = _mm512_unpacklo_ps(c, d), s = _mm512_unpackhi_ps(c, d);
        _mm512_storeu_ps(to, _mm512_shuffle_ps(p, r, 0x44));
        _mm512_storeu_ps(to + to_stride, _mm512_shuffle_ps(p, r, 0xee));
        _mm512_storeu_ps(to + 2 * to_stride, _mm512_shuffle_ps(q, s, 0x44));
        _mm512_storeu_ps(to + 3 * to_stride, _mm512_shuffle_ps(q, s, 0xee)); }
    static inline void transpose_4x16_f32(const float* from, Py_ssize_t from_stride, float* to, Py_ssize_t to_stride) {
        __m512 a = _mm512_loadu_ps(from), b = _mm512_loadu_ps(from + from_stride);
        __m512 c = _mm512_loadu_ps(from + 2 * from_stride), d = _mm512_loadu_ps(from + 3 * from_stride);
        __m512 p = _mm512_unpacklo_ps(a, b), q = _mm512_unpackhi_ps(a, b);
        __m512 r = _mm512_unpacklo_ps(c, d), s = _mm512_unpackhi_ps(c, d);
        store_quarters_f32(to, 4 * to_stride, _mm512_shuffle_ps(p, r, 0x44));
        store_quarters_f32(to + to_stride, 4 * to_stride, _mm512_shuffle_ps(p, r, 0xee));
        store_quarters_f32(to + 2 * to_stride, 4 * to_stride, _mm512_shuffle_ps(q, s, 0x44));
        store_quarters_f32(to + 3 * to_stride, 4 * to_stride, _mm512_shuffle_ps(q, s, 0xee)); }
    /* Of 4 rows of 9 to 16, each written at once. What is missing is read from the last column, and not written. */
    static inline void join_16x4_f32(const float* from, Py_ssize_t from_stride, float* to, Py_ssize_t to_stride, int n_columns) {
        __mmask16 held = (__mmask16)((1u << n_columns) - 1);
        __m512 row[4], p, q, r, s;
        int j;
        #pragma GCC unroll 4
        for (j = 0; j < 4; j++) {
            const float* third = from + (8 + j < n_columns ? 8 + j : n_columns - 1) * from_stride;
            row[j] = _mm512_castps128_ps512(_mm_loadu_ps(from + j * from_stride));
            row[j] = _mm512_insertf32x4(row[j], _mm_loadu_ps(from + (4 + j) * from_stride), 1);
            row[j] = _mm512_insertf32x4(row[j], _mm_loadu_ps(third), 2);
            if (n_columns > 12) {
                const float* fourth = from + (12 + j < n_columns ? 12 + j : n_columns - 1) * from_stride;
                row[j] = _mm512_insertf32x4(row[j], _mm_loadu_ps(fourth), 3); } }
        p = _mm512_unpacklo_ps(row[0], row[1]); q = _mm512_unpackhi_ps(row[0], row[1]);
        r = _mm512_unpacklo_ps(row[2], row[3]); s = _mm512_unpackhi_ps(row[2], row[3]);
        _mm512_mask_storeu_ps(to, held, _mm512_shuffle_ps(p, r, 0x44));
        _mm512_mask_storeu_ps(to + to_stride, held, _mm512_shuffle_ps(p, r, 0xee));
        _mm512_mask_storeu_ps(to + 2 * to_stride, held, _mm512_shuffle_ps(q, s, 0x44));
        _mm512_mask_storeu_ps(to + 3 * to_stride, held, _mm512_shuffle_ps(q, s, 0xee)); }
    #else
    #define TRANSPOSE_ROWS_F32 8
    #define transpose_16x4_f32 transpose_8x4_f32      /* which nobody calls */
    #define transpose_4x16_f32 transpose_4x8_f32
    #define join_16x4_f32(from, from_stride, to, to_stride, n_columns) ((void)0)
    #endif
    """
    const int MAX_AXES, TRANSPOSE_ROWS_F32
    void transpose_4x4_f32(const float*, Py_ssize_t, float*, Py_ssize_t) noexcept nogil
    void transpose_4x4_f64(const double*, Py_ssize_t, double*, Py_ssize_t) noexcept nogil
    void transpose_8x4_f32(const float*, Py_ssize_t, float*, Py_ssize_t) noexcept nogil
    void transpose_4x8_f32(const float*, Py_ssize_t, float*, Py_ssize_t) noexcept nogil
    void transpose_16x4_f32(const float*, Py_ssize_t, float*, Py_ssize_t) noexcept nogil
    void transpose_4x16_f32(const float*, Py_ssize_t, float*, Py_ssize_t) noexcept nogil
    void join_16x4_f32(const float*, Py_ssize_t, float*, Py_ssize_t, int) noexcept nogil
    float load_f32(const char*, int) noexcept nogil
    double load_f64(const char*, int) noexcept nogil

cdef struct Axes:
    int count
    Py_ssize_t size         # product of the lengths
    Py_ssize_t length[64]

cdef struct Operand:
    char* data              # NULL: not given
    bint addressable        # aligned and in native byte order: may be read through a pointer to its type
    bint swapped
    bint contiguous_row     # addressable, and a row is one unit-stride run
    bint contiguous_lanes   # addressable, and neighbouring rows are neighbours in memory
    Py_ssize_t batch_stride[64]
    Py_ssize_t row_stride[64]

cdef struct Layout:
    Axes batch              # n_rows = batch.size
    Axes row                # n = row.size


cdef inline Py_ssize_t offset_of(const Axes* axes, const Py_ssize_t* stride, Py_ssize_t index) noexcept nogil:
    """Byte offset of the index-th element in C order over the axes."""
    cdef Py_ssize_t offset = 0
    cdef Py_ssize_t quotient
    cdef int axis = axes.count - 1
    while axis > 0:
        quotient = index // axes.length[axis]
        offset += (index - quotient * axes.length[axis]) * stride[axis]
        index = quotient
        axis -= 1
    if axis == 0:
        offset += index * stride[0]
    return offset


cdef inline real load(const char* p, bint swapped, const real* like) noexcept nogil:
    if real is float:
        return load_f32(p, swapped)
    else:
        return load_f64(p, swapped)


cdef inline Py_ssize_t least(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return a if a < b else b


cdef inline void block_in(const real* rows, Py_ssize_t row_stride, real* tile, int n_rows) noexcept nogil:
    """transpose_in of four elements of `n_rows` rows, a literal: 4, or of float32 8."""
    cdef int lanes = 64 if real is float else 32
    if real is double:
        transpose_4x4_f64(rows, row_stride, tile, lanes)
    elif n_rows == 16:
        transpose_16x4_f32(rows, row_stride, tile, lanes)
    elif n_rows == 8:
        transpose_8x4_f32(rows, row_stride, tile, lanes)
    else:
        transpose_4x4_f32(rows, row_stride, tile, lanes)


cdef inline void block_out(const real* tile, real* rows, Py_ssize_t row_stride, int n_rows) noexcept nogil:
    """transpose_out of four elements of `n_rows` rows, as in block_in."""
    cdef int lanes = 64 if real is float else 32
    if real is double:
        transpose_4x4_f64(tile, lanes, rows, row_stride)
    elif n_rows == 16:
        transpose_4x16_f32(tile, lanes, rows, row_stride)
    elif n_rows == 8:
        transpose_4x8_f32(tile, lanes, rows, row_stride)
    else:
        transpose_4x4_f32(tile, lanes, rows, row_stride)


cdef inline void blocks_in(const real* rows, Py_ssize_t row_stride, real* tile, int n_rows, Py_ssize_t n_columns) noexcept nogil:
    """transpose_in of `n_rows` rows, as in block_in."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t c = 0
    while c < n_columns:
        c = least(c, n_columns - 4)
        block_in(rows + c, row_stride, tile + c * lanes, n_rows)
        c += 4


cdef inline void blocks_out(const real* tile, real* rows, Py_ssize_t row_stride, int n_rows, Py_ssize_t n_columns) noexcept nogil:
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t c = 0
    while c < n_columns:
        c = least(c, n_columns - 4)
        block_out(tile + c * lanes, rows + c, row_stride, n_rows)
        c += 4


cdef inline void part_columns(const real* rows, int n_columns, real* tile) noexcept nogil:
    """transpose_in of LANES rows of `n_columns` elements, a literal, one behind the other."""
    cdef int lanes = 64 if real is float else 32
    cdef int r, c
    for c in range(n_columns):
        for r in range(lanes):
            tile[c * lanes + r] = rows[r * n_columns + c]


cdef inline void join_columns(const real* tile, int n_columns, real* rows) noexcept nogil:
    """transpose_out of LANES rows of `n_columns` elements, a literal, one behind the other."""
    cdef int lanes = 64 if real is float else 32
    cdef int r, c
    for r in range(lanes):
        for c in range(n_columns):
            rows[r * n_columns + c] = tile[c * lanes + r]


cdef inline void transpose_in(const real* rows, Py_ssize_t row_stride, real* tile, Py_ssize_t n_rows, Py_ssize_t n_columns) noexcept nogil:
    """tile[c * LANES + r] = rows[r * row_stride + c]; the last blocks overlap those before."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t r = 0
    cdef Py_ssize_t c
    if n_columns == 2 and row_stride == 2 and n_rows == lanes:
        part_columns(rows, 2, tile)
        return
    if n_columns == 3 and row_stride == 3 and n_rows == lanes:
        part_columns(rows, 3, tile)
        return
    if n_rows < 4 or n_columns < 4:
        for r in range(n_rows):
            for c in range(n_columns):
                tile[c * lanes + r] = rows[r * row_stride + c]
        return
    while real is float and TRANSPOSE_ROWS_F32 == 16 and r + 16 <= n_rows:
        blocks_in(rows + r * row_stride, row_stride, tile + r, 16, n_columns)
        r += 16
    while real is float and r + 8 <= n_rows:
        blocks_in(rows + r * row_stride, row_stride, tile + r, 8, n_columns)
        r += 8
    while r < n_rows:
        r = least(r, n_rows - 4)
        blocks_in(rows + r * row_stride, row_stride, tile + r, 4, n_columns)
        r += 4


cdef inline void transpose_out(const real* tile, real* rows, Py_ssize_t row_stride, Py_ssize_t n_rows, Py_ssize_t n_columns) noexcept nogil:
    """rows[r * row_stride + c] = tile[c * LANES + r]."""
    cdef int lanes = 64 if real is float else 32
    cdef Py_ssize_t r = 0
    cdef Py_ssize_t c
    if n_columns == 2 and row_stride == 2 and n_rows == lanes:
        join_columns(tile, 2, rows)
        return
    if n_columns == 3 and row_stride == 3 and n_rows == lanes:
        join_columns(tile, 3, rows)
        return
    if n_rows < 4 or n_columns < 4:
        for r in range(n_rows):
            for c in range(n_columns):
                rows[r * row_stride + c] = tile[c * lanes + r]
        return
    while real is float and TRANSPOSE_ROWS_F32 == 16 and 8 < n_columns <= 16 and r + 4 <= n_rows:
        join_16x4_f32(<const float*>tile + r, lanes, <float*>rows + r * row_stride, row_stride, <int>n_columns)
        r += 4
    while real is float and TRANSPOSE_ROWS_F32 == 16 and r + 16 <= n_rows:
        blocks_out(tile + r, rows + r * row_stride, row_stride, 16, n_columns)
        r += 16
    while real is float and r + 8 <= n_rows:
        blocks_out(tile + r, rows + r * row_stride, row_stride, 8, n_columns)
        r += 8
    while r < n_rows:
        r = least(r, n_rows - 4)
        blocks_out(tile + r, rows + r * row_stride, row_stride, 4, n_columns)
        r += 4


cdef inline void gather_run(const char* source, Py_ssize_t stride, const Operand* operand, Py_ssize_t count, real* to,
                            Py_ssize_t step) noexcept nogil:
    """to[i * step] = the element at source + i * stride."""
    cdef Py_ssize_t i
    if not operand.addressable:
        for i in range(count):
            to[i * step] = load(source + i * stride, operand.swapped, to)
    elif stride == <Py_ssize_t>sizeof(real) and step == 1:
        memcpy(to, source, count * sizeof(real))
    elif stride == 2 * <Py_ssize_t>sizeof(real) and step == 1:       # a literal, or it does not vectorise
        for i in range(count):
            to[i] = (<const real*>source)[2 * i]
    elif stride == <Py_ssize_t>sizeof(real):
        for i in range(count):
            to[i * step] = (<const real*>source)[i]
    else:
        for i in range(count):
            to[i * step] = (<const real*>(source + i * stride))[0]


cdef inline void scatter_run(const real* source, Py_ssize_t step, Py_ssize_t count, const Operand* operand, char* to,
                             Py_ssize_t stride) noexcept nogil:
    """The element at to + i * stride = source[i * step]."""
    cdef Py_ssize_t i
    if not operand.addressable:
        for i in range(count):
            memcpy(to + i * stride, source + i * step, sizeof(real))
    elif stride == <Py_ssize_t>sizeof(real) and step == 1:
        memcpy(to, source, count * sizeof(real))
    elif stride == <Py_ssize_t>sizeof(real):
        for i in range(count):
            (<real*>to)[i] = source[i * step]
    else:
        for i in range(count):
            (<real*>(to + i * stride))[0] = source[i * step]


cdef inline void fill_masked_run(const char* mask, Py_ssize_t stride, Py_ssize_t count, real fill, real* to,
                                 Py_ssize_t step) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        if not mask[i * stride]:
            to[i * step] = fill


cdef inline Py_ssize_t run_length(const Axes* row, Py_ssize_t start, Py_ssize_t count) noexcept nogil:
    """How many of the elements from `start` on lie on one run of the innermost axis."""
    cdef Py_ssize_t innermost, left
    if row.count <= 1:
        return count
    innermost = row.length[row.count - 1]
    left = innermost - start % innermost
    return left if left < count else count


cdef inline Py_ssize_t run_stride(const Axes* row, const Py_ssize_t* stride) noexcept nogil:
    return stride[row.count - 1] if row.count > 0 else 0


cdef inline void gather(const Operand* operand, const Axes* row, const char* base, Py_ssize_t start, Py_ssize_t count,
                        real* to, Py_ssize_t step) noexcept nogil:
    """Elements start .. start + count of the row at `base`, to[0], to[step], ..."""
    cdef Py_ssize_t done = 0
    cdef Py_ssize_t run
    while done < count:
        run = run_length(row, start + done, count - done)
        gather_run(base + offset_of(row, operand.row_stride, start + done), run_stride(row, operand.row_stride), operand, run,
                   to + done * step, step)
        done += run


cdef inline void scatter(const real* source, Py_ssize_t step, const Operand* operand, const Axes* row, char* base,
                         Py_ssize_t start, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t done = 0
    cdef Py_ssize_t run
    while done < count:
        run = run_length(row, start + done, count - done)
        scatter_run(source + done * step, step, run, operand, base + offset_of(row, operand.row_stride, start + done),
                    run_stride(row, operand.row_stride))
        done += run


cdef inline void fill_masked(const Operand* mask, const Axes* row, const char* base, Py_ssize_t start, Py_ssize_t count,
                             real fill, real* to, Py_ssize_t step) noexcept nogil:
    """Put `fill` where the mask is False."""
    cdef Py_ssize_t done = 0
    cdef Py_ssize_t run
    while done < count:
        run = run_length(row, start + done, count - done)
        fill_masked_run(base + offset_of(row, mask.row_stride, start + done), run_stride(row, mask.row_stride), run, fill,
                        to + done * step, step)
        done += run


cdef inline Py_ssize_t* strides_of(Operand* operand, bint of_row) noexcept nogil:
    if of_row:
        return &operand.row_stride[0]
    return &operand.batch_stride[0]


cdef bint mergeable(Operand** operands, int n_operands, bint of_row, int axis, Py_ssize_t inner_length) noexcept nogil:
    """Whether axis and the one inside it are one axis to every operand."""
    cdef int k
    cdef Py_ssize_t* stride
    for k in range(n_operands):
        stride = strides_of(operands[k], of_row)
        if stride[axis] != stride[axis + 1] * inner_length:
            return False
    return True


cdef void coalesce(Axes* axes, Operand** operands, int n_operands, bint of_row) noexcept nogil:
    """Drop axes of length one and join neighbours that are one run to every operand."""
    cdef int axis, k
    cdef int kept = 0
    cdef Py_ssize_t* stride
    axes.size = 1
    for axis in range(axes.count):
        axes.size *= axes.length[axis]
        if axes.length[axis] == 1:
            continue
        axes.length[kept] = axes.length[axis]
        for k in range(n_operands):
            stride = strides_of(operands[k], of_row)
            stride[kept] = stride[axis]
        if kept > 0 and mergeable(operands, n_operands, of_row, kept - 1, axes.length[kept]):
            axes.length[kept - 1] *= axes.length[kept]
            for k in range(n_operands):
                stride = strides_of(operands[k], of_row)
                stride[kept - 1] = stride[kept]
        else:
            kept += 1
    axes.count = kept
