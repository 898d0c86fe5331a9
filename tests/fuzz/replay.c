/*
 * Runs a fuzz target over the inputs of a folder, so that every build keeps the corpus honest:
 *
 *     replay FOLDER                 each file is an input; "found.pack" holds many, found by runs
 *     replay --pack FROM PACK       the files of FROM, in order of names, as one pack
 *     replay --unpack PACK INTO     a file for each, named by its number
 *
 * A pack is a little-endian size of 4 bytes before each input.
 */
#include <dirent.h>
#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUT_BYTES_MAX = 1 << 20, PATH_BYTES = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t input[INPUT_BYTES_MAX];

static void die(const char *path)
{
    perror(path);
    exit(1);
}

static FILE *open_in(const char *dir, const char *name, const char *mode)
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof(path), "%s%s%s", dir, *dir ? "/" : "", name);
    FILE *file = fopen(path, mode);
    if (!file)
        die(path);
    return file;
}

/* The next input of a pack into `input`; false at its end. */
static bool pack_next(FILE *pack, size_t *ret_size)
{
    uint32_t size;
    if (fread(&size, 1, sizeof(size), pack) != sizeof(size))
        return false;
    *ret_size = le32toh(size);
    if (*ret_size > sizeof(input) || fread(input, 1, *ret_size, pack) != *ret_size)
        die("a cut pack");
    return true;
}

static int is_input(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* ---- running ---- */

static int n_run;

static void run(const char *name, size_t size)
{
    LLVMFuzzerTestOneInput(input, size); /* aborts where something does not hold */
    printf("ok %d - %s\n", ++n_run, name);
    fflush(stdout);
}

static void run_file(const char *dir, const char *name)
{
    FILE *file = open_in(dir, name, "rb");
    char one[PATH_BYTES];
    size_t size;
    if (strcmp(name, "found.pack") != 0)
        run(name, fread(input, 1, sizeof(input), file));
    else
        for (int i = 1; pack_next(file, &size); i++) {
            (void)snprintf(one, sizeof(one), "%s %d", name, i);
            run(one, size);
        }
    fclose(file);
}

static int run_folder(const char *dir)
{
    struct dirent **inputs = NULL;
    int n = scandir(dir, &inputs, is_input, alphasort);
    if (n < 0)
        die(dir);
    for (int i = 0; i < n; i++) {
        run_file(dir, inputs[i]->d_name);
        free(inputs[i]);
    }
    free(inputs);
    printf("1..%d\n", n_run);
    return n_run == 0;
}

/* ---- packs ---- */

static int pack(const char *from, const char *path)
{
    struct dirent **inputs = NULL;
    FILE *out = open_in("", path, "wb");
    int n = scandir(from, &inputs, is_input, alphasort);
    for (int i = 0; i < n; i++) {
        FILE *file = open_in(from, inputs[i]->d_name, "rb");
        size_t size = fread(input, 1, sizeof(input), file);
        uint32_t head = htole32((uint32_t)size);
        if (fwrite(&head, 1, sizeof(head), out) != sizeof(head) ||
            fwrite(input, 1, size, out) != size)
            die(path);
        fclose(file);
        free(inputs[i]);
    }
    free(inputs);
    return fclose(out) != 0 || n < 0;
}

static int unpack(const char *path, const char *into)
{
    FILE *in = open_in("", path, "rb");
    size_t size;
    for (int i = 1; pack_next(in, &size); i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "packed_%d", i);
        FILE *out = open_in(into, name, "wb");
        if (fwrite(input, 1, size, out) != size || fclose(out) != 0)
            die(name);
    }
    fclose(in);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--pack") == 0)
        return pack(argv[2], argv[3]);
    if (argc == 4 && strcmp(argv[1], "--unpack") == 0)
        return unpack(argv[2], argv[3]);
    if (argc == 2)
        return run_folder(argv[1]);
    fprintf(stderr, "usage: replay FOLDER | --pack FROM PACK | --unpack PACK INTO\n");
    return 2;
}
