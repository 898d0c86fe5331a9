-- A faculty's exams: who sits them, who watches, which rooms are free when.

local function need(world, sql, what, name)
    local row = world:row(sql, name)
    if not row then error("no " .. what .. " '" .. name .. "'", 0) end
    return row
end

local function column(rows, key)
    local list = {}
    for i, row in ipairs(rows) do list[i] = row[key] end
    return list
end

tool{ name = "list_exams", description = "The names of all exams.",
    params = [[{"type": "object", "properties": {}}]],
    returns = [[{"type": "array", "items": {"type": "string"}}]],
    run = function(world)
        return column(world:rows("SELECT exam FROM exams ORDER BY exam"), "exam")
    end }

tool{ name = "get_exam", description = "An exam's teacher, who has to be there, and its length in minutes.",
    params = [[{"type": "object", "properties": {"exam": {"type": "string"}}, "required": ["exam"]}]],
    returns = [[{"type": "object", "properties": {"teacher": {"type": "string"}, "minutes": {"type": "integer"}}}]],
    run = function(world, a)
        return need(world, "SELECT teacher, minutes FROM exams WHERE exam = ?", "exam", a.exam)
    end }

tool{ name = "list_students", description = "The names of the students who sit an exam.",
    params = [[{"type": "object", "properties": {"exam": {"type": "string"}}, "required": ["exam"]}]],
    returns = [[{"type": "array", "items": {"type": "string"}}]],
    run = function(world, a)
        need(world, "SELECT exam FROM exams WHERE exam = ?", "exam", a.exam)
        return column(world:rows("SELECT student FROM enrolments WHERE exam = ? ORDER BY student", a.exam), "student")
    end }

tool{ name = "list_rooms", description = "All rooms: building and seats.",
    params = [[{"type": "object", "properties": {}}]],
    returns = [[{"type": "array", "items": {"type": "object", "properties": {"room": {"type": "string"},
        "building": {"type": "string"}, "seats": {"type": "integer"}}}}]],
    run = function(world)
        return world:rows("SELECT room, building, seats FROM rooms ORDER BY room")
    end }

tool{ name = "list_slots", description = "All slots for exams: date and the time at which the slot starts.",
    params = [[{"type": "object", "properties": {}}]],
    returns = [[{"type": "array", "items": {"type": "object", "properties": {"slot": {"type": "string"},
        "on_date": {"type": "string"}, "starts": {"type": "string"}}}}]],
    run = function(world)
        return world:rows("SELECT slot, on_date, starts FROM slots ORDER BY slot")
    end }

tool{ name = "list_absences", description = "The slots in which a teacher is absent.",
    params = [[{"type": "object", "properties": {"teacher": {"type": "string"}}, "required": ["teacher"]}]],
    returns = [[{"type": "array", "items": {"type": "string"}}]],
    run = function(world, a)
        return column(world:rows("SELECT slot FROM absences WHERE teacher = ? ORDER BY slot", a.teacher), "slot")
    end }

tool{ name = "list_bookings", description = "The slots in which a room is already booked.",
    params = [[{"type": "object", "properties": {"room": {"type": "string"}}, "required": ["room"]}]],
    returns = [[{"type": "array", "items": {"type": "string"}}]],
    run = function(world, a)
        need(world, "SELECT room FROM rooms WHERE room = ?", "room", a.room)
        return column(world:rows("SELECT slot FROM bookings WHERE room = ? ORDER BY slot", a.room), "slot")
    end }
