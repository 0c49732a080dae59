"""What the machine and the process allow: instruction sets, OpenMP, and whether this is a forked child."""

cdef extern from *:
    """
    #if defined(_OPENMP)
      #include <omp.h>
    #else
      static int omp_get_max_threads(void) { return 1; }
      static int omp_in_parallel(void) { return 0; }
      #define _OPENMP 0
    #endif

    /* After a fork the child's OpenMP runtime believes in threads that are gone, and hangs: a child runs serially. */
    static int fastlse_is_forked = 0;
    #if defined(_WIN32)
      static int fastlse_watch_forks(void) { return 0; }
    #else
      #include <pthread.h>
      static void fastlse_note_fork(void) { fastlse_is_forked = 1; }
      static int fastlse_watch_forks(void) { return pthread_atfork(NULL, NULL, fastlse_note_fork); }
    #endif

    #if defined(__clang__)
      #define FASTLSE_COMPILER "Clang " __clang_version__
    #elif defined(__GNUC__)
      #define FASTLSE_COMPILER "GCC " __VERSION__
    #elif defined(_MSC_VER)
      #define FASTLSE_STRING_(x) #x
      #define FASTLSE_STRING(x) FASTLSE_STRING_(x)
      #define FASTLSE_COMPILER "MSVC " FASTLSE_STRING(_MSC_FULL_VER)
    #else
      #define FASTLSE_COMPILER "unknown"
    #endif
    """
    int fastlse_is_forked
    int fastlse_watch_forks() noexcept nogil
    int omp_get_max_threads() noexcept nogil
    int omp_in_parallel() noexcept nogil
    const int _OPENMP
    const char* FASTLSE_COMPILER

cdef extern from "cpu.h":
    int fastlse_has_avx2() noexcept nogil
    int fastlse_has_avx512() noexcept nogil

COMPILER = FASTLSE_COMPILER.decode()
OPENMP = _OPENMP

if fastlse_watch_forks() != 0:
    raise MemoryError("no room to register what a forked child has to know")


def runs_here(str backend):
    """Whether this machine has the instructions of a compiled backend."""
    if backend == "avx512":
        return bool(fastlse_has_avx512())
    if backend == "avx2":
        return bool(fastlse_has_avx2())
    return backend == "baseline"


def max_threads():
    """How many threads OpenMP would start: OMP_NUM_THREADS, or the processors."""
    return omp_get_max_threads()


def must_be_serial():
    """Whether this is a forked child or the inside of another parallel region."""
    return bool(fastlse_is_forked or omp_in_parallel())
