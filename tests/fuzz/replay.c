/* Runs a fuzz target over the inputs of a folder, so that every build keeps the corpus honest. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { INPUT_BYTES_MAX = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int is_input(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int run(const char *dir, const char *name, int number)
{
    static uint8_t input[INPUT_BYTES_MAX];
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return 1;
    }
    size_t size = fread(input, 1, sizeof(input), file);
    fclose(file);
    LLVMFuzzerTestOneInput(input, size); /* aborts where something does not hold */
    printf("ok %d - %s\n", number, name);
    fflush(stdout);
    return 0;
}

int main(int argc, char **argv)
{
    struct dirent **inputs = NULL;
    int n = argc == 2 ? scandir(argv[1], &inputs, is_input, alphasort) : -1, failed = n <= 0;
    if (failed)
        fprintf(stderr, "usage: replay FOLDER (with inputs in it)\n");
    for (int i = 0; i < n; i++) {
        failed = failed || run(argv[1], inputs[i]->d_name, i + 1);
        free(inputs[i]);
    }
    free(inputs);
    printf("1..%d\n", n > 0 ? n : 0);
    return failed;
}
