return function(tools)
    local function set(list)
        local members = {}
        for _, one in ipairs(list) do members[one] = true end
        return members
    end
    local rooms, slots, booked = tools.list_rooms{}, tools.list_slots{}, {}
    local function is_booked(room, slot)
        if not booked[room] then booked[room] = set(tools.list_bookings{room = room}) end
        return booked[room][slot]
    end

    local exams = {}
    for i, name in ipairs{"Civil Law", "Drawing", "Icelandic", "Algebra", "Hydraulics"} do
        local exam = tools.get_exam{exam = name}
        local students = tools.list_students{exam = name}
        exams[i] = {name = name, minutes = exam.minutes, students = students, sits = set(students),
            absent = set(tools.list_absences{teacher = exam.teacher})}
    end
    for i, exam in ipairs(exams) do -- which earlier exams share a student with this one
        exam.shares = {}
        for j = 1, i - 1 do
            for _, student in ipairs(exam.students) do
                if exams[j].sits[student] then exam.shares[j] = true end
            end
        end
    end

    -- Depth first over exams, slots by name, rooms by name.
    local chosen = {}
    local function fits(i, slot, room)
        local in_building = 0
        for j = 1, i - 1 do
            local other = chosen[j]
            if other.slot == slot and other.room == room then return false end
            if exams[i].shares[j] and other.slot.on_date == slot.on_date then return false end
            if other.room.building == room.building then in_building = in_building + 1 end
        end
        return in_building < 3
    end
    local function place(i)
        local exam = exams[i]
        if not exam then return true end
        for _, slot in ipairs(slots) do
            if not exam.absent[slot.slot] and (exam.minutes <= 90 or slot.starts < "12:00") then
                for _, room in ipairs(rooms) do
                    if room.seats >= #exam.students and fits(i, slot, room) and not is_booked(room.room, slot.slot) then
                        chosen[i] = {slot = slot, room = room}
                        if place(i + 1) then return true end
                    end
                end
            end
        end
        return false
    end
    if not place(1) then return nil end

    local answer = {}
    for i, exam in ipairs(exams) do
        answer[i] = {exam = exam.name, slot = chosen[i].slot.slot, room = chosen[i].room.room}
    end
    return answer
end
