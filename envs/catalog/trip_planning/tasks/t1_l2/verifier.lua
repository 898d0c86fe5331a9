check{ name = "days", text = "The days are 2025-10-01, 2025-10-02 and 2025-10-03, in this order.",
    run = function(world, answer)
        return answer[1].time == "2025-10-01" and answer[2].time == "2025-10-02" and answer[3].time == "2025-10-03"
    end }

check{ name = "start", text = "The first day is spent in Hangzhou.", run = function(world, answer)
    return answer[1].city == "Hangzhou"
end }

check{ name = "no_repeats", text = "No city, hotel, attraction or restaurant appears twice in the whole trip",
    run = function(world, answer)
        local kind_of = {city = "city", hotel = "hotel", afternoon_attraction = "attraction",
            afternoon_restaurant = "restaurant", evening_restaurant = "restaurant"}
        local seen = {}
        for _, day in ipairs(answer) do
            for key, kind in pairs(kind_of) do
                local what = kind .. ":" .. day[key]
                if seen[what] then return false end
                seen[what] = true
            end
        end
        return true
    end }

check{ name = "in_city", text = "Each day's hotel, both restaurants and the attraction lie in that day's city.",
    run = function(world, answer)
        for _, day in ipairs(answer) do
            if world:value("SELECT city FROM hotels WHERE hotel = ?", day.hotel) ~= day.city
                or world:value("SELECT city FROM restaurants WHERE restaurant = ?", day.afternoon_restaurant) ~= day.city
                or world:value("SELECT city FROM restaurants WHERE restaurant = ?", day.evening_restaurant) ~= day.city
                or world:value("SELECT city FROM attractions WHERE attraction = ?", day.afternoon_attraction) ~= day.city
            then
                return false
            end
        end
        return true
    end }
