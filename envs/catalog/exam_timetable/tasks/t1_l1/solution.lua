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
    for i, name in ipairs{"Civil Law", "Drawing", "Ecology"} do
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
        for j = 1, i - 1 do
            local other = chosen[j]
            if other.slot == slot and other.room == room then return false end
            if exams[i].shares[j] and other.slot.slot == slot.slot then return false end
        end
        return true
    end
    local function place(i)
        local exam = exams[i]
        if not exam then return true end
        for _, slot in ipairs(slots) do
            if not exam.absent[slot.slot] then
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
