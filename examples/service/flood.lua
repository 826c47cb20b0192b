-- A flood for the example services, in which one request in so many is absurd:
--
--   wrk -t1 -c8 -d60s -s flood.lua http://127.0.0.1:8000 -- REQUESTS TOTAL EVERY
--
-- REQUESTS is a file of lines  honest|absurd TAB path TAB body TAB answer ; of an honest one's answer each byte must be
-- in what comes back, for the id that its body has. It sends TOTAL requests (fewer where the time is up before) and each
-- one to its end, and prints what came back as one line of JSON.

local main
local kinds = { honest = {}, absurd = {} }
local answers = {}
local total, every, planned, made = 0, 0, 0, -1  -- wrk makes one request to look at it, which it does not send

sent_honest, sent_absurd = 0, 0
right, wrong, refused, other = 0, 0, 0, 0
first_wrong = ""

function setup(thread)
  main = thread
end

function init(args)
  for line in io.lines(args[1]) do
    local kind, path, body, answer = line:match("^(%a+)\t([^\t]*)\t([^\t]*)\t(.*)$")
    table.insert(kinds[kind], wrk.format("POST", path, { ["Content-Type"] = "application/json" }, body))
    if kind == "honest" then
      answers[body:match('"id": *(%d+)')] = answer
    end
  end
  total, every = tonumber(args[2]), tonumber(args[3])
end

function delay()
  planned = planned + 1
  return planned <= total and 0 or 3600000
end

function request()
  made = made + 1
  local absurd = every > 0 and made % every == 0 and made > 0
  if made > 0 then
    if absurd then sent_absurd = sent_absurd + 1 else sent_honest = sent_honest + 1 end
  end
  local list = absurd and kinds.absurd or kinds.honest
  local at = absurd and made / every or made
  return list[at % #list + 1]
end

function response(status, headers, body)
  if status == 200 then
    local answer = answers[body:match('"id": *(%d+)') or ""]
    if answer and body:gsub("[ \n]", ""):find(answer, 1, true) then
      right = right + 1
    else
      wrong = wrong + 1
      first_wrong = first_wrong == "" and body:sub(1, 200) or first_wrong
    end
  elseif status == 500 or status == 503 then
    refused = refused + 1
  else
    other = other + 1
    first_wrong = first_wrong == "" and status .. " " .. body:sub(1, 200) or first_wrong
  end
  if right + wrong + refused + other == total then
    io.write("all answered\n")  -- wrk itself goes on until its time is up, or SIGINT
    io.flush()
  end
end

function done(summary, latency, requests)
  local parts = {}
  for _, name in ipairs({ "sent_honest", "sent_absurd", "right", "wrong", "refused", "other" }) do
    table.insert(parts, string.format('"%s": %d', name, main:get(name)))
  end
  local errors = summary.errors
  table.insert(parts, string.format('"errors": %d', errors.connect + errors.read + errors.write))
  table.insert(parts, string.format('"seconds": %.3f', summary.duration / 1e6))
  table.insert(parts, string.format('"median_ms": %.3f, "longest_ms": %.3f', latency:percentile(50) / 1e3, latency.max / 1e3))
  table.insert(parts, string.format('"first_wrong": %q', main:get("first_wrong"):gsub("[\n%c]", " ")))
  print("{" .. table.concat(parts, ", ") .. "}")
end
