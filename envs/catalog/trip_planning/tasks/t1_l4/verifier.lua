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

-- What day 2's rules look at. A name that is not in the database is in_city's matter: nothing is known of it here.
local function second_day(world, answer)
    local day = answer[2]
    return world:value("SELECT price FROM hotels WHERE hotel = ?", day.hotel),
        world:row("SELECT price, rating FROM restaurants WHERE restaurant = ?", day.afternoon_restaurant),
        world:row("SELECT price, rating FROM restaurants WHERE restaurant = ?", day.evening_restaurant),
        world:value("SELECT ticket FROM attractions WHERE attraction = ?", day.afternoon_attraction)
end

check{ name = "luxury_rule", text = "If the hotel of day 2 costs 800 CNY or more per night, that day's two restaurants together "
    .. "cost less than 350 CNY, both are rated at least 4.0, and the ticket of that day's attraction costs less than 120 CNY.",
    run = function(world, answer)
        local price, lunch, dinner, ticket = second_day(world, answer)
        if not (price and lunch and dinner and ticket) or price < 800 then return true end
        return lunch.price + dinner.price < 350 and lunch.rating >= 4.0 and dinner.rating >= 4.0 and ticket < 120
    end }

check{ name = "middle_rule", text = "If the hotel of day 2 costs at least 500 but less than 800 CNY per night, at least one of "
    .. "that day's restaurants is rated at least 4.0, and the ticket of that day's attraction costs less than 180 CNY.",
    run = function(world, answer)
        local price, lunch, dinner, ticket = second_day(world, answer)
        if not (price and lunch and dinner and ticket) or price < 500 or price >= 800 then return true end
        return (lunch.rating >= 4.0 or dinner.rating >= 4.0) and ticket < 180
    end }

check{ name = "modest_rule", text = "If the hotel of day 2 costs at least 200 but less than 500 CNY per night, at least one of "
    .. "that day's restaurants is rated at least 3.2.",
    run = function(world, answer)
        local price, lunch, dinner, ticket = second_day(world, answer)
        if not (price and lunch and dinner and ticket) or price < 200 or price >= 500 then return true end
        return lunch.rating >= 3.2 or dinner.rating >= 3.2
    end }

check{ name = "dry", text = "On no day is rain forecast for that day's city (sky `rain`).", run = function(world, answer)
    for _, day in ipairs(answer) do
        if world:value("SELECT sky FROM weather WHERE city = ? AND on_date = ?", day.city, day.time) == "rain" then
            return false
        end
    end
    return true
end }

check{ name = "trains", text = "From each day's city to the next one's there is a `train` that takes at most 240 minutes.",
    run = function(world, answer)
        for i = 1, #answer - 1 do
            local from, to = answer[i].city, answer[i + 1].city
            local minutes = world:value([[SELECT minutes FROM inter_city_transport
                WHERE from_city = ? AND to_city = ? AND vehicle = 'train']], from, to)
            -- A stay in one city is no_repeats' matter, a city that is not in the database in_city's.
            local known = world:value("SELECT count(*) FROM cities WHERE city IN (?, ?)", from, to) == 2
            if known and (not minutes or minutes > 240) then return false end
        end
        return true
    end }
