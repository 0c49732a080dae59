/* Which instruction sets the machine runs, for the choice of a backend and for a module that must refuse to start; and what its
   caches hold. */
#ifndef FASTLSE_CPU_H
#define FASTLSE_CPU_H

#include <stddef.h>

#if defined(_MSC_VER) && !defined(__clang__)
  #include <intrin.h>
  static inline int fastlse_leaf7_ebx(void) { int r[4]; __cpuidex(r, 7, 0); return r[1]; }
  static inline int fastlse_os_saves(unsigned long long state) {
      int r[4]; __cpuid(r, 1);
      return (r[2] & (1 << 27)) && (_xgetbv(0) & state) == state; }
  static inline int fastlse_has_avx2(void) {
      int r[4]; __cpuid(r, 1);
      return (r[2] & (1 << 12)) && (fastlse_leaf7_ebx() & (1 << 5)) && fastlse_os_saves(0x6); }
  static inline int fastlse_has_avx512(void) {
      unsigned wanted = (1u << 16) | (1u << 17) | (1u << 28) | (1u << 30) | (1u << 31);
      return fastlse_has_avx2() && ((unsigned)fastlse_leaf7_ebx() & wanted) == wanted && fastlse_os_saves(0xe6); }
#elif defined(__x86_64__)
  /* asks the operating system too, whether it saves the registers */
  static inline int fastlse_has_avx2(void) {
      __builtin_cpu_init();
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
          && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"); }
  static inline int fastlse_has_avx512(void) {
      return fastlse_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd")
          && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"); }
#else
  static inline int fastlse_has_avx2(void) { return 0; }
  static inline int fastlse_has_avx512(void) { return 0; }
#endif

#if !defined(_WIN32)
  #include <unistd.h>
#endif

/* How many bytes a call may work on until its results had better go past the caches. What L3 holds, for all that is known; but of a
   large one others have their shares. */
static inline ptrdiff_t fastlse_cached_bytes(void) {
    ptrdiff_t usual = 32 << 20, most = 60 << 20, l3 = 0;
  #if defined(_SC_LEVEL3_CACHE_SIZE)
    l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
  #endif
    return l3 <= 0 ? usual : l3 < most ? l3 : most; }

#endif
