return function(tools)
    local today, due = "2025-03-10", "2025-03-31"
    local member = tools.find_member{member_name = "Mei Okafor"}
    local back = {}
    for _, loan in ipairs(tools.list_member_loans{member_id = member.member_id}) do
        if loan.due_on < today then
            tools.return_copy{loan_id = loan.loan_id, on_date = today}
            back[#back + 1] = loan
        end
    end
    table.sort(back, function(a, b) return a.copy_id < b.copy_id end)

    local returned, served = {}, {}
    for i, loan in ipairs(back) do
        returned[i] = loan.copy_id
        local first
        for _, hold in ipairs(tools.list_holds{book_id = loan.book_id}) do -- by hold_id
            if not first or hold.placed_on < first.placed_on then first = hold end
        end
        if first then
            tools.lend_copy{copy_id = loan.copy_id, member_id = first.member_id, on_date = today, due_on = due}
            tools.serve_hold{hold_id = first.hold_id, on_date = today}
            served[#served + 1] = first.hold_id
        end
    end

    local book = tools.find_book{title = "The Salt Road"}
    for _, copy in ipairs(tools.list_copies{book_id = book.book_id}) do -- by copy_id
        if not copy.on_loan then
            tools.lend_copy{copy_id = copy.copy_id, member_id = member.member_id, on_date = today, due_on = due}
            return {returned = returned, served = served, lent = copy.copy_id}
        end
    end
    return nil
end
