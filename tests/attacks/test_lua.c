/* A: out of Lua's restrictions, and into its known bugs. */
#include "tests/attacks/victim.h"

LUA_ATTACK(A1_os_io_package_debug_are_nil, CONTAINED, "nilnilnilnilnilnilnil",
           "return tostring(os) .. tostring(io) .. tostring(package) .. tostring(require) .. "
           "tostring(debug) .. tostring(dofile) .. tostring(loadfile)")
LUA_ATTACK(A1_os_execute, TOOL_ERROR, "global 'os'", "os.execute('id')")
LUA_ATTACK(B1_while_true, TOOL_ERROR, "ran out of fuel", "while true do end")
LUA_ATTACK(B8_doubling, TOOL_ERROR, "ran out of memory",
           "local s = 'x' while true do s = s .. s end")
