local function member_id(world)
    return world:value("SELECT member_id FROM members WHERE member_name = 'Mei Okafor'")
end

-- Her loans that were open and overdue in the morning; what was taken back on the day itself was open then.
local function overdue(world)
    return world:rows([[SELECT loan_id, copy_id, book_id FROM loans JOIN copies USING (copy_id)
        WHERE member_id = ? AND lent_on < '2025-03-10' AND due_on < '2025-03-10'
        AND (returned_on IS NULL OR returned_on = '2025-03-10') ORDER BY copy_id, loan_id]], member_id(world))
end

-- Which hold each returned copy has to serve: {copy_id, hold_id, member_id} in order. Holds served on the day were open.
local function due_services(world)
    local list, used = {}, {}
    for _, loan in ipairs(overdue(world)) do
        for _, hold in ipairs(world:rows([[SELECT hold_id, member_id FROM holds WHERE book_id = ?
            AND (served_on IS NULL OR served_on = '2025-03-10') ORDER BY placed_on, hold_id]], loan.book_id)) do
            if not used[hold.hold_id] then
                used[hold.hold_id] = true
                list[#list + 1] = {copy_id = loan.copy_id, hold_id = hold.hold_id, member_id = hold.member_id}
                break
            end
        end
    end
    return list
end

local function day_loans(changes, copy_id, to)
    return changes:inserted("loans",
        {copy_id = copy_id, member_id = to, lent_on = "2025-03-10", due_on = "2025-03-31", returned_on = null})
end

-- The loan of a copy of the book to her, hers by a hold left out.
local function lent(world, changes)
    local by_hold, rows = {}, {}
    for _, service in ipairs(due_services(world)) do by_hold[service.copy_id] = true end
    for _, copy in ipairs(world:rows([[SELECT copy_id FROM copies JOIN books USING (book_id)
        WHERE title = 'The Salt Road' ORDER BY copy_id]])) do
        if not by_hold[copy.copy_id] then
            for _, row in ipairs(day_loans(changes, copy.copy_id, member_id(world))) do rows[#rows + 1] = row end
        end
    end
    return rows
end

check{ name = "taken_back",
    text = "First take back every copy that she has on loan and that was due before 2025-03-10",
    run = function(world, answer, changes)
        for _, loan in ipairs(overdue(world)) do
            if #changes:updated("loans", {loan_id = loan.loan_id, returned_on = "2025-03-10"}) ~= 1 then return false end
        end
        return true
    end }

check{ name = "names_returned", text = "submit their copy_ids, lowest first, as `returned`",
    run = function(world, answer)
        local copies = {}
        for i, loan in ipairs(overdue(world)) do copies[i] = loan.copy_id end
        return same(answer.returned, copies)
    end }

check{ name = "lent_to_holders",
    text = "lend the copy to the member of the hold that was placed earliest (the lower hold_id where the dates are equal), "
        .. "on 2025-03-10 and due on 2025-03-31",
    run = function(world, answer, changes)
        for _, service in ipairs(due_services(world)) do
            if #day_loans(changes, service.copy_id, service.member_id) ~= 1 then return false end
        end
        return true
    end }

check{ name = "holds_marked", text = "mark that hold as served on 2025-03-10", run = function(world, answer, changes)
    for _, service in ipairs(due_services(world)) do
        if #changes:updated("holds", {hold_id = service.hold_id, served_on = "2025-03-10"}) ~= 1 then return false end
    end
    return true
end }

check{ name = "names_served", text = "Submit the hold_ids in the order in which they were served as `served`.",
    run = function(world, answer)
        local holds = {}
        for i, service in ipairs(due_services(world)) do holds[i] = service.hold_id end
        return same(answer.served, holds)
    end }

check{ name = "lent_once", text = "lend her a copy of 'The Salt Road' on 2025-03-10, due on 2025-03-31.",
    run = function(world, answer, changes)
        return #lent(world, changes) == 1
    end }

check{ name = "lowest_free_copy",
    text = "Of the copies of the book that are not on loan then take the one with the lowest copy_id.",
    run = function(world, answer, changes)
        local row = lent(world, changes)[1]
        if not row then return true end
        -- Taken: what was lent earlier and is not back, and what went to a holder.
        local taken = {}
        for _, service in ipairs(due_services(world)) do taken[service.copy_id] = true end
        for _, copy in ipairs(world:rows([[SELECT copy_id FROM copies JOIN books USING (book_id)
            WHERE title = 'The Salt Road' AND copy_id NOT IN
            (SELECT copy_id FROM loans WHERE returned_on IS NULL AND lent_on <> '2025-03-10') ORDER BY copy_id]])) do
            if not taken[copy.copy_id] then return row.copy_id == copy.copy_id end
        end
        return false
    end }

check{ name = "names_copy", text = "Submit that copy_id as `lent`.", run = function(world, answer, changes)
    local row = lent(world, changes)[1]
    return not row or answer.lent == row.copy_id
end }
