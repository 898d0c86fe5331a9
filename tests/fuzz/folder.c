/* Folders out of one text: see folder.h. */
#include "tests/fuzz/folder.h"

#include "base/file.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { NAME_BYTES_MAX = 80, SECTIONS_MAX = 64 };

struct section {
    struct agon_str head, name, content; /* head: the line "== NAME\n" */
};

static char root[64], place[80];

static void folder_end(void)
{
    (void)!agon_dir_remove(root, NULL); /* at exit: nobody is left to tell */
}

static void folder_begin(void)
{
    (void)snprintf(root, sizeof(root), "%s/agon-fuzz-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert(mkdtemp(root));
    (void)snprintf(place, sizeof(place), "%s/it", root);
    (void)atexit(folder_end);
}

/* The section that begins at `at`; what stands before the first head is nobody's. */
static size_t section_at(struct agon_str text, size_t at, struct section *ret)
{
    const char *end = text.data + text.size, *begin = text.data + at;
    const char *line = memchr(begin, '\n', (size_t)(end - begin));
    const char *content = line ? line + 1 : end, *next = content;
    while (next && next < end && (end - next < 3 || memcmp(next, "== ", 3) != 0)) {
        next = memchr(next, '\n', (size_t)(end - next));
        next = next ? next + 1 : end;
    }
    ret->head = (struct agon_str){begin, (size_t)(content - begin)};
    ret->name = (struct agon_str){begin, line ? (size_t)(line - begin) : (size_t)(end - begin)};
    ret->content = (struct agon_str){content, (size_t)(next - content)};
    if (ret->content.size && next[-1] == '\n') /* the line end before the next head */
        ret->content.size--;
    if (ret->name.size > 3)
        ret->name.data += 3, ret->name.size -= 3;
    return (size_t)(next - text.data);
}

static int sections_of(struct agon_str text, struct section *sections)
{
    int n = 0;
    for (size_t at = 0; at < text.size && n < SECTIONS_MAX; n++)
        at = section_at(text, at, &sections[n]);
    return n;
}

static bool name_is_plain(struct agon_str name)
{
    if (name.size == 0 || name.size > NAME_BYTES_MAX || memchr(name.data, '\0', name.size))
        return false;
    for (size_t i = 0; i < name.size; i++)
        if (name.data[i] == '.' && (i == 0 || name.data[i - 1] == '/'))
            return false;
    return name.data[0] != '/' && name.data[name.size - 1] != '/';
}

static void section_write(const struct section *s)
{
    char path[sizeof(place) + NAME_BYTES_MAX + 2];
    if (!name_is_plain(s->name))
        return;
    (void)snprintf(path, sizeof(path), "%s/%.*s", place, AGON_STR_ARG(s->name));
    char *slash = strrchr(path, '/');
    *slash = '\0';
    int r = agon_dir_make(path, NULL);
    *slash = '/';
    if (!r)
        (void)!agon_file_write(path, s->content, false, NULL); /* a folder may stand there */
}

const char *fuzz_folder(const uint8_t *data, size_t size)
{
    struct section sections[SECTIONS_MAX];
    if (!root[0])
        folder_begin();
    assert(agon_dir_remove(place, NULL) == 0 && agon_dir_make(place, NULL) == 0);
    int n = sections_of((struct agon_str){(const char *)data, size}, sections);
    for (int i = 0; i < n; i++)
        section_write(&sections[i]);
    return place;
}

#ifdef AGON_FUZZER
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed)
{
    struct section sections[SECTIONS_MAX];
    int n = sections_of((struct agon_str){(const char *)data, size}, sections);
    if (n == 0 || seed % 16 == 0) /* names and order, now and then */
        return LLVMFuzzerMutate(data, size, size_max);
    const struct section *s = &sections[seed / 16 % (unsigned)n];
    size_t before = (size_t)(s->content.data - (const char *)data);
    size_t after = size - before - s->content.size, room = size_max - before - after;
    uint8_t *content = malloc(room + 1);
    assert(content && size <= size_max);
    memcpy(content, s->content.data, s->content.size);
    size_t now = LLVMFuzzerMutate(content, s->content.size, room);
    memmove(data + before + now, data + before + s->content.size, after);
    memcpy(data + before, content, now);
    free(content);
    return before + now + after;
}
#endif
