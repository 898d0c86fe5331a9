#pragma once
/*
 * The BF16 twin of an FP8 checkpoint, for implementations that read no FP8: every block-scaled
 * tensor becomes BF16 (to nearest even of code * scale), all others stay as they are, and
 * config.json loses its quantization_config. One model.safetensors, whatever the shards were.
 */
#include "base/err.h"

/* to is made where it is missing; what it holds under the same names is replaced. */
int agon_dequantize(const char *from, const char *to, struct agon_err *err) AGON_MUST_USE;
