-- Which folder may include which: the order that the whole tree rests on. Reads every .c, .h,
-- .cu and .cuh file below the project's root (the working directory) and says which include
-- breaks it. Speaks TAP.

local everything = { base = true, kernels = true, model = true, sandbox = true, envs = true,
                     verifiers = true, synth = true, pipelines = true }
local function below(...)
  local set = {}
  for _, name in ipairs { ... } do set[name] = true end
  return set
end
local may = {
  base = below 'base',
  -- Of base only what needs no library, so that GPU tests run on a bare machine.
  kernels = below 'kernels',
  model = below('base', 'kernels', 'model'),
  sandbox = below('base', 'sandbox'),
  envs = below('base', 'sandbox', 'envs'),
  verifiers = below('base', 'sandbox', 'envs', 'verifiers'),
  synth = below('base', 'kernels', 'model', 'sandbox', 'envs', 'verifiers', 'synth'),
  pipelines = everything,
  tests = setmetatable({ tests = true }, { __index = everything }),
}
local bare_headers = { ['base/err.h'] = true, ['base/mem.h'] = true, ['base/str.h'] = true }

-- System headers that belong behind one file.
local owned = { ['<curl/'] = { ['base/http.c'] = true }, ['<uthash.h'] = { ['base/uthash.h'] = true } }

-- Why `file` may not have this #include line, or nil.
local function broken(file, include, exists)
  local folder = file:match '^([^/]+)/' or '.'
  local system = include:match '^<'
  if system then
    for start, owners in pairs(owned) do
      if include:sub(1, #start) == start and folder ~= 'tests' and not owners[file] then
        return include .. ' belongs behind ' .. next(owners)
      end
    end
    return nil
  end
  local header = include:match '^"(.-)"'
  if not header then return 'neither "..." nor <...>' end
  local target = header:match '^([^/]+)/'
  if not target or header:find('..', 1, true) then
    return '"' .. header .. '" is not written from the root'
  end
  if not exists(header) then return '"' .. header .. '" does not exist' end
  if folder == 'kernels' and bare_headers[header] then return nil end
  if not may[folder] then return 'folder ' .. folder .. ' has no place in the order' end
  if not may[folder][target] then return folder .. ' may not include ' .. header end
end

local function exists(path)
  local f <close> = io.open(path)
  return f ~= nil
end

local n, failed = 0, 0
local function report(name, reasons)
  n = n + 1
  if #reasons > 0 then failed = failed + 1 end
  for _, reason in ipairs(reasons) do print('# ' .. reason) end
  print((#reasons > 0 and 'not ok ' or 'ok ') .. n .. ' - ' .. name)
end

-- The check itself, on lines whose answer is known.
local cases = {
  { 'base/json.c', '"base/json.h"', true },
  { 'base/json.c', '<jansson.h>', true },
  { 'base/json.c', '"synth/episode.h"', false },
  { 'base/json.c', '"json.h"', false },
  { 'base/json.c', '"../base/json.h"', false },
  { 'base/http.c', '<curl/curl.h>', true },
  { 'synth/fetch.c', '<curl/curl.h>', false },
  { 'kernels/x.cu', '"base/err.h"', true },
  { 'kernels/x.cu', '"base/json.h"', false },
  { 'model/x.c', '"kernels/kernels.h"', true },
  { 'model/x.c', '"sandbox/cell.h"', false },
  { 'sandbox/x.c', '"envs/world.h"', false },
  { 'verifiers/gates/x.c', '"envs/world.h"', true },
  { 'envs/x.c', '"verifiers/gate.h"', false },
  { 'synth/x.c', '"pipelines/agon.h"', false },
  { 'pipelines/x.c', '"synth/x.h"', true },
  { 'pipelines/x.c', '"tests/test.h"', false },
  { 'tests/synth/x.c', '"tests/test.h"', true },
  { 'tests/synth/x.c', '"synth/x.h"', true },
  { 'odd/x.c', '"base/json.h"', false },
}
local wrong = {}
for _, case in ipairs(cases) do
  local reason = broken(case[1], case[2], function() return true end)
  if (reason == nil) ~= case[3] then
    wrong[#wrong + 1] = case[1] .. ' including ' .. case[2] .. ': ' .. tostring(reason)
  end
end
if not broken('base/x.c', '"base/none.h"', function() return false end) then
  wrong[#wrong + 1] = 'a missing header went unseen'
end
report('the check knows right from wrong', wrong)

local by_folder, folders = {}, {}
local find = assert(io.popen("find . -name 'build*' -prune -o -name '.*' ! -name . -prune -o -type f "
  .. "'(' -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' ')' -print | LC_ALL=C sort"))
for path in find:lines() do
  local file = path:gsub('^%./', '')
  local folder = file:match '^([^/]+)/' or '.'
  if not by_folder[folder] then
    by_folder[folder] = { n = 0 }
    folders[#folders + 1] = folder
  end
  local reasons = by_folder[folder]
  reasons.n = reasons.n + 1
  local number = 0
  for line in io.lines(file) do
    number = number + 1
    local include = line:match '^%s*#%s*include%s*(.-)%s*$'
    local reason = include and broken(file, include, exists)
    if reason then reasons[#reasons + 1] = file .. ':' .. number .. ': ' .. reason end
  end
end
find:close()
for _, folder in ipairs(folders) do
  local reasons = by_folder[folder]
  report(('%s includes only what stands below it (%d files)'):format(folder, reasons.n), reasons)
end
print('1..' .. n)
os.exit(failed == 0)
