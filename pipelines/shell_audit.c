/* The audit in the shell: see verifiers/audit.h. */
#include "base/json.h"
#include "pipelines/shell.h"
#include "verifiers/audit.h"

enum { GOLDEN_RUNS = 20 }; /* someone waits */

/* The cards of the chosen task, and those of no task. */
static json_t *own_cards(const struct shell *sh, const json_t *cards)
{
    size_t i;
    json_t *card, *own = json_array();
    json_array_foreach(cards, i, card)
    {
        const char *task = agon_json_text(card, "task", NULL);
        if ((!task || !sh->task || strcmp(task, sh->task->id) == 0) &&
            json_array_append(own, card)) {
            json_decref(own);
            return NULL;
        }
    }
    return own;
}

int shell_audit(struct shell *sh, const char *rest, struct agon_err *err)
{
    struct agon_audit_options o = {
        .places = {sh->sandbox}, .n_places = 1, .seed = 1, .golden_runs = GOLDEN_RUNS};
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHELL_TEXT_MAX);
    json_auto_t *cards = NULL, *report = NULL;
    bool all = strcmp(rest, "all") == 0;
    if (*rest && !all)
        return shell_error(sh, "usage: .audit [all]");
    int r = agon_audit_env(sh->env->dir, &o, &cards, err);
    if (r)
        return r;
    json_t *shown = all ? json_incref(cards) : own_cards(sh, cards);
    if (!shown)
        return agon_fail(err, AGON_ENOMEM, "audit: out of memory");
    if ((r = agon_audit_finish(shown, &report, err)))
        return r;
    agon_audit_print(report, sh->colour, &text);
    if (text.failed)
        return agon_fail(err, AGON_ENOMEM, "audit: out of memory");
    fwrite(agon_buf_text(&text), 1, text.size, stdout);
    return 0;
}
