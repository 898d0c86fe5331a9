-- The toolset of the report's example (section 3.2.3): lists give names only, details come
-- through info_keywords. submit_result, its fifteenth tool, is the driver's own.

local function known_city(world, city)
    if not world:row("SELECT city FROM cities WHERE city = ?", city) then
        error("no city '" .. city .. "' in the database; get_all_cities lists them", 0)
    end
end

local function names(world, sql, city)
    known_city(world, city)
    local list = {}
    for i, row in ipairs(world:rows(sql, city)) do list[i] = row.name end
    return list
end

local function place_of(world, sql, kind, name)
    local row = world:row(sql, name)
    if not row then error("no " .. kind .. " '" .. name .. "' in the database", 0) end
    return row.city
end

-- The fields of one row that the caller asked for.
local function infos(world, sql, kind, name, keywords)
    local row = world:row(sql, name)
    if not row then error("no " .. kind .. " '" .. name .. "' in the database", 0) end
    local chosen = {}
    for _, keyword in ipairs(keywords) do chosen[keyword] = row[keyword] end
    return chosen
end

tool{ name = "get_all_attractions_by_city", description = "The names of all attractions of a city.",
    params = [[{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}]],
    returns = [[{"type": "array", "items": {"type": "string"}}]],
    run = function(world, a)
        return names(world, "SELECT attraction AS name FROM attractions WHERE city = ? ORDER BY attraction", a.city)
    end }

tool{ name = "get_all_cities", description = "The names of all cities in the database.",
    params = [[{"type": "object", "properties": {}}]],
    returns = [[{"type": "array", "items": {"type": "string"}}]],
    run = function(world)
        local list = {}
        for i, row in ipairs(world:rows("SELECT city FROM cities ORDER BY city")) do list[i] = row.city end
        return list
    end }

tool{ name = "get_all_hotels_by_city", description = "The names of all hotels of a city.",
    params = [[{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}]],
    returns = [[{"type": "array", "items": {"type": "string"}}]],
    run = function(world, a)
        return names(world, "SELECT hotel AS name FROM hotels WHERE city = ? ORDER BY hotel", a.city)
    end }

tool{ name = "get_all_restaurants_by_city", description = "The names of all restaurants of a city.",
    params = [[{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}]],
    returns = [[{"type": "array", "items": {"type": "string"}}]],
    run = function(world, a)
        return names(world, "SELECT restaurant AS name FROM restaurants WHERE city = ? ORDER BY restaurant", a.city)
    end }

tool{ name = "get_city_by_attraction", description = "The city in which an attraction lies.",
    params = [[{"type": "object", "properties": {"attraction": {"type": "string"}}, "required": ["attraction"]}]],
    returns = [[{"type": "string"}]],
    run = function(world, a)
        return place_of(world, "SELECT city FROM attractions WHERE attraction = ?", "attraction", a.attraction)
    end }

tool{ name = "get_city_by_hotel", description = "The city in which a hotel lies.",
    params = [[{"type": "object", "properties": {"hotel": {"type": "string"}}, "required": ["hotel"]}]],
    returns = [[{"type": "string"}]],
    run = function(world, a)
        return place_of(world, "SELECT city FROM hotels WHERE hotel = ?", "hotel", a.hotel)
    end }

tool{ name = "get_city_by_restaurant", description = "The city in which a restaurant lies.",
    params = [[{"type": "object", "properties": {"restaurant": {"type": "string"}}, "required": ["restaurant"]}]],
    returns = [[{"type": "string"}]],
    run = function(world, a)
        return place_of(world, "SELECT city FROM restaurants WHERE restaurant = ?", "restaurant", a.restaurant)
    end }

tool{ name = "get_city_transport", description = "What runs inside a city: vehicle, fare in CNY, time of the last ride.",
    params = [[{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}]],
    returns = [[{"type": "array", "items": {"type": "object", "properties": {"vehicle": {"type": "string"},
        "fare": {"type": "integer"}, "last_ride": {"type": "string"}}}}]],
    run = function(world, a)
        known_city(world, a.city)
        return world:rows("SELECT vehicle, fare, last_ride FROM city_transport WHERE city = ? ORDER BY vehicle", a.city)
    end }

