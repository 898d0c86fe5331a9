check{ name = "exams", text = "'Civil Law', 'Drawing', 'Icelandic', 'Algebra' and 'Hydraulics', in this order", run = function(world, answer)
    for i, exam in ipairs{"Civil Law", "Drawing", "Icelandic", "Algebra", "Hydraulics"} do
        if answer[i].exam ~= exam then return false end
    end
    return true
end }

check{ name = "listed", text = "Use slots and rooms that the tools list.", run = function(world, answer)
    for _, one in ipairs(answer) do
        if not world:row("SELECT slot FROM slots WHERE slot = ?", one.slot)
            or not world:row("SELECT room FROM rooms WHERE room = ?", one.room) then
            return false
        end
    end
    return true
end }

check{ name = "seats", text = "Each room has a seat for every student of its exam.", run = function(world, answer)
    for _, one in ipairs(answer) do
        local seats = world:value("SELECT seats FROM rooms WHERE room = ?", one.room)
        local students = world:value("SELECT count(*) FROM enrolments WHERE exam = ?", one.exam)
        if seats and seats < students then return false end
    end
    return true
end }

check{ name = "teacher_there", text = "The teacher of each exam is not absent in its slot.", run = function(world, answer)
    for _, one in ipairs(answer) do
        if world:row("SELECT slot FROM absences JOIN exams USING (teacher) WHERE exam = ? AND slot = ?", one.exam, one.slot)
        then
            return false
        end
    end
    return true
end }

check{ name = "room_free", text = "No exam is put in a room that is already booked in its slot.",
    run = function(world, answer)
        for _, one in ipairs(answer) do
            if world:row("SELECT slot FROM bookings WHERE room = ? AND slot = ?", one.room, one.slot) then return false end
        end
        return true
    end }

check{ name = "own_room", text = "No room holds more than one of these exams in a slot.", run = function(world, answer)
    local seen = {}
    for _, one in ipairs(answer) do
        local key = one.slot .. "/" .. one.room
        if seen[key] then return false end
        seen[key] = true
    end
    return true
end }

-- Two exams that some student sits both of; an exam named twice is the first check's matter.
local function shared(world, a, b)
    return a.exam ~= b.exam and world:row([[SELECT x.student FROM enrolments AS x JOIN enrolments AS y USING (student)
        WHERE x.exam = ? AND y.exam = ?]], a.exam, b.exam)
end

check{ name = "one_a_day", text = "No student sits more than one of these exams on a date.", run = function(world, answer)
    local dates = {}
    for i, a in ipairs(answer) do
        dates[i] = world:value("SELECT on_date FROM slots WHERE slot = ?", a.slot)
        for j = 1, i - 1 do
            if dates[i] and dates[i] == dates[j] and shared(world, a, answer[j]) then return false end
        end
    end
    return true
end }

check{ name = "long_ones_early", text = "An exam of more than 90 minutes starts before 12:00.", run = function(world, answer)
    for _, one in ipairs(answer) do
        local minutes = world:value("SELECT minutes FROM exams WHERE exam = ?", one.exam)
        local starts = world:value("SELECT starts FROM slots WHERE slot = ?", one.slot)
        if minutes and starts and minutes > 90 and starts >= "12:00" then return false end
    end
    return true
end }

check{ name = "spread", text = "No building holds more than three of these exams.", run = function(world, answer)
    local held = {}
    for _, one in ipairs(answer) do
        local building = world:value("SELECT building FROM rooms WHERE room = ?", one.room)
        if building then
            held[building] = (held[building] or 0) + 1
            if held[building] > 3 then return false end
        end
    end
    return true
end }
