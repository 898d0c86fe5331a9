#pragma once
/* Transcripts for people. */
#include <jansson.h>
#include <stdio.h>

/* Print segments of messages: roles, thinking, calls and results. */
void agon_transcript_print(FILE *to, const json_t *segments);
