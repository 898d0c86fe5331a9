/* agon model encode, parse and chat as a user runs them: bytes in, bytes out, exit status. */
#include "base/file.h"
#include "base/json.h"
#include "model/encoding.h"
#include "model/jsontext.h"
#include "pipelines/verb.h"
#include "tests/test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FILE_MAX = 1 << 20 };
struct outcome {
    int status;
    struct agon_buf out, err;
};

static void outcome_deinit(struct outcome *o)
{
    agon_buf_deinit(&o->out);
    agon_buf_deinit(&o->err);
}

static int temporary(struct agon_str content)
{
    int fd = memfd_create("test", 0);
    EXPECT(fd >= 0 && write(fd, content.data, content.size) == (ssize_t)content.size);
    EXPECT(lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

static struct agon_buf read_back(int fd)
{
    struct agon_buf b = AGON_BUF(FILE_MAX);
    char chunk[4096];
    ssize_t n;
    EXPECT(lseek(fd, 0, SEEK_SET) == 0);
    while ((n = read(fd, chunk, sizeof(chunk))) > 0)
        agon_buf_add(&b, chunk, (size_t)n);
    close(fd);
    return b;
}

/* Run a verb in a child: it reads standard input and may leave. */
static struct outcome run(int (*verb)(int, char **), const char *const *args, struct agon_str input)
{
    int in = temporary(input), out = temporary(agon_str("")), err = temporary(agon_str(""));
    char *argv[8] = {NULL};
    int argc = 0, status = -1;
    for (; args[argc]; argc++)
        argv[argc] = strdup(args[argc]);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
            _exit(99);
        int code = verb(argc, argv);
        fflush(NULL);
        _exit(code);
    }
    EXPECT(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    for (int i = 0; i < argc; i++)
        free(argv[i]);
    close(in);
    return (struct outcome){WEXITSTATUS(status), read_back(out), read_back(err)};
}

static bool is_one_line(const struct agon_buf *b)
{
    return b->size > 1 && strchr(b->data, '\n') == b->data + b->size - 1;
}

static json_t *vectors(const char *which)
{
    json_t *root AGON_AUTO(agon_json_decrefp) = NULL;
    EXPECT(agon_json_load_file(&root, TEST_DATA "/encoding/derived_vectors.json", FILE_MAX, NULL) ==
           0);
    return json_incref(json_object_get(root, which));
}

TEST(encode_writes_exactly_the_prompt_or_one_line)
{
    static const char *const args[] = {"encode", NULL};
    json_t *cases AGON_AUTO(agon_json_decrefp) = vectors("encode");
    EXPECT(json_array_size(cases) == 22);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *one = json_array_get(cases, i);
        const char *want = agon_json_text(one, "prompt", NULL);
        struct agon_buf input AGON_AUTO(agon_buf_deinit) = AGON_BUF(FILE_MAX);
        agon_json_dump(&input, one);
        struct outcome o AGON_AUTO(outcome_deinit) =
            run(agon_verb_model_encode, args, agon_buf_str(&input));
        bool fine = want ? o.status == 0 && agon_str_is(agon_buf_str(&o.out), want) && !o.err.size
                         : o.status == 1 && !o.out.size && is_one_line(&o.err);
        if (!EXPECT(fine))
            printf("# %s: %s\n", agon_json_text(one, "name", "?"), agon_buf_text(&o.err));
    }
}

TEST(parse_writes_the_message_or_one_line)
{
    json_t *cases AGON_AUTO(agon_json_decrefp) = vectors("parse");
    EXPECT(json_array_size(cases) == 12);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *one = json_array_get(cases, i), *want = json_object_get(one, "message");
        const char *args[] = {"parse", "--mode", agon_json_text(one, "thinking_mode", ""), NULL};
        struct outcome o AGON_AUTO(outcome_deinit) =
            run(agon_verb_model_parse, args, agon_str(agon_json_text(one, "completion", "")));
        json_t *got AGON_AUTO(agon_json_decrefp) = NULL;
        if (o.status == 0)
            EXPECT(agon_json_parse(&got, agon_buf_str(&o.out), NULL) == 0);
        bool fine = want ? o.status == 0 && json_equal(got, want)
                         : o.status == 1 && !o.out.size && is_one_line(&o.err);
        if (!EXPECT(fine))
            printf("# %s: %s\n", agon_json_text(one, "name", "?"), agon_buf_text(&o.err));
    }
}

TEST(usage_and_help)
{
    static const char *const bad[] = {"parse", "--mode", "deep", NULL};
    static const char *const unknown[] = {"encode", "--nonsense", NULL};
    static const char *const help[] = {"chat", "--help", NULL};
    struct outcome a AGON_AUTO(outcome_deinit) = run(agon_verb_model_parse, bad, agon_str("x"));
    struct outcome b AGON_AUTO(outcome_deinit) =
        run(agon_verb_model_encode, unknown, agon_str("{}"));
    struct outcome c AGON_AUTO(outcome_deinit) = run(agon_verb_model_chat, help, agon_str(""));
    EXPECT(a.status == 1 && is_one_line(&a.err));
    EXPECT(b.status == AGON_EXIT_INPUT && is_one_line(&b.err));
    EXPECT(c.status == 0 && strstr(agon_buf_text(&c.out), "--temperature"));
}

TEST(a_conversation_goes_turn_by_turn)
{
    /* Says how many messages it was sent, with an escape that must not reach a terminal. */
    static const char *const args[] = {
        "chat", "--system=S",
        "exec:n=$(grep -o '\"role\"' | wc -l); printf '%s' \"$n \033[2J<｜end▁of▁sentence｜>\"",
        NULL};
    struct outcome o AGON_AUTO(outcome_deinit) =
        run(agon_verb_model_chat, args, agon_str("hello\n\nagain\n"));
    if (!EXPECT(o.status == 0 && strcmp(agon_buf_text(&o.out), "2 ?[2J\n4 ?[2J\n") == 0))
        printf("# %d %s %s\n", o.status, agon_buf_text(&o.out), agon_buf_text(&o.err));
}

TEST(a_model_that_fails_is_one_line)
{
    static const char *const args[] = {"chat", "exec:exit 4", NULL};
    static const char *const nowhere[] = {"chat", "http://127.0.0.1:1/v1", NULL};
    struct outcome a AGON_AUTO(outcome_deinit) =
        run(agon_verb_model_chat, args, agon_str("hello\n"));
    struct outcome b AGON_AUTO(outcome_deinit) = run(agon_verb_model_chat, nowhere, agon_str(""));
    EXPECT(a.status == AGON_EXIT_MODEL && is_one_line(&a.err));
    EXPECT_HAS(agon_buf_text(&a.err), "exit status 4");
    EXPECT(b.status == AGON_EXIT_MODEL && is_one_line(&b.err));
    EXPECT_HAS(agon_buf_text(&b.err), "http://127.0.0.1:1/v1: can't be reached");
}
