-- A lending desk. Tools never read a clock: dates come as arguments, written 2025-03-10.

local function need(row, what, id)
    if not row then error("no " .. what .. " " .. tostring(id), 0) end
    return row
end

local function date(text)
    if not text:match("^%d%d%d%d%-%d%d%-%d%d$") then error("'" .. text .. "' is no date like 2025-03-10", 0) end
    return text
end

tool{ name = "find_book", description = "A book by its exact title.",
    params = [[{"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}]],
    returns = [[{"type": "object", "properties": {"book_id": {"type": "integer"}, "author": {"type": "string"},
        "genre": {"type": "string"}, "pages": {"type": "integer"}}}]],
    run = function(world, a)
        return need(world:row("SELECT book_id, author, genre, pages FROM books WHERE title = ?", a.title), "book", a.title)
    end }

tool{ name = "find_member", description = "A member by exact name.",
    params = [[{"type": "object", "properties": {"member_name": {"type": "string"}}, "required": ["member_name"]}]],
    returns = [[{"type": "object", "properties": {"member_id": {"type": "integer"}, "home_branch": {"type": "string"}}}]],
    run = function(world, a)
        return need(world:row("SELECT member_id, home_branch FROM members WHERE member_name = ?", a.member_name), "member",
            a.member_name)
    end }

tool{ name = "list_copies", description = "The copies of a book, by copy_id, and whether each is on loan.",
    params = [[{"type": "object", "properties": {"book_id": {"type": "integer"}}, "required": ["book_id"]}]],
    returns = [[{"type": "array", "items": {"type": "object", "properties": {"copy_id": {"type": "integer"},
        "branch": {"type": "string"}, "on_loan": {"type": "boolean"}}}}]],
    run = function(world, a)
        local rows = world:rows([[SELECT copy_id, branch, EXISTS (SELECT 1 FROM loans
            WHERE loans.copy_id = copies.copy_id AND returned_on IS NULL) AS taken
            FROM copies WHERE book_id = ? ORDER BY copy_id]], a.book_id)
        local list = {}
        for i, row in ipairs(rows) do
            list[i] = {copy_id = row.copy_id, branch = row.branch, on_loan = row.taken == 1}
        end
        return list
    end }

tool{ name = "list_member_loans", description = "What a member has on loan now, by loan_id.",
    params = [[{"type": "object", "properties": {"member_id": {"type": "integer"}}, "required": ["member_id"]}]],
    returns = [[{"type": "array", "items": {"type": "object", "properties": {"loan_id": {"type": "integer"},
        "copy_id": {"type": "integer"}, "book_id": {"type": "integer"}, "lent_on": {"type": "string"},
        "due_on": {"type": "string"}}}}]],
    run = function(world, a)
        return world:rows([[SELECT loan_id, copy_id, book_id, lent_on, due_on FROM loans JOIN copies USING (copy_id)
            WHERE member_id = ? AND returned_on IS NULL ORDER BY loan_id]], a.member_id)
    end }

tool{ name = "list_holds", description = "The members who wait for a book: holds not served yet, by hold_id.",
    params = [[{"type": "object", "properties": {"book_id": {"type": "integer"}}, "required": ["book_id"]}]],
    returns = [[{"type": "array", "items": {"type": "object", "properties": {"hold_id": {"type": "integer"},
        "member_id": {"type": "integer"}, "placed_on": {"type": "string"}}}}]],
    run = function(world, a)
        return world:rows([[SELECT hold_id, member_id, placed_on FROM holds
            WHERE book_id = ? AND served_on IS NULL ORDER BY hold_id]], a.book_id)
    end }

tool{ name = "lend_copy", description = "Lend a copy that is not on loan to a member.", writes = true,
    params = [[{"type": "object", "properties": {"copy_id": {"type": "integer"}, "member_id": {"type": "integer"},
        "on_date": {"type": "string"}, "due_on": {"type": "string"}},
        "required": ["copy_id", "member_id", "on_date", "due_on"]}]],
    returns = [[{"type": "object", "properties": {"loan_id": {"type": "integer"}}}]],
    run = function(world, a)
        need(world:row("SELECT copy_id FROM copies WHERE copy_id = ?", a.copy_id), "copy", a.copy_id)
        need(world:row("SELECT member_id FROM members WHERE member_id = ?", a.member_id), "member", a.member_id)
        if world:row("SELECT loan_id FROM loans WHERE copy_id = ? AND returned_on IS NULL", a.copy_id) then
            error("copy " .. a.copy_id .. " is on loan", 0)
        end
        local loan_id = world:value("SELECT max(loan_id) + 1 AS next_id FROM loans")
        world:exec("INSERT INTO loans VALUES (?, ?, ?, ?, ?, NULL)", loan_id, a.copy_id, a.member_id, date(a.on_date),
            date(a.due_on))
        return {loan_id = loan_id}
    end }

tool{ name = "return_copy", description = "Close an open loan: its copy has come back.", writes = true,
    params = [[{"type": "object", "properties": {"loan_id": {"type": "integer"}, "on_date": {"type": "string"}},
        "required": ["loan_id", "on_date"]}]],
    returns = [[{"type": "object", "properties": {"copy_id": {"type": "integer"}}}]],
    run = function(world, a)
        local loan = need(world:row("SELECT copy_id FROM loans WHERE loan_id = ? AND returned_on IS NULL", a.loan_id),
            "open loan", a.loan_id)
        world:exec("UPDATE loans SET returned_on = ? WHERE loan_id = ?", date(a.on_date), a.loan_id)
        return {copy_id = loan.copy_id}
    end }

tool{ name = "renew_loan", description = "Give an open loan a later due date.", writes = true,
    params = [[{"type": "object", "properties": {"loan_id": {"type": "integer"}, "due_on": {"type": "string"}},
        "required": ["loan_id", "due_on"]}]],
    returns = [[{"type": "object", "properties": {"due_on": {"type": "string"}}}]],
    run = function(world, a)
        local loan = need(world:row("SELECT due_on FROM loans WHERE loan_id = ? AND returned_on IS NULL", a.loan_id),
            "open loan", a.loan_id)
        if date(a.due_on) <= loan.due_on then error("the loan is already due on " .. loan.due_on, 0) end
        world:exec("UPDATE loans SET due_on = ? WHERE loan_id = ?", a.due_on, a.loan_id)
        return {due_on = a.due_on}
    end }

tool{ name = "serve_hold", description = "Mark a hold as served: its member has been lent a copy.", writes = true,
    params = [[{"type": "object", "properties": {"hold_id": {"type": "integer"}, "on_date": {"type": "string"}},
        "required": ["hold_id", "on_date"]}]],
    returns = [[{"type": "object", "properties": {"hold_id": {"type": "integer"}}}]],
    run = function(world, a)
        need(world:row("SELECT hold_id FROM holds WHERE hold_id = ? AND served_on IS NULL", a.hold_id), "open hold", a.hold_id)
        world:exec("UPDATE holds SET served_on = ? WHERE hold_id = ?", date(a.on_date), a.hold_id)
        return {hold_id = a.hold_id}
    end }
