/* Lines, TAP and JUnit: see verify_report.h. Text of models passes through here: none of it may
 * break a line of TAP, an element of XML or a terminal. */
#include "pipelines/verify_report.h"

#include "base/json.h"
#include "pipelines/listing.h"
#include "verifiers/regress.h"

static const size_t junit_bytes_max = 1U << 30;
enum { LINES_BYTES_MAX = 64 << 20, TEXT_BYTES_MAX = 1 << 20 };

void agon_verify_report_begin(struct agon_verify_report *v)
{
    v->junit = (struct agon_buf)AGON_BUF(junit_bytes_max);
    if (v->tap)
        fputs("TAP version 14\n", v->to);
}

void agon_verify_report_deinit(struct agon_verify_report *v)
{
    agon_buf_deinit(&v->junit);
}

/* ---- TAP ---- */

/* A description: on one line, '#' and '\' escaped. */
static void tap_text(FILE *to, const char *text)
{
    struct agon_buf plain AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    agon_text_add_plain(&plain, agon_str(text), false);
    for (const char *p = agon_buf_text(&plain); *p; p++) {
        if (*p == '#' || *p == '\\')
            fputc('\\', to);
        fputc(*p, to);
    }
}

/* A line of the YAML block; a JSON string is a YAML one. */
static void tap_yaml(FILE *to, const char *key, const char *value)
{
    struct agon_buf plain AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(2 * TEXT_BYTES_MAX);
    if (!value)
        return;
    agon_text_add_plain(&plain, agon_str(value), false);
    agon_json_dump_string(&text, agon_buf_str(&plain));
    fprintf(to, "      %s: %s\n", key, agon_buf_text(&text));
}

static void tap_case(FILE *to, int number, const struct agon_regress_case *c)
{
    fprintf(to, "    %sok %d - ", c->failed ? "not " : "", number);
    if (c->task) {
        tap_text(to, c->task);
        fputc(' ', to);
    }
    tap_text(to, c->name);
    fputc('\n', to);
    if (!c->failed)
        return;
    fputs("      ---\n", to);
    tap_yaml(to, "message", c->message);
    tap_yaml(to, "expected", c->expected);
    tap_yaml(to, "got", c->got);
    fputs("      ...\n", to);
}

static void tap_env(FILE *to, int number, const struct agon_regress_report *r)
{
    fputs("# Subtest: ", to);
    tap_text(to, r->id);
    fputc('\n', to);
    for (int i = 0; i < r->n_cases; i++)
        tap_case(to, i + 1, &r->cases[i]);
    fprintf(to, "    1..%d\n%sok %d - ", r->n_cases, r->n_failures ? "not " : "", number);
    tap_text(to, r->id);
    fputc('\n', to);
}

/* ---- JUnit ---- */

/* Text as XML 1.0 may hold it (its section 2.2 leaves out most controls and U+FFFE, U+FFFF). */
static void xml_text(struct agon_buf *out, const char *text)
{
    struct agon_buf plain AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    agon_text_add_plain(&plain, agon_str(text), true);
    struct agon_str s = agon_buf_str(&plain);
    for (size_t at = 0; at < s.size;) {
        int32_t code = agon_utf8_next(s, &at);
        switch (code) {
        case '<': agon_buf_adds(out, "&lt;"); break;
        case '>': agon_buf_adds(out, "&gt;"); break;
        case '&': agon_buf_adds(out, "&amp;"); break;
        case '"': agon_buf_adds(out, "&quot;"); break;
        case -1:
        case 0xFFFE:
        case 0xFFFF: agon_buf_addc(out, '?'); break;
        default: agon_utf8_add(out, (uint32_t)code); break;
        }
    }
}

static void xml_attribute(struct agon_buf *out, const char *name, const char *value)
{
    agon_buf_addf(out, " %s=\"", name);
    xml_text(out, value);
    agon_buf_addc(out, '"');
}

static void junit_failure(struct agon_buf *out, const struct agon_regress_case *c)
{
    agon_buf_adds(out, "<failure");
    xml_attribute(out, "message", c->message);
    xml_attribute(out, "type", c->name);
    agon_buf_addc(out, '>');
    xml_text(out, c->message);
    if (c->expected) {
        agon_buf_adds(out, "\nexpected: ");
        xml_text(out, c->expected);
    }
    if (c->got) {
        agon_buf_adds(out, "\ngot: ");
        xml_text(out, c->got);
    }
    agon_buf_adds(out, "</failure>");
}

static void junit_env(struct agon_buf *out, const struct agon_regress_report *r)
{
    agon_buf_adds(out, "  <testsuite");
    xml_attribute(out, "name", r->id);
    agon_buf_addf(out, " tests=\"%d\" failures=\"%d\" errors=\"0\" skipped=\"0\" time=\"%.3f\">\n",
                  r->n_cases, r->n_failures, (double)r->wall_ms / 1000);
    for (int i = 0; i < r->n_cases; i++) {
        const struct agon_regress_case *c = &r->cases[i];
        agon_buf_adds(out, "    <testcase classname=\"");
        xml_text(out, r->id);
        if (c->task) {
            agon_buf_addc(out, '.');
            xml_text(out, c->task);
        }
        agon_buf_addc(out, '"');
        xml_attribute(out, "name", c->name);
        agon_buf_adds(out, c->failed ? ">" : "/>\n");
        if (c->failed) {
            junit_failure(out, c);
            agon_buf_adds(out, "</testcase>\n");
        }
    }
    agon_buf_adds(out, "  </testsuite>\n");
}

void agon_verify_report_junit(const struct agon_verify_report *v, struct agon_buf *out)
{
    agon_buf_addf(out,
                  "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"agon verify\" "
                  "tests=\"%d\" failures=\"%d\" errors=\"0\" time=\"%.3f\">\n",
                  v->n_cases, v->n_failures, (double)v->wall_ms / 1000);
    agon_buf_add_str(out, agon_buf_str(&v->junit));
    agon_buf_adds(out, "</testsuites>\n");
    if (v->junit.failed)
        out->failed = v->junit.failed;
}

/* ---- all of them ---- */

void agon_verify_report_add(struct agon_verify_report *v, const struct agon_regress_report *r)
{
    v->n_envs++;
    v->n_tasks += r->n_tasks;
    v->n_negatives += r->n_negatives;
    v->n_cases += r->n_cases;
    v->n_failures += r->n_failures;
    v->wall_ms += r->wall_ms;
    if (r->share_most > v->share_most) {
        v->share_most = r->share_most;
        snprintf(v->share_who, sizeof(v->share_who), "%s/%s", r->id, r->share_task);
    }
    if (v->want_junit)
        junit_env(&v->junit, r);
    if (v->tap) {
        tap_env(v->to, v->n_envs, r);
        return;
    }
    struct agon_buf lines AGON_AUTO(agon_buf_deinit) = AGON_BUF(LINES_BYTES_MAX);
    agon_regress_lines(r, &lines);
    agon_listing_block(v->to, agon_buf_text(&lines));
}

void agon_verify_report_end(struct agon_verify_report *v)
{
    if (v->tap)
        fprintf(v->to, "1..%d\n# ", v->n_envs);
    fprintf(v->to, "%d environments, %d tasks, %d negatives: %d failures\n", v->n_envs, v->n_tasks,
            v->n_negatives, v->n_failures);
    if (v->share_most)
        fprintf(v->to, "%sthe largest use of a limit: %d.%d%% (%s)\n", v->tap ? "# " : "",
                v->share_most / 10, v->share_most % 10, v->share_who);
}
