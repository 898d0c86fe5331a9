/*
 * agon model encode, parse, chat: the chat encoding by itself, and a conversation.
 * encode and parse read standard input, so that anyone can hold them against another
 * implementation; every refusal is one line on stderr and exit status 1.
 */
#include "base/json.h"
#include "base/text.h"
#include "model/encoding.h"
#include "pipelines/verb.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { INPUT_BYTES_MAX = 64 << 20, TOKENS_DEFAULT = 1024, POLL_MS = 200 };

static int write_output(struct agon_str text, struct agon_err *err)
{
    if (fwrite(text.data, 1, text.size, stdout) != text.size || fflush(stdout))
        return agon_fail(err, AGON_ESYS, "standard output: %s", strerror(errno));
    return 0;
}

/* ---- encode ---- */

static int encode(struct agon_err *err)
{
    struct agon_buf input AGON_AUTO(agon_buf_deinit) = AGON_BUF(INPUT_BYTES_MAX);
    struct agon_prompt prompt AGON_AUTO(agon_prompt_deinit) = AGON_PROMPT;
    int r;
    if ((r = agon_verb_read_input(&input, err)) ||
        (r = agon_encode_case(&prompt, agon_buf_str(&input), err)))
        return r;
    return write_output(agon_buf_str(&prompt.text), err);
}

int agon_verb_model_encode(int argc, char **argv)
{
    static const struct agon_opt none[] = {{0}};
    static const char about[] = "Reads one JSON object: messages, thinking_mode (\"chat\" or "
                                "\"thinking\"), and where given\n"
                                "context, tools, drop_thinking (true), add_default_bos_token "
                                "(true). Writes the prompt's bytes.";
    struct agon_err err = {0};
    int n, status;
    if (agon_verb_options(none, NULL, "agon model encode < CASE.json", about, 0, 0, argc, argv, &n,
                          &status))
        return status;
    if (encode(&err) == 0)
        return AGON_EXIT_OK;
    (void)agon_verb_fail("encode", &err);
    return AGON_EXIT_NO;
}

/* ---- parse ---- */

struct parse_options {
    const char *mode;
};
static const struct agon_opt parse_table[] = {
    {"mode", 'm', AGON_OPT_TEXT, offsetof(struct parse_options, mode), 0, 0, "MODE",
     "chat or thinking: the mode that the prompt was encoded in"},
    {0},
};

static int parse(const char *mode, struct agon_err *err)
{
    struct agon_buf input AGON_AUTO(agon_buf_deinit) = AGON_BUF(INPUT_BYTES_MAX);
    struct agon_buf output AGON_AUTO(agon_buf_deinit) = AGON_BUF(4L * INPUT_BYTES_MAX);
    char reason[AGON_REASON_SIZE];
    json_t *message;
    bool thinking = strcmp(mode, "thinking") == 0;
    if (!thinking && strcmp(mode, "chat") != 0)
        return agon_fail(err, AGON_EINPUT, "--mode: '%s' is neither chat nor thinking", mode);
    int r = agon_verb_read_input(&input, err);
    if (r)
        return r;
    struct agon_completion completion = {.text = agon_buf_str(&input)};
    r = agon_completion_parse(&message, &completion,
                              thinking ? AGON_THINKING_ON : AGON_THINKING_OFF, reason, err);
    if (r == AGON_PARSE_MALFORMED)
        return agon_fail(err, AGON_EINPUT, "malformed: %s", reason);
    if (r)
        return r;
    agon_json_dump(&output, message);
    agon_buf_addc(&output, '\n');
    json_decref(message);
    r = agon_buf_check(&output, "message", err);
    return r ? r : write_output(agon_buf_str(&output), err);
}

int agon_verb_model_parse(int argc, char **argv)
{
    struct parse_options options = {.mode = "chat"};
    struct agon_err err = {0};
    int n, status;
    if (agon_verb_options(parse_table, &options,
                          "agon model parse --mode thinking|chat < COMPLETION",
                          "Reads a completion as the model wrote it, writes the message as JSON.",
                          0, 0, argc, argv, &n, &status))
        return status;
    if (parse(options.mode, &err) == 0)
        return AGON_EXIT_OK;
    (void)agon_verb_fail("parse", &err);
    return AGON_EXIT_NO;
}

/* ---- chat ---- */

struct chat_options {
    const char *system, *record, *device, *model_name;
    bool thinking;
    double temperature;
    int64_t tokens, seed, threads;
};
#define FIELD(name) offsetof(struct chat_options, name)
static const struct agon_opt chat_table[] = {
    {"system", 's', AGON_OPT_TEXT, FIELD(system), 0, 0, "TEXT", "the system message"},
    {"thinking", 't', AGON_OPT_FLAG, FIELD(thinking), 0, 0, NULL, "thinking mode"},
    {"temperature", 'T', AGON_OPT_REAL, FIELD(temperature), 0, 5, "X", "0 is greedy"},
    {"tokens", 'n', AGON_OPT_INT, FIELD(tokens), 1, 1 << 20, "N", "most tokens in a turn"},
    {"seed", 0, AGON_OPT_INT, FIELD(seed), 0, 0, "N", "of the random numbers"},
    {"threads", 'j', AGON_OPT_INT, FIELD(threads), 0, 1024, "N", "of the engine; 0: one a core"},
    {"device", 0, AGON_OPT_TEXT, FIELD(device), 0, 0, "cpu|cuda", AGON_VERB_DEVICE},
    {"model-name", 0, AGON_OPT_TEXT, FIELD(model_name), 0, 0, "NAME",
     "the model's name at an HTTP server"},
    {"record", 0, AGON_OPT_TEXT, FIELD(record), 0, 0, "FILE", "append the turns, for replay:FILE"},
    {0},
};

