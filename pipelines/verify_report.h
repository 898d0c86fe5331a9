#pragma once
/*
 * What `agon verify` says: lines for people or TAP 14 on standard output, and JUnit's XML for a
 * file, from the reports of environments, one by one. (TAP: testanything.org, version 14; JUnit:
 * the elements that Jenkins and GitLab read.)
 */
#include "base/buf.h"

#include <stdio.h>

struct agon_regress_report;

struct agon_verify_report {
    FILE *to; /* for people or TAP */
    bool tap;
    bool want_junit;
    struct agon_buf junit; /* the suites so far */
    int n_envs, n_tasks, n_negatives, n_cases, n_failures;
    int share_most; /* in thousandths of a limit, and who took it */
    char share_who[256];
    int64_t wall_ms; /* of all environments together */
};
void agon_verify_report_begin(struct agon_verify_report *v);
void agon_verify_report_add(struct agon_verify_report *v, const struct agon_regress_report *r);
/* The last lines. */
void agon_verify_report_end(struct agon_verify_report *v);
/* JUnit's file, whole. */
void agon_verify_report_junit(const struct agon_verify_report *v, struct agon_buf *out);
void agon_verify_report_deinit(struct agon_verify_report *v);
