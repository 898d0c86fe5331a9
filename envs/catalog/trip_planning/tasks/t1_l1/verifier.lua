check{ name = "day_and_city", text = "Plan one day in Hangzhou, 2025-10-01", run = function(world, answer)
    return answer[1].time == "2025-10-01" and answer[1].city == "Hangzhou"
end }

check{ name = "hotel_price", text = "The hotel costs less than 500 CNY per night.", run = function(world, answer)
    local row = world:row("SELECT price FROM hotels WHERE hotel = ?", answer[1].hotel)
    return not row or row.price < 500 -- whether it exists is the next check's matter
end }

check{ name = "in_city", text = "The hotel, both restaurants and the attraction lie in Hangzhou.",
    run = function(world, answer)
        local day = answer[1]
        local function lies(sql, name) return world:value(sql, name) == "Hangzhou" end
        return lies("SELECT city FROM hotels WHERE hotel = ?", day.hotel)
            and lies("SELECT city FROM restaurants WHERE restaurant = ?", day.afternoon_restaurant)
            and lies("SELECT city FROM restaurants WHERE restaurant = ?", day.evening_restaurant)
            and lies("SELECT city FROM attractions WHERE attraction = ?", day.afternoon_attraction)
    end }

check{ name = "two_meals", text = "The restaurants of afternoon and evening are not the same.", run = function(world, answer)
    return answer[1].afternoon_restaurant ~= answer[1].evening_restaurant
end }
