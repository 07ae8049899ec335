-- wrk -s post.lua URL -- BODY_FILE "Name: value"...: posts the file's bytes, prints one line to parse.

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  file:close()
  for i = 2, #args do
    local name, value = args[i]:match("^(.-): (.*)$")
    wrk.headers[name] = value
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  print(string.format("result requests=%d microseconds=%d status=%d socket=%d",
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout))
end
