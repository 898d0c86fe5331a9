/* The report for people: a line a task, its findings below it, the summary at the end. */
#include "base/json.h"
#include "base/text.h"
#include "verifiers/audit.h"

#include <string.h>

struct printing {
    struct agon_buf *out;
    bool colour;
};

static json_int_t number(const json_t *card, const char *key)
{
    return json_integer_value(json_object_get(card, key));
}

/* 1234567 as 1,234,567. */
static const char *grouped(json_int_t n, char ret[32])
{
    char digits[32];
    int size = snprintf(digits, sizeof(digits), "%lld", (long long)n), k = 0;
    for (int i = 0; i < size && k < 30; i++) {
        if (i && (size - i) % 3 == 0 && digits[i - 1] != '-')
            ret[k++] = ',';
        ret[k++] = digits[i];
    }
    ret[k] = '\0';
    return ret;
}

static void add_verdict(struct printing *p, const char *verdict)
{
    bool refused = !strcmp(verdict, "refused"), ok = !strcmp(verdict, "ok");
    const char *word = refused ? "REFUSED" : verdict;
    if (p->colour)
        agon_buf_addf(p->out, "\033[%dm%s\033[0m", refused ? 31 : ok ? 32 : 33, word);
    else
        agon_buf_adds(p->out, word);
}

static void add_findings(struct printing *p, const json_t *card)
{
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(card, "findings"), i, one)
    {
        agon_buf_addf(p->out,
                      "    %s %s: ", json_is_true(json_object_get(one, "refused")) ? "!" : "-",
                      agon_json_text(one, "kind", ""));
        /* It may quote what a model wrote. */
        agon_text_add_plain(p->out, agon_str(agon_json_text(one, "what", "")), false);
        agon_buf_addc(p->out, '\n');
    }
}

static void add_card(struct printing *p, const json_t *card)
{
    char attacks[32], writes[64] = "-";
    if (!json_is_string(json_object_get(card, "task"))) {
        agon_buf_addf(p->out, "  %-8s", "(all)");
        add_verdict(p, agon_json_text(card, "verdict", ""));
        agon_buf_addc(p->out, '\n');
        add_findings(p, card);
        return;
    }
    if (number(card, "dropped") || number(card, "foreign_writes"))
        snprintf(writes, sizeof(writes), "%lld/%lld %lld/%lld",
                 (long long)number(card, "dropped_accepted"), (long long)number(card, "dropped"),
                 (long long)number(card, "foreign_accepted"),
                 (long long)number(card, "foreign_writes"));
    agon_buf_addf(p->out,
                  "  %-8s %3lld %-5s %4lld %5lld %8s %6lld %9lld  %-8.1g %3lld/%-4lld %-13s "
                  "%4.0f%% %4.1f%% ",
                  agon_json_text(card, "task", ""), (long long)number(card, "level"),
                  agon_json_text(card, "answers", ""), (long long)number(card, "checks"),
                  (long long)number(card, "necessary_calls"),
                  grouped(number(card, "attacks"), attacks),
                  (long long)number(card, "false_accepts"), (long long)number(card, "unproven"),
                  json_number_value(json_object_get(card, "guess_rate_most")),
                  (long long)number(card, "golden_passes"), (long long)number(card, "golden_runs"),
                  writes, 100 * json_number_value(json_object_get(card, "prompt_covered")),
                  (double)number(card, "share") / 10);
    add_verdict(p, agon_json_text(card, "verdict", ""));
    agon_buf_addc(p->out, '\n');
    add_findings(p, card);
}

static void add_rate(struct printing *p, const json_t *summary, const char *what,
                     const char *accepted, const char *tried)
{
    char a[32], b[32];
    json_int_t n = number(summary, tried);
    agon_buf_addf(p->out, "%s: %s of %s", what, grouped(number(summary, accepted), a),
                  grouped(n, b));
    if (n)
        agon_buf_addf(p->out, " (%.3g %%)", 100.0 * (double)number(summary, accepted) / (double)n);
    agon_buf_addc(p->out, '\n');
}

void agon_audit_print(const json_t *report, bool colour, struct agon_buf *out)
{
    struct printing p = {out, colour};
    const json_t *summary = json_object_get(report, "summary");
    const char *env = "";
    size_t i;
    json_t *card;
    agon_buf_adds(out,
                  "  task     lvl ans   bite calls  attacks  false  unproven  guess<=  golden   "
                  "drop foreign  said budget\n");
    json_array_foreach(json_object_get(report, "tasks"), i, card)
    {
        if (strcmp(env, agon_json_text(card, "env", "")) != 0) { /* a folder, where it has no id */
            agon_text_add_plain(out, agon_str(env = agon_json_text(card, "env", "")), false);
            agon_buf_addc(out, '\n');
        }
        add_card(&p, card);
    }
    agon_buf_addf(out, "\n%lld environments, %lld tasks: %lld ok, %lld with notes, %lld refused\n",
                  (long long)number(summary, "environments"), (long long)number(summary, "tasks"),
                  (long long)number(summary, "ok"), (long long)number(summary, "noted"),
                  (long long)number(summary, "refused"));
    add_rate(&p, summary, "attack answers accepted that are wrong", "false_accepts", "attacks");
    add_rate(&p, summary, "attack answers accepted, unproven (answers \"many\")", "unproven",
             "attacks");
    add_rate(&p, summary, "golden writes dropped and accepted", "dropped_accepted", "dropped");
    add_rate(&p, summary, "foreign writes accepted", "foreign_accepted", "foreign_writes");
    add_rate(&p, summary, "golden runs that pass", "golden_passes", "golden_runs");
    add_rate(&p, summary, "golden runs with equal bytes", "golden_same", "golden_runs");
}
