-- Signed events for wrk, from the file EVENTS: a signature, a tab and a body on each line. None is sent twice.
local lines = io.lines(os.getenv("EVENTS"))

wrk.method = "POST"

request = function()
  -- When the file is at its end, what follows is refused, and the run says so.
  local signature, body = (lines and lines() or "\t"):match("^(.-)\t(.*)$")
  return wrk.format(nil, nil, { ["Content-Type"] = "application/json", ["Stripe-Signature"] = signature }, body)
end
