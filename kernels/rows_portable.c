/* 16 registers of 4 lanes: tiles of 2 heads x 4 entries, 2 heads x 4 values, 4 heads x 1 block. */
#include "kernels/fast.h"
#define AGON_SIMD_PORTABLE
#define ISA(name)       name##_portable
#define MLA_SCORE_HEADS 2
#define MLA_VALUE_HEADS 2
#define INDEXER_BLOCKS  1
#include "kernels/rows_simd.h"
