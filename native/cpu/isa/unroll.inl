// Loops over registers must be unrolled for arrays of vectors to live in registers.
#undef SY_UNROLL
#if defined(__clang__) || defined(__GNUC__)
#define SY_PRAGMA(text) _Pragma(#text)
#define SY_UNROLL(n) SY_PRAGMA(GCC unroll n)
#else
#define SY_UNROLL(n)
#endif
