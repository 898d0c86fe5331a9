/* 16 registers: tiles of 2 heads x 4 entries, 3 heads x 4 values, 4 heads x 1 block. */
#include "kernels/fast.h"
#ifdef AGON_HAVE_X86
#define ISA(name)       name##_avx2
#define MLA_SCORE_HEADS 2
#define MLA_VALUE_HEADS 3
#define INDEXER_BLOCKS  1
#include "kernels/rows_simd.h"
#endif
