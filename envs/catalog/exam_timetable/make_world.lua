-- Writes world.sql on standard output: lua5.4 make_world.lua > world.sql
-- Deterministic (its own generator, no clock); all names are made up.
local state = 77
local function below(n)
    state = state * 6364136223846793005 + 1442695040888963407
    return (state >> 33) % n
end
local function pick(list) return list[below(#list) + 1] end

local exams = {"Algebra", "Botany", "Civil Law", "Drawing", "Ecology", "Film History", "Geodesy", "Hydraulics", "Icelandic",
    "Journalism", "Kinetics", "Linguistics"}
local teachers = {"Abara", "Bering", "Castell", "Drozd", "Engel", "Farkas", "Gallo"}
local first = {"Ada", "Ben", "Cleo", "Dov", "Eva", "Finn", "Gus", "Hal", "Ida", "Jo"}
local last = {"Ashe", "Brook", "Crane", "Dale", "Elm", "Frost"}
local rooms = {{"A1", "Annex"}, {"A2", "Annex"}, {"A3", "Annex"}, {"H1", "Hall"}, {"H2", "Hall"}, {"H3", "Hall"}, {"H4", "Hall"},
    {"T1", "Tower"}, {"T2", "Tower"}, {"T3", "Tower"}}

local function insert(into, rows)
    print("INSERT INTO " .. into .. " VALUES")
    for i, row in ipairs(rows) do
        local cells = {}
        for j, v in ipairs(row) do cells[j] = type(v) == "number" and tostring(v) or "'" .. v .. "'" end
        print("  (" .. table.concat(cells, ", ") .. ")" .. (i == #rows and ";" or ","))
    end
end

print([[
-- Made by make_world.lua; not edited by hand.
CREATE TABLE exams (exam TEXT PRIMARY KEY, teacher TEXT NOT NULL, minutes INTEGER NOT NULL) STRICT;
CREATE TABLE enrolments (student TEXT NOT NULL, exam TEXT NOT NULL REFERENCES exams, PRIMARY KEY (student, exam)) STRICT;
CREATE TABLE rooms (room TEXT PRIMARY KEY, building TEXT NOT NULL, seats INTEGER NOT NULL) STRICT;
CREATE TABLE slots (slot TEXT PRIMARY KEY, on_date TEXT NOT NULL, starts TEXT NOT NULL) STRICT;
CREATE TABLE absences (teacher TEXT NOT NULL, slot TEXT NOT NULL REFERENCES slots, PRIMARY KEY (teacher, slot)) STRICT;
CREATE TABLE bookings (room TEXT NOT NULL REFERENCES rooms, slot TEXT NOT NULL REFERENCES slots,
  PRIMARY KEY (room, slot)) STRICT;]])

local rows = {}
for i, exam in ipairs(exams) do rows[i] = {exam, teachers[(i - 1) % #teachers + 1], pick{60, 90, 90, 120, 150, 180}} end
insert("exams", rows)

rows = {} -- 60 students, each in one to three exams
for _, f in ipairs(first) do
    for _, l in ipairs(last) do
        local taken = {}
        for _ = 1, 1 + below(3) do taken[pick(exams)] = true end
        for _, exam in ipairs(exams) do
            if taken[exam] then rows[#rows + 1] = {f .. " " .. l, exam} end
        end
    end
end
insert("enrolments", rows)

rows = {}
for i, room in ipairs(rooms) do rows[i] = {room[1], room[2], pick{6, 9, 12, 12, 16, 16, 20}} end
insert("rooms", rows)

rows = {}
local slots = {}
for day = 1, 6 do
    for i, starts in ipairs{"09:00", "12:30", "15:30"} do
        slots[#slots + 1] = string.format("S%02d", #slots + 1)
        rows[#rows + 1] = {slots[#slots], "2026-06-0" .. day, starts}
    end
end
insert("slots", rows)

rows = {}
for _, teacher in ipairs(teachers) do
    for _, slot in ipairs(slots) do
        if below(10) < 5 then rows[#rows + 1] = {teacher, slot} end
    end
end
insert("absences", rows)
rows = {}
for _, room in ipairs(rooms) do
    for _, slot in ipairs(slots) do
        if below(10) < 5 then rows[#rows + 1] = {room[1], slot} end
    end
end
insert("bookings", rows)
