/* 32 registers: tiles of 6 heads x 4 entries, 6 heads x 4 values, 4 heads x 4 blocks. */
#include "kernels/fast.h"
#ifdef AGON_HAVE_X86
#define AGON_SIMD_AVX512
#define ISA(name)       name##_avx512
#define MLA_SCORE_HEADS 6
#define MLA_VALUE_HEADS 6
#define INDEXER_BLOCKS  4
#include "kernels/rows_simd.h"
#endif
