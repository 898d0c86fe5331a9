-- Writes world.sql on standard output: lua5.4 make_world.lua > world.sql
-- Deterministic (its own generator, no clock); all names are made up.
local state = 31
local function below(n)
    state = state * 6364136223846793005 + 1442695040888963407
    return (state >> 33) % n
end
local function pick(list) return list[below(#list) + 1] end

local members = {"Mei Okafor", "Tomas Brandt", "Ines Carvalho", "Ravi Menon", "Hanna Virtanen", "Luca Moretti", "Aisha Bello",
    "Piotr Zielak", "Clara Dupont", "Sven Halvorsen", "Yuki Tanabe", "Omar Haddad", "Greta Lindqvist", "Daniel Osei",
    "Nadia Petrova", "Felix Auer", "Lena Kowal", "Bruno Salgado", "Zoe Papadakis", "Ivan Horvat"}
local titles = {"The Salt Road", "Winter Orchards", "A Ladder of Rain", "The Clockmaker's Debt", "Quiet Harbours", "Glass Mountains",
    "The Ninth Bell", "Letters to Ostrava", "Copper Sky", "The Heron Year", "Small Fires", "Maps of Nowhere",
    "The Weaver's Son", "Night Ferries", "Stone and Thistle", "The Borrowed Coat", "Paper Lanterns", "Under the Viaduct",
    "The Last Cartographer", "Honey and Iron", "Twelve Doors", "The Tidal Clerk"}
local authors = {"E. Varga", "J. Marsh", "R. Adeyemi", "K. Lund", "S. Ferrante", "M. Itoh", "P. Novak"}
local genres = {"essay", "history", "novel", "poetry", "travel"}
local branches = {"Canal", "Hillside", "Market", "Station"}

local function quote(v)
    if v == nil then return "NULL" end
    if type(v) == "number" then return tostring(v) end
    return "'" .. v:gsub("'", "''") .. "'"
end
local function insert(into, width, rows)
    print("INSERT INTO " .. into .. " VALUES")
    for i, row in ipairs(rows) do
        local cells = {}
        for j = 1, width do cells[j] = quote(row[j]) end
        print("  (" .. table.concat(cells, ", ") .. ")" .. (i == #rows and ";" or ","))
    end
end
local function day(from, to) -- a date of 2025 between two days counted from 1 January, months of 28 days to stay valid
    local n = from + below(to - from + 1)
    return string.format("2025-%02d-%02d", 1 + n // 28, 1 + n % 28)
end

print([[
-- Made by make_world.lua; not edited by hand. All that happened before 2025-03-10.
CREATE TABLE members (member_id INTEGER PRIMARY KEY, member_name TEXT NOT NULL UNIQUE, home_branch TEXT NOT NULL) STRICT;
CREATE TABLE books (book_id INTEGER PRIMARY KEY, title TEXT NOT NULL UNIQUE, author TEXT NOT NULL, genre TEXT NOT NULL,
  pages INTEGER NOT NULL) STRICT;
CREATE TABLE copies (copy_id INTEGER PRIMARY KEY, book_id INTEGER NOT NULL REFERENCES books, branch TEXT NOT NULL) STRICT;
CREATE TABLE loans (loan_id INTEGER PRIMARY KEY, copy_id INTEGER NOT NULL REFERENCES copies,
  member_id INTEGER NOT NULL REFERENCES members, lent_on TEXT NOT NULL, due_on TEXT NOT NULL, returned_on TEXT) STRICT;
CREATE TABLE holds (hold_id INTEGER PRIMARY KEY, book_id INTEGER NOT NULL REFERENCES books,
  member_id INTEGER NOT NULL REFERENCES members, placed_on TEXT NOT NULL, served_on TEXT) STRICT;]])

local rows = {}
for i, name in ipairs(members) do rows[i] = {100 + 3 * i, name, pick(branches)} end
insert("members", 3, rows)
rows = {}
for i, title in ipairs(titles) do rows[i] = {20 + i, title, pick(authors), pick(genres), 90 + below(400)} end
insert("books", 5, rows)

local copies = {}
for i = 1, 84 do copies[i] = {1000 + i, 20 + (i <= 22 and i or 1 + below(22)), pick(branches)} end
insert("copies", 3, copies)

-- Old loans are closed; each copy has at most one open loan. Mei Okafor (103) holds four, three of them overdue.
rows = {}
local function lend(copy, member, lent, due, returned)
    rows[#rows + 1] = {500 + #rows, copy, member, lent, due, returned}
end
for _ = 1, 30 do lend(1001 + below(84), 100 + 3 * (1 + below(20)), day(0, 20), day(24, 40), day(41, 54)) end
local open = {}
for _, copy in ipairs{1003, 1007, 1012} do lend(copy, 103, day(24, 34), day(50, 62), nil) open[copy] = true end
lend(1019, 103, day(56, 60), day(70, 78), nil)
open[1019] = true
while #rows < 64 do
    local copy = 1001 + below(84)
    if not open[copy] then
        open[copy] = true
        lend(copy, 100 + 3 * (2 + below(19)), day(24, 60), day(50, 82), nil)
    end
end
insert("loans", 6, rows)

-- Served holds of last month, then the queues: most books have one, that of copy 1012 has none.
rows = {}
local function queued_book()
    local book = 21 + below(22)
    return book == 32 and queued_book() or book
end
for i = 1, 8 do rows[i] = {300 + i, 21 + below(22), 100 + 3 * (1 + below(20)), day(0, 15), day(16, 40)} end
for i = 9, 40 do rows[i] = {300 + i, queued_book(), 100 + 3 * (2 + below(19)), day(20, 60), nil} end
rows[41] = {341, 23, 148, "2025-02-02", nil}
rows[42] = {342, 27, 127, "2025-02-02", nil}
rows[43] = {343, 23, 112, "2025-01-30", nil}
insert("holds", 5, rows)
