/* See uniform.h. */
#include "kernels/uniform.h"

#include "kernels/cuda_sample.h"

double agon_draw_uniform(uint64_t seed, uint64_t position)
{
    return uniform_draw(seed, position);
}
