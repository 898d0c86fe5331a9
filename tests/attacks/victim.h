#pragma once
/*
 * What model-written code attacks: a small world with its tools in a real cell, shared by the
 * attacks of a program and looked at after each (a neighbour), beside a corpus folder that must
 * keep its bytes (a guard). Code comes in through the doors that models have: the body of a tool,
 * a solution, a check, or SQL as the argument of a careless tool.
 */
#include "envs/runtime.h"
#include "tests/attacks/battery.h"

/* What the last of these said: a result, or why not. */
extern char victim_said[4096];

/* The body of function(world, a) of a tool of its own in a fresh cell, called once. What it returns
 * is said as tostring() shows it. */
enum outcome victim_tool(bool writes, struct agon_str code);
/* The body of function(tools), in the shared cell. */
enum outcome victim_solution(struct agon_str code);
/* The same, and what it returns is the answer, said as JSON. */
enum outcome victim_answer(struct agon_str code);
/* The body of function(world, answer, changes) of a check, in the shared cell: CONTAINED when the
 * verifier ran, with "pass", "fail" or the reason said. */
enum outcome victim_check(struct agon_str code);
/* One call of a tool of the shared environment: "q" reads, "x" writes, "caught" writes and catches
 * what is raised, each whatever a.sql says; "bound" gives a.v back through SQL; "find" binds. */
enum outcome victim_call(const char *tool, struct agon_str arguments);
enum outcome victim_sql(const char *tool, const char *sql);
/* The toolset `tools` over the world that `world_sql` makes (NULL: the sample): does it open? */
enum outcome victim_open(const char *world_sql, struct agon_str tools);
/* The shared instance back to no writes. */
void victim_reset(void);
/* For what the above do not have. */
struct agon_runtime *victim_runtime(void);
struct agon_instance *victim_instance(void);
struct agon_sandbox *victim_sandbox(void);
const char *victim_world(void); /* path of the sample world */
extern const char victim_tools[];

/*
 * The same code in three places, a tool, a solution and a check: each must end in `wanted` (what
 * refuses a tool's call refuses a solution or fails a check) and say `part`.
 */
#define LUA_ATTACK(id, wanted, part, code)                                          \
    ATTACK(id)                                                                      \
    {                                                                               \
        victim_expect_lua((struct agon_str){code, sizeof(code) - 1}, wanted, part); \
    }
void victim_expect_lua(struct agon_str code, enum outcome wanted, const char *part);
#define ANSWER_ATTACK(id, wanted, part, code)                                            \
    ATTACK(id)                                                                           \
    {                                                                                    \
        EXPECT_OUTCOME(victim_answer((struct agon_str){code, sizeof(code) - 1}), wanted, \
                       victim_said, part);                                               \
    }
#define CHECK_ATTACK(id, part, code)                                                       \
    ATTACK(id)                                                                             \
    {                                                                                      \
        EXPECT_OUTCOME(victim_check((struct agon_str){code, sizeof(code) - 1}), CONTAINED, \
                       victim_said, part);                                                 \
    }
/* One statement through the tool, twice with the same words, and the world is as it was. */
#define SQL_ATTACK(id, tool, wanted, part, sql)     \
    ATTACK(id)                                      \
    {                                               \
        victim_expect_sql(tool, sql, wanted, part); \
    }
void victim_expect_sql(const char *tool, const char *sql, enum outcome wanted, const char *part);