tool{ name = "get_infos_by_attraction",
    description = "Chosen facts about an attraction: city, ticket (CNY), rating (0 to 5), visit_minutes.",
    params = [[{"type": "object", "properties": {"info_keywords": {"type": "array", "minItems": 1,
        "items": {"type": "string", "enum": ["city", "ticket", "rating", "visit_minutes"]}},
        "attraction": {"type": "string"}}, "required": ["info_keywords", "attraction"]}]],
    returns = [[{"type": "object"}]],
    run = function(world, a)
        return infos(world, "SELECT city, ticket, rating, visit_minutes FROM attractions WHERE attraction = ?",
            "attraction", a.attraction, a.info_keywords)
    end }

tool{ name = "get_infos_by_city", description = "Chosen facts about a city: province, river, known_for, districts (how many).",
    params = [[{"type": "object", "properties": {"info_keywords": {"type": "array", "minItems": 1,
        "items": {"type": "string", "enum": ["province", "river", "known_for", "districts"]}},
        "city": {"type": "string"}}, "required": ["info_keywords", "city"]}]],
    returns = [[{"type": "object"}]],
    run = function(world, a)
        return infos(world, "SELECT province, river, known_for, districts FROM cities WHERE city = ?", "city", a.city,
            a.info_keywords)
    end }

tool{ name = "get_infos_by_hotel",
    description = "Chosen facts about a hotel: city, price (CNY per night), rating (0 to 5), breakfast.",
    params = [[{"type": "object", "properties": {"info_keywords": {"type": "array", "minItems": 1,
        "items": {"type": "string", "enum": ["city", "price", "rating", "breakfast"]}},
        "hotel": {"type": "string"}}, "required": ["info_keywords", "hotel"]}]],
    returns = [[{"type": "object"}]],
    run = function(world, a)
        return infos(world, "SELECT city, price, rating, breakfast FROM hotels WHERE hotel = ?", "hotel", a.hotel,
            a.info_keywords)
    end }

tool{ name = "get_infos_by_restaurant",
    description = "Chosen facts about a restaurant: city, price (CNY for one meal), rating (0 to 5), cuisine.",
    params = [[{"type": "object", "properties": {"info_keywords": {"type": "array", "minItems": 1,
        "items": {"type": "string", "enum": ["city", "price", "rating", "cuisine"]}},
        "restaurant": {"type": "string"}}, "required": ["info_keywords", "restaurant"]}]],
    returns = [[{"type": "object"}]],
    run = function(world, a)
        return infos(world, "SELECT city, price, rating, cuisine FROM restaurants WHERE restaurant = ?", "restaurant",
            a.restaurant, a.info_keywords)
    end }

tool{ name = "get_inter_city_transport",
    description = "What runs from one city to another: vehicle, minutes of the ride, fare in CNY.",
    params = [[{"type": "object", "properties": {"from_city": {"type": "string"}, "to_city": {"type": "string"}},
        "required": ["from_city", "to_city"]}]],
    returns = [[{"type": "array", "items": {"type": "object", "properties": {"vehicle": {"type": "string"},
        "minutes": {"type": "integer"}, "fare": {"type": "integer"}}}}]],
    run = function(world, a)
        known_city(world, a.from_city)
        known_city(world, a.to_city)
        return world:rows([[SELECT vehicle, minutes, fare FROM inter_city_transport
            WHERE from_city = ? AND to_city = ? ORDER BY vehicle]], a.from_city, a.to_city)
    end }

tool{ name = "get_weather_by_city_date",
    description = "The forecast for a city on a date (2025-10-01 to 2025-10-03): sky, high and low temperature in degrees Celsius.",
    params = [[{"type": "object", "properties": {"city": {"type": "string"}, "date": {"type": "string"}},
        "required": ["city", "date"]}]],
    returns = [[{"type": "object", "properties": {"sky": {"type": "string"}, "high": {"type": "integer"},
        "low": {"type": "integer"}}}]],
    run = function(world, a)
        known_city(world, a.city)
        local row = world:row("SELECT sky, high, low FROM weather WHERE city = ? AND on_date = ?", a.city, a.date)
        if not row then error("no forecast for " .. a.city .. " on " .. a.date .. "; dates are written 2025-10-01", 0) end
        return row
    end }
