-- Writes world.sql on standard output: lua5.4 make_world.lua > world.sql
-- Deterministic (its own generator, no clock). City names are real; everything
-- else about them is made up, so that nothing can be answered from memory.
local state = 20251001
local function below(n) -- uniform in 0..n-1 (MMIX multiplier, high bits)
    state = state * 6364136223846793005 + 1442695040888963407
    return (state >> 33) % n
end
local function pick(list) return list[below(#list) + 1] end

local cities = {
    {"Hangzhou", "Zhejiang", "Qiantang", "osmanthus lanes"}, {"Shanghai", "Shanghai", "Huangpu", "riverside facades"},
    {"Suzhou", "Jiangsu", "Wusong", "walled gardens"}, {"Nanjing", "Jiangsu", "Yangtze", "city wall walks"},
    {"Wuxi", "Jiangsu", "Liangxi", "lake pavilions"}, {"Yangzhou", "Jiangsu", "Yangtze", "morning tea"},
    {"Ningbo", "Zhejiang", "Yong", "harbour markets"}, {"Shaoxing", "Zhejiang", "Cao'e", "black-awning boats"},
    {"Huangshan", "Anhui", "Xin'an", "granite peaks"}, {"Hefei", "Anhui", "Nanfei", "science parks"},
    {"Nanchang", "Jiangxi", "Gan", "river towers"}, {"Jingdezhen", "Jiangxi", "Chang", "kiln yards"},
    {"Wuhan", "Hubei", "Yangtze", "lake bridges"}, {"Xiamen", "Fujian", "Jiulong", "island promenades"},
}
local hotel_first = {"Amber", "Bamboo", "Cedar", "Crane", "Dawn", "Ginkgo", "Heron", "Indigo", "Jade", "Lantern", "Lotus",
    "Magnolia", "Maple", "Moonlit", "Orchid", "Pearl", "Plum", "Silk", "Swallow", "Willow"}
local hotel_last = {"Court Hotel", "Garden Inn", "Grand Hotel", "House", "Lodge", "Residence"}
local food_first = {"Auntie Gu's", "Blue Bowl", "Clay Stove", "Copper Ladle", "Drunken Crab", "Eight Dishes", "Fisher's",
    "Golden Wok", "Grandpa Lu's", "Iron Pan", "Little Boat", "Mountain Spring", "Old Well", "Pepper Lane", "Quiet Pond",
    "Red Stool", "Salted Plum", "Stone Mill", "Two Brothers", "White Goose"}
local food_last = {"Canteen", "Dining Room", "Kitchen", "Noodle Shop", "Restaurant", "Tavern", "Teahouse"}
local sight_first = {"Ancient", "Cloud", "Dragon", "Echo", "Emerald", "Fragrant", "Hidden", "Listening", "Misty", "Nine-Turn",
    "Phoenix", "Reflected", "Scholar's", "Silent", "Tiger", "Western"}
local sight_last = {"Bridge", "Cave", "Gallery", "Garden", "Hill", "Pagoda", "Temple", "Water Park"}
local cuisines = {"Cantonese", "Hangbang", "Huaiyang", "Hunan", "seafood", "Sichuan", "vegetarian"}
local sky = {"sunny", "cloudy", "overcast", "rain", "rain", "windy"}

local used = {}
local function name(first, last)
    while true do
        local n = pick(first) .. " " .. pick(last)
        if not used[n] then used[n] = true return n end
    end
end
local function quote(v)
    if math.type(v) == "integer" then return tostring(v) end
    if math.type(v) == "float" then return string.format("%.1f", v) end
    return "'" .. v:gsub("'", "''") .. "'"
end
local function insert(into, rows)
    print("INSERT INTO " .. into .. " VALUES")
    for i, row in ipairs(rows) do
        local cells = {}
        for j, v in ipairs(row) do cells[j] = quote(v) end
        print("  (" .. table.concat(cells, ", ") .. ")" .. (i == #rows and ";" or ","))
    end
end
local function tenths(from, to) return (from + below(to - from + 1)) / 10 end

print([[
-- Made by make_world.lua; not edited by hand.
CREATE TABLE cities (city TEXT PRIMARY KEY, province TEXT NOT NULL, river TEXT NOT NULL, known_for TEXT NOT NULL,
  districts INTEGER NOT NULL) STRICT;
CREATE TABLE hotels (hotel TEXT PRIMARY KEY, city TEXT NOT NULL REFERENCES cities, price INTEGER NOT NULL, rating REAL NOT NULL,
  breakfast TEXT NOT NULL) STRICT;
CREATE TABLE restaurants (restaurant TEXT PRIMARY KEY, city TEXT NOT NULL REFERENCES cities, price INTEGER NOT NULL,
  rating REAL NOT NULL, cuisine TEXT NOT NULL) STRICT;
CREATE TABLE attractions (attraction TEXT PRIMARY KEY, city TEXT NOT NULL REFERENCES cities, ticket INTEGER NOT NULL,
  rating REAL NOT NULL, visit_minutes INTEGER NOT NULL) STRICT;
CREATE TABLE city_transport (city TEXT NOT NULL REFERENCES cities, vehicle TEXT NOT NULL, fare INTEGER NOT NULL,
  last_ride TEXT NOT NULL, PRIMARY KEY (city, vehicle)) STRICT;
CREATE TABLE inter_city_transport (from_city TEXT NOT NULL REFERENCES cities, to_city TEXT NOT NULL REFERENCES cities,
  vehicle TEXT NOT NULL, minutes INTEGER NOT NULL, fare INTEGER NOT NULL, PRIMARY KEY (from_city, to_city, vehicle)) STRICT;
CREATE TABLE weather (city TEXT NOT NULL REFERENCES cities, on_date TEXT NOT NULL, sky TEXT NOT NULL, high INTEGER NOT NULL,
  low INTEGER NOT NULL, PRIMARY KEY (city, on_date)) STRICT;]])

local rows = {}
for i, c in ipairs(cities) do rows[i] = {c[1], c[2], c[3], c[4], 4 + below(9)} end
insert("cities", rows)

-- A hotel of each class and two more; the dear ones are the better known, so most random choices of day 2 are luxury.
rows = {}
for _, c in ipairs(cities) do
    local prices = {800 + 10 * below(60), 800 + 10 * below(90), 500 + 10 * below(30), 200 + 10 * below(30), 420 + 10 * below(60)}
    for _, price in ipairs(prices) do
        rows[#rows + 1] = {name(hotel_first, hotel_last), c[1], price, tenths(33, 49), pick{"included", "extra", "none"}}
    end
end
insert("hotels", rows)

rows = {}
for _, c in ipairs(cities) do
    for _ = 1, 7 do
        local rating = tenths(25, 48) -- dearer where rated better, so that the spending limit and the rating pull apart
        local price = 40 + 5 * below(20) + (rating >= 4.0 and 60 + 5 * below(20) or 0)
        rows[#rows + 1] = {name(food_first, food_last), c[1], price, rating, pick(cuisines)}
    end
end
insert("restaurants", rows)

rows = {}
for _, c in ipairs(cities) do
    for _ = 1, 5 do
        rows[#rows + 1] = {name(sight_first, sight_last), c[1], 5 * below(52), tenths(30, 49), 30 + 15 * below(15)}
    end
end
insert("attractions", rows)

rows = {}
for _, c in ipairs(cities) do
    for _, v in ipairs{{"bus", 2}, {"metro", 4}, {"taxi", 14}} do
        if v[1] ~= "metro" or below(3) > 0 then
            rows[#rows + 1] = {c[1], v[1], v[2] + below(4), string.format("%02d:%02d", 21 + below(3), 15 * below(4))}
        end
    end
end
insert("city_transport", rows)

rows = {}
for _, a in ipairs(cities) do
    for _, b in ipairs(cities) do
        if a ~= b then
            local minutes = 35 + 5 * below(70)
            rows[#rows + 1] = {a[1], b[1], "train", minutes, 20 + minutes // 2 + 5 * below(12)}
            if below(4) == 0 then rows[#rows + 1] = {a[1], b[1], "coach", minutes + 40 + 10 * below(9), 30 + 5 * below(20)} end
        end
    end
end
insert("inter_city_transport", rows)

rows = {}
for _, c in ipairs(cities) do
    for day = 1, 3 do
        local high = 18 + below(12)
        -- The trip has to be able to start: it is dry in Hangzhou on the first day.
        local weather = (c[1] == "Hangzhou" and day == 1) and "sunny" or pick(sky)
        rows[#rows + 1] = {c[1], "2025-10-0" .. day, weather, high, high - 5 - below(6)}
    end
end
insert("weather", rows)
