#pragma once
/*
 * Targets whose input is a folder: one text holds its files, each after a line "== NAME"
 * and without the newline that ends it.
 * Names that are no plain relative paths are skipped. The folder lies in /dev/shm where there
 * is one. The mutator of these targets changes one file at a time, so that the others stay good.
 */
#include <stddef.h>
#include <stdint.h>

/* Write the files below a fresh folder and return its path, valid until the next call, which
 * removes it; so does the end of the program. */
const char *fuzz_folder(const uint8_t *data, size_t size);

#ifdef AGON_FUZZER
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t size_max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed);
#endif
