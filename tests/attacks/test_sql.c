/* D: statements that reach out of the world, or never end. */
#include "tests/attacks/victim.h"

SQL_ATTACK(D2_second_statement, "q", TOOL_ERROR, "one statement only", "SELECT 1; DROP TABLE hotel")
SQL_ATTACK(D3_attach, "q", TOOL_ERROR, "not allowed here", "ATTACH 'a' AS b")
