#pragma once
/*
 * Messages as they come from outside: assistant messages of servers and programs, and
 * what a caller appends to a session.
 */
#include "base/err.h"
#include "model/encoding.h"

#include <jansson.h>

/*
 * An assistant message as a server or a program writes it, in our form: role, content,
 * reasoning_content, tool_calls [{type, function {name, arguments}}] without ids. Missing
 * and null fields become empty; `reasoning` stands for reasoning_content; arguments may
 * be an object. AGON_PARSE_MALFORMED with the reason where it is none.
 */
int agon_message_adopt(json_t **ret, const json_t *from, char reason[AGON_REASON_SIZE],
                       struct agon_err *err) AGON_MUST_USE;
/*
 * Append a copy of each of `messages` to *list (array), where they fit what is there:
 * roles known, content text, results only where calls are open, in the order of the
 * calls and no more than calls, nothing else before the last result. Calls keep their ids
 * or get "call_<n>", counted by *n_calls; a result that carries another id than its call
 * is refused, one without gets it. On failure list and n_calls are as before.
 */
int agon_messages_append(json_t *list, int *n_calls, const json_t *messages,
                         struct agon_err *err) AGON_MUST_USE;
/* Give the calls of an assistant message their ids, in place. */
int agon_message_number(json_t *message, int *n_calls, struct agon_err *err) AGON_MUST_USE;
/* Is it the assistant's turn: does the list end in a user message or in the last open result? */
bool agon_messages_await_turn(const json_t *list);
