# What is asked for: the Job that the kernels work on.

cdef enum Mode:
    LSE
    SOFTMAX
    LOG_SOFTMAX
    LOSS
    STATE

cdef struct Weights:       # one number for each row or class, of either type; neither: ones
    const float* f32
    const double* f64

cdef struct Job:
    Mode mode
    Layout layout
    Operand x
    Operand out            # the rows of results: softmax, log-softmax or gradient
    Operand where
    Operand factor         # b of logsumexp; a loss's class probabilities
    void* lse              # one number for each row, in x's type, as is `loss`; NULL for neither. STATE: three float64
    # losses only
    void* loss
    const int64_t* target
    const void* weight
    Weights sample_weight
    int64_t ignore_index
    double smoothing
    double weight_total    # the sum of the class weights
    double z_loss
    double softcap         # 0: none
    double grad_scale
    # how it is carried out
    bint needs_x           # x must outlast the sums: the exponentials may not be stored over it
    bint across            # tiles.pxi
    bint few               # ... what is one number for each row by few.pxi
    bint few_classes       # ... all of it by few_classes.pxi
    bint in_bands          # ... those side by side, bands.pxi
    bint short_rows        # short_rows.pxi; neither: rows.pxi
    bint streams           # results go past the caches
    Py_ssize_t n_blocks
    Py_ssize_t stretch     # the elements of a row that are gathered, and capped, at once
    Py_ssize_t kept        # how many exponentials or results have a place in scratch, rows.pxi
    Py_ssize_t unit_rows   # the rows whose losses make one sum; a task takes one such unit or some
    Py_ssize_t batch_rows  # the rows whose last steps are done together: no more than cache holds
    Py_ssize_t ahead       # bytes from what is worked on to what is worth fetching early, else 0
    Py_ssize_t exp_ahead   # ... while exponentials are taken
    Py_ssize_t write_ahead  # ... while results are written, where memory has nothing else to do
    Py_ssize_t out_ahead   # the same from where exponentials are stored in the results; of short rows and tiles only whether
    Py_ssize_t states_at   # where the block states begin in a thread's scratch
    Py_ssize_t band_at     # ... and a band
    Py_ssize_t unwritten_at   # ... and what is known of a row whose results were put off
    Py_ssize_t scratch_size


cdef inline bint are_given(Weights weights) noexcept nogil:
    return weights.f32 != NULL or weights.f64 != NULL


cdef inline double weight_at(Weights weights, Py_ssize_t i) noexcept nogil:
    if weights.f32 != NULL:
        return weights.f32[i]
    return weights.f64[i] if weights.f64 != NULL else 1


cdef inline bint has_probabilities(const Job* job) noexcept nogil:
    return job.mode == LOSS and job.factor.data != NULL


cdef inline bint has_pulls(const Job* job) noexcept nogil:
    """Whether a loss draws more classes than the target's own: by smoothing or by class probabilities."""
    return job.mode == LOSS and (job.smoothing > 0 or job.factor.data != NULL)


cdef inline bint pulls_targets_only(const Job* job) noexcept nogil:
    """Whether a loss is its target's own, weighted or not: no smoothing, no class probabilities, no z-loss. Its last steps are short."""
    return job.smoothing == 0 and job.z_loss == 0 and job.factor.data == NULL


cdef inline bint has_no_weights(const Job* job) noexcept nogil:
    """Whether every row that is not ignored counts as much as the next, and every class."""
    return job.weight == NULL and not are_given(job.sample_weight) and job.target != NULL


cdef inline bint counts_rows_alike(const Job* job) noexcept nogil:
    """Whether every row that is not ignored counts 1."""
    return has_no_weights(job) and pulls_targets_only(job)