/* For a terminal: what a model wrote must not move the cursor. */
static void print_plain(const char *before, const char *text)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(INPUT_BYTES_MAX);
    if (!*text)
        return;
    agon_buf_adds(&b, before);
    agon_text_add_plain(&b, agon_str(text), true);
    puts(agon_buf_text(&b));
}

static void print_turn(const struct agon_turn *turn)
{
    const json_t *calls = json_object_get(turn->message, "tool_calls");
    print_plain("(thinks) ", agon_json_text(turn->message, "reasoning_content", ""));
    print_plain("", agon_json_text(turn->message, "content", ""));
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *function = json_object_get(json_array_get(calls, i), "function");
        print_plain("(calls) ", agon_json_text(function, "name", ""));
        print_plain("        ", agon_json_text(function, "arguments", ""));
    }
    if (turn->end == AGON_TURN_LENGTH)
        print_plain("(cut: tokens ran out) ", turn->text ? turn->text : "");
    if (turn->end == AGON_TURN_MALFORMED) {
        print_plain("(malformed) ", turn->reason);
        print_plain("", turn->text ? turn->text : "");
    }
    (void)fflush(stdout); /* a broken pipe shows at the end */
}

static int append(struct agon_session *s, const char *role, const char *content,
                  struct agon_err *err)
{
    json_t *messages = json_pack("[{s:s, s:s}]", "role", role, "content", content);
    if (!messages)
        return agon_fail(err, AGON_EINPUT, "what was said is no valid UTF-8");
    int r = agon_session_append(s, messages, err);
    json_decref(messages);
    return r;
}

/* Without tools nothing answers a call, so one ends the conversation's turn with an empty result.
 */
static int answer_calls(struct agon_session *s, const struct agon_turn *turn, struct agon_err *err)
{
    int r = 0;
    size_t n = json_array_size(json_object_get(turn->message, "tool_calls"));
    for (size_t i = 0; i < n && r == 0; i++)
        r = append(s, "tool", "no tools in this conversation", err);
    return r;
}

static int take_turn(struct agon_model *m, struct agon_session *s, const struct agon_sampling *how,
                     struct agon_err *err)
{
    struct agon_turn turn AGON_AUTO(agon_turn_deinit) = {0};
    int r = agon_session_sample(s, how, err);
    while (r == 0 && (r = agon_session_take(s, &turn, err)) == 0)
        r = agon_model_poll(m, POLL_MS, err);
    if (r < 0)
        return r;
    if (turn.end == AGON_TURN_FAILED)
        return agon_fail(err, AGON_EMODEL, "%s", turn.reason);
    print_turn(&turn);
    return turn.end == AGON_TURN_OK ? answer_calls(s, &turn, err) : 0;
}

static int converse(struct agon_model *m, const struct chat_options *o, struct agon_err *err)
{
    struct agon_session *s AGON_AUTO(agon_session_freep) = NULL;
    json_t *none = json_array();
    bool person = isatty(STDIN_FILENO);
    char *line = NULL, key[64];
    size_t capacity = 0;
    int r = agon_session_new(&s, m, o->thinking ? AGON_THINKING_ON : AGON_THINKING_OFF, none, err);
    json_decref(none);
    if (r == 0 && o->system)
        r = append(s, "system", o->system, err);
    if (r == 0 && person)
        printf("%s\nEnd with control-D.\n", agon_model_name(m));
    for (int turn = 0; r == 0; turn++) {
        if (person && (fputs("> ", stdout) < 0 || fflush(stdout)))
            break;
        ssize_t n = getline(&line, &capacity, stdin);
        if (n < 0)
            break;
        line[strcspn(line, "\n")] = '\0';
        if (!*line)
            continue;
        (void)snprintf(key, sizeof(key), "chat/chat/0/%d.0", turn); /* fits */
        struct agon_sampling how = {.temperature = o->temperature,
                                    .top_p = 1,
                                    .tokens_max = (int)o->tokens,
                                    .seed = (uint64_t)o->seed + (uint64_t)turn,
                                    .key = key};
        if ((r = append(s, "user", line, err)) == 0)
            r = take_turn(m, s, &how, err);
    }
    free(line);
    return r;
}

int agon_verb_model_chat(int argc, char **argv)
{
    static const char about[] =
        "A conversation: a line is a user message, the answer follows. MODEL is a folder, "
        "local:DIR,\n"
        "http://HOST/v1, https://..., exec:COMMAND, exec+lines:COMMAND or replay:FILE; without it\n"
        "the embedded model. The key of a server comes from AGON_API_KEY.";
    struct chat_options o = {.temperature = 0.7, .tokens = TOKENS_DEFAULT};
    struct agon_model *m AGON_AUTO(agon_model_freep) = NULL;
    struct agon_err err = {0};
    char *spec = NULL;
    int n, status;
    if (agon_verb_options(chat_table, &o, "agon model chat [MODEL] [OPTION]...", about, 0, 1, argc,
                          argv, &n, &status))
        return status;
    struct agon_model_options options = {.device = o.device,
                                         .n_threads = (int)o.threads,
                                         .record_path = o.record,
                                         .model_name = o.model_name};
    bool is_folder = n == 1 && !strchr(argv[1], ':');
    if (is_folder && asprintf(&spec, "local:%s", argv[1]) < 0)
        spec = NULL;
    int r = agon_model_open(&m, is_folder ? spec : n ? argv[1] : NULL, &options, &err);
    free(spec);
    if (r == 0)
        r = converse(m, &o, &err);
    return r ? agon_verb_fail("chat", &err) : AGON_EXIT_OK;
}
